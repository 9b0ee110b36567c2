"""Waiting for something to come to pass, within a time that is promised for a machine with nothing else to do.

A machine that is busy with others would break the promise by itself. So time is counted between two looks, and of each such gap
no more than a little: who was kept from looking, or was answered late, was so by what kept the other side from working.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LOOKS = 20
"""So many are taken at the least, however short the time is."""


class Stopwatch:
    def __init__(self, most: float) -> None:
        """`most`: seconds that a gap between two looks counts for. A promise of n times as many is given n looks at the least."""
        self._most = most
        self._last = time.monotonic()
        self.seconds = 0.0

    def look(self) -> float:
        now = time.monotonic()
        self.seconds += min(now - self._last, self._most)
        self._last = now
        return self.seconds


def until(condition: Callable[[], T], timeout: float = 30.0) -> T:
    """What `condition()` returns once it is true; fails after `timeout` seconds."""
    watch = Stopwatch(min(0.1, timeout / _LOOKS))
    while not (found := condition()):
        assert watch.look() < timeout, "it did not come to pass"
        time.sleep(0.01)
    return found


async def until_in_loop(condition: Callable[[], object], within: float = 20.0) -> float:
    """Seconds that it took to become true; fails after `within` of them."""
    watch = Stopwatch(0.02)
    while not condition():
        assert watch.look() < within, "it did not happen in time"
        await asyncio.sleep(0.005)
    return watch.look()
