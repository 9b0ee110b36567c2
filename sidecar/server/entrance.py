"""What a connection goes through before its first request: the balancer's PROXY header, then TLS. The law: nobody passes it by,
and who takes long over it, or gets it wrong, is turned away without an answer.

A header is believed from trusted peers alone, and asked of them: with a peer that may send either, a client behind it could write
its own. From everybody else its bytes are just bytes that no HTTP parser and no TLS handshake takes. Addresses without TLS and
PROXY protocol don't come here; their connections are the `Listener`'s from the start.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from sidecar.networks import Networks, plain
from sidecar.proxy_header import FIXED, BadProxyHeader, follows, source
from sidecar.reasons import Reason
from sidecar.server.client import Listener

_SHUTDOWN = 2.0
"""Seconds that a client may take to say its TLS goodbye."""
_COMPLAIN_EVERY = 60.0
"""Seconds between lines in the log about what balancers do wrong: each is counted."""

log = logging.getLogger(__name__)


class Entrance:
    """A factory of protocols for one listening address."""

    def __init__(
        self,
        listener: Listener,
        *,
        name: str,
        trusted: Networks | None,
        context: Callable[[], ssl.SSLContext] | None,
        turned_away: Callable[[Reason], None],
    ) -> None:
        """`trusted`: who sends a PROXY header; `None` reads none. `context`: of the next handshake; `None` is no TLS."""
        self.listener = listener
        self.name = name
        self.context = context
        self.turned_away = turned_away
        self.handshakes = self.failed_handshakes = 0
        self._trusted = trusted
        self._guests: set[_Guest] = set()
        self._complained = -_COMPLAIN_EVERY

    def __call__(self) -> asyncio.BaseProtocol:
        return _Guest(self)

    def __len__(self) -> int:
        """Connections that have not passed yet."""
        return len(self._guests)

    def admit(self, guest: "_Guest") -> bool:
        if self.listener.draining or not self.listener.admit():
            return False
        self._guests.add(guest)
        self.listener.expected += 1
        return True

    def left(self, guest: "_Guest") -> None:
        if guest in self._guests:
            self._guests.discard(guest)
            self.listener.expected -= 1

    def asks_header_of(self, peer: str) -> bool:
        return self._trusted is not None and peer in self._trusted

    def complain(self, peer: str, why: BadProxyHeader, now: float) -> None:
        self.turned_away(Reason.BAD_PROXY_HEADER)
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            log.warning(
                "listen %s: the trusted peer %s was turned away: %s", self.name, peer or "at the unix socket", why
            )

    def close(self) -> None:
        """Whoever has not passed yet is sent away."""
        for guest in list(self._guests):
            guest.send_away()


class _Guest(asyncio.BufferedProtocol):
    """One connection until it has passed. It never reads a byte beyond the header: those are TLS's or HTTP's."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(FIXED)
        self._filled = 0
        self._peer = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._wants_header = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._entrance.admit(self):
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = plain(peer[0]) if isinstance(peer, tuple) else ""
        self._wants_header = self._entrance.asks_header_of(self._peer)
        self._deadline = self._loop.call_later(self._entrance.listener.limits.head_timeout, self._too_late)
        if not self._wants_header:
            self._loop.call_soon(self._pass)  # the loop reads from a transport only after this method has returned

    def get_buffer(self, hint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :] if self._wants_header else memoryview(bytearray(1))

    def buffer_updated(self, count: int) -> None:
        self._filled += count
        have = bytes(self._buffer[: self._filled])
        try:
            if self._filled <= FIXED:
                rest = follows(have)
                if self._filled < FIXED:
                    return
                self._buffer += bytes(rest)
            if self._filled < len(self._buffer):
                return
        except BadProxyHeader as bad:
            self._entrance.complain(self._peer, bad, self._loop.time())
            self.send_away()
            return
        said = source(have)
        if said is not None:
            self._peer = said
        self._pass()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def send_away(self) -> None:
        self._end()
        if self._handshake is not None:
            self._handshake.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _too_late(self) -> None:
        self._entrance.turned_away(Reason.HEAD_TIMEOUT)
        self.send_away()

    def _end(self) -> None:
        self._entrance.left(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _pass(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.pause_reading()
        context = self._entrance.context
        if context is None:
            self._hand_over(transport, b"")
            transport.resume_reading()
        else:
            self._handshake = self._loop.create_task(self._shake_hands(transport, context()))

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        early = _Early()
        try:
            encrypted = await self._loop.start_tls(
                transport,
                early,
                context,
                server_side=True,
                ssl_handshake_timeout=self._entrance.listener.limits.head_timeout,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except (OSError, asyncio.CancelledError):  # an SSLError is an OSError, so are timeouts and resets
            self._entrance.failed_handshakes += 1
            self._end()
            transport.abort()
            return
        self._entrance.handshakes += 1
        if encrypted is None or early.lost:
            self._end()
        else:
            self._hand_over(encrypted, bytes(early.data))

    def _hand_over(self, transport: asyncio.Transport, early: bytes) -> None:
        self._end()
        connection = self._entrance.listener()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.peer = self._peer
        if early and not transport.is_closing():
            connection.data_received(early)


class _Early(asyncio.Protocol):
    """Keeps what arrives with the handshake's last bytes, until there is somebody to read it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
