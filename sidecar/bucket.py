"""Token buckets: how much of something is had by whom, now. Pure: `now` is an argument, in seconds of any one clock.

The law: within any span of time no more is taken than the bucket holds and what flows in meanwhile, but for one overdraft: who may
take at all may take more than there is, and whoever comes next waits until it is paid back.
"""

from collections import OrderedDict
from collections.abc import Callable

from sidecar.model import Rate


class Bucket:
    """Full at first."""

    __slots__ = ("_at", "_level", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._level = rate.burst
        self._at = now

    def level(self, now: float) -> float:
        """What is there; below 0 after an overdraft. A clock that was set back lets nothing flow in, and stops nothing."""
        passed = now - self._at
        self._at = now
        if passed > 0:
            self._level = min(self.rate.burst, self._level + passed * self.rate.per_second)
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount`, or a full bucket if it holds less, will be there; 0 where it is."""
        missing = min(amount, self.rate.burst) - self.level(now)
        return missing / self.rate.per_second if missing > 0 else 0.0

    def take(self, amount: float, now: float) -> float:
        """Takes `amount` if it is there and returns 0; takes nothing and returns `wait` otherwise."""
        missing = self.wait(amount, now)
        if missing == 0:
            self._level -= amount
        return missing

    def charge(self, amount: float, now: float) -> None:
        """Takes `amount` whether it is there or not."""
        self._level = self.level(now) - amount

    def resize(self, rate: Rate) -> None:
        """Another rate from now on; what was there stays, as far as it fits."""
        self.rate = rate
        self._level = min(self._level, rate.burst)


class Buckets:
    """One for each key, of at most `most`: whoever was longest away is forgotten first, and is as good as new."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def find(self, key: str) -> Bucket | None:
        return self._buckets.get(key)

    def get(self, key: str, make: Callable[[], Bucket]) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = make()
        else:
            self._buckets.move_to_end(key)
        return bucket
