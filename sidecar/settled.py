"""Files that people and tools edit while we run: a change counts once two reads agree (`docs/policy.md` rule 24).

Facts behind the choices:
- An editor truncates and writes, `git` replaces, a ConfigMap swaps a symlink; a read in the middle sees half a file.
- A file's times are no evidence of its content (kubernetes#24215), so what looks unchanged is hashed again in turn.
- A name that is gone may be back a moment later (rename dances): being gone has to settle, too.

`Settled` alone is blocking, and never raises for what is on the disk. Whoever follows files in a running process is a
`FollowedFiles`, which looks at them in a thread.
"""

import asyncio
import hashlib
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Generic, TypeVar

from msgspec import Struct

from sidecar.background import Follower

T = TypeVar("T")

REHASH_SHARE = 8
"""Every file is read again once in so many polls, however it looks."""
REHASH_MOST = 256
"""Files read again in one poll, at most."""
_COLD_LOOKS = 10
"""Before the start a file that keeps changing is waited for so many times; later it is picked up as any change."""
_BUSY_SHARE = 20
"""A look that takes long is followed by a pause of this many times its length: at most 5 % of one CPU."""
_LONGEST_PAUSE = 2.0


class Reading(Struct, frozen=True):
    """What a file said in two reads that agree."""

    content: bytes | None
    """`None`: it is gone, or `error` says why it can't be read."""
    error: str = ""
    modified: float | None = None
    """Unix seconds."""


_GONE = Reading(None)
_Signature = tuple[int, ...]


class _Accepted(Struct):
    signature: _Signature
    digest: bytes


class _Pending(Struct):
    digest: bytes
    since: float


class Settled:
    """Follows a changing set of files by name."""

    def __init__(self, max_bytes: int, settle: float = 0.2, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._settle = settle
        self._clock = clock
        self._accepted: dict[str, _Accepted] = {}
        self._pending: dict[str, _Pending] = {}
        self._turn: list[str] = []
        """Names whose turn to be read again is still to come in this round."""

    @property
    def waiting(self) -> bool:
        """Whether a change was seen that has not settled."""
        return bool(self._pending)

    def poll(self, paths: Mapping[str, str]) -> dict[str, Reading]:
        """`paths` are all files that there are now, name -> where to read it. Returns those whose change has settled."""
        due = self._due(paths)
        changed: dict[str, Reading] = {}
        for name, path in paths.items():
            signature = _signature(path)
            known = self._accepted.get(name)
            if known is not None and known.signature == signature and name not in self._pending and name not in due:
                continue
            reading = self._read(path)
            digest = _digest(reading)
            if known is not None and known.digest == digest:
                known.signature = signature
                self._pending.pop(name, None)
            elif self._has_settled(name, digest):
                self._accepted[name] = _Accepted(signature, digest)
                changed[name] = reading
        for name in (self._accepted.keys() | self._pending.keys()) - paths.keys():
            if name not in self._accepted:
                del self._pending[name]
            elif self._has_settled(name, b""):
                del self._accepted[name]
                changed[name] = _GONE
        return changed

    def _has_settled(self, name: str, digest: bytes) -> bool:
        now = self._clock()
        pending = self._pending.get(name)
        if pending is None or pending.digest != digest:
            self._pending[name] = _Pending(digest, now)
            return False
        if now - pending.since < self._settle:
            return False
        del self._pending[name]
        return True

    def _due(self, paths: Mapping[str, str]) -> set[str]:
        if not self._turn:
            self._turn = list(paths)
        share = min(len(paths) // REHASH_SHARE + 1, REHASH_MOST)
        due, self._turn = set(islice(self._turn, share)), self._turn[share:]
        return due

    def _read(self, path: str) -> Reading:
        try:
            # A FIFO's open() would wait for a writer; a device or a directory is no policy.
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return Reading(None, "it is not a regular file")
            with open(path, "rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            return Reading(None, error.strerror or type(error).__name__)
        if len(content) > self._max_bytes:
            return Reading(None, f"it has more than {self._max_bytes} bytes")
        return Reading(content, "", found.st_mtime)


class FollowedFiles(ABC, Generic[T]):
    """Files whose content is in force here. `load_now()` (`await load()` in a loop) before serving, then `start()` and `stop()`."""

    def __init__(self, what: str, max_bytes: int, *, interval: float, settle: float) -> None:
        """`what` is followed, for the log. `max_bytes` of one file. `interval`: seconds between two looks; `settle`: for how
        many a change must stand."""
        self._interval = interval
        self._settle = settle
        self._settled = Settled(max_bytes, settle)
        self._follower = Follower(what, look=self._look, publish=self._publish, pause=self._pause)

    @abstractmethod
    def _paths(self) -> Mapping[str, str]:
        """In the thread: what files there are, name -> where to read it. An `OSError` ends a cold start."""

    @abstractmethod
    def _take(self, changed: Mapping[str, Reading]) -> T:
        """In the thread: what the files that changed, maybe none, come to."""

    @abstractmethod
    def _publish(self, found: T) -> None:
        """In the loop, or in `load_now`'s thread: puts it in force."""

    def load_now(self) -> None:
        """The cold start, blocking. What is wrong with a file doesn't raise."""
        self._publish(self._load())

    async def load(self) -> None:
        """As `load_now`, and the loop goes on meanwhile."""
        self._publish(await asyncio.to_thread(self._load))

    async def start(self) -> None:
        """Follow the files from now on."""
        await self._follower.start()

    async def stop(self) -> None:
        await self._follower.stop()

    def _load(self) -> T:
        return self._take(self._first())

    def _first(self) -> Mapping[str, Reading]:
        """All there is, once it has settled."""
        changed = self._settled.poll(self._paths())
        for _ in range(_COLD_LOOKS):
            if not self._settled.waiting:
                break
            time.sleep(self._settle)
            changed |= self._settled.poll(self._paths())
        return changed

    def _look(self) -> T:
        return self._take(self._settled.poll(self._paths()))

    def _pause(self, took: float) -> float:
        return min(self._settle if self._settled.waiting else max(self._interval, took * _BUSY_SHARE), _LONGEST_PAUSE)


def _digest(reading: Reading) -> bytes:
    return hashlib.sha256(reading.error.encode() + b"\0" + (reading.content or b"")).digest()


def _signature(path: str) -> _Signature:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
