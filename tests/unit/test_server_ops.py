"""The operators' listener over real sockets: three pages, nothing else, and no way to hold it."""

import asyncio
import contextlib
import gzip
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from sidecar.metrics import Metrics
from sidecar.server import ops
from sidecar.server.ops import Checks, OpsServer, Scrape
from sidecar.settings import Listen

LOCAL = Listen(host="127.0.0.1", port=0)


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
async def server(checks: Checks) -> AsyncIterator[OpsServer]:
    made = OpsServer(checks, Metrics(), connection_life=1.0)
    await made.start(LOCAL)
    yield made
    await made.stop()


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        self.version, status, *_ = status_line.split(" ")
        self.status = int(status)
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def text(self) -> str:
        return self.body.decode()


async def send(server: OpsServer, raw: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return Answer(answer)


async def get(server: OpsServer, target: str, *headers: str, method: str = "GET") -> Answer:
    lines = [f"{method} {target} HTTP/1.1", "Host: ops", *headers]
    return await send(server, "\r\n".join([*lines, "", ""]).encode())


async def test_livez_asks_nobody(server: OpsServer, checks: Checks) -> None:
    checks.add("store", lambda: "down")
    answer = await get(server, "/livez")
    assert (answer.status, answer.text) == (200, "ok\n")


async def test_readyz_is_the_sum_of_its_required_checks(server: OpsServer, checks: Checks) -> None:
    state: dict[str, str | None] = {"policy": None, "audit": None, "keys": "none fetched yet"}
    checks.add("policy", lambda: state["policy"])
    checks.add("audit", lambda: state["audit"])
    checks.add("keys", lambda: state["keys"], required=False)
    assert (await get(server, "/readyz")).status == 200
    state["audit"] = "disk\nfull"
    answer = await get(server, "/readyz")
    assert (answer.status, answer.text) == (503, "not ready\n")
    verbose = await get(server, "/readyz?verbose")
    assert verbose.status == 503
    assert verbose.text == "[+]policy ok\n[-]audit: disk full\n[~]keys: none fetched yet\nnot ready\n"


async def test_a_check_that_raises_has_failed_and_says_nothing_of_how(
    server: OpsServer, checks: Checks, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str | None:
        raise RuntimeError("postgresql://user:hunter2@db")

    checks.add("store", broken)
    answer = await get(server, "/readyz?verbose=1")
    assert answer.status == 503
    assert "hunter2" not in answer.text
    assert "store" in caplog.text


def test_a_check_has_one_name(checks: Checks) -> None:
    checks.add("policy", lambda: None)
    with pytest.raises(ValueError, match="policy"):
        checks.add("policy", lambda: None)


async def test_metrics_in_both_formats_and_compressed(server: OpsServer) -> None:
    text = await get(server, "/metrics")
    assert text.status == 200
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "\nsidecar_decisions_total{" in text.text
    openmetrics = await get(server, "/metrics", "Accept: application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    packed = await get(server, "/metrics", "Accept-Encoding: gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body).startswith(b"# HELP")
    refused = await get(server, "/metrics", "Accept-Encoding: gzip;q=0, identity")
    assert "content-encoding" not in refused.headers


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=x", "text/plain;version=;;escaping=?", ",;=,", "text/plain;version=9.9"],
)
async def test_an_odd_accept_header_is_answered(server: OpsServer, accept: str) -> None:
    assert (await get(server, "/metrics", f"Accept: {accept}")).status == 200


async def test_head_has_no_body(server: OpsServer) -> None:
    for page in ("/livez", "/readyz", "/metrics"):
        answer = await get(server, page, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
async def test_other_methods_are_refused(server: OpsServer, method: str) -> None:
    answer = await get(server, "/readyz", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/%6detrics", "/x/../metrics", "//metrics", "/statusz"])
async def test_any_other_path_is_a_plain_404(server: OpsServer, path: str) -> None:
    answer = await get(server, path)
    assert (answer.status, answer.text) == (404, "not found\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: ops\r\n\r\n", 200),
        (b"GET /nothing HTTP/1.1\r\nHost: ops\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\nHost: ops\r\nContent-Length: 0\r\n\r\n", 405),
        (b"secret-noise hunter2\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: ops\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: ops\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400),
    ],
    ids=["200", "404", "405", "noise", "long header", "many headers"],
)
async def test_no_answer_names_the_server_repeats_the_request_or_keeps_the_connection(
    server: OpsServer, raw: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await send(server, raw)
    assert answer.status == status
    assert "server" not in answer.headers
    assert "hunter2" not in answer.text + caplog.text
    assert answer.version == "HTTP/1.0" or answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: ops\r\n"])
async def test_a_slow_sender_is_cut_off(server: OpsServer, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


class Loud:
    """An exposition that no socket's buffers hold."""

    def expose(self, accept: str) -> tuple[bytes, str]:
        return b"#" * 32_000_000, "text/plain"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends it: a test that waits in vain fails here."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 20) == b""
    return True


def under_uvloop(work: Callable[[OpsServer], Awaitable[None]], scrape: Scrape | None = None, life: float = 30) -> None:
    """As it is served: uvloop's transports are other classes than asyncio's."""

    async def whole() -> None:
        server = OpsServer(Checks(), scrape or Metrics(), connection_life=life)
        await server.start(LOCAL)
        try:
            await work(server)
        finally:
            await server.stop()

    uvloop.run(whole())


def test_where_there_are_too_many_connections_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "CONNECTIONS", 2)

    async def work(server: OpsServer) -> None:
        oldest, second = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for _, writer in (oldest, second):
            writer.write(b"GET")
        assert (await get(server, "/livez")).status == 200
        assert await ended(oldest[0])
        second[1].write(b" /livez HTTP/1.1\r\nHost: ops\r\n\r\n")
        assert (await asyncio.wait_for(second[0].read(), 20)).startswith(b"HTTP/1.1 200 ")

    under_uvloop(work)


def test_connections_beyond_the_limit_keep_no_descriptor() -> None:
    async def work(server: OpsServer) -> None:
        before = descriptors()
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3 * ops.CONNECTIONS)]
        assert (await get(server, "/livez")).status == 200
        for reader, _ in held[: 2 * ops.CONNECTIONS]:
            assert await ended(reader)
        assert descriptors() <= before + len(held) + ops.CONNECTIONS
        for _, writer in held:
            writer.close()

    under_uvloop(work)


def test_a_connection_that_sends_nothing_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "SILENCE", 0.5)

    async def work(server: OpsServer) -> None:
        silent = await asyncio.open_connection("127.0.0.1", server.port)
        slow = await asyncio.open_connection("127.0.0.1", server.port)
        slow[1].write(b"GET /livez HTTP/1.1\r\n")
        assert await ended(silent[0])
        slow[1].write(b"Host: ops\r\n\r\n")
        assert (await asyncio.wait_for(slow[0].read(), 20)).startswith(b"HTTP/1.1 200 ")

    under_uvloop(work)


def test_a_client_that_does_not_read_keeps_no_descriptor() -> None:
    async def work(server: OpsServer) -> None:
        before = descriptors()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n")
            deadline = time.monotonic() + 20
            while descriptors() < before + 2:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            while descriptors() > before + 1:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

    under_uvloop(work, Loud(), life=1.0)


async def test_a_unix_socket_serves_too_and_is_taken_over_after_a_crash(checks: Checks, tmp_path: Path) -> None:
    path = tmp_path / "ops.sock"
    for _ in range(2):  # asyncio leaves the socket's file behind in Python 3.11: the second start meets it
        server = OpsServer(checks, Metrics())
        await server.start(Listen(unix=path))
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: ops\r\n\r\n")
        assert (await reader.read()).endswith(b"ok\n")
        writer.close()
        await server.stop()


async def test_a_unix_socket_is_not_taken_from_a_server_that_runs(checks: Checks, tmp_path: Path) -> None:
    listen = Listen(unix=tmp_path / "ops.sock")
    first, second = OpsServer(checks, Metrics()), OpsServer(checks, Metrics())
    await first.start(listen)
    with pytest.raises(OSError, match="in use"):
        await second.start(listen)
    reader, writer = await asyncio.open_unix_connection(str(listen.unix))
    writer.write(b"GET /livez HTTP/1.1\r\nHost: ops\r\n\r\n")
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()
    await second.stop()
    await first.stop()


def test_it_runs_under_uvloop_too(checks: Checks, tmp_path: Path) -> None:
    async def whole() -> list[int]:
        server = OpsServer(checks, Metrics())
        await server.start(LOCAL)
        statuses = [(await get(server, page)).status for page in ("/livez", "/readyz", "/metrics", "/")]
        await server.stop()
        return statuses

    assert uvloop.run(whole()) == [200, 200, 200, 404]


async def test_an_address_in_use_is_said(server: OpsServer, checks: Checks) -> None:
    second = OpsServer(checks, Metrics())
    with pytest.raises(OSError, match="in use"):
        await second.start(Listen(host="127.0.0.1", port=server.port))
    await second.stop()


async def test_stopping_ends_what_is_open(checks: Checks) -> None:
    server = OpsServer(checks, Metrics())
    await server.start(LOCAL)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET")
    await asyncio.wait_for(server.stop(), 20)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
