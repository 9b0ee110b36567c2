"""Several workers behind one address: each serves, and to auditors, operators and supervisors they are one program."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.signals import HANGUP
from sidecar.store.tables import schema_version
from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

WORKERS = 2
REVOKED_WITHIN = 0.5
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
"""
PUTS = 'sidecar_http_requests_total{code="201",decision="allow",method="PUT",protocol="plain"}'

Start = Callable[..., SidecarProcess]


def made(folder: Path, **more: str) -> SidecarProcess:
    """Rotates often; `more` are further sections of the configuration."""
    sections = {"limits": "{drain_delay: 0s, grace: 5s}", "workers": str(WORKERS)} | more
    audit = sections.pop("audit", "[{file: ./audit.jsonl}]")
    return SidecarProcess(
        folder,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY},
        audit=audit,
        more="\n".join(f"{name}: {text}" for name, text in sections.items()),
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """For the tests that leave all workers as they were."""
    process = made(tmp_path_factory.mktemp("workers"))
    try:
        yield process.start()
        assert process.stop() == 0
    finally:
        process.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    process = None

    def start(**more: str) -> SidecarProcess:
        nonlocal process
        process = made(tmp_path, **more)
        return process.start()

    yield start
    if process is not None:
        process.kill()


def workers_of(sidecar: SidecarProcess) -> list[int]:
    """Process numbers, in the order of their start."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _status(int(entry.name))[1] == sidecar.pid:
                found.append(int(entry.name))
    return sorted(found)


def _status(pid: int) -> tuple[str, int]:
    """State and parent (proc(5))."""
    state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return state, int(parent)


def ended(pid: int) -> bool:
    try:
        return _status(pid)[0] in "ZX"
    except OSError:
        return True


@contextlib.contextmanager
def halted(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        until(lambda pid=pid: _status(pid)[0] == "T")
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Client:
    """A connection that one worker has accepted, and that stays."""

    def __init__(self, sidecar: SidecarProcess, worker: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20)
        self._token = token
        with halted(*(pid for pid in workers_of(sidecar) if pid != worker)):
            assert self.ask("GET", "/web/none")[0] == 404

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str | None]:
        """Status and, where the sidecar refused, its reason."""
        self._connection.request(method, path, body=body, headers=bearer(self._token))
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("sidecar-reason")

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def clients(sidecar: SidecarProcess, token: str) -> Iterator[list[Client]]:
    """One for each worker."""
    connected = [Client(sidecar, pid, token) for pid in workers_of(sidecar)]
    assert len(connected) == WORKERS
    try:
        yield connected
    finally:
        for client in connected:
            client.close()


def readiness(sidecar: SidecarProcess) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/readyz?verbose", timeout=20) as answer:
            return answer.status, answer.read().decode().splitlines()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode().splitlines()


def scrape(sidecar: SidecarProcess) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/metrics", timeout=20) as answer:
        return answer.read().decode().splitlines()


def puts(sidecar: SidecarProcess) -> float:
    """How many were counted; a series begins with its first request."""
    return next((float(line.removeprefix(PUTS)) for line in scrape(sidecar) if line.startswith(PUTS)), 0.0)


def test_each_worker_serves_and_counts(running: SidecarProcess) -> None:
    before = puts(running)
    with clients(running, running.token()) as each:
        for number, client in enumerate(each):
            assert client.ask("PUT", f"/web/served-{number}", b"content") == (201, None)
    assert puts(running) == before + WORKERS
    assert [running.metric(f'sidecar_worker_up{{worker="{index}"}}') for index in range(WORKERS)] == [1, 1]


def test_an_object_written_by_one_is_read_by_the_other(running: SidecarProcess) -> None:
    with clients(running, running.token()) as (one, other):
        assert one.ask("PUT", "/web/shared", b"content")[0] == 201
        assert other.ask("GET", "/web/shared")[0] == 200


def test_a_revocation_counts_in_each_worker_at_once(running: SidecarProcess) -> None:
    token = running.token()
    with clients(running, token) as each:
        running.revoke(token)
        until(lambda: {client.ask("GET", "/web/none") for client in each} == {(401, "revoked")}, REVOKED_WITHIN)


def test_what_happens_once_is_recorded_once_though_each_worker_sees_it(running: SidecarProcess) -> None:
    """A policy edit and a token's creation. A worker's records keep their order: once its write is on record, all before it is."""
    edits, reloads = policy_records(running), running.metric('sidecar_policy_reloads_total{result="ok"}')
    with clients(running, running.token()) as each:
        for text, expected in ((POLICY.replace("read-write", "read"), 403), (POLICY, 201)):
            running.policy("web.yaml", text)
            for number, client in enumerate(each):
                key = f"/web/{expected}-{number}"
                until(lambda client=client, key=key, expected=expected: client.ask("PUT", key, b"x")[0] == expected)
    assert policy_records(running) == edits + 2
    assert running.metric('sidecar_policy_reloads_total{result="ok"}') == reloads + 2
    assert len([line for line in scrape(running) if line.startswith("sidecar_policy_info{")]) == 1
    names = [f"token {number}" for number in range(5)]
    for name in names:
        running.token(name=name)
    until(lambda: len(created(running, names)) >= len(names))
    assert created(running, names) == names


def policy_records(sidecar: SidecarProcess) -> int:
    return len([record for record in sidecar.audit() if record["kind"] == "policy"])


def created(sidecar: SidecarProcess, names: list[str]) -> list[str]:
    found = [record["changes"]["token_name"] for record in sidecar.audit() if record["action"] == "created"]
    return [name for name in found if name in names]


def test_sighup_ends_neither_the_parent_nor_a_worker(running: SidecarProcess) -> None:
    def heard() -> list[int | None]:
        lines = [json.loads(line) for line in running.log.splitlines() if line.startswith("{")]
        return [line.get("worker") for line in lines if line["msg"] == HANGUP]

    before = workers_of(running)
    for number, pid in enumerate([running.pid, *before], 1):
        os.kill(pid, signal.SIGHUP)
        until(lambda number=number: len(heard()) == number)
    assert heard() == [None, 0, 1]
    assert workers_of(running) == before
    assert readiness(running)[0] == 200


def test_a_worker_that_hangs_is_seen_and_the_scrape_does_without_it(running: SidecarProcess) -> None:
    before = puts(running)
    hung = workers_of(running)[1]
    with halted(hung):
        began = time.monotonic()
        status, lines = readiness(running)
        assert (status, lines[-1]) == (503, "not ready")
        assert "[-]worker 1: it does not answer" in lines
        assert running.metric('sidecar_worker_up{worker="0"}') == 1
        assert running.metric('sidecar_worker_up{worker="1"}') == 0
        assert puts(running) == before
        assert time.monotonic() - began < 20
        with urllib.request.urlopen(f"http://127.0.0.1:{running.ops_port}/livez", timeout=20) as answer:
            assert answer.status == 200
    until(lambda: readiness(running)[0] == 200)


def test_without_the_process_that_writes_the_audit_log_nothing_is_written_to_the_store(
    running: SidecarProcess,
) -> None:
    """Law 8 across processes: a parent that doesn't answer is a sink that fails."""
    with clients(running, running.token()) as (client, _):
        with halted(running.pid):
            assert client.ask("PUT", "/web/unheard", b"x") == (503, "audit_unavailable")
        until(lambda: client.ask("PUT", "/web/heard", b"x")[0] == 201)
        assert client.ask("GET", "/web/unheard")[0] == 404


def test_no_record_is_lost_or_torn_under_load_and_rotation(start: Start) -> None:
    sidecar = start(audit="[{file: ./audit.jsonl, rotate: {size: 64KiB, keep: 1000}}]")
    token, threads, each = sidecar.token(), 8, 40

    def load(thread: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20)
        for number in range(each):
            connection.request("PUT", f"/web/{thread}-{number}", body=b"x", headers=bearer(token))
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()

    statuses: list[int] = []
    running = [threading.Thread(target=load, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert statuses == [201] * (threads * each)
    assert puts(sidecar) == threads * each
    assert sidecar.stop() == 0
    files = list(sidecar.folder.glob("audit.jsonl*"))
    assert len(files) > 2
    content = [file.read_bytes() for file in files]
    assert all(text.endswith(b"\n") for text in content)
    written = [json.loads(line) for text in content for line in text.splitlines()]
    keys = {f"{thread}-{number}" for thread in range(threads) for number in range(each)}
    for stage in ("intent", "complete"):
        names = [r["resource"]["name"] for r in written if r["stage"] == stage and r["action"] == "object.write"]
        assert sorted(names) == sorted(keys)
    assert not {"gap", "torn"} & {record["action"] for record in written}
    assert [record["action"] for record in written].count("stop") == WORKERS


def test_a_killed_worker_is_replaced_and_no_counter_goes_back(start: Start) -> None:
    sidecar = start()
    token, count = sidecar.token(), 0
    seen = [puts(sidecar)]
    for victim in (0, 1, 0):
        before = workers_of(sidecar)
        with clients(sidecar, token) as each:
            for client in each:
                count += 1
                assert client.ask("PUT", f"/web/{count}", b"x")[0] == 201
        seen.append(puts(sidecar))
        assert seen[-1] == count
        os.kill(before[victim], signal.SIGKILL)
        until(lambda before=before, victim=victim: before[victim] not in workers_of(sidecar))
        seen.append(puts(sidecar))
        until(lambda: readiness(sidecar)[0] == 200)
        seen.append(puts(sidecar))
        assert seen == sorted(seen)
        assert len(workers_of(sidecar)) == WORKERS
    assert puts(sidecar) == count
    assert sidecar.stop() == 0


class Upload:
    def __init__(self, sidecar: SidecarProcess, token: str) -> None:
        self._connection = sidecar.connect()
        head = f"PUT /web/slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nab"
        self._connection.sendall(head.encode())
        until(lambda: [r for r in sidecar.audit() if r["stage"] == "intent"])

    def finish(self) -> bytes:
        self._connection.sendall(b"cd")
        return self.answer()

    def answer(self) -> bytes:
        with self._connection:
            return self._connection.recv(65536)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_lets_a_running_upload_end_well(start: Start, number: signal.Signals) -> None:
    sidecar = start(limits="{drain_delay: 1s, grace: 20s}")
    token = sidecar.token()
    upload = Upload(sidecar, token)
    os.kill(sidecar.pid, number)
    until(lambda: readiness(sidecar)[0] == 503)
    assert "[-]draining: shutting down" in readiness(sidecar)[1]
    assert ask(sidecar.port, "GET", "/web/none", bearer(token)).status == 404  # endpoints are withdrawn meanwhile
    until(lambda: not _accepts(sidecar))
    assert upload.finish().startswith(b"HTTP/1.1 201 ")
    assert sidecar.wait() == 0
    ends = [r for r in sidecar.audit() if r["stage"] == "complete" and r["action"] == "object.write"]
    assert [r["response"]["status"] for r in ends] == [201]


def test_ctrl_c_at_a_terminal_is_heard_once(tmp_path: Path) -> None:
    """A terminal signals the whole group: workers that heard it, too, would take the parent's word for the second signal."""
    sidecar = made(tmp_path, limits="{drain_delay: 1s, grace: 20s}")
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar.serving", str(sidecar.config)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: _accepts(sidecar) and readiness(sidecar)[0] == 200)
        upload = Upload(sidecar, sidecar.token())
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: not _accepts(sidecar))
        assert upload.finish().startswith(b"HTTP/1.1 201 ")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_does_not_end_in_time_is_ended_and_that_is_no_clean_end(start: Start) -> None:
    sidecar = start(limits="{drain_delay: 0s, grace: 0s}")
    stuck, other = workers_of(sidecar)
    os.kill(stuck, signal.SIGSTOP)
    os.kill(sidecar.pid, signal.SIGTERM)
    until(lambda: ended(other))
    assert not ended(stuck)
    assert sidecar.wait() == 1
    assert ended(stuck)


def _accepts(sidecar: SidecarProcess) -> bool:
    try:
        sidecar.connect().close()
    except OSError:
        return False
    return True


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    sidecar = start(limits="{drain_delay: 60s, grace: 60s}")
    workers = workers_of(sidecar)
    Upload(sidecar, sidecar.token())
    os.kill(sidecar.pid, signal.SIGTERM)
    until(lambda: readiness(sidecar)[0] == 503)
    began = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - began < 40
    assert all(map(ended, workers))


def test_workers_do_not_outlive_their_parent(start: Start) -> None:
    sidecar = start()
    workers = workers_of(sidecar)
    assert len(workers) == WORKERS
    sidecar.kill()
    for pid in workers:
        until(lambda pid=pid: ended(pid))
    assert not _accepts(sidecar)


def _fails(sidecar: SidecarProcess) -> str:
    """What it says where it can't start."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.serving", str(sidecar.config)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("setting", ["listen", "ops"])
def test_a_port_that_is_taken_is_said_once_with_what_to_do(tmp_path: Path, setting: str) -> None:
    sidecar = made(tmp_path)
    port = sidecar.port if setting == "listen" else sidecar.ops_port
    with socket.create_server(("127.0.0.1", port)):
        assert _fails(sidecar).splitlines() == [
            f"sidecar can't start: `{setting}: 127.0.0.1:{port}` is in use already; stop what listens there, "
            f"or set another address in the configuration; see {sidecar.config}"
        ]


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    sidecar = made(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "sidecar.db")) as newer:
        newer.execute(f"CREATE TABLE {schema_version.name} (version_num TEXT)")
        newer.execute(f"INSERT INTO {schema_version.name} VALUES ('9999')")
        newer.commit()
    assert _fails(sidecar).count("sidecar can't start") == 1


def test_a_worker_without_a_parent_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.serving", "--worker", "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("a worker can't start by itself: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_unix_socket_is_shared_as_well(tmp_path: Path) -> None:
    sidecar = made(tmp_path)
    path = tmp_path / "data.sock"
    text = sidecar.config.read_text().replace(f"listen: 127.0.0.1:{sidecar.port}", f"listen: unix:{path}")
    sidecar.config.write_text(text)
    try:
        sidecar.start()
        for pid in workers_of(sidecar):
            with halted(pid), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(str(path))
                connection.sendall(b"GET /web/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
