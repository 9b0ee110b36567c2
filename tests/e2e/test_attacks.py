"""Attacks that once went through, each against the real process and a store that is careless in the way the attack needs."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.process import SidecarProcess, until

POLICY = """
workspace: {name}
routes:
  - {{path: /{name}, client: plain, upstream: {upstream}, upstream_path: /store/{name}}}
anonymous: {anonymous}
ci_tokens: read-write
write_once: {write_once}
rules:
  - {{name: ci deletes, allow: [delete], kinds: [ci]}}
"""


class CarelessStore(http.server.ThreadingHTTPServer):
    """Reads no body with GET, sends one with HEAD, and takes a query for another version of the object."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Careless)
        self.asked: list[str] = []
        self.objects: dict[str, bytes] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Careless(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CarelessStore

    def do_GET(self) -> None:
        self._heard()
        body = self.server.objects.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "HEAD":
            time.sleep(0.01)
        self.wfile.write(body or b"")

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self._heard()
        self.server.objects[self.path.partition("?")[0]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _heard(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Rig:
    def __init__(self, sidecar: SidecarProcess, store: CarelessStore) -> None:
        self.sidecar, self.store = sidecar, store
        self.writer = sidecar.token(workspaces=("open",))
        self.once = sidecar.token(workspaces=("once",))
        self.local = sidecar.token(workspaces=("local",))

    def ask(
        self, method: str, path: str, *lines: tuple[str, str], token: str | None = None, body: bytes | None = None
    ) -> Answer:
        headers = dict(lines) | (bearer(token) if token else {})
        return ask(self.sidecar.port, method, path, headers, body)

    def raw(self, data: bytes) -> bytes:
        with self.sidecar.connect() as connection:
            connection.sendall(data)
            answered = b""
            try:
                while piece := connection.recv(65536):
                    answered += piece
            except OSError:
                pass
            return answered


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    store = CarelessStore()

    def policy(name: str, upstream: str, anonymous: str, write_once: str) -> str:
        return POLICY.format(name=name, upstream=upstream, anonymous=anonymous, write_once=write_once)

    sidecar = SidecarProcess(
        folder,
        upstreams=f"  careless: {{url: 'http://127.0.0.1:{store.server_address[1]}'}}\n  local: {{url: 'file://./data'}}\n",
        policies={
            "open.yaml": policy("open", "careless", "read", "false"),
            "bank.yaml": policy("bank", "careless", "read", "false"),
            "once.yaml": policy("once", "careless", "none", "true"),
            "local.yaml": policy("local", "local", "none", "true"),
        },
        more="limits: {body_timeout: 20s, drain_delay: 0s, grace: 2s}",
    ).start()
    try:
        yield Rig(sidecar, store)
    finally:
        sidecar.kill()
        store.shutdown()


SMUGGLED = b"PUT /store/bank/secret HTTP/1.1\r\nHost: store\r\nContent-Length: 5\r\n\r\nowned"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_a_store_leaves_unread_never_becomes_its_next_request(rig: Rig, method: str, framing: str) -> None:
    token = f"Authorization: Bearer {rig.writer}\r\n" if method == "DELETE" else ""
    head = f"{method} /open/x HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n{token}"
    if framing == "length":
        request = f"{head}Content-Length: {len(SMUGGLED)}\r\n\r\n".encode() + SMUGGLED
    else:
        request = (
            f"{head}Transfer-Encoding: chunked\r\n\r\n{len(SMUGGLED):x}\r\n".encode() + SMUGGLED + b"\r\n0\r\n\r\n"
        )
    assert rig.raw(request).startswith(b"HTTP/1.1 400 ")
    assert not any("bank" in line for line in rig.store.asked)


def test_a_body_sent_after_a_head_is_nobodys_answer(rig: Rig) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    rig.store.objects |= {"/store/open/evil": evil, "/store/bank/app": b"the bank's"}
    for _ in range(10):
        assert rig.ask("HEAD", "/open/evil").status == 200
        assert rig.ask("GET", "/bank/app").body == b"the bank's"


def test_whether_a_key_exists_does_not_depend_on_the_query(rig: Rig) -> None:
    rig.store.objects["/store/once/release"] = b"first"
    for query in ("", "?versionId=none", "?x"):
        assert rig.ask("PUT", f"/once/release{query}", token=rig.once, body=b"second").status == 409
    assert rig.store.objects["/store/once/release"] == b"first"


def test_a_slow_upload_does_not_outlast_the_question_whether_its_key_is_free(rig: Rig) -> None:
    with rig.sidecar.connect() as slow:
        head = (
            f"PUT /local/release HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {rig.local}\r\nContent-Length: 4\r\n\r\n"
        )
        slow.sendall(head.encode() + b"EVI")
        until(lambda: any((rig.sidecar.folder / "data").rglob("*.tmp")) or _intents(rig, "/local/release"))
        assert rig.ask("PUT", "/local/release", token=rig.local, body=b"good").status == 201
        slow.sendall(b"L")
        assert slow.recv(100).startswith(b"HTTP/1.1 409 ")
    assert rig.ask("GET", "/local/release", token=rig.local).body == b"good"


def _intents(rig: Rig, path: str) -> bool:
    return any(record["stage"] == "intent" and record["request"]["path"] == path for record in rig.sidecar.audit())


@pytest.mark.slow
def test_whoever_asks_on_and_on_and_never_reads_costs_no_memory(rig: Rig) -> None:
    assert rig.ask("PUT", "/local/big", token=rig.local, body=b"x" * 60_000).status == 201
    before = _resident(rig.sidecar.pid)
    with rig.sidecar.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one = f"GET /local/big HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {rig.local}\r\n\r\n".encode()
        connection.settimeout(1)
        try:
            for _ in range(1500):
                connection.sendall(one)
        except OSError:
            pass
        time.sleep(1)
        assert _resident(rig.sidecar.pid) - before < 16 * 1024


def _resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_answers_of_our_own_to_strangers_are_counted_not_written_out(rig: Rig) -> None:
    counted = rig.sidecar.metric("sidecar_audit_suppressed_total")
    for _ in range(100):
        assert rig.ask("OPTIONS", "/local/x").status == 204
    until(lambda: rig.sidecar.metric("sidecar_audit_suppressed_total") - counted >= 98)
    assert sum(record["request"]["method"] == "OPTIONS" for record in rig.sidecar.audit()) <= 10


@pytest.mark.parametrize(
    "name", ["X-Token", "X-Authorization", "Referer", "X-Bearer-Token", "Ocp-Apim-Subscription-Key"]
)
def test_a_token_in_a_header_that_is_no_carrier_does_not_reach_the_store(rig: Rig, name: str) -> None:
    asked = len(rig.store.asked)
    refused = rig.ask("GET", "/open/x", (name, f"see {rig.writer}"))
    assert (refused.status, refused.reason) == (400, "misplaced_token")
    assert len(rig.store.asked) == asked


@pytest.mark.parametrize("spelling", ["access_token={}", "x=1&t=Bearer%20{}", "{}"])
def test_a_token_in_a_url_does_not_reach_the_store(rig: Rig, spelling: str) -> None:
    asked = len(rig.store.asked)
    refused = rig.ask("GET", "/open/x?" + spelling.format(rig.writer.replace("_", "%5F", 1)))
    assert (refused.status, refused.reason) == (400, "misplaced_token")
    assert len(rig.store.asked) == asked


@pytest.mark.parametrize("depth", ["1", "infinity", "Infinity", "1,noroot"])
def test_a_depth_is_not_passed_on_as_if_it_named_one_key(rig: Rig, depth: str) -> None:
    asked = len(rig.store.asked)
    assert rig.ask("DELETE", "/open/dir", ("Depth", depth), token=rig.writer).status == 403
    assert len(rig.store.asked) == asked


def test_chunks_in_http_1_0_are_faulty(rig: Rig) -> None:
    head = f"PUT /open/x HTTP/1.0\r\nHost: c\r\nAuthorization: Bearer {rig.writer}\r\nConnection: keep-alive\r\n"
    answered = rig.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.count(b"HTTP/1.1 ") == 1
