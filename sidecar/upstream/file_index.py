"""What the embedded store holds and when each object was last used, in a SQLite file beside the objects: `DIR/index.sqlite`.

    objects(digest, bytes, used)    `bytes` of the whole file, `used` in microseconds of Unix time
    totals                          one row: what the table of objects adds up to, and what was evicted
    pending(digest, more)           a name that is about to change, and the bytes that it may add

Laws. Sums change in the transaction that changes a row, so they are exact for every process alike. A name changes only
between `begin` and `end`, both under its folder's lock: whoever holds that lock and finds a pending row has found the
trace of a process that died, and looks at the disk. Only a machine that went down can lose a transaction (the
journal isn't synced for each): so the boot is written down, and a new one means that all is to be looked at again.
"""

import contextlib
import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

SHARDS = 256
NAME, DAMAGED, LOCK = "index.sqlite", "index.damaged", "index.lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PATIENCE = 30.0
"""Seconds that one process waits for another's transaction."""
_TABLES = """
CREATE TABLE IF NOT EXISTS objects(digest BLOB PRIMARY KEY, bytes INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON objects(used);
CREATE TABLE IF NOT EXISTS pending(digest BLOB PRIMARY KEY, more INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals(
    id INTEGER PRIMARY KEY CHECK (id = 1), objects INTEGER NOT NULL, bytes INTEGER NOT NULL,
    evictions INTEGER NOT NULL, evicted_bytes INTEGER NOT NULL, boot TEXT NOT NULL, scanned INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0, 0, 0, '', 0);
"""
_SUMS = "SELECT objects, bytes, evictions, evicted_bytes, scanned, (SELECT min(used) FROM objects) FROM totals"


class Totals(Struct, frozen=True):
    objects: int
    bytes: int
    """Of the objects' files, their descriptions included; uploads in progress aside."""
    evictions: int
    """Since the index was made."""
    evicted_bytes: int
    scanned: int
    """How many of the SHARDS folders have been looked at; below that the sums are still growing."""
    oldest: int | None
    """Microseconds of Unix time: the use that lies furthest back. `None` where there is no object."""

    @property
    def complete(self) -> bool:
        return self.scanned >= SHARDS


class Aged(Struct, frozen=True):
    """An object that may have to go."""

    digest: bytes
    bytes: int
    used: int


class Index:
    """For threads; never on the event loop. Every method raises `OSError` where the file can't be used."""

    def __init__(self, directory: Path, limit: int) -> None:
        """`limit` in bytes."""
        self.limit = limit
        self._directory = directory
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._lock_fd = -1
        self._uses: dict[bytes, int] = {}
        self._uses_lock = threading.Lock()
        self._last_use = 0
        self.evictions = self.evicted_bytes = 0
        """Of this process."""

    def open(self) -> None:
        """Under the lock of the whole store: what is damaged is made anew, unless another process is using it."""
        path = self._directory / NAME
        self._lock_fd, alone = _claim(self._directory)
        if alone and ((self._directory / DAMAGED).exists() or not _sound(path)):
            remove(self._directory)
        with _as_os_error(self._directory):
            self._connection = connection = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            os.chmod(path, 0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
            boot = _boot()
            with self._changing() as change:
                (known,) = change.execute("SELECT boot FROM totals").fetchone()
                if known != boot or not boot:
                    change.execute("UPDATE totals SET boot = ?, scanned = 0", (boot,))
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    def begin(self, digest: bytes, size: int) -> int:
        """Announce that the file will have `size` bytes (0: be gone). The bytes that are lacking for it: above 0, and it was
        not announced."""
        with self._changing() as change:
            before = self._size(change, digest)
            (held, coming) = change.execute(
                "SELECT bytes, (SELECT coalesce(sum(more), 0) FROM pending WHERE digest != ?) FROM totals", (digest,)
            ).fetchone()
            more = max(size - before, 0)
            lacking = int(held + coming + more - self.limit) if more else 0
            if lacking <= 0:
                change.execute("INSERT OR REPLACE INTO pending VALUES (?, ?)", (digest, more))
            return max(lacking, 0)

    def end(self, digest: bytes, size: int, *, used: int | None = None, evicted: bool = False) -> None:
        """It has `size` bytes now (0: it is gone); `used` is when it was last used, now if left out."""
        with self._changing() as change:
            before = self._set(change, digest, size, self._now() if used is None else used)
            change.execute("DELETE FROM pending WHERE digest = ?", (digest,))
            if evicted:
                change.execute(
                    "UPDATE totals SET evictions = evictions + 1, evicted_bytes = evicted_bytes + ?", (before,)
                )
        if evicted:
            self.evictions += 1
            self.evicted_bytes += before

    def is_pending(self, digest: bytes) -> bool:
        return bool(self._rows("SELECT 1 FROM pending WHERE digest = ?", (digest,)))

    def pending(self) -> list[bytes]:
        return [digest for (digest,) in self._rows("SELECT digest FROM pending")]

    def oldest(self, count: int) -> list[Aged]:
        """Those whose last use lies furthest back, as of now."""
        self.flush()
        rows = self._rows("SELECT digest, bytes, used FROM objects ORDER BY used LIMIT ?", (count,))
        return [Aged(*row) for row in rows]

    def used_at(self, digest: bytes) -> int | None:
        rows = self._rows("SELECT used FROM objects WHERE digest = ?", (digest,))
        return rows[0][0] if rows else None

    def note(self, digest: bytes) -> None:
        """It was used; written down at the next `flush`."""
        with self._uses_lock:
            self._uses[digest] = self._now()

    def flush(self) -> None:
        with self._uses_lock:
            uses, self._uses = self._uses, {}
        if uses:
            rows = [(used, digest, used) for digest, used in uses.items()]
            for start in range(0, len(rows), 1000):
                with self._changing() as change:
                    change.executemany(
                        "UPDATE objects SET used = ? WHERE digest = ? AND used < ?", rows[start : start + 1000]
                    )

    def reconcile(self, shard: int, found: Mapping[bytes, tuple[int, int]]) -> None:
        """Under the folder's lock: what it holds, by digest, as bytes and the microsecond in which it was written."""
        with self._changing() as change:
            first, beyond = bytes([shard]), bytes([shard]) + b"\xff" * 32
            known = dict(
                change.execute(
                    "SELECT digest, bytes FROM objects WHERE digest BETWEEN ? AND ?", (first, beyond)
                ).fetchall()
            )
            gone = known.keys() - found.keys()
            news = [(digest, *each) for digest, each in found.items() if known.get(digest) != each[0]]
            change.executemany("DELETE FROM objects WHERE digest = ?", ((digest,) for digest in gone))
            change.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", news)
            objects = len(news) - sum(digest in known for digest, _, _ in news) - len(gone)
            size = sum(size - known.get(digest, 0) for digest, size, _ in news) - sum(known[digest] for digest in gone)
            change.execute("UPDATE totals SET objects = objects + ?, bytes = bytes + ?", (objects, size))
            change.execute("DELETE FROM pending WHERE digest BETWEEN ? AND ?", (first, beyond))
            change.execute("UPDATE totals SET scanned = max(scanned, ?)", (shard + 1,))

    def totals(self) -> Totals:
        return Totals(*self._rows(_SUMS)[0])

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        """Each use has a moment of its own, so that the order of this process's uses is never in doubt."""
        self._last_use = max(self._last_use + 1, time.time_ns() // 1000)
        return self._last_use

    @staticmethod
    def _size(change: sqlite3.Connection, digest: bytes) -> int:
        row = change.execute("SELECT bytes FROM objects WHERE digest = ?", (digest,)).fetchone()
        return 0 if row is None else int(row[0])

    def _set(self, change: sqlite3.Connection, digest: bytes, size: int, used: int) -> int:
        """What it had before."""
        row = change.execute("SELECT bytes FROM objects WHERE digest = ?", (digest,)).fetchone()
        before = 0 if row is None else int(row[0])
        if size:
            change.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (digest, size, used))
        elif row is not None:
            change.execute("DELETE FROM objects WHERE digest = ?", (digest,))
        change.execute(
            "UPDATE totals SET objects = objects + ?, bytes = bytes + ?",
            ((size > 0) - (row is not None), size - before),
        )
        return before

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def _rows(self, question: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return connection.execute(question, values).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _as_os_error(self._directory), self._lock:
            if self._connection is None:
                raise OSError(errno.ESHUTDOWN, "the store's index is closed")
            yield self._connection


def read_totals(directory: Path) -> Totals | None:
    """Of a store that may be in use; `None` where it has no index. Raises `OSError`."""
    path = directory / NAME
    if not path.exists():
        return None
    with (
        _as_os_error(None),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as found,
    ):
        return Totals(*found.execute(_SUMS).fetchone())


def forget(directory: Path) -> None:
    """The store is used without a limit from now on, so its index would soon be wrong."""
    if not (directory / NAME).exists():
        return
    fd, alone = _claim(directory)
    try:
        if alone:
            remove(directory)
        else:
            (directory / DAMAGED).touch(0o600)
    finally:
        os.close(fd)


def remove(directory: Path) -> None:
    for name in (f"{NAME}-wal", f"{NAME}-shm", NAME, DAMAGED):
        (directory / name).unlink(missing_ok=True)


def _claim(directory: Path) -> tuple[int, bool]:
    """The lock file's descriptor, and whether nobody else has the index open."""
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return fd, False
    return fd, True


def _sound(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT boot, scanned FROM totals").fetchone()
            connection.execute("SELECT digest, bytes, used FROM objects LIMIT 1").fetchone()
            connection.execute("SELECT digest, more FROM pending LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        return "no such" not in str(error)
    except sqlite3.DatabaseError:
        return False
    return True


def _boot() -> str:
    """Names the machine's run. Empty where it can't be told, and then every start counts as a new one."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def _as_os_error(directory: Path | None) -> Iterator[None]:
    """A file that SQLite finds damaged in `directory` is made anew at the next start."""
    try:
        yield
    except sqlite3.Error as error:
        if directory is not None and not isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError):
            with contextlib.suppress(OSError):
                (directory / DAMAGED).touch(0o600)
        number = errno.ENOSPC if "full" in str(error) else errno.EIO
        raise OSError(number, f"the store's index: {error}") from error
