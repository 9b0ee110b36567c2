"""A client's connection and its exchanges over real sockets: framing, limits, and how each ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.errors import ClientGone, Refused
from sidecar.reasons import Reason
from sidecar.server import client as client_module
from sidecar.server.client import Incoming, Listener
from sidecar.server.exchange import Exchange
from sidecar.settings import LimitSettings
from tests.unit.relays import event_loop_policy, on_uvloop, until

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

Answer = Callable[[Exchange], Awaitable[None]]


@pytest.fixture(autouse=True)
def fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_SWEEP", 0.01)


async def ok(exchange: Exchange) -> None:
    exchange.answer(200, [], b"ok")


class Serving:
    def __init__(self, answer: Answer, patience: float, limits: LimitSettings) -> None:
        self.answer, self.patience, self.draining = answer, patience, False
        self.malformed: list[Reason | None] = []
        self.exchanges: list[Exchange] = []
        self.failures: list[BaseException] = []
        self.turned_away: list[Reason] = []
        self.listener = Listener(self.handle, limits, self.turned_away.append)
        self.port = 0

    async def handle(self, incoming: Incoming) -> bool:
        self.malformed.append(incoming.malformed)
        exchange = Exchange(incoming, self.patience, self.draining)
        self.exchanges.append(exchange)
        if incoming.malformed is not None:
            exchange.keep_alive = False
            exchange.answer(400, [], b"")
            return await exchange.end()
        try:
            await self.answer(exchange)
        except BaseException as error:
            self.failures.append(error)
            if not isinstance(error, ClientGone | Refused):
                raise
            if isinstance(error, Refused):
                exchange.answer(408, [], b"")
        return await exchange.end()

    async def talk(self, raw: bytes = b"") -> "Talk":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=16 << 20)
        writer.write(raw)
        return Talk(reader, writer)

    async def say(self, raw: bytes) -> bytes:
        """All that comes back until the connection ends; `(reset)` at the end where it was reset."""
        return await (await self.talk(raw)).rest()


class Talk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def hears(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), 20)

    async def rest(self) -> bytes:
        got = b""
        async with asyncio.timeout(20):
            try:
                while data := await self.reader.read(65536):
                    got += data
            except (ConnectionResetError, BrokenPipeError):
                got += b"(reset)"
        self.writer.close()
        return got


@asynccontextmanager
async def serving(answer: Answer = ok, *, patience: float = 20.0, **limits: Any) -> AsyncIterator[Serving]:
    made = Serving(answer, patience, LimitSettings(**limits))
    server = await asyncio.get_running_loop().create_server(made.listener, "127.0.0.1", 0)
    made.listener.start()
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.listener.drain(0.05)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


# --- keep-alive


async def test_a_connection_serves_one_request_after_another() -> None:
    async with serving() as made:
        talk = await made.talk()
        for _ in range(3):
            talk.say(GET)
            head, _, _ = (await talk.hears(b"ok")).partition(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 2"
        assert len(made.exchanges) == 3


async def test_an_answer_may_say_something_else_than_its_status_s_name() -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.answer(401, [(b"A", b"1")], b"ok", b"A token is needed: here. (no_token)")

    async with serving(answer) as made:
        head, _, body = (await made.say(GET_CLOSE)).partition(b"\r\n\r\n")
    assert body == b"ok"
    assert head.split(b"\r\n")[:2] == [b"HTTP/1.1 401 A token is needed: here. (no_token)", b"A: 1"]


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    running = most = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        exchange.answer(200, [], b"%d;" % len(made.exchanges))

    async with serving(answer) as made:
        got = await made.say(GET * 40 + GET_CLOSE)
        assert [int(part.rpartition(b"\n")[2]) for part in got.split(b";")[:-1]] == list(range(1, 42))
        assert most == 1


CLOSING: dict[str, tuple[bytes, bytes]] = {
    "close": (GET_CLOSE, b"Connection: close"),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", b"Connection: close"),
}


@pytest.mark.parametrize(("raw", "header"), CLOSING.values(), ids=CLOSING)
async def test_a_connection_that_is_not_to_be_kept_ends_with_its_answer(raw: bytes, header: bytes) -> None:
    async with serving() as made:
        got = await made.say(raw)
        assert header in got
        assert got.endswith(b"\r\n\r\nok")
        assert len(made.exchanges) == 1


async def test_an_http_1_0_client_may_ask_for_more() -> None:
    async with serving() as made:
        talk = await made.talk()
        for _ in range(2):
            talk.say(b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
            assert b"Connection: keep-alive\r\n" in await talk.hears(b"ok")


async def test_while_draining_no_connection_is_kept() -> None:
    async with serving() as made:
        made.draining = True
        assert b"Connection: close\r\n" in await made.say(GET)


# --- framing


def answering(status: int, length: int | None, *pieces: bytes, finish: bool = True) -> Answer:
    async def answer(exchange: Exchange) -> None:
        exchange.start(status, [(b"X", b"y")], length)
        for piece in pieces:
            exchange.write(piece)
        if finish:
            exchange.finish()

    return answer


FRAMES: dict[str, tuple[bytes, Answer, bytes]] = {
    "a length": (
        b"GET / HTTP/1.1", answering(200, 3, b"a", b"bc"),
        b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    ),
    "chunks": (
        b"GET / HTTP/1.1", answering(200, None, b"a", b"", b"bc"),
        b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
    ),
    "no chunks at all": (
        b"GET / HTTP/1.1", answering(200, None),
        b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    ),
    "no chunks for HTTP/1.0": (
        b"GET / HTTP/1.0", answering(200, None, b"abc"), b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nabc",
    ),
    "HEAD with a length": (
        b"HEAD / HTTP/1.1", answering(200, 3, b"abc"),
        b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
    ),
    "HEAD without": (
        b"HEAD / HTTP/1.1", answering(200, None), b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n",
    ),
    "204": (b"GET / HTTP/1.1", answering(204, 0), b"HTTP/1.1 204 No Content\r\nX: y\r\nConnection: close\r\n\r\n"),
    "304": (b"GET / HTTP/1.1", answering(304, None), b"HTTP/1.1 304 Not Modified\r\nX: y\r\nConnection: close\r\n\r\n"),
    "304 with a length": (
        b"GET / HTTP/1.1", answering(304, 50),
        b"HTTP/1.1 304 Not Modified\r\nX: y\r\nContent-Length: 50\r\nConnection: close\r\n\r\n",
    ),
    "a status of nobody": (
        b"GET / HTTP/1.1", answering(299, 0),
        b"HTTP/1.1 299 Unassigned\r\nX: y\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "answer", "raw"), FRAMES.values(), ids=FRAMES)
async def test_an_answer_is_framed_for_its_client(line: bytes, answer: Answer, raw: bytes) -> None:
    async with serving(answer) as made:
        assert await made.say(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n") == raw


BROKEN: dict[str, Answer] = {
    "less than was promised": answering(200, 5, b"ab"),
    "chunks without an end": answering(200, None, b"ab", finish=False),
    "a length, whole but not finished": answering(200, 2, b"ab", finish=False),
    "nothing at all": answering(200, 5, finish=False),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0"])
async def test_half_an_answer_is_a_reset(answer: Answer, line: bytes) -> None:
    async with serving(answer) as made:
        assert (await made.say(line + b"\r\nHost: x\r\n\r\n")).endswith(b"(reset)")
        assert made.exchanges[0].aborted


# --- the request's body


async def echo(exchange: Exchange) -> None:
    body = b""
    while data := await exchange.read():
        body += data
    exchange.answer(200, [], b"%r %d:" % (exchange.content_length, exchange.bytes_in) + body)


BODIES: dict[str, tuple[bytes, bytes]] = {
    "none": (b"\r\n", b"0 0:"),
    "of no bytes": (b"Content-Length: 0\r\n\r\n", b"0 0:"),
    "with a length": (b"Content-Length: 3\r\n\r\nabc", b"3 3:abc"),
    "in chunks": (b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\nT: v\r\n\r\n", b"None 3:abc"),
}


@pytest.mark.parametrize(("raw", "told"), BODIES.values(), ids=BODIES)
async def test_a_body_is_read_to_its_end_and_the_next_request_follows(raw: bytes, told: bytes) -> None:
    async with serving(echo) as made:
        talk = await made.talk()
        for _ in range(2):
            talk.say(b"PUT / HTTP/1.1\r\nHost: x\r\n" + raw)
            assert (await talk.hears(told)).endswith(b"\r\n\r\n" + told)


async def test_the_body_is_invited_when_it_is_wanted() -> None:
    async with serving(echo) as made:
        talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await talk.hears(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        talk.say(b"ab")
        assert (await talk.hears(b"2:ab")).startswith(b"HTTP/1.1 200 ")


async def test_no_invitation_for_http_1_0() -> None:
    async with serving(echo) as made:
        got = await made.say(b"PUT / HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab")
        assert got.startswith(b"HTTP/1.1 200 ")


async def test_a_refused_body_is_not_invited() -> None:
    async with serving() as made:
        got = await made.say(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in got


async def test_a_client_that_sends_first_and_reads_later_gets_its_refusal() -> None:
    async with serving() as made:
        talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        await until(lambda: made.exchanges and not made.exchanges[0].aborted)
        for _ in range(20):
            talk.say(b"x" * 10_000)
            await talk.writer.drain()
        got = await talk.rest()
        assert got.endswith(b"\r\n\r\nok")


async def test_nobody_is_lingered_for_longer_than_a_moment() -> None:
    async with serving() as made:
        loop = asyncio.get_running_loop()
        began = loop.time()
        talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        assert (await talk.rest()).endswith(b"ok")
        await until(lambda: made.listener.open_connections == 0)
        assert loop.time() - began < 10  # the patience is twice that


async def test_a_sender_that_stops_is_a_body_timeout() -> None:
    async with serving(echo, patience=0.05) as made:
        got = await made.say(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        assert got.startswith(b"HTTP/1.1 408 ")
        assert [error.reason for error in made.failures if isinstance(error, Refused)] == [Reason.BODY_TIMEOUT]


async def test_a_malformed_body_is_a_bad_request() -> None:
    async with serving(echo) as made:
        talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await until(lambda: made.exchanges and made.exchanges[0].bytes_in == 2)
        talk.say(b"zz\r\nnonsense\r\n")
        await talk.rest()
        assert [error.reason for error in made.failures if isinstance(error, Refused)] == [Reason.BAD_REQUEST]


async def test_a_sender_that_leaves_is_no_end_of_its_body() -> None:
    for framing in (b"Content-Length: 5\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"):
        async with serving(echo) as made:
            talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\n" + framing)
            await until(lambda made=made: made.exchanges and made.exchanges[0].bytes_in == 2)  # type: ignore[misc]
            talk.writer.close()
            await until(lambda made=made: made.failures)  # type: ignore[misc]
            assert isinstance(made.failures[0], ClientGone | asyncio.CancelledError)
            assert made.exchanges[0].aborted


# --- a client that is slow to read


async def test_a_client_that_does_not_read_congests_and_its_patience_ends() -> None:
    seen: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        exchange.start(200, [], None)
        exchange.write(b"x" * (32 << 20))
        seen.append(exchange.congested)
        await exchange.drain()

    async with serving(answer, patience=0.05) as made:
        talk = await made.talk()
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads, too
        talk.say(GET)
        await until(lambda: made.failures)
        assert seen == [True]
        assert isinstance(made.failures[0], ClientGone)
        talk.writer.close()


async def test_the_sink_takes_bytes_once_all_that_was_written_has_left() -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.start(200, [], (4 << 20) + 4)
        exchange.write(b"x" * (4 << 20))
        descriptor = await exchange.sink()
        assert descriptor is not None
        with socket.socket(fileno=socket.dup(descriptor)) as sock:
            assert sock.send(b"tail") == 4
        exchange.sank(4)
        exchange.finish()

    async with serving(answer) as made:
        talk = await made.talk(GET)
        got = await talk.hears(b"tail")
        assert len(got.partition(b"\r\n\r\n")[2]) == (4 << 20) + 4
        assert made.exchanges[0].bytes_out == (4 << 20) + 4
        talk.say(GET)  # and the connection goes on
        await talk.hears(b"tail")


@pytest.mark.parametrize(("length", "line"), [(None, b"GET / HTTP/1.1"), (5, b"HEAD / HTTP/1.1")])
async def test_there_is_no_sink_for_chunks_or_without_a_body(length: int | None, line: bytes) -> None:
    seen: list[int | None] = []

    async def answer(exchange: Exchange) -> None:
        exchange.start(200, [], length)
        seen.append(await exchange.sink())
        exchange.finish()

    async with serving(answer) as made:
        await made.say(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert seen == [None]


# --- heads


async def test_a_head_that_is_slow_is_ended_and_counted() -> None:
    async with serving(head_timeout=0.3) as made:
        for begun in (b"", b"GET / HTTP/1.1\r\nHo"):
            got = await made.say(begun)
            assert got.startswith(b"HTTP/1.1 408 ")
        talk = await made.talk(GET)
        await talk.hears(b"ok")
        talk.say(b"GET / H")
        assert (await talk.rest()).startswith(b"HTTP/1.1 408 ")
        assert made.turned_away == [Reason.HEAD_TIMEOUT] * 3


async def test_an_idle_connection_is_not_a_slow_head() -> None:
    async with serving(head_timeout=0.3) as made:
        talk = await made.talk(GET)
        await talk.hears(b"ok")
        await asyncio.sleep(0.6)
        talk.say(GET)
        await talk.hears(b"ok")
        assert made.turned_away == []


async def test_a_slow_body_is_not_a_slow_head() -> None:
    async with serving(echo, head_timeout=0.3, head_size=300) as made:
        talk = await made.talk(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.06)
            talk.say(b"x" * 500)
        assert (await talk.hears(b"5000:" + b"x" * 5000)).startswith(b"HTTP/1.1 200 ")
        assert made.turned_away == []


FIELDS = b"".join(b"X-%d: %b\r\n" % (n, b"y" * 80) for n in range(12))


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_a_head_larger_than_the_limit_is_refused_however_it_arrives(pieces: int) -> None:
    async with serving(head_size=1000) as made:
        raw = b"GET / HTTP/1.1\r\nHost: x\r\n" + FIELDS + b"\r\n"
        talk = await made.talk()
        step = len(raw) // pieces + 1
        for start in range(0, len(raw), step):
            talk.say(raw[start : start + step])
            await asyncio.sleep(0.002)
        await talk.rest()
        assert made.turned_away == [Reason.HEAD_TOO_LARGE] or made.malformed == [Reason.HEAD_TOO_LARGE]


async def test_a_large_head_behind_others_is_refused_too() -> None:
    async with serving(head_size=1000) as made:
        await made.say(GET + GET + b"GET / HTTP/1.1\r\nHost: x\r\n" + FIELDS + b"\r\n")
        assert made.malformed == [None, None, Reason.HEAD_TOO_LARGE]


async def test_many_small_heads_at_once_are_no_large_one() -> None:
    async with serving(head_size=200) as made:
        await made.say(GET * 30 + GET_CLOSE)
        assert made.malformed == [None] * 31


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/0.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    ],
)
async def test_what_is_not_http_1_is_malformed_and_ends_the_connection(raw: bytes) -> None:
    async with serving() as made:
        got = await made.say(raw + GET)
        assert got.startswith(b"HTTP/1.1 400 ")
        assert made.malformed[0] is Reason.BAD_REQUEST
        assert len(made.malformed) == 1


# --- connections


async def test_one_connection_too_many_is_ended_at_once() -> None:
    async with serving(connections=2) as made:
        kept = [await made.talk(GET) for _ in range(2)]
        for talk in kept:
            await talk.hears(b"ok")
        assert (await made.say(b"")).removesuffix(b"(reset)") == b""
        assert made.turned_away == [Reason.OVERLOADED]
        kept[0].writer.close()
        await until(lambda: made.listener.open_connections == 1)
        await (await made.talk(GET)).hears(b"ok")


async def test_an_idle_connection_ends_after_its_time() -> None:
    async with serving(keepalive=0.05) as made:
        talk = await made.talk(GET)
        assert (await talk.rest()).endswith(b"ok")


async def test_drain_lets_a_running_request_finish_and_ends_idle_connections() -> None:
    go = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await go.wait()
        exchange.answer(200, [], b"done")

    async with serving(answer) as made:
        idle, busy = await made.talk(), await made.talk(GET)
        await until(lambda: made.exchanges and made.listener.open_connections == 2)
        draining = asyncio.create_task(made.listener.drain(60.0))
        await asyncio.sleep(0.02)
        go.set()
        assert (await busy.rest()).endswith(b"done")
        assert await idle.rest() == b""
        await draining
        assert made.listener.open_connections == 0


async def test_drain_ends_what_outlasts_its_grace() -> None:
    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async with serving(answer) as made:
        talk = await made.talk(GET)
        await until(lambda: made.exchanges)
        async with asyncio.timeout(20):
            await made.listener.drain(0.05)
        await talk.rest()
        await until(lambda: made.failures)
        assert isinstance(made.failures[0], asyncio.CancelledError)


async def test_a_handler_that_fails_ends_its_connection_alone() -> None:
    async def answer(exchange: Exchange) -> None:
        if len(made.exchanges) == 1:
            raise ValueError("a bug")
        await ok(exchange)

    async with serving(answer) as made:
        assert (await made.say(GET)).removesuffix(b"(reset)") == b""
        assert (await made.say(GET_CLOSE)).endswith(b"ok")
