"""Noise stays small (law 8): a peer's refusals are recorded once and then counted, per window of 10 s.

At most 256 peers are told apart in a window; all others share one count. An IPv6 peer is its /64: whoever has one address there
has them all (RFC 6177).
"""

import asyncio
import time
from collections.abc import Callable

from sidecar.audit.record import Records
from sidecar.networks import network

WINDOW = 10.0
PEERS = 256


class Suppression:
    def __init__(
        self,
        records: Records,
        put: Callable[[bytes], None],
        *,
        window: float = WINDOW,
        peers: int = PEERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._put = put
        self._window = window
        self._peers = peers
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._others = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.total = 0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def close(self) -> None:
        """Ends the window now, so that its counts are not lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._ended()

    def first(self, peer: str) -> bool:
        """True if this refusal is to be recorded; otherwise it has been counted."""
        if ":" in peer:
            peer = network(peer)
        counts = self._counts
        count = counts.get(peer)
        if count is None:
            if self._timer is None and self._loop is not None:
                self._timer = self._loop.call_later(self._window, self._ended)
            if len(counts) < self._peers:
                counts[peer] = 0
                return True
            self._others += 1
        else:
            counts[peer] = count + 1
        self.total += 1
        return False

    def _ended(self) -> None:
        self._timer = None
        now = self._clock()
        for peer, count in self._counts.items():
            if count:
                self._put(self._summary(now, peer or None, count))
        if self._others:
            self._put(self._summary(now, "others", self._others))
        self._counts.clear()
        self._others = 0

    def _summary(self, now: float, peer: str | None, count: int) -> bytes:
        return self._records.system("suppressed", now, changes={"peer": peer, "count": count, "window_s": self._window})
