"""The real serving process for a test: its folder, its ports, tokens for it, and a clean end."""

import asyncio
import http.client
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from sidecar import config
from sidecar.model import PrincipalKind
from sidecar.store.open import open_token_store
from sidecar.tokens import NewToken
from tests.ports import free_port as free_port
from tests.ports import free_ports as free_ports
from tests.waiting import until as until

START_TIMEOUT = 60.0


class SidecarProcess:
    """`policies` by file name. `upstreams`, `audit` and `more` are text of the configuration file, `listen` that of further
    listeners. `access_keys`: whether tokens may have them."""

    def __init__(
        self,
        folder: Path,
        *,
        upstreams: str,
        policies: dict[str, str],
        audit: str = "[{file: ./audit.jsonl}]",
        more: str = "",
        access_keys: bool = False,
        listen: str = "",
    ) -> None:
        self.folder = folder
        self.port, self.ops_port = free_ports(2)
        self.config = folder / "sidecar.yaml"
        (folder / "policies").mkdir()
        for name, text in policies.items():
            self.policy(name, text)
        pepper = folder / "pepper"
        pepper.write_text(secrets.token_hex(32))
        pepper.chmod(0o600)
        more_of_tokens = ""
        if access_keys:
            master = folder / "master"
            master.write_text(secrets.token_hex(32))
            master.chmod(0o600)
            more_of_tokens = ", access_key_master_file: ./master"
        self.config.write_text(
            f"""
listen: {f"[127.0.0.1:{self.port}, {listen}]" if listen else f"127.0.0.1:{self.port}"}
ops: 127.0.0.1:{self.ops_port}
policies: ./policies
upstreams:
{upstreams}
tokens: {{store: "sqlite:///./sidecar.db", pepper_file: ./pepper{more_of_tokens}}}
audit: {audit}
{more}
"""
        )
        self._process: subprocess.Popen[bytes] | None = None

    def policy(self, name: str, text: str) -> None:
        (self.folder / "policies" / name).write_text(text)

    def start(self) -> "SidecarProcess":
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.serving", str(self.config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the sidecar did not start:\n{self.log}")
            time.sleep(0.02)
        return self

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status."""
        self.signal(number)
        return self.wait()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        """The exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def token(self, **wanted: object) -> str:
        """A fresh token; `wanted` are the fields of `NewToken`."""
        return self._created(wanted)[0]

    def access_key(self, **wanted: object) -> tuple[str, str, str]:
        """A fresh token's access key: id and secret, and the token."""
        token, key_id, secret = self._created({"s3": True, **wanted})
        return key_id, secret, token

    def _created(self, wanted: dict[str, object]) -> tuple[str, str, str]:
        asked = {"kind": PrincipalKind.CI, "subject": "ci", "workspaces": ("web",), **wanted}

        async def create() -> tuple[str, str, str]:
            settings = config.load(self.config).tokens
            assert settings is not None
            opened = await open_token_store(settings)
            try:
                secret, row = await opened.tokens.create(
                    msgspec.convert(asked, NewToken), actor="test", now=int(time.time())
                )
                pair = opened.tokens.access_key(row)
                return secret.reveal(), "" if pair is None else pair.id, "" if pair is None else pair.secret.reveal()
            finally:
                await opened.store.close()

        return asyncio.run(create())

    def cli(self, *arguments: str, stdin: str = "") -> str:
        """What `sidecar ARGUMENTS --config ...` prints; it must succeed."""
        command = [sys.executable, "-m", "sidecar", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def revoke(self, token: str) -> None:
        """By the command line. The running process learns of it on its own."""
        self.cli("token", "revoke", "-", stdin=token)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def audit(self) -> list[dict[str, Any]]:
        """The records that are on disk; one that is being written isn't yet."""
        *lines, _ = (self.folder / "audit.jsonl").read_bytes().split(b"\n")
        return [msgspec.json.decode(line) for line in lines]

    def answered(self, token: str) -> list[dict[str, Any]]:
        """The records that are on disk of what was asked with a token and has its answer."""
        token_id = token.split("_")[2]
        return [
            record
            for record in self.audit()
            if record["kind"] == "access" and record["stage"] == "complete" and record["actor"]["token_id"] == token_id
        ]

    def metric(self, sample: str) -> float:
        """The value of one sample as it is written, labels included."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}/metrics", timeout=20) as answer:
            text: str = answer.read().decode()
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(f"no sample {sample}")
