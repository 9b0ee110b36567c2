"""How the process comes up and goes down: what a load balancer, a supervisor and a person at a terminal see of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.signals import HANGUP
from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
"""
BIG = os.urandom(8 * 1024 * 1024)
"""More than the sockets between two processes hold."""

Start = Callable[..., SidecarProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(limits: str, folder: str = "one") -> SidecarProcess:
        (tmp_path / folder).mkdir()
        process = SidecarProcess(
            tmp_path / folder,
            upstreams='  local: {url: "file://./data"}\n',
            policies={"web.yaml": POLICY},
            more=f"limits: {{{limits}}}",
        )
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.kill()


class Upload:
    """A PUT that goes on for as long as it is wanted to."""

    def __init__(self, sidecar: SidecarProcess, token: str, key: str) -> None:
        self._sidecar, self._key = sidecar, key
        self._connection = sidecar.connect()
        head = (
            f"PUT /web/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(BIG)}\r\n\r\n"
        )
        self._connection.sendall(head.encode() + BIG[: len(BIG) // 2])
        until(lambda: self.records("intent") and any(each.stat().st_size for each in _uploads(sidecar)))

    def records(self, stage: str) -> list[dict[str, Any]]:
        return [
            record
            for record in self._sidecar.audit()
            if record["stage"] == stage and record["resource"]["name"] == self._key
        ]

    def finish(self) -> bytes:
        """The answer's head."""
        self._connection.sendall(BIG[len(BIG) // 2 :])
        return self.answer()

    def answer(self) -> bytes:
        with self._connection:
            data = b""
            while piece := self._connection.recv(65536):
                data += piece
            return data


def _uploads(sidecar: SidecarProcess) -> list[Path]:
    """What the embedded store has received and not yet given its name."""
    return list((sidecar.folder / "data" / "tmp").iterdir())


class Download(threading.Thread):
    """A GET of `BIG` that has begun and takes its rest when it is told to."""

    def __init__(self, sidecar: SidecarProcess, token: str, key: str) -> None:
        super().__init__(daemon=True)
        self.body = b""
        self._go_on = threading.Event()
        self._connection = sidecar.connect()
        self._connection.sendall(
            f"GET /web/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        self._begun = self._connection.recv(1000)
        assert self._begun.startswith(b"HTTP/1.1 200 ")
        self.start()

    def run(self) -> None:
        self._go_on.wait(20)
        pieces = [self._begun]
        with contextlib.suppress(ConnectionResetError), self._connection:
            while piece := self._connection.recv(1 << 20):
                pieces.append(piece)
        self.body = b"".join(pieces).partition(b"\r\n\r\n")[2]

    def finish(self) -> bytes:
        """The body, as far as it came."""
        self._go_on.set()
        self.join(20)
        return self.body


def ready(sidecar: SidecarProcess) -> int:
    """The status that `/readyz` answers; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/readyz", timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def accepts(sidecar: SidecarProcess) -> bool:
    try:
        sidecar.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def get(sidecar: SidecarProcess, token: str, key: str) -> Answer:
    return ask(sidecar.port, "GET", f"/web/{key}", bearer(token))


def last_record(sidecar: SidecarProcess) -> tuple[str, str]:
    record = sidecar.audit()[-1]
    return record["kind"], record["action"]


# --- the end --------------------------------------------------------------------------------------------------------------------


def test_sigterm_lets_everything_end_well(start: Start) -> None:
    sidecar = start("drain_delay: 4s, grace: 60s")
    token = sidecar.token()
    assert ask(sidecar.port, "PUT", "/web/stored", bearer(token), BIG).status == 201
    upload, download = Upload(sidecar, token, "uploaded"), Download(sidecar, token, "stored")
    idle = sidecar.connect()
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)

    until(lambda: ready(sidecar) == 503)
    late = get(sidecar, token, "stored")
    assert late.body == BIG, "whoever comes before the endpoint is withdrawn is still served"
    assert late.header("connection") == "close"

    until(lambda: not accepts(sidecar))
    assert time.monotonic() - began >= 4, "it stopped to accept before its time"
    assert idle.recv(1) == b"", "an idle connection isn't waited for"
    assert ready(sidecar) == 503

    assert upload.finish().startswith(b"HTTP/1.1 201 ")
    assert download.finish() == BIG
    assert sidecar.wait() == 0
    assert last_record(sidecar) == ("system", "stop")
    assert [record["response"]["aborted"] for record in upload.records("complete")] == [False]
    assert "Traceback" not in sidecar.log

    sidecar.start()
    assert get(sidecar, token, "uploaded").body == BIG


def test_whoever_does_not_end_within_the_grace_is_broken_off_and_on_record(start: Start) -> None:
    sidecar = start("drain_delay: 0s, grace: 500ms")
    token = sidecar.token()
    upload = Upload(sidecar, token, "unfinished")
    began = time.monotonic()
    assert sidecar.stop() == 0
    assert 0.5 <= time.monotonic() - began < 20
    with contextlib.suppress(ConnectionResetError):
        assert b" 201 " not in upload.answer()
    assert last_record(sidecar) == ("system", "stop")
    assert [record["response"]["aborted"] for record in upload.records("complete")] == [True]
    sidecar.start()
    assert get(sidecar, token, "unfinished").status == 404


@pytest.mark.parametrize("insisting", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("limits", ["drain_delay: 60s, grace: 60s", "drain_delay: 0s, grace: 60s"])
def test_a_second_signal_ends_it_at_once(start: Start, limits: str, insisting: int) -> None:
    sidecar = start(limits)
    upload = Upload(sidecar, sidecar.token(), "unfinished")
    sidecar.signal(signal.SIGTERM)
    until(lambda: ready(sidecar) == 503)
    began = time.monotonic()
    assert sidecar.stop(insisting) == 0
    assert time.monotonic() - began < 30
    assert last_record(sidecar) == ("system", "stop")
    assert [record["response"]["aborted"] for record in upload.records("complete")] == [True]


def test_a_process_that_is_killed_leaves_the_intent_of_what_it_was_doing(start: Start) -> None:
    sidecar = start("drain_delay: 0s")
    token = sidecar.token()
    upload = Upload(sidecar, token, "half")
    sidecar.kill()
    (intent,) = upload.records("intent")
    assert upload.records("complete") == []
    assert intent["actor"]["token_id"] == token.split("_")[2]
    assert intent["action"] == "object.write"

    left = _uploads(sidecar)
    assert left
    for path in left:
        os.utime(path, (0, 0))  # what is young may be another process's
    sidecar.start()
    assert not any(path.exists() for path in left)
    assert get(sidecar, token, "half").status == 404, "half a body became an object"
    assert ask(sidecar.port, "PUT", "/web/half", bearer(token), b"whole").status == 201
    assert get(sidecar, token, "half").body == b"whole"


def logged(sidecar: SidecarProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sidecar.log.splitlines() if line.startswith("{")]


def test_sighup_changes_nothing_and_is_answered_in_the_log(start: Start) -> None:
    sidecar = start("drain_delay: 0s")
    for count in (1, 2):
        sidecar.signal(signal.SIGHUP)
        until(lambda count=count: [line["msg"] for line in logged(sidecar)].count(HANGUP) == count)
    assert ready(sidecar) == 200
    assert sidecar.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_log_says_which_signal_ended_it(start: Start, number: signal.Signals) -> None:
    sidecar = start("drain_delay: 0s")
    assert sidecar.stop(number) == 0
    said = {line["logger"]: line["msg"] for line in logged(sidecar) if line["msg"].startswith("stopping")}
    assert list(said) == ["sidecar.serving"]
    assert said["sidecar.serving"].startswith(f"stopping ({number.name}): ")


# --- the beginning ----------------------------------------------------------------------------------------------------------------


def command(sidecar: SidecarProcess) -> list[str]:
    return [sys.executable, "-m", "sidecar", "serve", "--config", str(sidecar.config)]


@pytest.mark.parametrize("setting", ["listen", "ops"])
def test_a_port_that_is_taken_is_said_with_what_to_do(start: Start, setting: str) -> None:
    sidecar = start("drain_delay: 0s")
    assert sidecar.stop() == 0
    port = sidecar.port if setting == "listen" else sidecar.ops_port
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(command(sidecar), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("sidecar can't start: ")]
    assert said == [
        f"sidecar can't start: `{setting}: 127.0.0.1:{port}` is in use already; stop what listens there, "
        f"or set another address in the configuration; see {sidecar.config}"
    ]
    assert "Traceback" not in done.stderr
    assert last_record(sidecar) == ("system", "stop")


def test_ctrl_c_at_the_command_line_ends_it_cleanly(start: Start) -> None:
    sidecar = start("drain_delay: 0s")
    assert sidecar.stop() == 0
    process = subprocess.Popen(command(sidecar), stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: accepts(sidecar) and ready(sidecar) == 200)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in said
    assert last_record(sidecar) == ("system", "stop")


# --- limits ------------------------------------------------------------------------------------------------------------------------


def test_one_connection_too_many_is_closed_at_once_and_room_comes_back(start: Start) -> None:
    sidecar = start("connections: 4, drain_delay: 0s")
    token = sidecar.token()
    refused = 'sidecar_decisions_total{decision="error",reason="overloaded"}'
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(sidecar.connect())
        until(lambda: sidecar.metric("sidecar_connections_open") == 4)
        with sidecar.connect() as surplus, contextlib.suppress(ConnectionResetError):
            assert surplus.recv(1) == b""
        until(lambda: sidecar.metric(refused) == 1)
    until(lambda: sidecar.metric("sidecar_connections_open") == 0)
    assert get(sidecar, token, "missing").status == 404
    assert sidecar.metric(refused) == 1
