"""Moving a body from one plain socket to another inside the kernel: a third of the cost of copying it.

Both transports must be quiet: the source's paused with nothing buffered, the sink's write buffer empty. The descriptors
are duplicated, since uvloop refuses `add_reader` on one that a transport owns; the pipe is private to the call.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

_PIPE_SIZE = 1 << 20
_TURN = 8 * _PIPE_SIZE
"""Bytes after which the loop has a turn: where neither side ever makes us wait, nobody else would get one."""
_F_SETPIPE_SZ = 1031  # Linux; `fcntl.F_SETPIPE_SZ` came with Python 3.10 but not on every build
_FLAGS = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class SinkClosed(ConnectionError):
    """It takes no more: the receiver left."""


async def splice(source: int, sink: int, length: int, moved: Callable[[int], None]) -> None:
    """Move exactly `length` bytes; `moved` hears of each piece that left for the sink.

    Raises `EOFError` where the source ends early, `SinkClosed`, or another `OSError` where the source breaks.
    """
    loop, held, since_turn = asyncio.get_running_loop(), 0, 0
    with contextlib.ExitStack() as opened:

        def owned(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        out_end, in_end = (owned(descriptor) for descriptor in os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        source, sink = owned(os.dup(source)), owned(os.dup(sink))
        with contextlib.suppress(OSError):  # an unprivileged user may have used up its share of pipe buffers
            fcntl.fcntl(in_end, _F_SETPIPE_SZ, _PIPE_SIZE)
        while length or held:
            if length:
                try:
                    taken = os.splice(source, in_end, min(length, _PIPE_SIZE), flags=_FLAGS)
                except BlockingIOError:
                    if not held:
                        await _ready(loop, loop.add_reader, loop.remove_reader, source)
                        continue
                else:
                    if taken == 0:
                        raise EOFError("the source ended early")
                    length, held = length - taken, held + taken
            if held:
                try:
                    left = os.splice(out_end, sink, held, flags=_FLAGS)
                except BlockingIOError:
                    await _ready(loop, loop.add_writer, loop.remove_writer, sink)
                except OSError as error:
                    raise SinkClosed(error.errno, error.strerror) from None
                else:
                    held -= left
                    moved(left)
                    since_turn += left
                    if since_turn >= _TURN:
                        since_turn = 0
                        await asyncio.sleep(0)


async def _ready(
    loop: asyncio.AbstractEventLoop,
    register: Callable[..., None],
    unregister: Callable[[int], bool],
    descriptor: int,
) -> None:
    future: asyncio.Future[None] = loop.create_future()
    register(descriptor, _set, future)
    try:
        await future
    finally:
        unregister(descriptor)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
