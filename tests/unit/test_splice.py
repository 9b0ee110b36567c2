"""The kernel's way for a body: every byte, no more, no descriptor left behind, and everybody has a turn."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator

import pytest
import uvloop

from sidecar.upstream import splice as module
from sidecar.upstream.splice import SinkClosed, splice
from tests.unit.relays import descriptors, until

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy:pytest.PytestDeprecationWarning")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy(), uvloop.EventLoopPolicy()], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param
    return policy


class Pipe:
    """store -> source | sink -> client"""

    def __init__(self) -> None:
        self.store, self.source = socket.socketpair()
        self.sink, self.client = socket.socketpair()
        for each in (self.store, self.source, self.sink, self.client):
            each.setblocking(False)
        self.moved: list[int] = []

    def start(self, length: int) -> "asyncio.Task[None]":
        return asyncio.create_task(splice(self.source.fileno(), self.sink.fileno(), length, self.moved.append))

    def close(self) -> None:
        for each in (self.store, self.source, self.sink, self.client):
            each.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


async def receive(sock: socket.socket, size: int) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    while len(got) < size:
        data = await loop.sock_recv(sock, 1 << 20)
        assert data
        got += data
    return bytes(got)


@pytest.mark.parametrize("size", [1, 4096, 3_000_001])
async def test_exactly_the_bytes_asked_for_are_moved(pipe: Pipe, size: int) -> None:
    data, before = random.Random(size).randbytes(size), descriptors()
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(pipe.store, data + b"next"))
    work = pipe.start(size)
    assert await receive(pipe.client, size) == data
    await work
    await sending
    assert sum(pipe.moved) == size
    assert pipe.source.recv(100) == b"next"
    with pytest.raises(BlockingIOError):
        pipe.client.recv(1)
    await until(lambda: descriptors() == before)


async def test_a_receiver_slower_than_the_store_holds_it_back(pipe: Pipe) -> None:
    size = 4_000_000
    data = os.urandom(size)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(pipe.store, data))
    work = pipe.start(size)
    await until(lambda: pipe.moved)
    assert not sending.done()
    assert sum(pipe.moved) < size
    assert await receive(pipe.client, size) == data
    await asyncio.gather(sending, work)


@pytest.mark.parametrize("sent", [0, 1000])
async def test_a_source_that_ends_early_is_an_error(pipe: Pipe, sent: int) -> None:
    before = descriptors()
    pipe.store.sendall(b"x" * sent)
    work = pipe.start(sent + 1)
    await until(lambda: sum(pipe.moved) == sent)
    pipe.store.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        await asyncio.wait_for(work, 20)
    await until(lambda: descriptors() == before)


async def test_a_receiver_that_left_is_told_apart_from_a_broken_source(pipe: Pipe) -> None:
    before = descriptors()
    pipe.store.sendall(b"x" * 1000)
    pipe.client.close()
    with pytest.raises(SinkClosed):
        await asyncio.wait_for(pipe.start(2000), 20)
    await until(lambda: descriptors() == before - 1)


@pytest.mark.parametrize("full", [False, True], ids=["waiting for the source", "waiting for the sink"])
async def test_cancelled_in_the_middle_nothing_is_left_open(pipe: Pipe, full: bool) -> None:
    before = descriptors()
    if full:
        with contextlib.suppress(BlockingIOError):
            while pipe.sink.send(b"x" * 65536):
                pass
        pipe.store.sendall(b"y" * 1000)
    work = pipe.start(1_000_000)
    await until(lambda: descriptors() > before)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: descriptors() == before)


async def test_a_descriptor_that_cannot_be_had_leaves_the_others_closed(pipe: Pipe) -> None:
    before = descriptors()
    with pytest.raises(OSError):
        await splice(pipe.source.fileno(), -1, 10, pipe.moved.append)
    with pytest.raises(OSError):
        await splice(-1, pipe.sink.fileno(), 10, pipe.moved.append)
    assert descriptors() == before


async def test_a_body_that_never_waits_leaves_turns_to_others(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(module.os, "splice", lambda source, sink, size, flags: size)
    bystander = asyncio.create_task(other())
    await pipe.start(64 << 20)
    bystander.cancel()
    assert turns >= 8
    assert sum(pipe.moved) == 64 << 20
