"""The load checks every answer: a proxy that fails fast must not look fast."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from bench.load import Answer, ClosedLoop, Expect, interrupt, parse_head, render, run
from bench.process import BenchError

OK = Expect(frozenset({200}), 2)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12", Answer(200, 12, False)),
        (b"HTTP/1.1 403 No\r\ncontent-length:0\r\nconnection: close", Answer(403, 0, True)),
        (b"HTTP/1.1 204 No Content\r\nConnection: keep-alive", Answer(204, 0, False)),
        (b"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nContent-Length: 3", Answer(200, 3, False)),
    ],
)
def test_heads(head: bytes, answer: Answer) -> None:
    assert parse_head(head) == answer


@pytest.mark.parametrize("head", [b"nonsense", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"HTTP/1.1 200 OK"])
def test_an_answer_whose_length_is_not_said_is_an_error(head: bytes) -> None:
    with pytest.raises(BenchError):
        parse_head(head)


def test_a_request_says_the_length_of_the_body_that_follows() -> None:
    assert render("PUT", "/a", "t", length=7).endswith(b"Content-Length: 7\r\n\r\n")
    assert render("PUT", "/a", "t", body=b"xyz", close=True).endswith(
        b"Content-Length: 3\r\nConnection: close\r\n\r\nxyz"
    )
    assert b"Content-Length" not in render("GET", "/a", "t")


Respond = Callable[[int], bytes]


class Origin(asyncio.Protocol):
    """Answers the n-th request with `respond(n)` and hangs up where it has said so, or has said nothing."""

    def __init__(self, respond: Respond, seen: list[int]) -> None:
        self._respond, self._seen = respond, seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen[1] += 1

    def data_received(self, data: bytes) -> None:
        self._seen[0] += 1
        answer = self._respond(self._seen[0])
        self._transport.write(answer)
        if b"close" in answer or not answer:
            self._transport.close()


async def drive(respond: Respond, count: int = 50, connections: int = 4) -> list[int]:
    """Returns how many requests and connections the origin saw."""
    seen = [0, 0]
    server = await asyncio.get_running_loop().create_server(lambda: Origin(respond, seen), "127.0.0.1", 0)
    load = ClosedLoop(server.sockets[0].getsockname()[1], connections, OK)
    try:
        await load.run([b"GET"] * (count // 2))
        await load.run([b"GET"] * (count - count // 2))
    finally:
        load.close()
        server.close()
    return seen


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


async def test_every_request_is_sent_once_over_connections_that_stay() -> None:
    assert await drive(lambda n: GOOD) == [50, 4]


async def test_a_connection_that_was_announced_to_close_is_replaced() -> None:
    assert await drive(lambda n: LAST) == [50, 50]


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!",
        b"",
    ],
    ids=["status", "length", "surplus", "broken off"],
)
async def test_one_wrong_answer_among_many_fails_the_run(bad: bytes) -> None:
    with pytest.raises(BenchError):
        await drive(lambda n: bad if n == 30 else GOOD)


def test_a_signal_ends_a_run_from_within() -> None:
    ended = []

    async def forever() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(forever())
        assert ended
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
