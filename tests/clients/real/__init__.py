"""Build-cache clients as they are published, each with a project so small that its one task is all there is to it.

The task writes random bytes. So what it made tells whether it ran: the same bytes again can only have come out of a cache, and
every build has a checkout and caches of its own, which leaves the remote one.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct

from tests.programs import require_program

TIMEOUT = 240.0
"""Seconds for one build; the largest artifact takes most of them."""


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
    made: bytes | None
    """What the task made or the cache had; `None`: nothing is there."""
    text: str
    """What the client printed, without colours."""


class Client(Protocol):
    name: ClassVar[str]
    profile: ClassVar[str]
    """The kind of its route."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for what it may keep between builds that is no cache of results. Skips the test where a program is missing."""

    def version(self) -> str: ...

    def build(self, folder: Path, project: Project, address: str, token: str | None) -> Built:
        """In a fresh checkout below `folder`, which is empty. `address` is `127.0.0.1:PORT/PATH`."""

    def told(self, text: str) -> list[str]:
        """The lines that the client says about its remote cache, out of all that it printed."""


_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def run(
    *command: str | Path, cwd: Path, environment: Mapping[str, str], timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """With nothing of this process's environment but its PATH. Its output is one text, as on a terminal."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def built(done: subprocess.CompletedProcess[str], made: Path) -> Built:
    return Built(done.returncode, made.read_bytes() if made.is_file() else None, _COLOURS.sub("", done.stdout))


def first_line(program: str, *words: str) -> str:
    """What a program says of its version."""
    done = run(require_program(program), *words, cwd=Path("/"), environment={"HOME": "/nonexistent"})
    return done.stdout.splitlines()[0].strip()


def lines(text: str, pattern: str) -> list[str]:
    """The lines in which `pattern` occurs, each once."""
    found = [" ".join(line.split()) for line in text.splitlines() if re.search(pattern, line)]
    return list(dict.fromkeys(found))
