"""The AWS CLI and rclone as they are shipped, against a bucket behind the sidecar, over http and https.

What is believed: their exit status and output, and what the server itself says that it holds.
"""

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from tests.e2e.process import until
from tests.e2e.s3_house import House, Key, s3_house
from tests.e2e.s3_servers import S3Server
from tests.programs import require_program

pytestmark = pytest.mark.slow
MiB = 1024 * 1024


class Program(Struct, frozen=True):
    """One program, as one caller over one scheme runs it; `{...}` in its arguments is filled in."""

    house: House
    scheme: str
    key: Key
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": self.key.id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret,
            "AWS_DEFAULT_REGION": self.house.server.region,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CA_CERT": str(self.house.ca_file),
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENV_AUTH": "true",
            "RCLONE_CONFIG_S3_REGION": self.house.server.region,
            "RCLONE_CONFIG_S3_ENDPOINT": self.house.endpoints[self.scheme],
            "RCLONE_CONFIG_S3_CHUNK_SIZE": "5M",
            "RCLONE_CONFIG_S3_UPLOAD_CUTOFF": "5M",
        }
        if arguments[0] == "aws":
            environment["AWS_CA_BUNDLE"] = str(self.house.ca_file)
            arguments = ("aws", "--endpoint-url", self.house.endpoints[self.scheme], *arguments[1:])
        else:
            arguments = ("rclone", "--retries", "1", "--low-level-retries", "1", *arguments[1:])
        return subprocess.run(
            [require_program(arguments[0]), *arguments[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
        )

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def house(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with s3_house(tmp_path_factory.mktemp("house"), s3_server) as found:
        yield found


@pytest.fixture
def stored(house: House) -> Iterator[Callable[[], dict[str, bytes]]]:
    yield house.stored
    server = house.server.client()
    for key in house.stored():
        server.delete_object(Bucket=house.bucket, Key=key)


@pytest.fixture
def program(house: House, tmp_path: Path) -> Program:
    """Over http in front of one server and over https in front of the other: both clients take seconds for each call."""
    return Program(house, {"swift": "https"}.get(house.server.name, "http"), house.key(), tmp_path)


Stored = Callable[[], dict[str, bytes]]


def test_aws_cli(program: Program, stored: Stored) -> None:
    require_program("aws")
    content = os.urandom(MiB) * 64  # the CLI uploads it in parts, several at a time
    (program.folder / "big").write_bytes(content)
    (program.folder / "small é").write_bytes(b"content")
    program.ok("aws", "s3", "cp", "--quiet", "big", "s3://artifacts/dir/big")
    program.ok("aws", "s3", "cp", "--quiet", "small é", "s3://artifacts/dir/small é")
    assert stored() == {"web/dir/big": content, "web/dir/small é": b"content"}
    listed = program.ok("aws", "s3", "ls", "--recursive", "s3://artifacts/dir/").splitlines()
    assert [line.split(maxsplit=3)[3] for line in listed] == ["dir/big", "dir/small é"]
    assert "artifacts" in program.ok("aws", "s3", "ls")
    program.ok("aws", "s3", "cp", "--quiet", "s3://artifacts/dir/big", "back")
    assert (program.folder / "back").read_bytes() == content
    program.ok("aws", "s3", "mv", "--quiet", "s3://artifacts/dir/small é", "s3://artifacts/moved")
    assert stored().keys() == {"web/dir/big", "web/moved"}
    many = json.dumps({"Objects": [{"Key": "moved"}, {"Key": "dir/big"}]})
    program.ok("aws", "s3api", "delete-objects", "--bucket", "artifacts", "--delete", many)
    assert stored() == {}


def test_aws_cli_asks_each_operation_by_name(program: Program, stored: Stored) -> None:
    require_program("aws")
    (program.folder / "file").write_bytes(b"0123456789")
    at = ("--bucket", "artifacts", "--key")
    program.ok("aws", "s3api", "put-object", *at, "k", "--body", "file", "--metadata", "built_by=ci")
    head = json.loads(program.ok("aws", "s3api", "head-object", *at, "k"))
    assert (head["ContentLength"], head["Metadata"]) == (10, {"built_by": "ci"})
    program.ok("aws", "s3api", "get-object", *at, "k", "--range", "bytes=2-5", "ranged")
    assert (program.folder / "ranged").read_bytes() == b"2345"
    for version in ("list-objects", "list-objects-v2"):
        listed = json.loads(program.ok("aws", "s3api", version, "--bucket", "artifacts"))
        assert [each["Key"] for each in listed["Contents"]] == ["k"]
    program.ok("aws", "s3api", "copy-object", *at, "copied", "--copy-source", "artifacts/k")
    upload = json.loads(program.ok("aws", "s3api", "create-multipart-upload", *at, "never"))["UploadId"]
    part = ("--upload-id", upload, "--part-number", "1", "--body", "file")
    program.ok("aws", "s3api", "upload-part", *at, "never", *part)
    program.ok("aws", "s3api", "abort-multipart-upload", *at, "never", "--upload-id", upload)
    assert "Uploads" not in json.loads(
        program.ok("aws", "s3api", "list-multipart-uploads", "--bucket", "artifacts") or "{}"
    )
    if program.house.server.conditional_writes:
        met = program.run("aws", "s3api", "put-object", *at, "k", "--body", "ranged", "--if-none-match", "*")
        assert "PreconditionFailed" in met.stderr
    assert stored() == {"web/k": b"0123456789", "web/copied": b"0123456789"}


def test_aws_cli_copies_across_workspaces_and_signs_urls(
    program: Program, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("aws")
    house = program.house
    ada = house.key(kind="personal", subject="ada@example.com", workspaces=(), permissions=("read", "write"))
    program = replace(program, key=ada)
    (program.folder / ".aws").mkdir()
    (program.folder / ".aws" / "config").write_text("[default]\ns3 =\n    signature_version = s3v4\n")
    house.put("mobile/theirs", b"content")
    program.ok("aws", "s3", "cp", "--quiet", "s3://phones/theirs", "s3://artifacts/mine")
    assert program.run("aws", "s3", "cp", "--quiet", "s3://artifacts/mine", "s3://phones/back").returncode != 0
    assert stored() == {"mobile/theirs": b"content", "web/mine": b"content"}
    monkeypatch.setenv("SSL_CERT_FILE", str(house.ca_file))
    with urllib.request.urlopen(
        program.ok("aws", "s3", "presign", "s3://artifacts/mine").strip(), timeout=20
    ) as answer:
        assert answer.read() == b"content"


def test_rclone(program: Program, stored: Stored) -> None:
    require_program("rclone")
    content = os.urandom(MiB) * 11
    (program.folder / "source").mkdir()
    (program.folder / "source" / "big").write_bytes(content)
    (program.folder / "source" / "small é").write_bytes(b"content")
    program.ok("rclone", "copy", "source", "s3:artifacts/dir")
    assert stored() == {"web/dir/big": content, "web/dir/small é": b"content"}
    listed = program.ok("rclone", "lsf", "-R", "s3:artifacts").splitlines()
    assert sorted(listed) == ["dir/", "dir/big", "dir/small é"]
    assert program.ok("rclone", "lsd", "s3:").split()[-1] == "artifacts"
    program.ok("rclone", "check", "source", "s3:artifacts/dir")
    program.ok("rclone", "copy", "s3:artifacts/dir", "back")
    assert (program.folder / "back" / "big").read_bytes() == content
    program.ok("rclone", "copyto", "s3:artifacts/dir/small é", "s3:artifacts/copied")
    assert stored()["web/copied"] == b"content"
    program.ok("rclone", "purge", "s3:artifacts/dir")
    assert stored() == {"web/copied": b"content"}


CALLS = {
    "aws": (
        ("s3", "cp", "--quiet", "file", "s3://artifacts/new"),
        ("s3", "rm", "--quiet", "s3://artifacts/k"),
        ("s3", "mv", "--quiet", "s3://artifacts/k", "s3://artifacts/moved"),
    ),
    "rclone": (
        ("copyto", "file", "s3:artifacts/new"),
        ("deletefile", "s3:artifacts/k"),
        ("moveto", "s3:artifacts/k", "s3:artifacts/moved"),
    ),
}
READ = {"aws": ("s3", "cp", "s3://artifacts/k", "-"), "rclone": ("cat", "s3:artifacts/k")}


@pytest.mark.parametrize("name", list(CALLS))
def test_what_is_refused_changes_nothing(program: Program, stored: Stored, name: str) -> None:
    require_program(name)
    house = program.house
    house.put("web/k", b"content")
    (program.folder / "file").write_bytes(b"x")
    revoked = house.key()
    house.sidecar.revoke(revoked.token)
    secret = program.key.secret
    tampered = replace(program.key, secret=secret[:-1] + ("a" if secret[-1] != "a" else "b"))
    reader = replace(program, key=house.key(permissions=("read",)))
    assert reader.ok(name, *READ[name]) == "content"
    for call in CALLS[name]:
        assert reader.run(name, *call).returncode != 0, call
    for key in (house.key(workspaces=("mobile",)), tampered, revoked):
        caller = replace(program, key=key)
        until(lambda caller=caller: caller.run(name, *READ[name]).returncode != 0)  # a revocation takes a moment
        done = caller.run(name, *CALLS[name][0])
        assert (done.returncode != 0, done.stdout) == (True, "")
    assert stored() == {"web/k": b"content"}
