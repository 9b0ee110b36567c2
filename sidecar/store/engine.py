"""Opening the database: what is engine-specific about that is here and nowhere else.

SQLite: write-ahead log (readers and the one writer don't wait for each other), every commit on disk before it is reported
(a revocation survives a power cut), a file that only its owner can read.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import event, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from sidecar.errors import SidecarError
from sidecar.store.tables import VERSION, metadata, schema_version

BUSY_TIMEOUT = 5.0
"""Seconds that a statement waits for another process's write."""
_READERS = 3
"""Each connection is a thread; few suffice for what misses the identity cache. There is one writer: SQLite has no more."""


class StoreUnusable(SidecarError):
    """The token store can't be opened as it is. The text says what to do."""


def sqlite_path(store: str) -> Path:
    """The file of `sqlite:///ABSOLUTE/PATH`. Raises `StoreUnusable` for every other URL."""
    scheme, found, path = store.partition(":///")
    if scheme != "sqlite" or not found or not path:
        raise StoreUnusable(f"tokens.store: {store.split(':')[0]!r} is not served; use sqlite:///PATH")
    return Path("/") / path


class Database:
    """Connections to one SQLite file. It opens nothing until asked, and never makes a missing file: see `create_file`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})
        common: dict[str, Any] = {
            "connect_args": {"timeout": BUSY_TIMEOUT},
            "max_overflow": 0,
            "pool_timeout": BUSY_TIMEOUT,
            "hide_parameters": True,
        }
        # Each call to aiosqlite is a hop to its thread. A reader outside of transactions has nothing to roll back.
        self.reader = create_async_engine(
            url, pool_size=_READERS, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, **common
        )
        self.writer = create_async_engine(url, pool_size=1, **common)
        event.listen(self.reader.sync_engine, "connect", _prepare)
        event.listen(self.writer.sync_engine, "connect", _prepare)

    async def close(self) -> None:
        await self.reader.dispose()
        await self.writer.dispose()


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def create_file(path: Path) -> None:
    """Makes an empty file of mode 0600 where there is none; SQLite gives its `-wal` and `-shm` the same mode.

    Raises `StoreUnusable` where that is not possible, or the file can't be read and written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusable(f"token store {path}: {error.strerror}") from error


async def prepare_schema(database: Database) -> None:
    """Makes the tables in an empty database, and refuses every other schema than this version's with `StoreUnusable`.

    Two processes may do so at once: each step leaves alone what is there.
    """
    try:
        async with database.writer.begin() as connection:
            found = await _version(connection)
            if found is None:
                await _create(connection)
    except IntegrityError:
        found = VERSION
    except DBAPIError as error:
        raise StoreUnusable(f"token store: {error.orig}") from error
    if found is not None and found != VERSION:
        raise StoreUnusable(
            f"token store: its schema is {found} and this program's is {VERSION};"
            + (" `sidecar token migrate` upgrades it" if found < VERSION else " a newer version has upgraded it")
        )


async def _version(connection: AsyncConnection) -> str | None:
    name = schema_version.name
    if not await connection.run_sync(lambda sync: sync.dialect.has_table(sync, name)):
        return None
    return (await connection.execute(select(schema_version.c.version_num))).scalar()


async def _create(connection: AsyncConnection) -> None:
    for table in metadata.sorted_tables:
        await connection.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            await connection.execute(CreateIndex(index, if_not_exists=True))
    await connection.execute(schema_version.insert().values(version_num=VERSION))
