"""Walks files and folders for whatever may be a credential of this program. Binary files are read like any other; symbolic links
aren't followed, and a file is never in memory as a whole.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from sidecar.credentials.carriers import MAX_TOKEN
from sidecar.credentials.found import Candidate, candidates

_STDIN = Path("-")
_PIECE = 1 << 20
_OVERLAP = 2 * MAX_TOKEN
"""Bytes: a token in base64 is longer than it is."""
_PATIENCE = 2.0


class Place(Struct, frozen=True):
    file: str
    line: int
    candidate: Candidate
    around: bytes
    """The piece of the file that it stands in."""


class Scan:
    """`unreadable` tells, after the walk, what couldn't be read and why."""

    def __init__(
        self, paths: Sequence[Path], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._say = say
        self._clock = clock
        self._told = clock()
        self.files = 0
        self.unreadable: list[str] = []

    def places(self) -> Iterator[Place]:
        """The first place in each file of each candidate."""
        for path in self._paths:
            for file in self._files(path):
                try:
                    with _opened(file) as opened:
                        yield from self._in(str(file), opened)
                except OSError as error:
                    self.unreadable.append(f"{file}: {error.strerror}")
                    continue
                self.files += 1
                if (now := self._clock()) - self._told >= _PATIENCE:
                    self._told = now
                    self._say(f"read {self.files} files")

    def _files(self, path: Path) -> Iterator[Path]:
        if path == _STDIN or not path.is_dir():
            yield path
            return
        for folder, folders, names in os.walk(path, onerror=self._not_walked):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                try:
                    regular = stat.S_ISREG(file.lstat().st_mode)
                except OSError as error:
                    self._not_walked(error)
                    continue
                if regular:
                    yield file

    def _not_walked(self, error: OSError) -> None:
        self.unreadable.append(f"{error.filename}: {error.strerror}")

    def _in(self, file: str, opened: BinaryIO) -> Iterator[Place]:
        seen: set[bytes] = set()
        kept, lines = b"", 1
        piece = opened.read(_PIECE)
        while piece:
            text, following = kept + piece, opened.read(_PIECE)
            # What begins near the end may be cut there: it is left to the next piece, which begins with that end. What begins
            # with the very first byte of a piece may be the rest of something: it was looked at whole before.
            last = len(text) - _OVERLAP if following else len(text)
            for candidate in candidates(text):
                if (candidate.at or not kept) and candidate.at < last and candidate.secret.digest not in seen:
                    seen.add(candidate.secret.digest)
                    yield Place(file, lines + text.count(b"\n", 0, candidate.at), candidate, text)
            kept = text[-_OVERLAP - 1 :]
            lines += text.count(b"\n", 0, len(text) - len(kept))
            piece = following


def _opened(file: Path) -> BinaryIO:
    if file == _STDIN:
        return sys.stdin.buffer
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # the last: a FIFO must not hang us
    return os.fdopen(descriptor, "rb")
