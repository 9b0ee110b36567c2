"""Delivery of records (law 8). The law: `commit` returns only when a required sink has the record; nothing is lost unseen.

One thread writes; the loop hands over through a deque and one wake-up. While the thread waits for the disk, further
records gather, and the next write takes them all with one fdatasync (237 µs for one record, 275 µs for 64): a lone commit never
waits for company. Relaxed records don't wake the thread one by one, they wait up to 50 ms for company.
All methods belong to the event loop that called `open`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from sidecar.audit.record import Records
from sidecar.audit.sinks import Sink
from sidecar.audit.suppression import Suppression
from sidecar.errors import Unavailable
from sidecar.reasons import Reason

CAPACITY = 8192
"""Records that may wait."""
CAPACITY_BYTES = 16 * 1024 * 1024
COMMIT_TIMEOUT = 1.0
LINGER = 0.05
RETRY = 1.0
"""How often a failed sink is tried while nothing happens, so that readiness comes back by itself."""
CLOSE_TIMEOUT = 5.0
_WAKE_AT = 256
_BATCH_BYTES = 256 * 1024

_log = logging.getLogger(__name__)

_Entry = tuple[bytes, "asyncio.Future[None] | None"]


class Observer(Protocol):
    def audit_written(self, sink: str, result: str, count: int, seconds: float) -> None:
        """`result`: `ok`, `error` (the sink refused), `dropped` (the queue was full). Called from the writer's thread,
        except for `dropped`."""


class _Delivery:
    """One sink and what it has missed."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.lost = 0
        self.lost_since = 0.0
        self.error: Exception | None = None
        self.last_success = 0.0


class AuditLog:
    def __init__(
        self,
        sinks: Sequence[Sink],
        records: Records,
        *,
        observer: Observer | None = None,
        capacity: int = CAPACITY,
        commit_timeout: float = COMMIT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Required sinks come first: whoever waits is released before an optional sink costs time.
        self._deliveries = [_Delivery(sink) for sink in sorted(sinks, key=lambda sink: not sink.required)]
        self._any_required = any(sink.required for sink in sinks)
        self._records = records
        self._observer = observer
        self.capacity = capacity
        self._commit_timeout = commit_timeout
        self._clock = clock
        self._queue: deque[_Entry] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._woken = False
        self._lingering: asyncio.TimerHandle | None = None
        # The loop alone writes the first of each pair and the thread alone the second: so none needs a lock.
        self._dropped, self._reported = 0, 0
        self._bytes_queued, self._bytes_taken = 0, 0
        self._dropped_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._suppression = Suppression(records, self.put)

    async def open(self) -> None:
        """Starts the writer; the first record is `system/start`. Raises `Unavailable` if no required sink takes it."""
        self._loop = asyncio.get_running_loop()
        self._suppression.open(self._loop)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        await self.commit(self._records.system("start", self._clock()))

    async def close(self) -> None:
        """Writes what waits, and `system/stop`. A sink that hangs is given up after 5 s."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._suppression.close()
        self._enqueue(self._records.system("stop", self._clock()), None)
        self._thread = None
        self._wake.put(False)
        await loop.run_in_executor(None, thread.join, CLOSE_TIMEOUT)
        if not thread.is_alive():
            for delivery in self._deliveries:
                delivery.sink.close()

    def put(self, record: bytes) -> None:
        """Relaxed: returns at once. Where the queue is full the record is dropped, counted, and the gap recorded later."""
        if self._thread is None or self._full():
            self._drop()
            return
        self._enqueue(record, None)
        if len(self._queue) >= _WAKE_AT:
            self._wake_up()
        elif self._lingering is None and self._loop is not None:
            self._lingering = self._loop.call_later(LINGER, self._lingered)

    async def commit(self, *records: bytes) -> None:
        """Strict: returns when at least one required sink has taken each record. Where none is required, it is `put`.

        Raises `Unavailable(AUDIT_UNAVAILABLE)` when each required sink refused, the queue is full, or after 1 s. The record may
        be written nevertheless: an intent without a completion says that the request did not take place.
        """
        if not self._any_required:
            for record in records:
                self.put(record)
            return
        loop = self._loop
        if loop is None or self._thread is None:
            raise Unavailable(Reason.AUDIT_UNAVAILABLE, "the audit log is closed")
        if self._full():
            self._drop()
            raise Unavailable(Reason.AUDIT_UNAVAILABLE, "the audit queue is full")
        waiting: list[asyncio.Future[None]] = []
        for record in records:
            taken = loop.create_future()
            self._enqueue(record, taken)
            waiting.append(taken)
        self._wake_up()
        timer = loop.call_later(self._commit_timeout, _give_up, waiting)
        try:
            await (waiting[0] if len(waiting) == 1 else asyncio.gather(*waiting))
        finally:
            timer.cancel()

    def refused_unknown(self, record: Callable[[], bytes], peer: str) -> None:
        """A refusal of an unknown caller: the first of each peer in 10 s is recorded, the others are counted.

        `record` makes the record and is called only if it is wanted. `peer` is the TCP peer's address.
        """
        if self._suppression.first(peer):
            self.put(record())

    @property
    def depth(self) -> int:
        """Records that wait."""
        return len(self._queue)

    @property
    def suppressed(self) -> int:
        """Refusals of unknown callers that were counted instead of recorded, since the start."""
        return self._suppression.total

    def last_success(self) -> dict[tuple[str, ...], float]:
        """Sink -> Unix seconds of the last write that it took; 0 if there was none."""
        return {(delivery.sink.name,): delivery.last_success for delivery in self._deliveries}

    def problem(self) -> str | None:
        """For readiness: why strict events fail at present; `None` where they don't."""
        required = [delivery for delivery in self._deliveries if delivery.sink.required]
        errors = [delivery.error for delivery in required]
        if required and all(errors):
            return "; ".join(f"{delivery.sink.name}: {delivery.error}" for delivery in required)
        return "the queue is full" if self._full() else None

    def _full(self) -> bool:
        return len(self._queue) >= self.capacity or self._bytes_queued - self._bytes_taken >= CAPACITY_BYTES

    def _enqueue(self, record: bytes, taken: "asyncio.Future[None] | None") -> None:
        self._bytes_queued += len(record)
        self._queue.append((record, taken))

    def _drop(self) -> None:
        if self._dropped == self._reported:
            self._dropped_since = self._clock()
        self._dropped += 1
        if self._observer is not None:
            for delivery in self._deliveries:
                self._observer.audit_written(delivery.sink.name, "dropped", 1, 0.0)

    def _lingered(self) -> None:
        self._lingering = None
        self._wake_up()

    def _wake_up(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake.put(True)

    # What follows runs in the writer's thread.

    def _run(self) -> None:
        running = True
        while running:
            failed = any(delivery.error for delivery in self._deliveries)
            idle = False
            try:
                running = self._wake.get(timeout=RETRY if failed else None)
            except Empty:
                idle = True
            self._woken = False  # before the queue is read: what arrives from now on wakes us again
            while self._queue:
                self._deliver(self._take())
            self._mind_the_gaps(idle)

    def _take(self) -> list[_Entry]:
        queue, batch, size = self._queue, [], 0
        while queue and size < _BATCH_BYTES:
            entry = queue.popleft()
            size += len(entry[0])
            batch.append(entry)
        self._bytes_taken += size
        return batch

    def _deliver(self, batch: list[_Entry]) -> None:
        lines = [line for line, _ in batch]
        waiting = [taken for _, taken in batch if taken is not None]
        for delivery in self._deliveries:
            accepted = self._write(delivery, lines, bool(waiting))
            if accepted and delivery.sink.required:
                self._settle(waiting, None)
                waiting = []
        self._settle(waiting, "no required sink took the record")

    def _write(self, delivery: _Delivery, lines: list[bytes], durable: bool) -> bool:
        """To one sink, after the record of what it has missed."""
        whole = lines
        if delivery.lost:
            gap = {"count": delivery.lost, "since": delivery.lost_since, "sink": delivery.sink.name}
            whole = [self._records.system("gap", self._clock(), severity="error", changes=gap), *lines]
        began = time.perf_counter()
        try:
            delivery.sink.write(whole, durable)
        except Exception as error:  # whatever it is, the thread that all evidence goes through has to live
            if delivery.error is None:
                _log.error("the audit sink %s fails: %s", delivery.sink.name, error)
            delivery.error = error
            self._missed(delivery, len(lines), self._clock())
            result = "error"
        else:
            if delivery.error is not None:
                _log.warning("the audit sink %s takes records again; %d are missing", delivery.sink.name, delivery.lost)
            delivery.error, delivery.lost = None, 0
            delivery.last_success = self._clock()
            result = "ok"
        if self._observer is not None:
            self._observer.audit_written(delivery.sink.name, result, len(lines), time.perf_counter() - began)
        return result == "ok"

    def _mind_the_gaps(self, idle: bool) -> None:
        """Overflows are recorded without waiting for the next record; a sink that failed is tried again where nothing else tries it."""
        dropped = self._dropped - self._reported
        self._reported += dropped
        for delivery in self._deliveries:
            if dropped:
                self._missed(delivery, dropped, self._dropped_since)
            if delivery.lost and (idle or delivery.error is None):
                self._write(delivery, [], False)

    @staticmethod
    def _missed(delivery: _Delivery, count: int, since: float) -> None:
        if not delivery.lost:
            delivery.lost_since = since
        delivery.lost += count

    def _settle(self, waiting: Sequence["asyncio.Future[None]"], detail: str | None) -> None:
        if waiting and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(_settle, waiting, detail)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _settle(waiting: Sequence["asyncio.Future[None]"], detail: str | None) -> None:
    for taken in waiting:
        if taken.done():
            continue
        if detail is None:
            taken.set_result(None)
        else:
            taken.set_exception(Unavailable(Reason.AUDIT_UNAVAILABLE, detail))


def _give_up(waiting: Sequence["asyncio.Future[None]"]) -> None:
    _settle(waiting, "the audit sinks did not answer in time")
