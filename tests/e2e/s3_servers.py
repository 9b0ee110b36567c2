"""Real S3 servers that verify signatures, for a test: OpenStack Swift with s3api, and Versity's gateway over a folder.

Neither is enough alone. Swift takes every key (`a//b`, `../x`) and refuses `If-None-Match` on PUT; the gateway's keys are
files in a folder, and it knows conditional writes, virtual-hosted style and TLS.
"""

import contextlib
import os
import pwd
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import trustme
from botocore.config import Config
from msgspec import Struct

from tests.e2e.process import free_ports
from tests.programs import go_program, require_program

REGION = "us-east-1"
START_TIMEOUT = 180.0
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

_SWIFT_FILTERS = "catch_errors gatekeeper healthcheck listing_formats bulk slo dlo symlink"
_SWIFT_PIPELINE = (
    "catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo dlo versioned_writes symlink "
    "proxy-server"
)
_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *named = sys.argv[1:]
for each in named:
    name, port = each.split(":")
    builder = RingBuilder(4, 1, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1"})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


class S3Server(Struct, frozen=True):
    """One that runs. `access_key` with `secret_key` may do everything there."""

    name: str
    endpoint: str
    """`http://127.0.0.1:PORT`, or `https://localhost:PORT`."""
    access_key: str
    secret_key: str
    region: str = REGION
    conditional_writes: bool = True
    """Whether `If-None-Match: *` and `If-Match` on PUT are kept."""
    any_key: bool = True
    """Whether every key that S3 has is one here: `a//b`, `a/../b`, `a` beside `a/b`."""
    ca_file: Path | None = None
    """Who signed its certificate, for https."""
    domain: str | None = None
    """`BUCKET.` before this, as `Host`, is a bucket in virtual-hosted style."""

    def client(self, *, endpoint: str | None = None, **more: Any) -> Any:
        """boto3's, in path style; `more` goes to its `Config`."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=None if self.ca_file is None else str(self.ca_file),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **more),
        )

    def bucket(self) -> str:
        """The name of a fresh bucket."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def stored(self, bucket: str) -> dict[str, bytes]:
        """Key -> content of all that is in a bucket, asked of the server itself."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Four processes on one "disk". Skips the test where Swift is not installed."""
    services = ("object", "container", "account")
    programs = {name: require_program(f"swift-{name}-server") for name in (*services, "proxy")}
    ports = dict(zip(programs, free_ports(len(programs)), strict=True))
    (folder / "srv" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_prefix = test\nswift_hash_path_suffix = test\n")
    # Swift is Debian's, for Debian's own Python.
    rings = [f"{name}:{ports[name]}" for name in services]
    subprocess.run(
        ["/usr/bin/python3", "-c", _RINGS, str(folder), *rings], check=True, capture_output=True, timeout=120
    )
    secret = secrets.token_urlsafe(18)
    for name in services:
        (folder / f"{name}.conf").write_text(_swift_storage(folder, name, ports[name]))
    (folder / "proxy.conf").write_text(_swift_proxy(folder, ports["proxy"], secret))
    endpoint = f"http://127.0.0.1:{ports['proxy']}"
    with contextlib.ExitStack() as running:
        # `tempauth` asks for a cache, and does without one that doesn't answer.
        for name, program in programs.items():
            running.enter_context(
                _process([program, str(folder / f"{name}.conf"), "--verbose"], folder / f"{name}.log")
            )
        _wait(lambda: _status(f"{endpoint}/healthcheck") == 200, folder)
        server = S3Server("swift", endpoint, "acme:ci", secret, conditional_writes=False)
        _wait(lambda: _makes_buckets(server), folder)  # which needs the other three as well
        yield server


def _swift_default(folder: Path, port: int) -> str:
    # An address that isn't there: nothing is to be said to the machine's log.
    return f"""[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
user = {pwd.getpwuid(os.geteuid()).pw_name}
workers = 0
log_level = WARNING
log_address = {folder}/no-syslog
"""


def _swift_storage(folder: Path, name: str, port: int) -> str:
    return f"""{_swift_default(folder, port)}
devices = {folder}/srv
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""


def _swift_proxy(folder: Path, port: int, secret: str) -> str:
    filters = "\n".join(f"[filter:{name}]\nuse = egg:swift#{name}" for name in _SWIFT_FILTERS.split())
    return f"""{_swift_default(folder, port)}
[pipeline:main]
pipeline = {_SWIFT_PIPELINE}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
location = {REGION}
auth_pipeline_check = false
[filter:tempauth]
use = egg:swift#tempauth
user_acme_ci = {secret} .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
{filters}
"""


@contextlib.contextmanager
def versitygw(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """One process over the folder `buckets`. Skips the test where there is no Go to build it with."""
    program = go_program(VERSITYGW)
    (port,) = free_ports(1)
    (folder / "buckets").mkdir()
    secret, more, scheme, ca_file = secrets.token_urlsafe(18), [], "http", None
    if tls:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "*.localhost", "127.0.0.1")
        ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        more, scheme = ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")], "https"
    command = [
        *(program, "--port", f"127.0.0.1:{port}", "--region", REGION, "--keep-alive", "--quiet"),
        *("--virtual-domain", f"localhost:{port}", *more, "posix", str(folder / "buckets")),
    ]
    keys = {"ROOT_ACCESS_KEY": "AKIDEXAMPLE", "ROOT_SECRET_KEY": secret}
    host = "localhost" if tls else "127.0.0.1"
    server = S3Server(
        "versitygw",
        f"{scheme}://{host}:{port}",
        "AKIDEXAMPLE",
        secret,
        any_key=False,
        ca_file=ca_file,
        domain=f"localhost:{port}",
    )
    with _process(command, folder / "versitygw.log", keys):
        _wait(lambda: bool(server.client().list_buckets()), folder)
        yield server


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[S3Server]]] = {
    "swift": swift,
    "versitygw": versitygw,
}


@contextlib.contextmanager
def _process(command: list[str], log: Path, more: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("ab") as written:
        started = subprocess.Popen(
            command, stdout=written, stderr=written, start_new_session=True, env=os.environ | (more or {})
        )
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _makes_buckets(server: S3Server) -> bool:
    server.client().delete_bucket(Bucket=server.bucket())
    return True


def _status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return int(answer.status)


def _wait(ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            if ready():
                return
            why = "not ready"
        except Exception as error:  # whatever a server says that is about to start
            why = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
            raise AssertionError(f"it did not start: {why}\n{logs}")
        time.sleep(0.05)
