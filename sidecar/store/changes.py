"""What has been revoked, in memory, followed from the database: `ports.Revocations`.

Law: a revocation that has arrived is never forgotten before its token would have expired, whatever becomes of the
database; and a feed that has not heard from the database for `STALENESS` seconds says so, so that nobody is let in on
the strength of what may have been revoked meanwhile.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from sidecar.background import end
from sidecar.credentials import revocation_names
from sidecar.credentials.opaque import revocation_id
from sidecar.credentials.revocation_row import RevocationRow
from sidecar.errors import Unavailable
from sidecar.model import Principal
from sidecar.store.token_store import NEVER, PAGE, Change, TokenStore
from sidecar.store.watch import Sight
from sidecar.tokens import ChangeKind

INTERVAL = 0.1
"""Seconds between looks. A revocation counts after one interval and one read: half a second is promised."""
STALENESS = 30.0
LONGEST_MEMORY = 120.0
"""Seconds: more than any process remembers an identity without looking (`identity_cache.ttl`)."""

log = logging.getLogger(__name__)


class Watch(Protocol):
    async def look(self) -> Sight:
        """Raises `Unavailable`."""

    async def close(self) -> None: ...


def _ignore() -> None:
    return None


async def _nothing() -> None:
    return None


class _Issued(Struct, frozen=True):
    """What was issued to an identity in the second `before` or earlier is revoked; it has all expired when this `ends`."""

    before: int
    ends: int


class ChangeFeed:
    """`start` it before the first request and `stop` it after the last."""

    def __init__(
        self,
        store: TokenStore,
        watch: Watch,
        *,
        on_change: Callable[[], None] = _ignore,
        on_shortened: Callable[[], None] = _ignore,
        intact: Callable[[RevocationRow], bool] = lambda row: True,
        on_keys: Callable[[], Awaitable[None]] = _nothing,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_change` is called after each change of any kind has been taken in, `on_shortened` when a token will end sooner
        than whoever remembers it would notice; neither may wait. `intact`: whether a revocation is as it was written.
        `on_keys` reads the root keys anew, where one was made or retired; it raises `Unavailable` where it can't."""
        self._store = store
        self._watch = watch
        self._on_change = on_change
        self._on_shortened = on_shortened
        self._intact = intact
        self._on_keys = on_keys
        self._keys_moved = True
        self._interval = interval
        self._clock = clock
        self._revoked: dict[str, int] = {}
        """By name, when the last of what it is about would have expired anyway."""
        self._ends: list[tuple[int, str]] = []
        """A heap of the same, and of identities; a name that was revoked for longer stands in it once more."""
        self._identities: dict[str, _Issued] = {}
        """Whose tokens of some time and earlier are revoked. Nearly always empty, and then nobody looks into it."""
        self._epoch = 0
        self._seq = 0
        self.heard = 0.0
        """Unix seconds of the last look that succeeded; 0 if there was none."""
        self.errors = 0
        """Looks that failed."""
        self.noticed = 0
        """Looks that found that somebody had written."""
        self._behind = True
        self._replaced = False
        """Another file was seen, and the connections to the old one may still be open."""
        self._task: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def seq(self) -> int:
        """The newest change that has been taken in."""
        return self._seq

    def revoked(self, principal: Principal) -> bool:
        revoked = self._revoked
        for name in principal.revocation_ids:
            if name in revoked:
                return True
        return bool(self._identities) and self._issued_before(principal)

    def _issued_before(self, principal: Principal) -> bool:
        for issuer in (principal.issuer, revocation_names.ANY_ISSUER):
            found = self._identities.get(revocation_names.identity(issuer, principal.subject))
            if found is not None and (principal.issued_at is None or int(principal.issued_at) <= found.before):
                return True
        return False

    def state(self, now: float) -> tuple[int, float]:
        """The newest change that has been taken in, and how long ago it was seen to be the newest: seconds, in tenths."""
        return self._seq, int((now - self.heard) * 10) / 10

    def is_fresh(self, now: float) -> bool:
        return now - self.heard <= STALENESS

    async def start(self) -> None:
        """Takes in every revocation that still matters, then follows. Raises `Unavailable`."""
        await self.poll()
        self._task = asyncio.create_task(self._follow(), name="change-feed")

    async def stop(self) -> None:
        await end(self._task)
        await self._watch.close()

    async def poll(self) -> None:
        """One look, and a read if there is something to read. Raises `Unavailable`; the next one reads what this missed."""
        began = self._clock()
        sight = await self._watch.look()
        if sight is not Sight.STILL:
            self.noticed += 1
            self._behind = True
        if sight is Sight.REPLACED:
            self._replaced = True
            self._seq = 0
        if self._replaced:
            # Each sight is told once: until the old file is let go of, nothing that is read or not read is news.
            await self._store.reopen()
            self._replaced = False
        if self._behind:
            await self._catch_up(began)
            self._behind = False
        if self._keys_moved:
            await self._on_keys()
            self._keys_moved = False
        self.heard = began
        self._drop_expired(began)

    async def _follow(self) -> None:
        silent = False
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.poll()
            except Unavailable as error:
                self.errors += 1
                if not silent:
                    log.warning("revocations can't be followed: %s", error.detail)
                silent = True
            except Exception:
                # A feed that ended would be a silent outage until a restart; one that goes on is stale, and says so.
                self.errors += 1
                if not silent:
                    log.exception("revocations can't be followed")
                silent = True
            else:
                if silent:
                    log.warning("revocations are followed again")
                silent = False

    async def _catch_up(self, now: float) -> None:
        if self._seq == 0:
            # The number first: what is committed in between is then read twice, not missed.
            last = await self._store.last_change()
            self._keys_moved = True
            async for row in self._store.every_revocation():
                self._bar(row)
            async for change in self._store.revocations(now):
                await self._take(change)
            self._seq = last
            self._on_change()
        while page := await self._store.changes_after(self._seq):
            for change in page:
                await self._take(change)
            self._seq = page[-1].seq
            self._on_change()
            if len(page) < PAGE:
                break

    async def _take(self, change: Change) -> None:
        if change.kind == ChangeKind.REVOKED:
            if ":" not in change.token_id:  # no id of a token that is issued here holds one
                self._revoke(revocation_id(change.token_id), change.expires_at)
            elif (row := await self._store.revocation(change.token_id)) is not None:
                self._bar(row)
            else:  # somebody took the row away
                self._refuse(change.token_id, change.at, NEVER)
        elif change.kind == ChangeKind.ROTATED and change.expires_at < self._clock() + LONGEST_MEMORY:
            self._epoch += 1
            self._on_shortened()
        elif change.kind in (ChangeKind.KEY_CREATED, ChangeKind.KEY_RETIRED):
            self._keys_moved = True

    def _bar(self, row: RevocationRow) -> None:
        ends = row.expires_at
        if not self._intact(row):
            log.warning("the revocation of %r is not as it was written here; it counts, and doesn't end", row.name)
            ends = NEVER
        if ends > self._clock():
            self._refuse(str(row.name), row.before, ends)

    def _refuse(self, name: str, before: object, ends: int) -> None:
        if not revocation_names.is_identity(name):
            self._revoke(name, ends)
            return
        issued = _Issued(before if isinstance(before, int) else NEVER, ends)
        known = self._identities.get(name)
        if known is None or known.before < issued.before:
            self._identities[name] = issued
            heapq.heappush(self._ends, (ends, name))
            self._epoch += 1

    def _revoke(self, name: str, ends: int) -> None:
        known = self._revoked.get(name)
        if known is None or known < ends:
            self._revoked[name] = ends
            heapq.heappush(self._ends, (ends, name))
            self._epoch += known is None

    def _drop_expired(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            name = heapq.heappop(self._ends)[1]
            if name in self._revoked and self._revoked[name] <= now:
                del self._revoked[name]
            if name in self._identities and self._identities[name].ends <= now:
                del self._identities[name]
