"""Connections to one store: kept alive, bounded, swept; and the queue of those who wait for one.

Handed out last-in first-out, so that a quiet period lets most of them go; to those who wait in the order of their coming, each
directly, so that no newcomer overtakes them. `sweep` runs twice a second: it ends exchanges whose deadline has passed and
connections that have idled for too long, which keeps every timer off the request's way.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Iterator

from sidecar.background import end
from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.upstream.address import Address, Lookup, Pooled, look_up
from sidecar.upstream.addresses import Addresses
from sidecar.upstream.connection import DeadConnection
from sidecar.upstream.health import FAILING, Standing
from sidecar.upstream.own_files import NOTHING, Material
from sidecar.upstream.request import Question, head, preamble

_SWEEP = 0.5
_PATIENCE = 5.0
"""Seconds for our own question to an address, at most."""
_IMPATIENT = 1.0
"""A client that waited for longer than this and left without an answer is a doubt, too: not everybody waits for our timeout."""


class Pool:
    def __init__(self, settings: UpstreamSettings, material: Material = NOTHING, lookup: Lookup = look_up) -> None:
        self._settings = settings
        self._material = material
        self._all: set[Pooled] = set()
        self._waiting: deque[asyncio.Future[Pooled | None]] = deque()
        self._opening = 0
        self._promised = 0
        """Places that were given to somebody who waited and has not taken it yet."""
        self._sweeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.addresses = Addresses(
            settings,
            preamble=lambda site: preamble(site.authority, self._material.credential),
            ask=self._ask,
            gone=self._retire,
            silent=self._refuse_all,
            lookup=lookup,
        )
        self.refused_full = self.refused_late = 0
        """Requests that found the queue full, and that waited in vain."""

    @property
    def busy(self) -> int:
        return len(self._all) - self.idling

    @property
    def idling(self) -> int:
        return sum(len(address.idle) for address in self.addresses.all)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def idle(self) -> Pooled | None:
        """One that waits for work where the next request should go, if there is one."""
        addresses = self.addresses
        address = addresses.only or addresses.least()
        if address is None:
            return None
        idle = address.idle
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
        return None

    async def open(self, *, fresh: bool = False) -> Pooled:
        """A new connection, or, where there are as many as may be and unless it has to be `fresh`, one that becomes idle.

        Raises `Unavailable`: unreachable, not to be trusted, an open circuit, or too many at once for too long.
        """
        while not self._has_place() and not self._drop_an_idle():
            if self.addresses.circuit_open:
                break
            connection = await self._turn()
            if connection is None:
                break
            if not fresh and connection.reusable:
                return connection
            connection.abort()
            if fresh:
                break
        return await self._connect()

    def release(self, connection: Pooled) -> None:
        """After its exchange: kept if another may follow, otherwise ended."""
        if not connection.reusable:
            connection.abort()
        elif not self._waiting or not self._hand_over(connection):
            connection.idle_since = self._loop.time()
            connection.address.idle.append(connection)

    def blame(self, connection: Pooled, error: BaseException) -> None:
        """An exchange ended in `error`: what does that say of the address?"""
        if connection.status:
            self.addresses.answered(connection.address, connection.status)
        elif isinstance(error, Unavailable):
            self.addresses.doubted(connection.address, error.detail)
        elif isinstance(error, ClientGone | asyncio.CancelledError) and connection.asked_at:
            waited = self._loop.time() - connection.asked_at
            if waited >= _IMPATIENT:
                self.addresses.doubted(connection.address, f"a client left after {waited:.1f} s without an answer")

    def renew(self, material: Material) -> None:
        """New credentials count from the next request on, new certificates from the next connection on: those that were made
        under the old ones are used for no further request."""
        old, self._material = self._material, material
        for address in self.addresses.all:
            address.preamble = preamble(address.site.authority, material.credential)
            if material.tls is not old.tls:
                self._retire(address)
        self.addresses.hurry()

    async def close(self) -> None:
        await end(self._sweeper)
        await self.addresses.close()
        for connection in list(self._all):
            connection.abort()

    # --- places and turns -------------------------------------------------------------------------------------------------

    def _has_place(self) -> bool:
        return len(self._all) + self._opening + self._promised < self._settings.connections

    def _drop_an_idle(self) -> bool:
        """Makes room for a new connection by one that idles elsewhere, the one that has for longest."""
        idle = [address.idle for address in self.addresses.all if address.idle]
        if not idle:
            return False
        min(idle, key=lambda each: each[0].idle_since).pop(0).abort()
        return True

    async def _turn(self) -> Pooled | None:
        """Waits for a connection that another has done with, or for the place of one that ended (`None`)."""
        if len(self._waiting) >= self._settings.queue:
            self.refused_full += 1
            raise Unavailable(
                Reason.OVERLOADED, f"all connections to {self._settings.name} are in use, the queue is full"
            )
        waiter: asyncio.Future[Pooled | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._settings.queue_timeout):
                connection = await waiter
        except BaseException as error:
            self._give_back(waiter)
            if isinstance(error, TimeoutError):
                self.refused_late += 1
                raise Unavailable(Reason.OVERLOADED, f"all connections to {self._settings.name} are in use") from None
            raise
        if connection is None:
            self._promised -= 1
        return connection

    def _give_back(self, waiter: "asyncio.Future[Pooled | None]") -> None:
        """Whoever waited leaves; if its turn had come in that moment, it is the next one's."""
        if not waiter.done() or waiter.cancelled():
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
        elif waiter.exception() is None:
            connection = waiter.result()
            if connection is not None:
                self.release(connection)
            else:
                self._promised -= 1
                self._give_a_place()

    def _hand_over(self, connection: Pooled) -> bool:
        for waiter in self._next_ones():
            waiter.set_result(connection)
            return True
        return False

    def _give_a_place(self) -> None:
        if self._waiting and self._has_place():
            for waiter in self._next_ones():
                self._promised += 1
                waiter.set_result(None)
                return

    def _refuse_all(self, refusal: Unavailable) -> None:
        """The circuit is open: nobody has anything to wait for."""
        for waiter in self._next_ones():
            waiter.set_exception(Unavailable(refusal.reason, refusal.detail))

    def _next_ones(self) -> "Iterator[asyncio.Future[Pooled | None]]":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                yield waiter

    # --- connections ------------------------------------------------------------------------------------------------------

    def _lost(self, connection: Pooled) -> None:
        self._all.discard(connection)
        connection.address.connections.discard(connection)
        with contextlib.suppress(ValueError):
            connection.address.idle.remove(connection)
        self._give_a_place()

    def _retire(self, address: Address) -> None:
        """What idles there is ended, what is under way is not used again."""
        for connection in list(address.connections):
            connection.reusable = False
        while address.idle:
            address.idle.pop().abort()

    async def _connect(self) -> Pooled:
        if self._sweeper is None:
            self._sweeper = self._loop.create_task(self._sweep())
        self._opening += 1
        try:
            connection = await self._reach_any()
        except BaseException:
            self._opening -= 1
            self._give_a_place()
            raise
        self._opening -= 1
        if connection.reusable:  # else it was lost before we heard that it was made
            self._all.add(connection)
            connection.address.connections.add(connection)
        else:
            self._give_a_place()
        return connection

    async def _reach_any(self) -> Pooled:
        """Whatever the request is, nothing of it was sent yet: one address that can't be reached leaves the others to try."""
        await self.addresses.ready()
        give_up, refusal = self._loop.time() + 2 * self._settings.timeouts.connect, None
        for address in self.addresses.by_load():
            if refusal is not None and self._loop.time() > give_up:
                break
            address.opening += 1
            try:
                return await self._reach(address)
            except Unavailable as error:
                refusal = error
                self.addresses.unreachable(address, str(error))
            finally:
                address.opening -= 1
        if refusal is None:
            raise self.addresses.refusal()
        self.addresses.hurry()
        raise refusal

    async def _reach(self, address: Address) -> Pooled:
        tls = self._material.tls
        try:
            async with asyncio.timeout(self._settings.timeouts.connect):
                connection = await self._dial(address, tls)
        except TimeoutError:
            raise Unavailable(Reason.UPSTREAM_UNREACHABLE, "no connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(Reason.UPSTREAM_UNTRUSTED, error.verify_message) from None
        except OSError as error:
            said = getattr(error, "reason", None) or error.strerror or error
            raise Unavailable(Reason.UPSTREAM_UNREACHABLE, f"{type(error).__name__}: {said}") from None
        if tls is not self._material.tls:  # replaced meanwhile
            connection.abort()
            return await self._reach(address)
        return connection

    async def _dial(self, address: Address, tls: ssl.SSLContext | None) -> Pooled:
        def made() -> Pooled:
            return Pooled(self._loop, self._settings.timeouts, self._lost, address)

        site = address.site
        if site.unix is not None:
            _, connection = await self._loop.create_unix_connection(made, site.unix)
        else:
            _, connection = await self._loop.create_connection(
                made, address.host, site.port, ssl=tls, server_hostname=site.server_name
            )
        return connection

    # --- in the background ------------------------------------------------------------------------------------------------

    async def _ask(self, address: Address) -> tuple[Standing, str]:
        """Our own question, on a connection of its own: all others may be in use by whoever makes the store stumble."""
        question, connection = Question("/"), None
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = await self._reach(address)
                await connection.exchange(head(question, address.preamble), question)
        except (Refused, DeadConnection, TimeoutError) as error:
            return Standing.SILENT, str(error) or "HEAD / is not answered in time"
        finally:
            if connection is not None:
                connection.abort()
        if question.status in FAILING:
            return Standing.FAILING, f"HEAD / is answered with {question.status}"
        return Standing.WELL, ""

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = self._loop.time()
            for connection in list(self._all):
                if connection.deadline and now > connection.deadline:
                    connection.expire()
            limit = now - self._settings.timeouts.idle
            for address in self.addresses.all:
                while address.idle and address.idle[0].idle_since < limit:
                    address.idle.pop(0).abort()
            self.addresses.tick(now)
