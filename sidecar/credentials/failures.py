"""Failed credentials are throttled by network, and no good token ever is. The law: who sent a credential that may be good is told
429 only after it was found bad; a verdict is never withheld because of what others in the same network sent.

So the throttle spares nobody's verdict, but takes the profit from guessing and the harm from a flood:
- Each network may fail so often at once, and so often a minute. Beyond that a bad credential is a 429 instead of a 401. Its
  connection is kept: to take a new one would cost us more than to refuse again.
- What was good before, and what has no token's shape or a wrong checksum, costs no look at the token store: see `identities.py`
  and `opaque.py`. All other credentials of a network that is over its measure are verified few at a time, first come, first
  served. A flood can't take more of the token store than that, nobody else waits behind it, and a good token that is caught in it
  waits for the lookups of as many connections as are open there, which is a moment.

An outage is no failure, and whoever proves to hold a token that has expired or was revoked is told so: that is no guess.
"""

import asyncio
import math

from sidecar.bucket import Bucket, Buckets
from sidecar.model import Rate
from sidecar.networks import network

NETWORKS = 16_384
"""Networks that are told apart; a bucket takes about 200 bytes."""
LANE = 4
"""Verifications at once for all networks that are over their measure."""


class Failures:
    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets = Buckets(NETWORKS)
        self._lane = asyncio.Semaphore(LANE)

    def __len__(self) -> int:
        return len(self._buckets)

    def lane(self, peer: str, now: float) -> asyncio.Semaphore | None:
        """Where a credential of this peer that isn't known waits to be verified; `None`: nowhere."""
        bucket = self._buckets.find(network(peer))
        return None if bucket is None or bucket.level(now) >= 1 else self._lane

    def failed(self, peer: str, now: float) -> int:
        """A credential of this peer was bad. 0, or for how many seconds its network had better send no other."""
        rate = self._rate
        bucket = self._buckets.get(network(peer), lambda: Bucket(rate, now))
        return math.ceil(bucket.take(1, now))
