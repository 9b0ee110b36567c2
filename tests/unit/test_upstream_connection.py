"""One exchange at a time with a store: what it sends reaches the client as it came, or as a break, never as a clean end of half."""

import asyncio
import itertools
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import Timeouts
from sidecar.upstream.connection import Connection, DeadConnection
from tests.unit.relays import Client, Store, Talk, descriptors, event_loop_policy, on_uvloop, store, until

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

HEAD = b"GET /a HTTP/1.1\r\nHost: store\r\n\r\n"


async def connect(made: Store, **timeouts: float) -> Connection:
    loop = asyncio.get_running_loop()
    connection: Connection
    _, connection = await loop.create_connection(
        lambda: Connection(loop, Timeouts(**timeouts), lambda lost: None), "127.0.0.1", made.port
    )
    return connection


def saying(*pieces: bytes, then: str = "wait") -> Callable[[Talk], Awaitable[None]]:
    """Answers a request's head with the pieces, then `wait`s for the other side, `close`s or `reset`s."""

    async def script(talk: Talk) -> None:
        await talk.head()
        for piece in pieces:
            talk.say(piece)
            await talk.writer.drain()
        if then == "reset":
            await asyncio.sleep(0.02)  # so that what was said leaves first; nothing is asserted on it
            talk.reset()
        elif then == "wait":
            await talk.reader.read()

    return script


async def exchange(made: Store, client: Client | None = None, **timeouts: float) -> tuple[Connection, Client]:
    connection, client = await connect(made, **timeouts), client or Client("GET", "/a")
    async with asyncio.timeout(20):
        await connection.exchange(HEAD, client)
    return connection, client


async def failing(script: Callable[[Talk], Awaitable[None]], client: Client | None = None) -> tuple[Refused, Client]:
    async with store(script) as made:
        connection, client = await connect(made), client or Client("GET", "/a")
        async with asyncio.timeout(20):
            with pytest.raises(Refused) as caught:
                await connection.exchange(HEAD, client)
        assert not connection.reusable
        assert not client.finished
        connection.abort()
        return caught.value, client


REUSABLE: dict[str, tuple[str, list[bytes], int, bytes, int | None]] = {
    "with a length": ("GET", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"], 200, b"hello", 5),
    "in pieces": ("GET", [b"HTTP/1.1 2", b"00 OK\r\nContent-Le", b"ngth: 5\r\n\r", b"\nhe", b"llo"], 200, b"hello", 5),
    "in chunks": (
        "GET",
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"],
        200,
        b"abcde",
        None,
    ),
    "empty": ("GET", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], 200, b"", 0),
    "no content": ("DELETE", [b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b"", None),
    "not modified": ("GET", [b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"], 304, b"", None),
    "of a HEAD": ("HEAD", [b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"], 404, b"", 0),
    "a failure of the store's own": ("GET", [b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"], 500, b"no", 2),
    "after interim ones": (
        "GET",
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"],
        200,
        b"x",
        1,
    ),
}  # fmt: skip


ANNOUNCED = {
    "of a HEAD, with a length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "of a HEAD, in chunks": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "not modified, with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"),
    "no content, with a length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 50\r\n\r\n"),
}


@pytest.mark.parametrize(("method", "head"), ANNOUNCED.values(), ids=ANNOUNCED)
async def test_a_body_that_is_announced_and_must_not_come_ends_the_connection(method: str, head: bytes) -> None:
    """A store that sends it all the same, and late, would have it read as the answer to the next request."""

    async def script(talk: Talk) -> None:
        await talk.head()
        talk.say(head)
        await talk.writer.drain()

    async with store(script) as made:
        connection = await connect(made)
        client = Client(method, "/a")
        await connection.exchange(HEAD, client)
        assert client.finished
        assert not connection.reusable


@pytest.mark.parametrize(("method", "pieces", "status", "body", "length"), REUSABLE.values(), ids=REUSABLE)
async def test_an_answer_arrives_and_the_connection_is_good_for_more(
    method: str, pieces: list[bytes], status: int, body: bytes, length: int | None
) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.head()
            for piece in pieces:
                talk.say(piece)
                await talk.writer.drain()

    async with store(script) as made:
        connection = await connect(made)
        for _ in range(2):
            client = Client(method, "/a")
            async with asyncio.timeout(20):
                await connection.exchange(HEAD, client)
            assert (client.status, client.answer, client.length) == (status, body, length)
            assert client.finished
            assert "link" not in client.answer_headers
            assert "t" not in client.answer_headers
            assert connection.reusable
            assert connection.deadline == 0
        connection.abort()


ENDED: dict[str, tuple[bytes, bytes]] = {
    "to the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "an empty one, too": (b"HTTP/1.1 200 OK\r\n\r\n", b""),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "that says close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "followed by bytes of its own": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", b"hello"),
    "followed by nonsense": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!!", b"hello"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "body"), ENDED.values(), ids=ENDED)
async def test_a_whole_answer_on_a_connection_that_ends_with_it(raw: bytes, body: bytes) -> None:
    async with store(saying(raw, then="close")) as made:
        connection, client = await exchange(made)
        assert client.finished
        assert client.answer == body
        await until(lambda: not connection.reusable)


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\nx"])
async def test_a_body_after_the_answer_to_a_head_condemns_the_connection(raw: bytes) -> None:
    async with store(saying(raw)) as made:
        connection, client = await exchange(made, Client("HEAD", "/a"))
        assert client.finished
        assert client.answer == b""
        assert not connection.reusable


BROKEN: dict[str, tuple[bytes, bool]] = {
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", False),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", False),
    "a length and chunks": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    "a length that is no number": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", False),
    "an unknown coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", False),
    "an unknown coding alone": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", False),
    "a switch of protocols": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", False),
    "interim answers without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, False),
    "a head without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, False),
    "a header without colon": (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", False),
    "a space before the colon": (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", False),
    "a null byte": (b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", False),
    "a chunk's size that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", True),
    "a chunk longer than it says": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", True),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "started"), BROKEN.values(), ids=BROKEN)
async def test_what_is_not_quite_http_is_a_broken_store(raw: bytes, started: bool) -> None:
    error, client = await failing(saying(raw))
    assert error.reason is Reason.UPSTREAM_BROKEN
    assert (client.status != 0) is started


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
async def test_a_store_that_ends_early_is_never_a_clean_end(raw: bytes, then: str) -> None:
    error, _ = await failing(saying(*[raw] if raw else [], then=then))
    assert error.reason is Reason.UPSTREAM_BROKEN


async def test_a_body_to_the_end_of_the_connection_that_is_reset_is_no_clean_end() -> None:
    error, client = await failing(saying(b"HTTP/1.1 200 OK\r\n\r\nhello", then="reset"))
    assert error.reason is Reason.UPSTREAM_BROKEN
    assert client.answer == b"hello"


@pytest.mark.parametrize("rounds", [0, 1])
async def test_only_a_connection_that_served_before_is_called_dead(rounds: int) -> None:
    async def script(talk: Talk) -> None:
        for _ in range(rounds):
            await talk.head()
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await talk.head()

    async with store(script) as made:
        connection = await connect(made)
        for _ in range(rounds):
            await connection.exchange(HEAD, Client("GET", "/a"))
        with pytest.raises(DeadConnection if rounds else Unavailable):
            await connection.exchange(HEAD, Client("GET", "/a"))


@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_store_that_began_to_answer_is_not_asked_again(begun: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await talk.head()
        talk.say(begun)

    async with store(script) as made:
        connection = await connect(made)
        await connection.exchange(HEAD, Client("GET", "/a"))
        with pytest.raises(Unavailable) as caught:
            await connection.exchange(HEAD, Client("GET", "/a"))
        assert caught.value.reason is Reason.UPSTREAM_BROKEN


@pytest.mark.parametrize("extra", [b"!!", b"HTTP/1.1 200 OK\r\n\r\n", b"\0"])
async def test_bytes_after_an_answer_condemn_the_connection_at_once(extra: bytes) -> None:
    async with store(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + extra)) as made:
        connection, client = await exchange(made)
        assert client.finished
        assert client.answer == b"hello"
        assert not connection.reusable
        connection.abort()


async def test_a_connection_that_is_gone_is_dead_at_once() -> None:
    async with store(saying(then="close")) as made:
        connection = await connect(made)
        connection.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(DeadConnection):
            await connection.exchange(HEAD, Client("GET", "/a"))


async def test_a_client_that_does_not_take_the_head_gets_the_reason() -> None:
    client = Client("GET", "/a")
    client.refuses = Refused(Reason.UPSTREAM_REDIRECT)
    error, _ = await failing(saying(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), client)
    assert error.reason is Reason.UPSTREAM_REDIRECT


# --- deadlines: the pool's sweep calls `expire()` once they have passed


async def test_a_store_has_its_time_for_the_first_byte_and_for_each_silence() -> None:
    step = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.head()
        await step.wait()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        await talk.reader.read()

    async with store(script) as made:
        loop, client = asyncio.get_running_loop(), Client("GET", "/a")
        connection = await connect(made, first_byte=100.0, idle=1000.0)
        assert connection.deadline == 0
        began = loop.time()
        work = asyncio.create_task(connection.exchange(HEAD, client))
        await until(lambda: connection.deadline)
        assert 100 <= connection.deadline - began < 110
        step.set()
        await until(lambda: client.answer)
        assert 1000 <= connection.deadline - began < 1010
        connection.expire()
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.reason is Reason.UPSTREAM_BROKEN
        assert not client.finished
        assert not connection.reusable


async def test_a_store_that_never_answers_is_a_timeout() -> None:
    async with store(saying()) as made:
        connection = await connect(made)
        work = asyncio.create_task(connection.exchange(HEAD, Client("GET", "/a")))
        await until(lambda: connection.deadline)
        connection.expire()
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.reason is Reason.UPSTREAM_TIMEOUT


async def test_nobody_blames_the_store_while_the_client_sends() -> None:
    go = asyncio.Event()

    class Slow(Client):
        async def read(self) -> bytes:
            await go.wait()
            return await super().read()

    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.reader.readexactly(4)
        await talk.reader.read()

    async with store(script) as made:
        connection = await connect(made, first_byte=50.0)
        work = asyncio.create_task(connection.exchange(HEAD, Slow("PUT", "/a", body=[b"ab", b"cd"], content_length=4)))
        await asyncio.sleep(0.02)
        assert connection.deadline == 0
        go.set()
        await until(lambda: connection.deadline)
        connection.expire()
        with pytest.raises(Unavailable):
            await work


async def test_a_store_that_began_early_still_has_a_deadline_once_the_body_is_sent() -> None:
    go = asyncio.Event()

    class Slow(Client):
        async def read(self) -> bytes:
            await go.wait()
            return await super().read()

    async with store(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")) as made:
        connection, client = await connect(made), Slow("PUT", "/a", body=[b"ab", b"cd"], content_length=4)
        work = asyncio.create_task(connection.exchange(HEAD, client))
        await until(lambda: client.answer)
        go.set()
        await until(lambda: connection.deadline > 0)
        connection.expire()
        with pytest.raises(Unavailable):
            await work


# --- the request's body


class Received:
    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") -> None:
        self.data = b""
        self.ended = False
        self.answer = answer
        self.enough: Callable[[bytes], bool] = lambda data: False

    async def __call__(self, talk: Talk) -> None:
        await talk.head()
        try:
            while not self.enough(self.data):
                data = await talk.reader.read(65536)
                if not data:
                    break
                self.data += data
        except ConnectionError:
            pass
        finally:
            self.ended = True
        talk.say(self.answer)
        await talk.reader.read()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_reaches_the_store_in_its_framing(chunked: bool) -> None:
    pieces = [b"a" * 10, b"b" * 70_000, b"c"]
    received = Received()
    framed = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"
    expected = framed if chunked else b"".join(pieces)
    received.enough = lambda data: len(data) >= len(expected)
    async with store(received) as made:
        length = None if chunked else 70_011
        connection, client = await exchange(made, Client("PUT", "/a", body=pieces, content_length=length))
        assert received.data == expected
        assert client.finished
        assert connection.reusable


@pytest.mark.parametrize("failure", [ClientGone(), Refused(Reason.BODY_TIMEOUT), ValueError("a bug")])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_breaks_off_never_ends_for_the_store(failure: Exception, chunked: bool) -> None:
    received = Received()
    async with store(received) as made:
        connection = await connect(made)
        client = Client("PUT", "/a", body=[b"ab", failure], content_length=None if chunked else 100)
        with pytest.raises(type(failure)):
            await connection.exchange(HEAD, client)
        await until(lambda: received.ended)
        assert not received.data.endswith(b"0\r\n\r\n")
        assert not connection.reusable


async def test_an_early_answer_ends_the_exchange_and_the_connection() -> None:
    never = asyncio.Event()

    class Endless(Client):
        async def read(self) -> bytes:
            if await super().read():
                return b"x"
            await never.wait()
            return b""

    async with store(saying(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")) as made:
        connection, client = await exchange(made, Endless("PUT", "/a", body=[b"x"], content_length=1000))
        assert (client.status, client.answer, client.finished) == (413, b"no", True)
        assert not connection.reusable


async def test_a_store_that_does_not_read_holds_the_client_back() -> None:
    go, sent = asyncio.Event(), 0

    class Counting(Client):
        async def read(self) -> bytes:
            nonlocal sent
            await asyncio.sleep(0)
            if sent >= 64 << 20:
                return b""
            sent += 1 << 16
            return b"x" * (1 << 16)

    async def script(talk: Talk) -> None:
        await talk.head()
        await go.wait()
        while len(await talk.reader.read(1 << 20)):
            pass

    async with store(script) as made:
        connection = await connect(made, idle=77.0)
        work = asyncio.create_task(connection.exchange(HEAD, Counting("PUT", "/a", body=[], content_length=64 << 20)))
        await until(lambda: connection.deadline)  # it waits for the store: so the store has a deadline
        before = sent
        await asyncio.sleep(0.05)
        assert sent == before < 32 << 20
        go.set()
        await until(lambda: sent > before)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work


# --- a client slower than the store


async def test_a_congested_client_holds_the_store_back() -> None:
    size, sent = 64 << 20, 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < size:
            talk.say(b"10000\r\n", b"x" * 65536, b"\r\n")
            await talk.writer.drain()
            sent += 65536
        talk.say(b"0\r\n\r\n")

    async with store(script) as made:
        client = Client("GET", "/a")
        client.congested = True
        connection = await connect(made)
        work = asyncio.create_task(connection.exchange(HEAD, client))
        await until(lambda: client.answer and connection.deadline == 0)
        held = sum(map(len, client.pieces))
        await asyncio.sleep(0.05)
        assert sum(map(len, client.pieces)) == held < 1 << 20
        assert sent < 32 << 20
        client.congested = False
        async with asyncio.timeout(20):
            await work
        assert sum(map(len, client.pieces)) == size
        assert client.finished


async def test_a_congested_client_that_leaves_ends_it() -> None:
    async with store(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")) as made:
        client = Client("GET", "/a")
        client.congested = True
        connection = await connect(made)
        work = asyncio.create_task(connection.exchange(HEAD, client))
        await until(lambda: client.drains)
        client.gone, client.congested = True, False
        with pytest.raises(ClientGone):
            await work
        assert not connection.reusable


class Choosy(Client):
    """Finds something wrong with an answer: in the middle of its body, or at its end."""

    def __init__(self, at: str) -> None:
        super().__init__("GET", "/a")
        self.at = at

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.at == "write":
            raise Refused(Reason.UPSTREAM_BROKEN, "not to my taste")

    def finish(self) -> None:
        raise Refused(Reason.UPSTREAM_BROKEN, "not to my taste")


@pytest.mark.parametrize("at", ["write", "finish"])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"\r\nx"]
)
async def test_an_answer_that_is_refused_in_its_middle_ends_the_exchange_and_the_connection(
    at: str, framing: bytes
) -> None:
    async with store(saying(b"HTTP/1.1 207 X\r\n" + framing, then="close")) as made:
        connection = await connect(made)
        with pytest.raises(Refused, match="not to my taste"):
            async with asyncio.timeout(20):
                await connection.exchange(HEAD, Choosy(at))
        assert not connection.reusable


# --- splicing


SIZE = 8 << 20


async def large(talk: Talk) -> None:
    while True:
        await talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY)
        await talk.writer.drain()


BODY = os.urandom(SIZE)


class Plain:
    """A client on a socket pair."""

    def __init__(self) -> None:
        self.client = Client("GET", "/a")
        self.client.socket, self.far = socket.socketpair()
        self.client.socket.setblocking(False)
        self.far.setblocking(False)

    async def receive(self, size: int) -> bytes:
        loop, got = asyncio.get_running_loop(), bytearray()
        while len(got) < size:
            data = await loop.sock_recv(self.far, 1 << 20)
            assert data
            got += data
        return bytes(got)

    def close(self) -> None:
        assert self.client.socket is not None
        self.client.socket.close()
        self.far.close()


async def test_a_large_body_is_spliced_and_the_connection_goes_on() -> None:
    async with store(large) as made:
        connection = await connect(made)
        before = descriptors()
        for _ in range(2):
            plain = Plain()
            work = asyncio.create_task(connection.exchange(HEAD, plain.client))
            await until(lambda plain=plain: plain.client.sunk)  # type: ignore[misc]  # binds the loop's value
            tail = await plain.receive(SIZE - len(plain.client.answer))
            await work
            assert plain.client.answer + tail == BODY
            assert plain.client.finished
            assert connection.reusable
            plain.close()
        assert descriptors() == before
        connection.abort()


@pytest.mark.parametrize("end", ["cancelled", "client", "store", "expired"])
async def test_a_splice_that_is_cut_short_leaves_nothing_open(end: str) -> None:
    begun = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY[: SIZE // 2])
        await begun.wait()
        if end == "store":
            await talk.writer.drain()
            return
        await talk.reader.read()

    async with store(script) as made:
        connection, before = await connect(made), descriptors()
        plain = Plain()
        work = asyncio.create_task(connection.exchange(HEAD, plain.client))
        await until(lambda: plain.client.sunk)
        assert connection.deadline > 0
        begun.set()
        expected: type[BaseException] = Unavailable
        if end == "cancelled":
            work.cancel()
            expected = asyncio.CancelledError
        elif end == "client":
            plain.far.close()
            expected = ClientGone
        elif end == "expired":
            connection.expire()
        receiving = asyncio.create_task(plain.receive(SIZE)) if end == "store" else None
        async with asyncio.timeout(20):
            with pytest.raises(expected):
                await work
        assert not plain.client.finished
        assert not connection.reusable
        if receiving is not None:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        plain.close()
        # The connection's own descriptor goes, too.
        await until(lambda: descriptors() <= before - 1)


# --- the parser never sees more than a stream of bytes


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


def told(client: Client, error: BaseException | None, connection: Connection) -> tuple[Any, ...]:
    reason = error.reason if isinstance(error, Refused) else type(error)
    return client.status, client.answer_headers, client.length, client.answer, client.finished, reason


async def feed(method: str, pieces: list[bytes]) -> tuple[tuple[Any, ...], bool]:
    loop = asyncio.get_running_loop()
    connection, wire, client = Connection(loop, Timeouts(), lambda lost: None), Wire(), Client(method, "/a")
    connection.connection_made(wire)
    work = asyncio.create_task(connection.exchange(HEAD, client))
    await asyncio.sleep(0)
    for piece in pieces:
        if not wire.aborted:
            connection.data_received(piece)
        if work.done():
            break
    connection.connection_lost(None)
    async with asyncio.timeout(20):
        (error,) = await asyncio.gather(work, return_exceptions=True)
    return told(client, error, connection), wire.aborted


RAW = st.sampled_from(
    [raw for _, pieces, *_ in REUSABLE.values() for raw in [b"".join(pieces)]]
    + [raw for raw, _ in ENDED.values()]
    + [raw for raw, _ in BROKEN.values() if len(raw) < 1000]
)


@settings(max_examples=300, deadline=None)
@given(RAW, st.sampled_from(["GET", "HEAD"]), st.lists(st.integers(0, 200), max_size=8))
def test_where_an_answer_is_cut_into_pieces_changes_nothing(raw: bytes, method: str, cuts: list[int]) -> None:
    edges = [0, *sorted({cut for cut in cuts if cut < len(raw)}), len(raw)]
    pieces = [raw[start:end] for start, end in itertools.pairwise(edges) if start < end]

    async def run() -> None:
        whole, _ = await feed(method, [raw])
        cut, _ = await feed(method, pieces)
        if whole[4]:
            assert cut == whole
        else:
            # What was refused may have passed on less or more of its body by then; never a clean end, nor another reason.
            assert (cut[4], cut[5]) == (False, whole[5])

    asyncio.run(run())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4), st.sampled_from(["GET", "HEAD"]))
def test_whatever_a_store_sends_the_exchange_ends(pieces: list[bytes], method: str) -> None:
    async def run() -> None:
        (_, _, _, _, finished, reason), _ = await feed(method, [b"HTTP/1.1 200 OK\r\n", *pieces])
        assert finished or reason in (Reason.UPSTREAM_BROKEN, DeadConnection)

    asyncio.run(run())
