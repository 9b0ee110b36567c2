"""The files with the old shared passwords that policies name, followed while the process runs.

Law: no password is kept, only its digest; and where a file is missing, empty or not of its form, there is none. A file that goes
away takes its password with it: removing it is how somebody stops it in a hurry.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from sidecar.policy.compiled import Legacy
from sidecar.policy.routes import Snapshot
from sidecar.settled import FollowedFiles, Reading

log = logging.getLogger(__name__)

MAX_PASSWORD = 1024
"""Bytes."""


class _Line(Struct, frozen=True):
    """What a file says. One of the two is set."""

    digest: bytes | None = None
    problem: str = ""
    pair: bool = False
    """It is `user:password`."""


_Found = tuple[Mapping[str, Legacy], Mapping[str, _Line]]


class PasswordFiles(FollowedFiles[_Found]):
    """Which files those are follows the policies."""

    def __init__(
        self,
        directory: Path,
        snapshot: Callable[[], Snapshot],
        *,
        interval: float = 0.25,
        settle: float = 0.2,
        quiet: bool = False,
    ) -> None:
        """`directory`: that of the policies, beside which relative files lie. `quiet`: nothing is logged."""
        super().__init__("shared passwords", MAX_PASSWORD + 2, interval=interval, settle=settle)
        self._directory = directory
        self._snapshot = snapshot
        self._quiet = quiet
        self._seen: Snapshot | None = None
        self._named: Mapping[str, Legacy] = {}
        """By workspace, as of `_seen`. Both are the thread's."""
        self._wanted: Mapping[str, Legacy] = {}
        """By workspace."""
        self._lines: Mapping[str, _Line] = {}
        """By the file's name as policies say it."""

    def digest(self, legacy: Legacy) -> bytes | None:
        """The SHA-256 of what the file says; `None` where it says no password."""
        line = self._lines.get(legacy.file)
        return None if line is None or _flaw(legacy, line) else line.digest

    def problems(self) -> list[str]:
        """Workspaces whose shared password can't be used, and why."""
        found = []
        for name, legacy in self._wanted.items():
            line = self._lines.get(legacy.file)
            flaw = _flaw(legacy, line) if line is not None else ""
            if flaw:
                found.append(f"workspace {name}: {legacy.file}: {flaw}")
        return found

    def _paths(self) -> Mapping[str, str]:
        snapshot = self._snapshot()
        if snapshot is not self._seen:
            self._seen = snapshot
            self._named = {name: each.legacy for name, each in snapshot.workspaces.items() if each.legacy is not None}
        return {legacy.file: os.path.join(self._directory, legacy.file) for legacy in self._named.values()}

    def _take(self, changed: Mapping[str, Reading]) -> _Found:
        files = {legacy.file for legacy in self._named.values()}
        lines = {file: line for file, line in self._lines.items() if file in files}
        lines.update({file: _read(reading) for file, reading in changed.items() if file in files})
        return self._named, lines

    def _publish(self, found: _Found) -> None:
        before = set(self.problems())
        self._wanted, self._lines = found
        for problem in self.problems():
            if problem not in before and not self._quiet:
                log.warning("the shared password lets nobody in: %s", problem)


def _read(reading: Reading) -> _Line:
    if reading.content is None:
        return _Line(problem=reading.error)
    line = reading.content.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        return _Line(problem="it is empty")
    if len(line) > MAX_PASSWORD:
        return _Line(problem=f"it has more than {MAX_PASSWORD} bytes")
    if any(byte < 32 or byte == 127 for byte in line):
        return _Line(problem="it is more than one line of text")
    _, colon, password = line.partition(b":")
    return _Line(hashlib.sha256(line).digest(), pair=bool(colon and password))


def _flaw(legacy: Legacy, line: _Line) -> str:
    """Why a file's line is no password of this kind; empty if it is one."""
    if line.problem:
        return line.problem
    return "it is not user:password" if legacy.scheme == "basic" and not line.pair else ""
