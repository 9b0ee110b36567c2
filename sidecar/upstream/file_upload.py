"""A body on its way into the embedded store. Runs in threads, never on the event loop.

Laws. It is written to a file without a name of its own, under an exclusive flock for as long as its writer lives: what has no
lock was left by somebody who died. It gets its name only whole, with its tail, and synced.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from sidecar.ports import HeaderList
from sidecar.provenance import DIGEST_HEADER
from sidecar.upstream.file_format import Meta, tail_of

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Guard = Callable[[Meta | None], bool]
"""Whether a change may happen, given what is stored."""


class Change(Enum):
    CREATED = auto()
    REPLACED = auto()
    REMOVED = auto()
    ABSENT = auto()
    PRECONDITION_FAILED = auto()


class Names(Protocol):
    """Who gives files their names."""

    def temporary_path(self) -> str: ...

    def place(self, temporary: str, key: bytes, size: int, guard: Guard | None) -> Change:
        """Durable on return. Raises `Damaged` (only with a guard) or `OSError`."""


class Upload:
    """A body on its way in. Whatever becomes of it, `discard()` at the end leaves nothing but a committed object."""

    def __init__(self, layout: Names, key: bytes, *, digests: bool = False) -> None:
        self._layout = layout
        self._key = key
        self._fd = -1
        self._path = ""
        self._size = 0
        self._done = False
        self._hash = hashlib.sha256() if digests else None
        # A cancelled upload is discarded while its last write may still run, or wait for its thread.
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """Committed or discarded: nothing is left to clean up."""
        return self._done

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append. Raises `OSError`."""
        with self._lock:
            self._append_body(pieces)

    def commit(
        self, pieces: Sequence[bytes], headers: HeaderList, now: float, guard: Guard | None
    ) -> tuple[Change, Meta]:
        """Append the last pieces and put the object in place, durably. Raises `Damaged` (only with a guard) or `OSError`."""
        with self._lock:
            self._append_body(pieces)
            kept = tuple(headers)
            if self._hash is not None:
                kept = (*kept, (DIGEST_HEADER, self._hash.hexdigest().encode()))
            meta = Meta(self._key, self._size, f'"{secrets.token_hex(16)}"', int(now), kept)
            self._append([tail_of(meta)])
            if self._done:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            os.fsync(self._fd)
            change = self._layout.place(self._path, self._key, self._size, guard)
            if change is not Change.PRECONDITION_FAILED:
                self._done = True
                os.close(self._fd)
            return change, meta

    def discard(self) -> None:
        with self._lock:
            if not self._done:
                self._done = True
                if self._fd >= 0:
                    os.close(self._fd)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._path)

    def _append_body(self, pieces: Sequence[bytes]) -> None:
        if self._hash is not None:
            for piece in pieces:
                self._hash.update(piece)
        self._append(pieces)

    def _append(self, pieces: Sequence[bytes]) -> None:
        if self._done:
            return
        if self._fd < 0:
            self._path = self._layout.temporary_path()
            self._fd = os.open(self._path, _CREATE, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = [memoryview(piece) for piece in pieces if piece]
        while left:
            written = os.writev(self._fd, left)
            self._size += written
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]


def is_full(error: OSError) -> bool:
    """The disk, a quota or the largest file's size."""
    return error.errno in _FULL
