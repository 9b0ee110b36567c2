"""What passes between a client and a store, seen from both ends over real sockets."""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import SidecarProcess, free_port, until
from tests.e2e.scripted_store import OK, Asked, ScriptedStore, answer, read_body

POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: artifacts, upstream_path: /store}
  - {path: /sock, client: plain, upstream: local, upstream_path: /store}
ci_tokens: read-write
rules:
  - {name: ci deletes, allow: [delete], kinds: [ci]}
"""


class Rig:
    def __init__(self, sidecar: SidecarProcess, store: ScriptedStore, unix_store: ScriptedStore) -> None:
        self.sidecar, self.store, self.unix_store = sidecar, store, unix_store
        self.token = sidecar.token()

    def head(self, method: str, path: str, *lines: str) -> bytes:
        fixed = ["Host: cache.example", f"Authorization: Bearer {self.token}"]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *fixed, *lines, "", ""]).encode()

    def ask(self, method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
        """The whole answer to one request on a connection of its own."""
        with self.sidecar.connect() as connection:
            connection.sendall(self.head(method, path, "Connection: close", *lines) + body)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(1 << 20):
        data += piece
    return data


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a Content-Length, the connection kept."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail(f"closed after {data!r}")
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(header(head, "content-length") or 0)
    pieces, missing = [head, b"\r\n\r\n", body], length - len(body)
    while missing > 0:
        pieces.append(connection.recv(1 << 20) or pytest.fail("closed in the body"))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def header(answered: bytes, name: str) -> str | None:
    for line in answered.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.decode().lower() == name:
            return value.strip().decode()
    return None


def body_of(answered: bytes) -> bytes:
    return answered.partition(b"\r\n\r\n")[2]


def status(answered: bytes) -> int:
    return int(answered[9:12])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("forwarding")
    store, unix_store = ScriptedStore(), ScriptedStore(unix=str(folder / "store.sock"))
    sidecar = SidecarProcess(
        folder,
        upstreams=f"""
  artifacts:
    url: http://127.0.0.1:{store.port}
    timeouts: {{connect: 2s, first_byte: 2s, idle: 3s}}
  local: {{url: "unix:{folder}/store.sock"}}
""",
        policies={"web.yaml": POLICY},
        more="limits: {head_timeout: 2s, body_timeout: 2s, head_size: 16KiB, drain_delay: 0s, grace: 5s}",
    )
    try:
        yield Rig(sidecar.start(), store, unix_store)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        store.close()
        unix_store.close()


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.store.script = running.unix_store.script = OK
    running.store.asked.clear()
    running.unix_store.asked.clear()
    return running


def test_the_request_reaches_the_store_as_sent_but_for_prefix_and_credential(rig: Rig) -> None:
    rig.ask("GET", "/web/a%20b/c?x=1&y=%2F", "Accept: */*", 'If-None-Match: "e"', "Range: bytes=0-1")
    (asked,) = rig.store.asked
    assert asked.line == b"GET /store/a%20b/c?x=1&y=%2F HTTP/1.1"
    assert asked.header("accept") == b"*/*"
    assert asked.header("if-none-match") == b'"e"'
    assert asked.header("range") == b"bytes=0-1"
    assert asked.header("host") == f"127.0.0.1:{rig.store.port}".encode()
    assert asked.header("authorization") is None
    assert rig.token.encode() not in asked.head


def test_a_unix_socket_serves_as_a_store(rig: Rig) -> None:
    assert body_of(rig.ask("GET", "/sock/k")) == b"ok"
    assert rig.unix_store.asked[0].line == b"GET /store/k HTTP/1.1"


@pytest.mark.parametrize("size", [0, 1, 65_535, 3_000_000])
def test_a_body_with_a_length_arrives_whole(rig: Rig, size: int) -> None:
    body = os.urandom(size)
    rig.store.script = answer(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    answered = rig.ask("PUT", "/web/k", f"Content-Length: {size}", body=body)
    assert status(answered) == 201
    assert rig.store.asked[0].body == body
    assert rig.store.asked[0].header("content-length") == str(size).encode()


def test_a_chunked_body_stays_chunked_and_loses_its_trailers(rig: Rig) -> None:
    chunks = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Trailer: secret\r\n\r\n"
    rig.ask("PUT", "/web/k", "Transfer-Encoding: chunked", "Trailer: X-Trailer", body=chunks)
    (asked,) = rig.store.asked
    assert asked.header("transfer-encoding") == b"chunked"
    assert asked.header("trailer") is None
    assert b"X-Trailer" not in asked.body
    assert b"".join(asked.body.split(b"\r\n")[1::2])[:7] == b"abcdefg"


def test_an_answer_in_chunks_stays_chunked_and_loses_its_trailers(rig: Rig) -> None:
    rig.store.script = answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    )
    answered = rig.ask("GET", "/web/k")
    assert header(answered, "transfer-encoding") == "chunked"
    assert header(answered, "trailer") is None
    assert body_of(answered) == b"3\r\nabc\r\n0\r\n\r\n"


def test_an_answer_that_ends_with_its_connection_is_framed_for_the_client(rig: Rig) -> None:
    def script(connection: socket.socket, asked: Asked) -> bool:
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nto the end")
        return False

    rig.store.script = script
    answered = rig.ask("GET", "/web/k")
    assert header(answered, "transfer-encoding") == "chunked"
    assert body_of(answered) == b"a\r\nto the end\r\n0\r\n\r\n"


def test_an_http_1_0_client_gets_a_body_without_chunks(rig: Rig) -> None:
    rig.store.script = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("GET", "/web/k").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answered = read_all(connection)
    assert header(answered, "transfer-encoding") is None
    assert body_of(answered) == b"abc"


def test_head_has_the_length_and_no_body_and_the_connection_goes_on(rig: Rig) -> None:
    rig.store.script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
    with rig.sidecar.connect() as connection:
        for _ in range(3):
            connection.sendall(rig.head("HEAD", "/web/k"))
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                data += connection.recv(65536)
            assert header(data, "content-length") == "5000000"
            assert data.count(b"HTTP/1.1 200") == 1
    assert len(rig.store.asked) == 3


@pytest.mark.parametrize(
    ("answered", "code"),
    [
        (b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab", 206),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', 304),
        (b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n", 412),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n", 404),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500),
        (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", 418),
    ],
)
def test_the_stores_own_statuses_pass(rig: Rig, answered: bytes, code: int) -> None:
    rig.store.script = answer(answered)
    assert status(rig.ask("GET", "/web/k", "Range: bytes=0-1")) == code


def test_a_compressed_body_is_not_touched_either_way(rig: Rig) -> None:
    packed = b"\x1f\x8b\x08\x00" + os.urandom(100)
    rig.store.script = answer(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    )
    answered = rig.ask("PUT", "/web/k", "Content-Encoding: gzip", f"Content-Length: {len(packed)}", body=packed)
    assert rig.store.asked[0].body == packed
    assert rig.store.asked[0].header("content-encoding") == b"gzip"
    assert body_of(answered) == packed
    assert header(answered, "content-encoding") == "gzip"


def test_the_stores_connections_are_kept_and_shared(rig: Rig) -> None:
    for _ in range(5):
        rig.ask("GET", "/web/k")
    assert len({asked.connection for asked in rig.store.asked}) == 1


def test_interim_answers_end_here(rig: Rig) -> None:
    rig.store.script = answer(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    answered = rig.ask("GET", "/web/k")
    assert status(answered) == 200
    assert b"103" not in answered


# --- Expect: 100-continue -------------------------------------------------------------------------------------------------


def test_the_body_is_invited_only_once_it_was_allowed(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("PUT", "/web/k", "Content-Length: 4", "Expect: 100-continue"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert status(read_answer(connection)) == 200
    assert rig.store.asked[0].header("expect") is None
    assert rig.store.asked[0].body == b"body"


def test_a_refused_body_is_never_invited(rig: Rig) -> None:
    reader = rig.sidecar.token(permissions=("read",))
    with rig.sidecar.connect() as connection:
        request = rig.head("PUT", "/web/k", "Content-Length: 4000000000", "Expect: 100-continue")
        connection.sendall(request.replace(rig.token.encode(), reader.encode()))
        answered = read_all(connection)
    assert status(answered) == 403
    assert b"100 Continue" not in answered
    assert rig.store.asked == []


def test_a_client_that_sends_first_and_reads_later_still_learns_why(rig: Rig) -> None:
    """30 of 30: closing at once would lose the answer in nearly all."""
    reader = rig.sidecar.token(permissions=("read",)).encode()
    for _ in range(30):
        with rig.sidecar.connect() as connection:
            connection.sendall(
                rig.head("PUT", "/web/k", "Content-Length: 200000").replace(rig.token.encode(), reader) + b"x" * 200_000
            )
            assert status(read_all(connection)) == 403


# --- what breaks off ---------------------------------------------------------------------------------------------------------


def test_a_dead_pooled_connection_is_retried_for_a_read(rig: Rig) -> None:
    rig.ask("GET", "/web/k")
    closing = True

    def script(connection: socket.socket, asked: Asked) -> bool:
        nonlocal closing
        if closing:
            closing = False
            return False  # as a store does whose keep-alive ran out just now
        return OK(connection, asked) is None

    rig.store.script = script
    assert status(rig.ask("GET", "/web/k")) == 200
    assert len(rig.store.asked) == 3


def test_a_write_is_never_sent_twice(rig: Rig) -> None:
    rig.ask("GET", "/web/k")
    rig.store.script = lambda connection, asked: False
    answered = rig.ask("PUT", "/web/k", "Content-Length: 1", body=b"x")
    assert status(answered) == 502
    assert header(answered, "sidecar-reason") == "upstream_broken"
    assert sum(asked.line.startswith(b"PUT") for asked in rig.store.asked) == 1


def test_a_fresh_connection_that_closes_is_not_asked_again(rig: Rig) -> None:
    rig.store.drop_connections()
    rig.store.script = lambda connection, asked: False
    until(lambda: status(rig.ask("GET", "/web/k")) == 502)
    rig.store.asked.clear()
    assert status(rig.ask("GET", "/web/k")) == 502
    assert len(rig.store.asked) == 1


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 400_000,
    ],
)
def test_a_store_that_breaks_off_never_becomes_a_clean_end(rig: Rig, begun: bytes) -> None:
    def script(connection: socket.socket, asked: Asked) -> bool:
        connection.sendall(begun)
        return False

    rig.store.script = script
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("GET", "/web/k"))
        with pytest.raises(ConnectionResetError):
            read_all(connection)


def test_a_client_that_leaves_in_its_upload_leaves_the_store_without_an_end(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("PUT", "/web/k", "Content-Length: 1000000") + b"x" * 1000)
        asked = until(lambda: rig.store.asked and rig.store.asked[0])
    assert asked.done.wait(20)
    assert asked.cut
    until(lambda: any(_aborted(record, "PUT") for record in rig.sidecar.audit()))


def test_a_client_that_leaves_in_a_download_stops_the_store(rig: Rig) -> None:
    stopped = []

    def script(connection: socket.socket, asked: Asked) -> bool:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.sendall(b"x" * 100_000)
        except OSError:
            stopped.append(True)
        return False

    rig.store.script = script
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("GET", "/web/k"))
        connection.recv(1000)
    until(lambda: stopped)


def test_a_malformed_chunk_is_a_400_and_the_store_sees_no_end(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("PUT", "/web/k", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        until(lambda: rig.store.asked)
        connection.sendall(b"zz\r\n")
        answered = read_all(connection)
    assert status(answered) == 400
    asked = rig.store.asked[0]
    assert asked.done.wait(20)
    assert asked.cut


# --- limits and outages -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_that_is_silent_is_a_504(rig: Rig) -> None:
    released = []
    rig.store.script = lambda connection, asked: until(lambda: released) and False
    answered = rig.ask("GET", "/web/k")
    released.append(True)
    assert (status(answered), header(answered, "sidecar-reason")) == (504, "upstream_timeout")


def test_a_store_that_is_away_is_a_502(rig: Rig, tmp_path: Path) -> None:
    sidecar = SidecarProcess(
        tmp_path,
        upstreams=f"  artifacts: {{url: 'http://127.0.0.1:{free_port()}'}}\n",
        policies={
            "web.yaml": POLICY.replace("  - {path: /sock, client: plain, upstream: local, upstream_path: /store}\n", "")
        },
    ).start()
    try:
        with sidecar.connect() as connection:
            request = rig.head("GET", "/web/k", "Connection: close")
            connection.sendall(request.replace(rig.token.encode(), sidecar.token().encode()))
            answered = read_all(connection)
        assert (status(answered), header(answered, "sidecar-reason")) == (502, "upstream_unreachable")
        assert sidecar.metric('sidecar_upstream_up{upstream="artifacts"}') == 0
    finally:
        sidecar.kill()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40,
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_answers_that_are_not_to_be_believed_are_502(rig: Rig, nonsense: bytes) -> None:
    rig.store.script = answer(nonsense)
    assert status(rig.ask("GET", "/web/k")) == 502
    rig.store.script = OK
    assert status(rig.ask("GET", "/web/k")) == 200
    assert len({asked.connection for asked in rig.store.asked}) == 2, "the connection was used again after an oddity"


def test_bytes_after_an_answer_condemn_the_connection(rig: Rig) -> None:
    rig.store.script = answer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    )
    assert body_of(rig.ask("GET", "/web/k")) == b"ok"
    rig.store.script = OK
    assert body_of(rig.ask("GET", "/web/k")) == b"ok"


@pytest.mark.slow
def test_a_slow_head_is_ended(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET /web/k HTTP/1.1\r\nHost: x\r\n")
        answered = b""
        try:
            while piece := connection.recv(1000):
                answered += piece
                connection.sendall(b"X: y\r\n")
        except OSError:
            pass
        assert time.monotonic() - began < 15
    assert answered == b"" or status(answered) == 408


@pytest.mark.slow
def test_a_connection_that_says_nothing_is_ended(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        assert status(read_all(connection)) == 408


@pytest.mark.slow
def test_a_sender_that_stops_in_its_body_is_a_408(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("PUT", "/web/k", "Content-Length: 10") + b"12345")
        answered = read_all(connection)
    assert (status(answered), header(answered, "sidecar-reason")) == (408, "body_timeout")
    assert rig.store.asked[0].done.wait(20)
    assert rig.store.asked[0].cut


@pytest.mark.parametrize(
    "lines", [["X: " + "y" * 20_000], [f"X-{n}: {'y' * 200}" for n in range(90)], [f"X-{n}: 1" for n in range(200)]]
)
def test_an_oversized_head_is_refused(rig: Rig, lines: list[str]) -> None:
    with rig.sidecar.connect() as connection:
        for line in rig.head("GET", "/web/k", *lines).splitlines(keepends=True):
            try:
                connection.sendall(line)
                time.sleep(0.0005)
            except OSError:
                break
        try:
            answered = read_all(connection)
        except OSError:
            answered = b""
    assert answered == b"" or status(answered) in (400, 431)
    assert rig.store.asked == []


def test_a_flood_of_pipelined_requests_is_answered_in_order(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        count = 200
        connection.sendall(b"".join(rig.head("GET", f"/web/k{number}") for number in range(count)))
        data = b""
        while data.count(b"HTTP/1.1 200 OK") < count:
            data += connection.recv(1 << 20) or pytest.fail("closed early")
    assert [asked.line for asked in rig.store.asked] == [f"GET /store/k{n} HTTP/1.1".encode() for n in range(count)]


def test_early_answers_to_an_upload_reach_the_client(rig: Rig) -> None:
    def script(connection: socket.socket, asked: Asked) -> bool:
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        read_body(connection, asked)
        return False

    rig.store.script = script
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("PUT", "/web/k", "Content-Length: 100000000") + b"x" * 100_000)
        answered = read_all(connection)
    assert status(answered) == 413
    assert header(answered, "connection") == "close"


# --- big bodies ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_slow_reader_holds_the_store_back_and_memory_stays_flat(rig: Rig) -> None:
    size, sent = 300 * 1024 * 1024, []
    piece = os.urandom(1 << 20)

    def script(connection: socket.socket, asked: Asked) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // len(piece)):
            connection.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            sent.append(len(piece))
        connection.sendall(b"0\r\n\r\n")
        return False

    rig.store.script = script
    before = peak_memory(rig.sidecar.pid)
    with rig.sidecar.connect() as connection:
        connection.sendall(rig.head("GET", "/web/k"))
        connection.recv(1000)
        time.sleep(0.5)
        assert sum(sent) < 30 * 1024 * 1024, "nobody reads, yet the store goes on sending"
        while connection.recv(1 << 20):
            if sum(sent) == size:
                break
    assert peak_memory(rig.sidecar.pid) - before < 16 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("size", [256 * 1024, 5_000_000, 200_000_000])
def test_a_large_body_arrives_unharmed_both_ways(rig: Rig, size: int) -> None:
    piece = hashlib.sha256(str(size).encode()).digest() * 1000
    body = (piece * (size // len(piece) + 1))[:size]
    rig.store.script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
    with rig.sidecar.connect() as connection:
        for _ in range(2):
            connection.sendall(rig.head("PUT", "/web/k", f"Content-Length: {size}") + body)
            assert body_of(read_answer(connection)) == body
    assert all(asked.body == body for asked in rig.store.asked)


def _aborted(record: dict[str, Any], method: str) -> bool:
    return bool(record["response"]["aborted"]) and record["request"]["method"] == method


def peak_memory(pid: int) -> int:
    """KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")
