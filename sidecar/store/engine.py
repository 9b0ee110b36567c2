"""Opening the database: what is engine-specific about that is here and nowhere else.

SQLite: write-ahead log (readers and the one writer don't wait for each other), every commit on disk before it is reported
(a revocation survives a power cut), a file that only its owner can read.

A whole transaction is one visit to a thread: 70 µs for a lookup by id. SQLAlchemy's asyncio layer with aiosqlite makes
several visits of each statement (200 to 330 µs), and loads the ORM (8 MiB).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event, inspect, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sidecar.errors import SidecarError, Unavailable
from sidecar.reasons import Reason
from sidecar.store.tables import VERSION, metadata, schema_version

BUSY_TIMEOUT = 5.0
"""Seconds that a statement waits for another process's write."""
_ANSWER_TIMEOUT = 10.0
"""Seconds that a caller waits, whatever the disk does."""
_READERS = 2

T = TypeVar("T")


class StoreUnusable(SidecarError):
    """The token store can't be opened as it is. The text says what to do."""


class Database:
    """Connections to one SQLite file. It opens nothing until asked, and never makes a missing file: see `create_file`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})
        common: dict[str, Any] = {
            "connect_args": {"timeout": BUSY_TIMEOUT},
            "max_overflow": 0,
            "hide_parameters": True,
        }
        self._reading = create_engine(
            url, pool_size=_READERS, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, **common
        )
        self._writing = create_engine(url, pool_size=1, **common)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        event.listen(self._reading, "connect", _prepare)
        event.listen(self._writing, "connect", _prepare)

    async def read(self, statements: Callable[[Connection], T]) -> T:
        """Runs it outside of a transaction. Raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`."""
        return await self._visit(self._readers, lambda: self._read(statements))

    async def write(self, statements: Callable[[Connection], T]) -> T:
        """Runs it as one transaction. Raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`, and then nothing was written unless
        the disk answered too late.

        Begin with a statement that writes: on SQLite a transaction that has read first may not wait for another's end.
        """
        return await self._visit(self._writer, lambda: self._write(statements))

    async def reopen(self) -> None:
        """Lets go of the connections, so that the next statement opens the file that is there now."""
        await self._visit(self._writer, self._let_go)

    async def close(self) -> None:
        """After this nothing can be asked any more."""
        await self.reopen()
        self._readers.shutdown(wait=False)
        self._writer.shutdown(wait=False)

    def prepare_schema(self) -> None:
        """Makes the tables in an empty database, and refuses every other schema than this version's with `StoreUnusable`."""
        found = self._change_schema(_create_if_empty)
        if found != VERSION:
            raise StoreUnusable(
                f"token store {self.path}: its schema is {found} and this program's is {VERSION};"
                + (" `sidecar token migrate` upgrades it" if found < VERSION else " a newer version has upgraded it")
            )

    def upgrade(self, steps: Callable[[Connection], None]) -> None:
        """Raises `StoreUnusable`, and then nothing has changed."""
        self._change_schema(steps)

    def _change_schema(self, steps: Callable[[Connection], T]) -> T:
        try:
            with self._writing.begin() as connection:
                # Python's driver opens no transaction for CREATE or ALTER. With this one they happen all or none, and
                # two processes that open a fresh file at once do so one after the other.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return steps(connection)
        except DBAPIError as error:
            raise StoreUnusable(f"token store {self.path}: {error.orig}") from error

    async def _visit(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await asyncio.get_running_loop().run_in_executor(threads, call)
        except (SQLAlchemyError, TimeoutError) as error:
            # The type alone: a driver's text may quote what was being written.
            raise Unavailable(Reason.TOKEN_STORE_UNAVAILABLE, f"token store: {type(error).__name__}") from error

    def _read(self, statements: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return statements(connection)

    def _write(self, statements: Callable[[Connection], T]) -> T:
        with self._writing.begin() as connection:
            return statements(connection)

    def _let_go(self) -> None:
        self._reading.dispose()
        self._writing.dispose()


def sqlite_path(store: str) -> Path:
    """The file of `sqlite:///ABSOLUTE/PATH`. Raises `StoreUnusable` for every other URL."""
    scheme, found, path = store.partition(":///")
    if scheme != "sqlite" or not found or not path:
        raise StoreUnusable(f"tokens.store: {store.split(':')[0]!r} is not served; use sqlite:///PATH")
    return Path("/") / path


def create_file(path: Path) -> None:
    """Makes an empty file of mode 0600 where there is none; SQLite gives its `-wal` and `-shm` the same mode.

    Raises `StoreUnusable` where that is not possible, or the file can't be read and written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except PermissionError as error:
        hint = "run this as the account that the sidecar runs as"
        raise StoreUnusable(f"token store {path}: {error.strerror}; {hint}") from error
    except OSError as error:
        raise StoreUnusable(f"token store {path}: {error.strerror}") from error


def _prepare(connection: Any, _record: object) -> None:
    give_up = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # Only the first to open a fresh file changes anything, and meanwhile the others are turned away at once: the wait for
            # locks isn't asked then (https://www.sqlite.org/c3ref/busy_handler.html).
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
    for pragma in ("synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _create_if_empty(connection: Connection) -> str:
    """The schema's version, as found or made."""
    if inspect(connection).has_table(schema_version.name):
        return str(connection.execute(select(schema_version.c.version_num)).scalar())
    metadata.create_all(connection)
    connection.execute(schema_version.insert().values(version_num=VERSION))
    return VERSION
