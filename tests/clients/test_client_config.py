"""What `sidecar client-config` prints, read by the real clients: each does its work with the token that was meant, and with nothing
else.

The build caches' clients are pointed by it in `test_build_caches`.
"""

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import SidecarProcess, until
from tests.e2e.s3_house import House, s3_house
from tests.e2e.s3_servers import S3Server
from tests.programs import require_program

pytestmark = pytest.mark.slow
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: packages}]
ci_tokens: read-write
"""
POM = """<project><modelVersion>4.0.0</modelVersion><groupId>acme</groupId><artifactId>{}</artifactId>
<version>1</version><packaging>pom</packaging>{}</project>"""
PARENT = "<parent><groupId>acme</groupId><artifactId>parent</artifactId><version>1</version><relativePath/></parent>"


class Shell:
    """Runs a client after a shell has read what was printed for it."""

    def __init__(self, sidecar: SidecarProcess, folder: Path) -> None:
        self.sidecar, self.folder = sidecar, folder
        self.token = sidecar.token()
        (folder / "token").write_text(f"{self.token}\n")

    def told(self, client: str) -> str:
        return self.sidecar.cli(
            "client-config", client, "--workspace", "web", "--token-file", str(self.folder / "token")
        )

    def run(self, program: str, *arguments: str, text: str = "", **more: str) -> str:
        """What it says; it must succeed."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "SIDECAR_TOKEN": self.token, **more}
        done = subprocess.run(
            ["sh", "-euc", 'eval "$1"; shift; exec "$@"', "sh", text, require_program(program), *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def asked(self, method: str, path: str) -> str:
        """Who asked for it, and how the token was sent; waits until the log says."""

        def found() -> str | None:
            told = [
                f"{each['actor']['type']} {each['actor']['auth_method']} {each['outcome']}"
                for each in self.sidecar.audit()
                if (each["request"]["method"], each["request"]["path"], each["stage"]) == (method, path, "complete")
            ]
            return told[-1] if told else None

        said: str = until(found)
        return said


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A registry of files behind the sidecar, which says to Git LFS that it has each object."""
    folder = tmp_path_factory.mktemp("packages")
    served = folder / "served" / "web"
    (served / "simple" / "demo").mkdir(parents=True)
    (served / "simple" / "demo" / "index.html").write_text('<a href="../../demo-1.0-py3-none-any.whl">demo</a>')
    with zipfile.ZipFile(served / "demo-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("demo-1.0.dist-info/RECORD", "")
    (served / "-").mkdir()
    (served / "-" / "whoami").write_text('{"username": "whoever-has-the-token"}')
    (served / "acme" / "parent" / "1").mkdir(parents=True)
    (served / "acme" / "parent" / "1" / "parent-1.pom").write_text(POM.format("parent", ""))
    (served / "tool").write_text("a tool")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(served.parent))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = json.dumps({"transfer": "basic", "objects": asked["objects"]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.git-lfs+json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream = f'  packages: {{url: "http://127.0.0.1:{server.server_port}"}}\n'
    sidecar = SidecarProcess(
        folder, upstreams=upstream, policies={"web.yaml": POLICY}, more="limits: {drain_delay: 0s}"
    )
    yield Shell(sidecar.start(), folder)
    sidecar.kill()
    server.shutdown()
    server.server_close()


def test_pip(packages: Shell) -> None:
    more = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    arguments = ("-m", "pip", "download", "--no-deps", "-d", "downloaded", "demo")
    packages.run(sys.executable, *arguments, text=packages.told("pip"), **more)
    assert (packages.folder / "downloaded" / "demo-1.0-py3-none-any.whl").exists()
    assert packages.asked("GET", "/web/demo-1.0-py3-none-any.whl") == "ci basic allow"


def test_npm(packages: Shell) -> None:
    (packages.folder / ".npmrc").write_text(packages.told("npm"))
    assert packages.run("npm", "whoami", "--no-update-notifier").strip() == "whoever-has-the-token"
    assert packages.asked("GET", "/web/-/whoami") == "ci bearer allow"


def test_maven(packages: Shell) -> None:
    (packages.folder / "settings.xml").write_text(packages.told("maven"))
    (packages.folder / "pom.xml").write_text(POM.format("child", PARENT))
    packages.run("mvn", "-B", "-q", "-s", "settings.xml", f"-Dmaven.repo.local={packages.folder}/m2", "validate")
    assert packages.asked("GET", "/web/acme/parent/1/parent-1.pom") == "ci bearer allow"


def test_curl(packages: Shell) -> None:
    assert packages.run("sh", "-c", f"{packages.told('curl')} cache_curl tool") == "a tool"
    assert packages.asked("GET", "/web/tool") == "ci bearer allow"


def test_git_lfs(packages: Shell) -> None:
    require_program("git-lfs")
    folder, told = str(packages.folder / "repository"), packages.told("git-lfs")

    def git(*arguments: str, text: str = "") -> str:
        named = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        return packages.run("git", *arguments, text=text, GIT_CONFIG_NOSYSTEM="1", **named)

    git("init", "-q", "--bare", f"{folder}.git")
    git("init", "-q", folder)
    at = ("-C", folder)
    git(*at, "lfs", "install", "--local")
    git(*at, "lfs", "track", "*.bin")
    (packages.folder / "repository" / "large.bin").write_bytes(b"large")
    git(*at, "add", ".")
    git(*at, "commit", "-q", "-m", "large")
    git(*at, "remote", "add", "origin", f"{folder}.git")
    git(*at, "lfs", "push", "origin", "HEAD", text=told)
    assert packages.asked("POST", "/web/objects/batch") == "ci bearer allow"


@pytest.fixture(scope="module")
def s3(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Shell]]:
    with s3_house(tmp_path_factory.mktemp("house"), s3_server) as house:
        (house.sidecar.folder / "file").write_text("content")
        yield house, Shell(house.sidecar, house.sidecar.folder)


def test_the_aws_cli(s3: tuple[House, Shell]) -> None:
    house, shell = s3
    (shell.folder / ".aws").mkdir()
    (shell.folder / ".aws" / "config").write_text(shell.told("aws"))
    shell.run("aws", "--profile", "web", "s3", "cp", "file", "s3://artifacts/by-aws")
    assert house.stored()["web/by-aws"] == b"content"
    assert shell.asked("PUT", "/artifacts/by-aws") == "ci session_token allow"


def test_boto3(s3: tuple[House, Shell]) -> None:
    house, shell = s3
    program = "import boto3; boto3.client('s3').upload_file('file', 'artifacts', 'by-boto3')"
    shell.run(sys.executable, "-c", program, text=shell.told("boto3"), AWS_EC2_METADATA_DISABLED="true")
    assert house.stored()["web/by-boto3"] == b"content"
    assert shell.asked("PUT", "/artifacts/by-boto3") == "ci session_token allow"


def test_rclone(s3: tuple[House, Shell]) -> None:
    house, shell = s3
    text = shell.told("rclone")
    shell.run("rclone", "copyto", "file", "WEB:artifacts/by-rclone", text=text, RCLONE_CONFIG=os.devnull)
    assert house.stored()["web/by-rclone"] == b"content"
    assert shell.asked("PUT", "/artifacts/by-rclone") == "ci session_token allow"
