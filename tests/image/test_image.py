"""The image: its Dockerfile is sound, and what its steps make runs as nobody in particular over a read-only root.

There is no container engine here: the steps are done in a folder, and the kernel's own means (namespaces, a read-only
root, another user without capabilities) stand for what the engine would use of them.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar import __version__
from tests.docs import ROOT
from tests.e2e.process import free_ports
from tests.helm.chart import container, lay_out, one, pod, render, values
from tests.image.dockerfile import DOCKERFILE, build, ignored, stages
from tests.programs import require_program

NOBODY = 65532


def last(instruction: str) -> str:
    """What the last stage says of it."""
    return [step.text for step in stages()[-1] if step.instruction == instruction][-1]


# The Dockerfile


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    program = str(hadolint) if hadolint.exists() else require_program("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_knows_a_mistake(tmp_path: Path) -> None:
    """So that the test above is worth something."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text() + "\nCMD sidecar\n")
    hadolint = Path(sys.executable).with_name("hadolint")
    program = str(hadolint) if hadolint.exists() else require_program("hadolint")
    assert subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1


def test_it_ends_in_the_program_itself_as_a_numbered_user() -> None:
    steps = stages()[-1]
    (entry,) = [step for step in steps if step.instruction == "ENTRYPOINT"]
    assert entry.exec_form == ["sidecar", "serve"]
    assert last("USER") == f"{NOBODY}:{NOBODY}"
    assert last("STOPSIGNAL") == "SIGTERM"
    assert not [step for step in steps if step.instruction in ("RUN", "ADD", "CMD", "HEALTHCHECK")]


def test_the_last_stage_takes_nothing_but_the_environment_and_an_empty_directory() -> None:
    copied = [(step.options["from"], *step.words) for step in stages()[-1] if step.instruction == "COPY"]
    assert copied == [("build", "/opt/sidecar", "/opt/sidecar"), ("build", "/opt/data", "/var/lib/sidecar")]


def test_what_is_installed_is_locked_by_hashes() -> None:
    installs = [
        each
        for step in stages()[0]
        if step.instruction == "RUN"
        for each in step.text.split("&&")
        if " install " in each
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)


def test_nothing_else_of_the_repository_reaches_the_build() -> None:
    for path in (".git", "tests", "config", "helm", ".venv", "sidecar.db", "secrets/pepper"):
        assert ignored(path), path


def test_the_chart_runs_it_as_it_was_built() -> None:
    spec = container(pod(render(values("gateway"))))
    assert spec["command"] == ["sidecar", "serve"]
    assert f"SIDECAR_CONFIG={spec['env'][0]['value']}" in last("ENV")
    assert spec["securityContext"]["runAsUser"] == NOBODY
    assert {str(port["containerPort"]) for port in spec["ports"]} == set(last("EXPOSE").split())


# What its steps make


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """A folder in which the build stage's steps were done, for everybody to read."""
    root = Path(tempfile.mkdtemp(prefix="sidecar-image-"))
    root.chmod(0o755)
    try:
        build(root)
        yield root
    finally:
        shutil.rmtree(root)


@pytest.mark.slow
def test_the_wheel_has_everything_and_nothing_else(built: Path) -> None:
    (wheel,) = (built / "opt" / "wheel").glob("*.whl")
    assert wheel.name == f"sidecar-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tree = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "sidecar").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == tree


@pytest.mark.slow
def test_the_environment_has_no_tools_of_the_build(built: Path) -> None:
    environment = built / "opt" / "sidecar"
    (packages,) = environment.glob("lib/python*/site-packages")
    names = {path.name.partition("-")[0].lower() for path in packages.glob("*.dist-info")}
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "runtime.txt").read_text(), re.MULTILINE))
    assert names <= {name.replace("-", "_").lower() for name in locked} | {"sidecar"}
    assert {"sidecar", "aiohttp", "uvloop"} <= names
    assert not {"pip", "setuptools", "pytest"} & names


class Contained:
    """The chart's pod as far as one machine goes: the container's user without capabilities, process 1 of its own, a root
    that is read-only but for the data directory, and the chart's own configuration."""

    def __init__(self, built: Path, folder: Path) -> None:
        self.ports = dict(zip(("data", "ops"), free_ports(2), strict=True))
        given = values("embedded", ports=self.ports, listenHost="127.0.0.1", config={"limits": {"drain_delay": "0s"}})
        documents = render(given)
        self.config = lay_out(documents, folder)
        self.data = folder / "var" / "lib" / "sidecar"
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o444)
        os.chown(self.data, NOBODY, NOBODY)
        self._program = built / "opt" / "sidecar" / "bin" / "sidecar"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        self.policy = yaml.safe_load(next(iter(one(documents, "ConfigMap", "-policies")["data"].values())))

    def command(self, *arguments: str) -> list[str]:
        prepare = (
            'mount --make-rprivate / && mount --bind "$0" "$0" && mount --bind / / && mount -o remount,bind,ro / '
            '&& mount --bind "$0" "$0" && mount -o remount,bind,rw "$0" && cd "$0" '
            f"&& exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --inh-caps=-all"
            ' --bounding-set=-all "$@"'
        )
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*unshare, "sh", "-ec", prepare, str(self.data), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SIDECAR_CONFIG": str(self.config),
            "PATH": f"{self._program.parent}:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command("sidecar", "serve"), env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while self.ask("ops", "/readyz")[0] != 200:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    @property
    def inner(self) -> int:
        """The sidecar's own process, of which only the namespace's parent is seen as a child here."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        (child,) = children
        return int(child)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(
        self, port: str, path: str, *, method: str = "GET", token: str = "", body: bytes | None = None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[port]}{path}", data=body, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def stop(self) -> int:
        """By SIGTERM to the sidecar itself, as Kubernetes sends it; the exit status."""
        assert self._process is not None
        os.kill(self.inner, signal.SIGTERM)
        return self._process.wait(30)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def contained(built: Path) -> Iterator[Contained]:
    for program in ("unshare", "setpriv", "mount"):
        require_program(program)
    allowed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if os.geteuid() != 0 or allowed.returncode != 0:
        pytest.skip("only root may make namespaces and change users here")
    # Not tmp_path: what lies above it is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="sidecar-pod-"))
    made = Contained(built, folder)
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_it_serves_as_nobody_over_a_read_only_root(contained: Contained) -> None:
    contained.start()
    state = Path(f"/proc/{contained.inner}/status").read_text()
    assert re.search(rf"^Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}", state, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", state, re.MULTILINE)
    assert re.search(r"^NSpid:\t\d+\t1$", state, re.MULTILINE), "it is process 1 of its container"

    made = contained.run("sidecar", "token", "create", "--kind", "ci", "--subject", "build", "--workspace", contained.policy["workspace"], "--permission", "read-write")  # fmt: skip
    assert made.returncode == 0, made.stderr
    token, body = made.stdout.strip(), secrets.token_bytes(100_000)
    assert contained.ask("data", "/web/a", method="PUT", token=token, body=body)[0] == 201
    assert contained.ask("data", "/web/a", token=token) == (200, body)
    assert contained.ask("data", "/web/a")[0] == 401

    assert contained.stop() == 0
    assert '"outcome":"allow"' in contained.log
    assert {path.name for path in contained.data.iterdir()} >= {"sidecar.db", "store"}


@pytest.mark.slow
def test_nothing_but_its_data_can_be_written(contained: Contained) -> None:
    """So that the test above is worth something."""
    name = secrets.token_hex(8)
    outside = (f"/tmp/{name}", f"/var/tmp/{name}")  # where anybody may write otherwise
    refused = contained.run("sh", "-c", f"touch {' '.join(outside)} {contained.data}/x 2>&1; id -u")
    assert refused.stdout.count("Read-only file system") == len(outside)
    assert refused.stdout.splitlines()[-1] == str(NOBODY)
    assert (contained.data / "x").exists()
