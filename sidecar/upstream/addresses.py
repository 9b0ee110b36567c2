"""Which of a store's addresses are used: all that are well; if none is, those that fail but answer; if none answers, none.

The last of these is an open circuit: requests are refused at once instead of waiting for a timeout each. Whoever answers is never
left out altogether (an answer that speaks of a failure is passed on, and says more than ours could).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from sidecar.background import end
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.upstream.address import MOST, Address, Lookup, Site, look_up, sites
from sidecar.upstream.health import FAILING, Health, Standing

RESOLVE_EVERY = 10.0
"""Seconds. The system's resolver doesn't tell how long an answer holds; a headless Service's hold for 5 to 30."""
RESOLVE_AGAIN = 1.0
"""Seconds after which a name that could not be resolved is tried again."""

log = logging.getLogger(__name__)

Ask = Callable[[Address], Awaitable[tuple[Standing, str]]]
"""Our own question: how the address stands, and why not well."""


class Addresses:
    """`eligible` are those to use, and `only` is the one, if it is one: what the way of a request looks at."""

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        preamble: Callable[[Site], bytes],
        ask: Ask,
        gone: Callable[[Address], None],
        silent: Callable[[Unavailable], None],
        lookup: Lookup = look_up,
    ) -> None:
        """`gone` is called for an address that the store no longer has, `silent` when the circuit opens."""
        self._name = settings.name
        self._settings = settings
        self._preamble = preamble
        self._ask = ask
        self._gone = gone
        self._silent = silent
        self._lookup = lookup
        self._loop = asyncio.get_running_loop()
        self._sites = sites(settings)
        self._found: dict[Site, tuple[str, ...]] = {
            site: () if site.is_name else (site.unix or site.host,) for site in self._sites
        }
        self._names = [site for site in self._sites if site.is_name]
        self._resolving: asyncio.Task[None] | None = None
        self._resolve_at = 0.0
        self._unresolved = ""
        self._asking: dict[Address, asyncio.Task[None]] = {}
        self._turn = 0
        self.all: list[Address] = []
        self.eligible: list[Address] = []
        self.only: Address | None = None
        self.circuit_open = False
        self.ejections = self.circuit_openings = 0
        self._take_in()

    # --- choosing ---------------------------------------------------------------------------------------------------------

    def least(self) -> Address | None:
        """The eligible one with the fewest requests under way; of equals, each in turn."""
        eligible = self.eligible
        if not eligible:
            return None
        self._turn = (self._turn + 1) % len(eligible)
        return min(eligible[self._turn :] + eligible[: self._turn], key=_load)

    def by_load(self) -> list[Address]:
        """All that may be tried for a new connection, the best first: `least()`'s last choice, if nothing has changed."""
        return sorted(self.eligible[self._turn :] + self.eligible[: self._turn], key=_load)

    async def ready(self) -> None:
        """Waits until names are looked up for the first time."""
        looking = self._resolving is not None and not self._resolving.done()
        if not self.all and (looking or self._loop.time() >= self._resolve_at):
            await asyncio.shield(self._resolve())

    def refusal(self) -> Unavailable:
        """Why there is none to be tried."""
        if self.circuit_open:
            why = next((address.health.why for address in self.all), "")
            return Unavailable(Reason.UPSTREAM_CIRCUIT_OPEN, f"no address of {self._name} answers: {why}")
        return Unavailable(Reason.UPSTREAM_UNREACHABLE, self._unresolved or "its name has no address")

    def problem(self) -> str | None:
        """For the operator: which addresses are not used, and why."""
        if not self.all:
            return self._unresolved or None
        out = [address for address in self.all if address not in self.eligible]
        if not out:
            return None
        said = ", ".join(f"{address} ({address.health.why})" for address in out[:10])
        return f"circuit open, none of them answers: {said}" if self.circuit_open else f"left out: {said}"

    # --- what became of requests ------------------------------------------------------------------------------------------

    def answered(self, address: Address, status: int) -> None:
        # With one address it is passed on in any case.
        if status in FAILING and len(self.all) > 1:
            address.health.doubted(f"it answers {status}", self._loop.time())
        else:
            address.health.answered()

    def doubted(self, address: Address, why: str) -> None:
        address.health.doubted(why, self._loop.time())

    def unreachable(self, address: Address, why: str) -> None:
        if address.health.unreachable(why, self._loop.time()):
            self._left_out(address)

    def hurry(self) -> None:
        """What is left out may be needed, or may be well under new certificates: it is asked now."""
        now = self._loop.time()
        for address in self.all:
            if address not in self.eligible:
                address.health.hurry(now)

    # --- in the background ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Begins what is due. Called again and again."""
        if self._names and now >= self._resolve_at:
            self._resolve()
        for address in self.all:
            due = address.health.due
            if due is not None and now >= due and address not in self._asking:
                self._asking[address] = self._loop.create_task(self._settle(address), name=f"ask {self._name}")

    async def close(self) -> None:
        await end(self._resolving, *self._asking.values())

    async def _settle(self, address: Address) -> None:
        try:
            standing, why = await self._ask(address)
        finally:
            del self._asking[address]
        if standing is Standing.FAILING and len(self.all) == 1:
            standing = Standing.WELL  # it answers, and there is no other
        if address in self.all and address.health.asked(standing, why, self._loop.time()):
            if standing is Standing.WELL:
                self._came_back(address)
            else:
                self._left_out(address)

    def _left_out(self, address: Address) -> None:
        self.ejections += 1
        if len(self.all) > 1:
            log.warning("the upstream %s: %s is left out: %s", self._name, address, address.health.why)
        self._sort()

    def _came_back(self, address: Address) -> None:
        if len(self.all) > 1:
            log.warning("the upstream %s: %s is back", self._name, address)
        self._sort()

    def _sort(self) -> None:
        by = {
            standing: [address for address in self.all if address.health.standing is standing] for standing in Standing
        }
        self.eligible = by[Standing.WELL] or by[Standing.FAILING]
        self.only = self.eligible[0] if len(self.eligible) == 1 else None
        was_open, self.circuit_open = self.circuit_open, bool(self.all) and not self.eligible
        if self.circuit_open and not was_open:
            self.circuit_openings += 1
            refusal = self.refusal()
            log.warning("the upstream %s: circuit open, requests are refused: %s", self._name, refusal.detail)
            self._silent(refusal)
        elif was_open and not self.circuit_open:
            log.warning("the upstream %s: circuit closed, it answers again", self._name)

    # --- names ------------------------------------------------------------------------------------------------------------

    def _resolve(self) -> asyncio.Task[None]:
        """One at a time: a resolver that hangs is not asked again."""
        if self._resolving is None or self._resolving.done():
            self._resolving = self._loop.create_task(self._look_up_all(), name=f"look up {self._name}")
        return self._resolving

    async def _look_up_all(self) -> None:
        self._resolve_at = float("inf")
        results = await asyncio.gather(*(self._look_up_one(site) for site in self._names))
        self._resolve_at = self._loop.time() + (RESOLVE_EVERY if all(results) else RESOLVE_AGAIN)
        self._take_in()

    async def _look_up_one(self, site: Site) -> bool:
        try:
            async with asyncio.timeout(self._settings.timeouts.connect):
                found: Sequence[str] = await self._lookup(site.host, site.port)
        except (OSError, TimeoutError, UnicodeError) as error:
            # What it was last found to be still holds: a resolver that is away takes no store away.
            self._unresolved = (
                f"{site.host} can't be resolved: {getattr(error, 'strerror', None) or 'no answer in time'}"
            )
            return False
        if found:
            self._found[site] = tuple(sorted(found)[:MOST])
        return bool(found)

    def _take_in(self) -> None:
        known = {(address.site, address.host): address for address in self.all}
        wanted = [(site, host) for site in self._sites for host in self._found[site]]
        self.all = [
            known.get(place) or Address(*place, Health(self._settings.health), self._preamble(place[0]))
            for place in dict.fromkeys(wanted)
        ]
        for place, address in known.items():
            if place not in wanted:
                log.info("the upstream %s: %s is gone", self._name, address)
                self._gone(address)
        self._sort()


def _load(address: Address) -> int:
    return address.load
