"""Build-cache clients as they are published, each with a project so small that its one task is all there is to it.

The task writes random bytes. So what it made tells whether it ran: the same bytes again can only have come out of a cache, and
every build has a checkout and caches of its own, which leaves the remote one.
"""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct

from tests.programs import require_program

TIMEOUT = 600.0
"""Seconds for one build; the largest artifact takes most of them."""
QUICK = "-XX:TieredStopAtLevel=1"
"""For Java: a build of seconds is over before its second compiler pays."""


class Project(Struct, frozen=True):
    """`name` tells its keys in the cache from those of every other project."""

    name: str
    size: int = 1000
    """Bytes of what the task makes."""
    pause: Path | None = None
    """A folder: while there is `hold`, the task says `started` there and waits for `go`."""

    def task(self, out: str) -> str:
        """A shell script that writes to `out`."""
        lines = [f"# {self.name}", "set -e"]
        if self.pause is not None:
            held = f": > {self.pause}/started; until [ -e {self.pause}/go ]; do sleep 0.02; done"
            lines.append(f"if [ -e {self.pause}/hold ]; then {held}; fi")
        return "\n".join([*lines, f"head -c {self.size} /dev/urandom >> {out}", ""])


class Built(Struct, frozen=True):
    """What whoever started the build has seen of it."""

    exit_status: int
    made: str | None
    """SHA-256 of what the task made or the cache had; `None`: nothing is there."""
    size: int
    """Its bytes."""
    text: str
    """What the client printed, without colours."""


class Client(Protocol):
    name: ClassVar[str]
    profile: ClassVar[str]
    """The kind of its route."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for what it may keep between builds that is no cache of results. Skips the test where a program is missing."""

    def version(self) -> str: ...

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        """In a fresh checkout below `folder`, which is empty. `home` is the person's, `address` is `127.0.0.1:PORT/PATH`."""

    def told(self, text: str) -> list[str]:
        """The lines that the client says about its remote cache, out of all that it printed."""


_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def run(
    *command: str | Path, cwd: Path, environment: Mapping[str, str], timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """With nothing of this process's environment but its PATH. Its output is one text, as on a terminal. Raises
    `subprocess.TimeoutExpired`; what it started is gone by then, too."""
    words = [str(word) for word in command]
    with subprocess.Popen(
        words,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as started:
        try:
            text, _ = started.communicate(timeout=timeout)
        except BaseException:
            # Its tasks hold the pipe that is waited for, and would wait for this test in turn.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(words, started.returncode, text)


def built(done: subprocess.CompletedProcess[str], made: Path) -> Built:
    text, digest, size = _COLOURS.sub("", done.stdout), None, 0
    if made.is_file():
        with made.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = made.stat().st_size
    return Built(done.returncode, digest, size, text)


def first_line(program: str, *words: str) -> str:
    """What a program says of its version."""
    done = run(require_program(program), *words, cwd=Path("/"), environment={"HOME": "/nonexistent"})
    return done.stdout.splitlines()[0].strip()


def lines(text: str, pattern: str) -> list[str]:
    """The lines in which `pattern` occurs, each once."""
    found = [" ".join(line.split()) for line in text.splitlines() if re.search(pattern, line)]
    return list(dict.fromkeys(found))
