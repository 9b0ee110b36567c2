"""The sink that keeps evidence: a file that this process alone writes.

Facts behind it: a full disk stops in the middle of a line, a crash leaves one unfinished, a power failure may leave zeros
there; and whoever administers the machine moves or removes the file under us.
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from sidecar.audit.record import Records
from sidecar.audit.schema import RECORD_LIMIT, SCHEMA

FRAGMENT_LIMIT = 4 * RECORD_LIMIT
_OUR_BEGINNING = b'{"v":"' + SCHEMA.encode()


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
