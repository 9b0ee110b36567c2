"""Reads audit files from their oldest record to their newest: those that were named, or the configuration's with all that were rotated.

A file that is rotated or removed meanwhile loses no record that was there at the beginning, as long as it is kept.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import typer

from sidecar.audit.lines import lines_of
from sidecar.cli.options import Exit, complain
from sidecar.settings import Settings

_STDIN = Path("-")
_PATIENCE = 2.0
_LOOK_EVERY = 1024
"""Lines between looks at the clock."""
_MIB = 1024 * 1024


def configured(settings: Settings) -> list[Path]:
    """The files that it writes audit records into. Ends the program where there are none."""
    files = [sink.file for sink in settings.audit if sink.file is not None]
    if not files:
        complain([f"{settings.path}: its audit log goes to standard output alone; name files with --audit"])
        raise typer.Exit(Exit.MISSING)
    return files[:1]  # the others say the same


def with_rotated(file: Path) -> list[Path]:
    """The oldest first."""
    prefix = f"{file.name}."
    try:
        endings = [each.name.removeprefix(prefix) for each in os.scandir(file.parent) if each.name.startswith(prefix)]
    except OSError:
        endings = []
    numbers = sorted((int(ending), ending) for ending in endings if ending.isascii() and ending.isdigit())
    return [*(file.with_name(prefix + ending) for _, ending in numbers), file]


def read(
    files: Sequence[Path], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Every line. `say` hears of the progress every two seconds. Ends the program where a file can't be read."""
    total = sum(file.stat().st_size for file in files if file.is_file())
    done, lines, told = 0, 0, clock()
    for opened in _opened(files):
        with opened:
            for line in lines_of(opened):
                done += len(line) + 1
                lines += 1
                yield line
                if lines % _LOOK_EVERY == 0 and (now := clock()) - told >= _PATIENCE:
                    told = now
                    say(f"read {done // _MIB} of {max(total, done) // _MIB} MiB")


def _opened(files: Sequence[Path]) -> Iterator[BinaryIO]:
    """What is written to now is opened first and read last, so that it is found wherever it is moved."""
    if not files:
        return
    *older, newest = files
    try:
        last = _open(newest)
    except FileNotFoundError:
        complain([f"{newest}: there is no such file"])
        raise typer.Exit(Exit.MISSING) from None
    inode = os.fstat(last.fileno()).st_ino if newest != _STDIN else None
    try:
        for file in older:
            try:
                opened = _open(file)
            except FileNotFoundError:
                continue  # it was the oldest, and was not kept
            if os.fstat(opened.fileno()).st_ino == inode:
                opened.close()
                continue
            yield opened
    except BaseException:
        last.close()
        raise
    yield last


def _open(file: Path) -> BinaryIO:
    if file == _STDIN:
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        complain([f"{file}: {error.strerror}"])
        raise typer.Exit(Exit.MISSING) from None
