"""How the embedded store lies on the disk, and every step that changes a name there. Runs in threads, never on the event loop.

    DIR/objects/ab/<62 hex digits>    an object, named by the SHA-256 of its key
    DIR/tmp/<32 hex digits>           an upload in progress (`file_upload.py`)

Laws. No byte of a client becomes part of a path: only its hash does. A file under `objects/` is complete and synced
before it gets its name. Names there change only under the flock of their folder, in every process alike. Where there is an
index, it is told of every change before and after, and a new object has its name only once there is room for it.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.upstream.file_format import Meta, Stored, open_object
from sidecar.upstream.file_index import SHARDS, Index, forget
from sidecar.upstream.file_upload import Change, Guard, Upload, is_full

SWEEP_AGE = 60.0
"""Seconds that a temporary file without a lock is left alone: its writer may be about to take it."""

_AT_ONCE = 64
"""Objects that are looked at for eviction at a time."""
_STALLS, _STALL = 200, 0.01
"""So often, and so many seconds each, a write waits for room that others have claimed and not yet filled."""
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Layout:
    def __init__(self, directory: Path, index: Index | None = None) -> None:
        self._directory = directory
        self._index = index
        self._objects = str(directory / "objects")
        self._temporary = str(directory / "tmp")

    def prepare(self) -> None:
        """Create what is missing, see that it can be written and locked, remove what a crash left. Raises `OSError`."""
        shards = (f"{self._objects}/{number:02x}" for number in range(256))
        for folder in (os.path.dirname(self._objects), self._temporary, self._objects, *shards):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(self._objects).st_dev != os.stat(self._temporary).st_dev:
            raise OSError(errno.EXDEV, "objects/ and tmp/ must be on one filesystem")
        probe = Upload(self, b"")
        try:
            probe.write([b"probe"])
        except OSError as error:
            if not is_full(error):  # a full disk can still be read, and be deleted from
                raise
        finally:
            probe.discard()
        with _locked(self._objects):
            self._sweep()
            if self._index is None:
                forget(self._directory)
            else:
                self._index.open()
        for folder in (self._objects, os.path.dirname(self._objects)):
            _sync(folder)

    def open(self, key: bytes) -> Stored | None:
        """Raises `Damaged` or `OSError`."""
        try:
            fd = os.open(self._path(_digest(key)), _READ)
        except FileNotFoundError:
            return None
        return open_object(fd, key)

    def meta(self, key: bytes) -> Meta | None:
        """Raises `Damaged` or `OSError`."""
        stored = self.open(key)
        if stored is None:
            return None
        stored.close()
        return stored.meta

    def upload(self, key: bytes, *, digests: bool = False) -> Upload:
        """`digests`: what the body hashes to is kept among the object's headers."""
        return Upload(self, key, digests=digests)

    def note_use(self, key: bytes) -> None:
        if self._index is not None:
            self._index.note(_digest(key))

    def temporary_path(self) -> str:
        return f"{self._temporary}/{secrets.token_hex(16)}"

    def place(self, temporary: str, key: bytes, size: int, guard: Guard | None) -> Change:
        """Give a finished file of `size` bytes its name; durable on return. Raises `Damaged` (only with a guard) or `OSError`."""
        digest, index = _digest(key), self._index
        path, stalls = self._path(digest), 0
        while True:
            with _locked(os.path.dirname(path)) as unlock:
                if guard is not None and not guard(self.meta(key)):
                    return Change.PRECONDITION_FAILED
                if index is None or not (lacking := index.begin(digest, size)):
                    change = Change.REPLACED if os.path.lexists(path) else Change.CREATED
                    os.rename(temporary, path)
                    if index is not None:
                        index.end(digest, size)
                    unlock()
                    return change
                self.refuse_beyond(size)
            if not self.make_room(lacking, digest):
                stalls += 1
                if stalls > _STALLS:
                    raise OSError(errno.ENOSPC, "the store is full of objects that are being written")
                self.settle()
                time.sleep(_STALL)

    def refuse_beyond(self, size: int) -> None:
        """Raises `OSError` for what will never fit, however much is evicted."""
        if self._index is not None and size > self._index.limit:
            raise OSError(errno.ENOSPC, f"an object larger than max_size ({self._index.limit} bytes)")

    def make_room(self, lacking: int, but: bytes | None = None) -> int:
        """Evict what was used longest ago until `lacking` bytes are free, one look at the index long; the bytes that were freed.
        `but` is the digest of what stays. What another one uses or changes meanwhile stays, too."""
        index, freed = self._index, 0
        if index is None:
            return 0
        for aged in index.oldest(_AT_ONCE):
            if freed >= lacking:
                break
            if aged.digest == but:
                continue
            path = self._path(aged.digest)
            with _locked(os.path.dirname(path)):
                if index.used_at(aged.digest) != aged.used:
                    continue
                index.begin(aged.digest, 0)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                index.end(aged.digest, 0, evicted=True)
                freed += aged.bytes
        return freed

    def settle(self) -> None:
        """What the index expected of processes that have died: the disk tells whether it happened."""
        if self._index is None:
            return
        for digest in self._index.pending():
            path = self._path(digest)
            with _locked(os.path.dirname(path)):
                if not self._index.is_pending(digest):
                    continue  # its process lives, and was quicker
                try:
                    found = os.stat(path, follow_symlinks=False)
                except FileNotFoundError:
                    self._index.end(digest, 0)
                else:
                    self._index.end(digest, found.st_size)

    def scan(self, shard: int) -> None:
        """Tell the index what one of the SHARDS folders holds."""
        if self._index is None:
            return
        with _locked(f"{self._objects}/{shard:02x}"):
            self._index.reconcile(shard, dict(self._found(shard)))

    def every_size(self) -> Iterator[tuple[int, float]]:
        """Bytes and time (Unix seconds) of each object's file, read from the disk."""
        for shard in range(SHARDS):
            for size, written in dict(self._found(shard)).values():
                yield size, written / 1e6

    def upload_sizes(self) -> Iterator[int]:
        """Bytes of each file of an upload, in progress or broken off."""
        with os.scandir(self._temporary) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_size

    def _found(self, shard: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Digest, bytes, and the microsecond in which it was written."""
        with os.scandir(f"{self._objects}/{shard:02x}") as entries:
            for entry in entries:
                with contextlib.suppress(ValueError, FileNotFoundError):
                    digest = bytes([shard]) + bytes.fromhex(entry.name)
                    if len(digest) == 32 and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        if found.st_size:  # an empty file is no object: something else has cut it
                            yield digest, (found.st_size, found.st_mtime_ns // 1000)

    def remove(self, key: bytes, guard: Guard | None) -> Change:
        """Durable on return. Raises `Damaged` (only with a guard) or `OSError`."""
        digest, index = _digest(key), self._index
        path = self._path(digest)
        with _locked(os.path.dirname(path)) as unlock:
            if not os.path.lexists(path):
                return Change.ABSENT
            if guard is not None:
                meta = self.meta(key)
                if meta is not None and not guard(meta):
                    return Change.PRECONDITION_FAILED
            if index is not None:
                index.begin(digest, 0)
            os.unlink(path)
            if index is not None:
                index.end(digest, 0)
            unlock()
        return Change.REMOVED

    def _path(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._objects}/{name[:2]}/{name[2:]}"

    def _sweep(self) -> None:
        oldest = time.time() - SWEEP_AGE
        for entry in os.scandir(self._temporary):
            # Another process's sweep or upload may take a file away at any moment.
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                if entry.stat(follow_symlinks=False).st_mtime > oldest:
                    continue
                fd = os.open(entry.path, _READ)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)
                finally:
                    os.close(fd)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[Callable[[], None]]:
    """Alone with the folder's names, among threads and processes. The yielded call says that they changed:
    the lock ends there, and then the folder is synced, so that nobody waits for another's disk."""
    fd = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)

        def unlock() -> None:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.fsync(fd)

        yield unlock
    finally:
        os.close(fd)


def _sync(folder: str) -> None:
    fd = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
