"""What an embedded store with a limit does beside its requests, in a thread of its own: write down uses, settle what
processes that died left, look through the folders where the index is new or the machine was restarted, and keep the limit.

Law: one folder at a time, and only as long as it takes; no request ever waits for the whole.
"""

import fcntl
import logging
import os
import threading
from pathlib import Path

from sidecar.upstream.file_index import SHARDS, Index, Totals
from sidecar.upstream.file_layout import Layout

FLUSH = 0.25
"""Seconds between two looks. So long another process may take an object for older than it is."""
_RARELY = 8
"""Each so-many looks the sums are read, and the dead are looked for."""
_SCAN = "index.scan"

log = logging.getLogger(__name__)


class Upkeep:
    def __init__(self, directory: Path, layout: Layout, index: Index) -> None:
        self._directory = directory
        self._layout = layout
        self._index = index
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="store-upkeep", daemon=True)
        self._failed = False
        self.totals: Totals | None = None
        """As they were a moment ago."""

    def start(self) -> None:
        """After the layout's `prepare`."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last uses are written down. Blocking."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._index.flush()
        except OSError as error:
            log.warning("the embedded store could not write down its last uses: %s", error.strerror)
        self._index.close()

    def _work(self) -> None:
        looks = 0
        while True:
            try:
                self.look(rarely=looks % _RARELY == 0)
                self._failed = False
            except OSError as error:
                if not self._failed:
                    log.warning("the embedded store can't keep its index: %s", error.strerror)
                self._failed = True
            looks += 1
            if self._stopping.wait(FLUSH):
                return

    def look(self, *, rarely: bool) -> None:
        """Raises `OSError`."""
        self._index.flush()
        if not rarely:
            return
        self._layout.settle()
        totals = self._index.totals()
        if not totals.complete:
            self._scan()
            totals = self._index.totals()
        while totals.complete and totals.bytes > self._index.limit and not self._stopping.is_set():
            if not self._layout.make_room(totals.bytes - self._index.limit):
                break
            totals = self._index.totals()
        self.totals = totals

    def _scan(self) -> None:
        """One process does it; where that one dies, another goes on from its last folder."""
        fd = os.open(self._directory / _SCAN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for shard in range(self._index.totals().scanned, SHARDS):
                if self._stopping.is_set():
                    return
                self._layout.scan(shard)
                self._index.flush()
                # The interpreter's lock is the event loop's, too: it gets its turn between two folders.
                self._stopping.wait(0.001)
        except BlockingIOError:
            return
        finally:
            os.close(fd)
