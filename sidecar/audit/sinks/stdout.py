"""The sink for whoever collects standard output. Transport, not durability."""

import os
import select
import stat
import time
from collections.abc import Sequence

_PIPE_PIECE = 4096
"""PIPE_BUF on Linux: a pipe that polls as writable takes this many bytes without blocking (pipe(7))."""


class StdoutSink:
    """JSON Lines on standard output, each marked `"log":"audit"` beside other logs.

    A reader that stops reading costs `patience` seconds once; after that each batch is refused at once until the pipe
    has room again. The rest of a line that was begun is sent first, so that lines stay whole.
    """

    name = "stdout"

    def __init__(self, *, required: bool = True, descriptor: int = 1, patience: float = 0.25) -> None:
        self.required = required
        self._descriptor = _without_blocking(descriptor)
        self._patience = patience
        self._stuck = False
        self._rest = b""

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        deadline = time.monotonic() + (0.0 if self._stuck else self._patience)
        self._stuck = True
        self._rest = self._send(self._rest, deadline)
        if self._rest:
            raise TimeoutError("standard output is not being read")
        data = b"".join([b'{"log":"audit",' + line[1:] + b"\n" for line in lines])
        rest = self._send(data, deadline)
        if rest:
            sent = data[: len(data) - len(rest)]
            if sent and not sent.endswith(b"\n"):
                self._rest = rest[: rest.index(b"\n") + 1]
            raise TimeoutError("standard output is not being read")
        self._stuck = False

    def close(self) -> None:
        os.close(self._descriptor)

    def _send(self, data: bytes, deadline: float) -> bytes:
        """Returns what could not be sent in time."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        view = memoryview(data)
        while view and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            try:
                view = view[os.write(self._descriptor, view[:_PIPE_PIECE]) :]
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
        return bytes(view)


def _without_blocking(descriptor: int) -> int:
    """A descriptor of our own for the same output. For a pipe it is opened anew, because `O_NONBLOCK` belongs to the open
    file, which stderr or the shell may share; where that isn't permitted, polling before each piece has to do."""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            pass
    return os.dup(descriptor)
