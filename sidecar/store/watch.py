"""Noticing that another process has committed to a SQLite file, for a few microseconds a look.

`PRAGMA data_version` changes when somebody else has committed; it means something only within one connection. So the
connection is the watch's own, lives in a thread of its own (a look may wait for the disk, the event loop may not), and
is opened anew when the file at the path is another one.
"""

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

from sidecar.errors import Unavailable
from sidecar.reasons import Reason

_BUSY_TIMEOUT = 0.25


class Sight(Enum):
    STILL = auto()
    COMMIT = auto()
    """Somebody may have committed since the last look."""
    REPLACED = auto()
    """Another file is there: whatever was read of the old one says nothing."""


class SqliteWatch:
    """Not to be looked through by two tasks at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token-watch")
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._version = 0

    async def look(self) -> Sight:
        """Raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`; the next look starts over with a new connection."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown(wait=False)

    def _look(self) -> Sight:
        try:
            status = os.stat(self._path)
            file = (status.st_dev, status.st_ino)
            if self._connection is None or file != self._file:
                return self._open(file)
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            self._forget()
            raise Unavailable(
                Reason.TOKEN_STORE_UNAVAILABLE, f"token store: {type(error).__name__}: {error}"
            ) from error
        moved = version != self._version
        self._version = version
        return Sight.COMMIT if moved else Sight.STILL

    def _open(self, file: tuple[int, int]) -> Sight:
        self._forget()
        self._connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None
        )
        self._version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        replaced = self._file is not None and file != self._file
        self._file = file
        return Sight.REPLACED if replaced else Sight.COMMIT

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
