"""From a token's text to who it is, through the identity cache (law 3).

The cache holds identity, never a permission. A hit is as good as a verification because everything that the answer
depends on is looked at again: the verifier's generation is part of the entry, the revoked set is asked at every request,
and an entry goes in only if no revocation arrived since its verification began. An outage is never an entry.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from cachetools import LRUCache
from msgspec import Struct

from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Principal, Secret
from sidecar.ports import Revocations, Verifier
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings

CacheResult = Literal["hit", "negative", "miss"]

_BYTES_PER_ENTRY = 4096
"""What the cache may hold on average: `size` entries of this weight. Claims take about four times their JSON text."""
_FIXED_WEIGHT = 512


class NothingRevoked:
    """`ports.Revocations` where no tokens are issued here, or nothing is in force: it stands for the change feed."""

    epoch = 0

    def revoked(self, principal: Principal) -> bool:
        return False

    def is_fresh(self, now: float) -> bool:
        return True

    def state(self, now: float) -> tuple[None, None]:
        return None, None


HELD = 0.1
"""Seconds that a verification keeps its place in a lane: longer than a look at the token store takes. What takes longer waits for
an issuer that doesn't answer, and others must not wait behind that."""


class KnownBad(CredentialRefused):
    """A verdict that the cache remembers."""


class Known(Struct, frozen=True):
    """A verified identity, and what it depends on."""

    principal: Principal
    verifier: Verifier
    generation: str
    until: float
    weight: int


class _Bad(Struct, frozen=True):
    reason: Reason
    detail: str
    principal: Principal | None
    generations: tuple[str, ...]
    until: float


class _Running(Struct, frozen=True, eq=False):
    task: asyncio.Task[Principal]
    generations: tuple[str, ...]
    began: float


class Identities:
    """All credential kinds behind one question. `used` hears of each successful identification (for `last_used`)."""

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        revocations: Revocations,
        settings: IdentityCacheSettings,
        *,
        used: Callable[[Principal, float], None] = lambda principal, now: None,
        verified: Callable[[str, float], None] = lambda kind, seconds: None,
    ) -> None:
        """`verified` hears of each verification that took place: the principal's kind or `refused`, and seconds."""
        self._verifiers = tuple(verifiers)
        self._revocations = revocations
        self._settings = settings
        self._used = used
        self._verified = verified
        self._known: LRUCache[bytes, Known] = LRUCache(
            max(1, settings.size) * _BYTES_PER_ENTRY, getsizeof=lambda entry: entry.weight
        )
        self._bad: LRUCache[bytes, _Bad] = LRUCache(max(1, settings.size // 10))
        self._running: dict[bytes, _Running] = {}
        self.hits = self.negative_hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, token: Secret) -> Known | None:
        """What the cache holds of a token. A connection may keep it and ask `still` at each of its requests."""
        return self._known.get(token.digest)

    def still(self, known: Known, now: float) -> Principal | None:
        """Who it is, without waiting; `None` where it has to be verified anew. Raises as `identify` does."""
        if now >= known.until or known.verifier.generation != known.generation:
            return None
        self.hits += 1
        return self._standing(known.principal, now)

    async def identify(
        self, token: Secret, now: float, lane: asyncio.Semaphore | None = None
    ) -> tuple[Principal, CacheResult]:
        """Raises `CredentialRefused` for a verdict on the token and `Unavailable` where none could be reached.

        `lane`: verifying it waits for a place there. What is known already, or was good before, waits for nothing.
        """
        known = self.recall(token)
        principal = self.still(known, now) if known is not None else None
        if principal is not None:
            return principal, "hit"
        digest = token.digest
        bad = self._known_bad(digest, now)
        if bad is not None:
            self.negative_hits += 1
            raise KnownBad(bad.reason, bad.detail, bad.principal)
        running = self._joinable(digest)
        if running is None and lane is not None and known is None:
            await lane.acquire()
            if self._joinable(digest) or digest in self._known or self._known_bad(digest, now):
                lane.release()  # somebody else brought the same token meanwhile
                return await self.identify(token, now)
            running = self._start(digest, token, now)
            _leave_in_time(running.task, lane)
        self.misses += 1
        if running is None:
            running = self._start(digest, token, now)
        # Whoever waits may leave; the verification goes on for the others.
        principal = await asyncio.shield(running.task)
        if principal.expires_at is not None and running.began < principal.expires_at <= now:
            return await self.identify(token, now)  # it was valid when the one we joined began
        return self._standing(principal, now), "miss"

    def _known_bad(self, digest: bytes, now: float) -> _Bad | None:
        bad = self._bad.get(digest)
        return bad if bad is not None and now < bad.until and bad.generations == self._generations() else None

    def _joinable(self, digest: bytes) -> _Running | None:
        running = self._running.get(digest)
        if running is None or running.task.done() or running.generations != self._generations():
            return None
        return running

    def _start(self, digest: bytes, token: Secret, now: float) -> _Running:
        task = asyncio.get_running_loop().create_task(self._verify(digest, token, now))
        running = self._running[digest] = _Running(task, self._generations(), now)
        task.add_done_callback(lambda done: self._finished(digest, running))
        return running

    def _finished(self, digest: bytes, running: _Running) -> None:
        if self._running.get(digest) is running:
            del self._running[digest]
        if not running.task.cancelled():
            running.task.exception()  # retrieved: everybody who waited may have left

    def _standing(self, principal: Principal, now: float) -> Principal:
        if not self._revocations.is_fresh(now):
            raise Unavailable(Reason.STALE_STATE)
        if self._revocations.revoked(principal):
            raise CredentialRefused(Reason.REVOKED, principal=principal)
        self._used(principal, now)
        return principal

    def _generations(self) -> tuple[str, ...]:
        return tuple(verifier.generation for verifier in self._verifiers)

    async def _verify(self, digest: bytes, token: Secret, now: float) -> Principal:
        epoch, generations, began = self._revocations.epoch, self._generations(), time.perf_counter()
        kind = "refused"
        try:
            for verifier, generation in zip(self._verifiers, generations, strict=True):
                principal = await verifier.verify(token, now)
                if principal is not None:
                    kind = principal.kind.value
                    self._remember(digest, token, principal, verifier, generation, epoch, now)
                    return principal
            raise CredentialRefused(Reason.BAD_TOKEN, "of no kind that is configured")
        except CredentialRefused as refusal:
            # A generation that moved meanwhile may have turned the verdict.
            if generations == self._generations():
                until = now + self._settings.negative_ttl
                self._bad[digest] = _Bad(refusal.reason, refusal.detail, refusal.principal, generations, until)
            raise
        finally:
            self._verified(kind, time.perf_counter() - began)

    def _remember(
        self,
        digest: bytes,
        token: Secret,
        principal: Principal,
        verifier: Verifier,
        generation: str,
        epoch: int,
        now: float,
    ) -> None:
        until = now + self._settings.ttl
        if principal.expires_at is not None:
            until = min(until, principal.expires_at)
        if until <= now or epoch != self._revocations.epoch:
            return
        weight = 4 * len(token.reveal()) + _FIXED_WEIGHT
        if weight > self._known.maxsize:
            return
        self._known.pop(digest, None)
        before = len(self._known)
        self._known[digest] = Known(principal, verifier, generation, until, weight)
        while len(self._known) > self._settings.size:
            self._known.popitem()
        self.evictions += before + 1 - len(self._known)


def _leave_in_time(task: "asyncio.Task[Principal]", lane: asyncio.Semaphore) -> None:
    """When it has ended, also where the client leaves before; after `HELD` seconds in any case."""

    held = True

    def leave(*_: object) -> None:
        nonlocal held
        if held:
            held = False
            timer.cancel()
            lane.release()

    task.add_done_callback(leave)
    timer = asyncio.get_running_loop().call_later(HELD, leave)
