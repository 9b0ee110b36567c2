"""Peak memory of a fresh process that carries 32 streams each way, with readers and a store that stall at first.

A proxy without backpressure takes in what the other side doesn't: the stall is there to show it.
"""

import asyncio

from bench.load import TIMEOUT, Expect, parse_head, render, run
from bench.peers.base import OK, Running
from bench.process import BenchError
from bench.row import PEAK, Bench, MiB, Row
from bench.rows.bulk import STORED
from bench.store import FOLDER

STREAMS = 32
STALL = 1.0
"""Seconds for which no one takes anything."""
PIECE = 64 * 1024


async def _head(reader: asyncio.StreamReader, expect: Expect) -> int:
    try:
        answer = parse_head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as error:
        raise BenchError("a stream broke off before the answer's head") from error
    expect.check(answer)
    return answer.length


async def _get(port: int, request: bytes, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    left = await _head(reader, Expect(OK, size))
    await asyncio.sleep(STALL)
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise BenchError("a stream broke off")
        left -= len(piece)
    writer.close()


async def _put(port: int, head: bytes, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    piece = bytes(PIECE)
    for _ in range(size // PIECE):
        writer.write(piece)
        await writer.drain()
    await _head(reader, Expect(STORED))
    writer.close()


def _memory(bench: Bench, running: Running) -> float:
    size = bench.scale.stream
    paths = [f"/{FOLDER}/stream-{at}" for at in range(STREAMS)]
    request = render("GET", bench.store.object(size), bench.credentials.reader)

    async def load() -> None:
        async with asyncio.TaskGroup() as downloads:
            for _ in range(STREAMS):
                downloads.create_task(_get(running.port, request, size))
        async with asyncio.TaskGroup() as uploads:
            with bench.store.paused():
                for path in paths:
                    head = render("PUT", path, bench.credentials.writer, length=size)
                    uploads.create_task(_put(running.port, head, size))
                await asyncio.sleep(STALL)

    async def bounded() -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await load()
        except TimeoutError:
            raise BenchError(f"the streams haven't ended after {TIMEOUT:g} s") from None
        except ExceptionGroup as group:
            raise BenchError(f"{len(group.exceptions)} streams failed: {group.exceptions[0]}") from group

    try:
        run(bounded())
    finally:
        for path in paths:
            bench.store.file(path).unlink(missing_ok=True)
    return running.process.peak_rss() / MiB


ROWS = (Row("memory", "peak memory, 32 GET streams, then 32 PUT streams", PEAK, _memory, bulk=True, fresh=True),)
