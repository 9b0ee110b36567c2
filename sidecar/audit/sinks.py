"""Where records are kept. The law: a sink takes a batch whole or raises; what it took is whole lines, in order.

Sinks run in the log's one writer thread, so they may block for as long as their own limit says. Each recovers by
itself: `write` tries again whatever had failed before.
"""

import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from sidecar.audit.record import RECORD_LIMIT, Records
from sidecar.audit.schema import SCHEMA

FRAGMENT_LIMIT = 4 * RECORD_LIMIT
_OUR_BEGINNING = b'{"v":"' + SCHEMA.encode()
_PIPE_PIECE = 4096
"""PIPE_BUF on Linux: a pipe that polls as writable takes this many bytes without blocking (pipe(7))."""


class Sink(Protocol):
    @property
    def name(self) -> str:
        """The metric's label: `file` or `stdout`."""

    @property
    def required(self) -> bool: ...

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        """Records without newlines. With `durable` they are on the disk when it returns. Raises `OSError`: none was taken."""

    def close(self) -> None: ...


class FileSink:
    """JSON Lines in a file of mode 0600 that this process alone writes; rotated by size to `NAME.000001`, `NAME.000002`, ...

    The highest number is the newest; `keep` of them stay. A line that a crash left unfinished is taken out when the file
    is opened and kept as text in a record of its own, so that the file stays readable.
    """

    name = "file"

    def __init__(
        self,
        path: Path,
        records: Records,
        *,
        required: bool = True,
        rotate_size: int,
        keep: int,
        fsync: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.required = required
        self._path = path
        self._records = records
        self._rotate_size = rotate_size
        self._keep = keep
        self._fsync = fsync
        self._clock = clock
        self._descriptor = -1
        self._inode = (0, 0)
        self._size = 0

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        data = b"".join([line + b"\n" for line in lines])
        try:
            self._be_open()
            if self._size and self._size + len(data) > self._rotate_size:
                data = self._rotate() + data
            self._append(data)
            if durable and self._fsync:
                os.fdatasync(self._descriptor)
        except OSError:
            self._take_back()
            raise
        self._size += len(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _be_open(self) -> None:
        """A file that was moved or removed under us would take records that nobody can ever read: look each time."""
        if self._descriptor >= 0:
            try:
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) == self._inode:
                    return
            except FileNotFoundError:
                pass
            self.close()
        self._open()
        torn = self._cut_fragment()
        if torn is not None:
            note = self._records.system("torn", self._clock(), severity="warning", changes={"fragment": torn})
            self._append(note + b"\n")
            self._size += len(note) + 1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # the last: a FIFO must not hang us
        descriptor = os.open(self._path, flags, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise OSError(f"{self._path} is not a regular file")
        self._descriptor, self._inode, self._size = descriptor, (found.st_dev, found.st_ino), found.st_size
        self._sync_directory()

    def _cut_fragment(self) -> str | None:
        """The unfinished last line, taken out of the file. What isn't a record of ours, or only lacks its newline, stays."""
        # After a power failure a file system may have left zeros where the record was.
        start = max(0, self._size - FRAGMENT_LIMIT)
        tail = os.pread(self._descriptor, self._size - start, start)
        if not tail or tail.endswith(b"\n"):
            return None
        fragment = tail[tail.rfind(b"\n") + 1 :]
        ours = _OUR_BEGINNING.startswith(fragment.lstrip(b"\0")[: len(_OUR_BEGINNING)])
        if not ours or _is_whole(fragment):
            self._append(b"\n")
            self._size += 1
            return None
        self._size -= len(fragment)
        os.ftruncate(self._descriptor, self._size)
        return fragment.decode("utf-8", "backslashreplace")

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _take_back(self) -> None:
        """Half a batch (a full disk stops in mid-line) is removed; the next write opens the file anew."""
        if self._descriptor < 0:
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            pass  # then it is a torn line, and opening it again finds it
        finally:
            self.close()

    def _rotate(self) -> bytes:
        """Rename, then open: whoever follows the file by name never sees it empty under its old inode."""
        numbers = self._rotated()
        numbers.append(numbers[-1] + 1 if numbers else 1)
        moved = self._numbered(numbers[-1])
        if self._fsync:
            os.fdatasync(self._descriptor)
        os.rename(self._path, moved)
        self.close()
        self._open()
        for number in numbers[: max(0, len(numbers) - self._keep)]:
            self._numbered(number).unlink(missing_ok=True)
        return self._records.system("rotate", self._clock(), changes={"previous": moved.name}) + b"\n"

    def _rotated(self) -> list[int]:
        prefix = self._path.name + "."
        endings = [
            entry.name.removeprefix(prefix) for entry in os.scandir(self._path.parent) if entry.name.startswith(prefix)
        ]
        return sorted(int(ending) for ending in endings if ending.isascii() and ending.isdigit())

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number:06d}")

    def _sync_directory(self) -> None:
        if not self._fsync:
            return
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


class StdoutSink:
    """JSON Lines on standard output, each marked `"log":"audit"` beside other logs. Transport, not durability.

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
