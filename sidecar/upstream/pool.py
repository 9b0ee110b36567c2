"""Connections to one store: kept alive, bounded, swept.

Handed out last-in first-out, so that a quiet period lets most of them go. `sweep` runs once a second: it ends exchanges
whose deadline has passed and connections that have idled for too long, which keeps every timer off the request's way.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from urllib.parse import urlsplit

from sidecar.background import end
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.upstream.connection import Connection

_SWEEP = 0.5


class Pool:
    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opening = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLContext | None = None
        parts = urlsplit(settings.url)
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=settings.ca_file)
        self._host, self._unix = parts.hostname or "", parts.path if parts.scheme == "unix" else None
        self._port = parts.port or (443 if self._tls else 80)
        authority = f"[{self._host}]" if ":" in self._host else self._host
        self.host_header = "localhost" if self._unix else f"{authority}:{parts.port}" if parts.port else authority

    def idle(self) -> Connection | None:
        """One that waits for work, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def open(self, *, fresh: bool = False) -> Connection:
        """A new connection, or, where there are as many as may be and unless it has to be `fresh`, one that becomes idle.

        Raises `Unavailable`: unreachable, or too many at once for too long.
        """
        deadline = self._loop.time() + self._settings.timeouts.connect
        while len(self._all) + self._opening >= self._settings.connections:
            if self._idle:
                self._idle.pop(0).abort()
                break
            await self._wait(deadline)
            if not fresh and (connection := self.idle()) is not None:
                return connection
        return await self._connect()

    def release(self, connection: Connection) -> None:
        """After its exchange: kept if another may follow, otherwise ended."""
        if connection.reusable:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            self._wake_one()
        else:
            connection.abort()

    async def close(self) -> None:
        await end(self._sweeper)
        for connection in list(self._all):
            connection.abort()

    async def _wait(self, deadline: float) -> None:
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # our turn had come just as we left: it is the next one's
            if isinstance(error, TimeoutError):
                raise Unavailable(Reason.OVERLOADED, f"all connections to {self._settings.name} are in use") from None
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._wake_one()

    def _make(self) -> Connection:
        return Connection(self._loop, self._settings.timeouts, self._lost)

    async def _connect(self) -> Connection:
        if self._sweeper is None:
            self._sweeper = self._loop.create_task(self._sweep())
        self._opening += 1
        try:
            connection = await self._reach()
        except BaseException:
            self._opening -= 1
            self._wake_one()  # the place is free again
            raise
        self._opening -= 1
        if connection.reusable:  # else it was lost before we heard that it was made
            self._all.add(connection)
        return connection

    async def _reach(self) -> Connection:
        try:
            async with asyncio.timeout(self._settings.timeouts.connect):
                if self._unix is not None:
                    _, connection = await self._loop.create_unix_connection(self._make, self._unix)
                else:
                    server_name = self._host if self._tls else None
                    _, connection = await self._loop.create_connection(
                        self._make, self._host, self._port, ssl=self._tls, server_hostname=server_name
                    )
        except TimeoutError:
            raise Unavailable(Reason.UPSTREAM_UNREACHABLE, "no connection in time") from None
        except OSError as error:
            raise Unavailable(
                Reason.UPSTREAM_UNREACHABLE, f"{type(error).__name__}: {error.strerror or error}"
            ) from None
        return connection

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = self._loop.time()
            for connection in list(self._all):
                if connection.deadline and now > connection.deadline:
                    connection.expire()
            limit = now - self._settings.timeouts.idle
            while self._idle and self._idle[0].idle_since < limit:
                self._idle.pop(0).abort()
