"""What a connection goes through before its first request: the balancer's PROXY header, then TLS. The law: nobody passes it by,
and who takes long over it, or gets it wrong, is turned away without an answer.

A header is believed from trusted peers alone, and asked of them: with a peer that may send either, a client behind it could write
its own. From everybody else its bytes are just bytes that no HTTP parser and no TLS handshake takes. Addresses without TLS and
PROXY protocol don't come here; their connections are the `Listener`'s from the start.

The header is read from the socket itself, exactly so many bytes, before there is a transport: what follows is TLS's or HTTP's, and
a transport of uvloop begins to read as soon as it is made.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from sidecar.background import end
from sidecar.networks import Networks, plain
from sidecar.proxy_header import FIXED, BadProxyHeader, follows, source
from sidecar.reasons import Reason
from sidecar.server.client import Listener

_SHUTDOWN = 2.0
"""Seconds that a client may take to say its TLS goodbye."""
_COMPLAIN_EVERY = 60.0
"""Seconds between lines in the log about what balancers do wrong: each is counted."""
_BREATH = 1.0
"""Seconds until the next connection is accepted where the system has no descriptor or memory left for one."""

log = logging.getLogger(__name__)

Guests = set["asyncio.Task[None]"]
"""Connections that have not passed yet, at all entrances together."""


class Entrance:
    """Of one listening address, which may have several sockets."""

    def __init__(
        self,
        listener: Listener,
        guests: Guests,
        *,
        name: str,
        trusted: Networks | None,
        context: Callable[[], ssl.SSLContext] | None,
        turned_away: Callable[[Reason], None],
    ) -> None:
        """`trusted`: who sends a PROXY header; `None` reads none. `context`: of the next handshake; `None` is no TLS."""
        self.handshakes = self.failed_handshakes = 0
        self.encrypted = context is not None
        self._listener = listener
        self._guests = guests
        self._name = name
        self._trusted = trusted
        self._context = context
        self._turned_away = turned_away
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._complained = -_COMPLAIN_EVERY
        self._loop = asyncio.get_running_loop()

    def open(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._listening.append(listening)
        self._accepting.append(self._loop.create_task(self._accept(listening), name=f"accept on {self._name}"))

    async def close(self) -> None:
        """No further connection. Those that have not passed are the caller's to cancel."""
        await end(*self._accepting)
        for listening in self._listening:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(listening)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # that one has left already
                    log.error("listen %s: no connection can be accepted: %s", self._name, error.strerror)
                    await asyncio.sleep(_BREATH)
                continue
            if self._admits():
                guest = self._loop.create_task(
                    self._greet(sock, plain(address[0]) if listening.family != socket.AF_UNIX else "")
                )
                self._guests.add(guest)
                guest.add_done_callback(self._guests.discard)
            else:
                sock.close()

    def _admits(self) -> bool:
        listener = self._listener
        if listener.draining:
            return False
        if listener.open_connections + len(self._guests) >= listener.limits.connections:
            self._turned_away(Reason.OVERLOADED)
            return False
        return True

    async def _greet(self, sock: socket.socket, peer: str) -> None:
        passed = vouched = False
        try:
            async with asyncio.timeout(self._listener.limits.head_timeout):
                if self._trusted is not None and peer in self._trusted:
                    said = await self._header(sock)
                    peer, vouched = (peer, False) if said is None else (said, True)
                await self._hand_over(sock, peer, vouched)
            passed = True
        except BadProxyHeader as bad:
            self._complain(peer, bad)
        except TimeoutError:
            self._turned_away(Reason.HEAD_TIMEOUT)
        except OSError:
            pass  # it left; a handshake that failed is counted
        finally:
            if not passed:
                sock.close()

    async def _header(self, sock: socket.socket) -> str | None:
        """As `source` says. Raises `BadProxyHeader` and `OSError`."""
        have, whole = b"", FIXED
        while len(have) < whole:
            data = await self._loop.sock_recv(sock, whole - len(have))
            if not data:
                raise ConnectionResetError
            have += data
            if len(have) <= FIXED:
                whole = FIXED + follows(have)
        return source(have)

    async def _hand_over(self, sock: socket.socket, peer: str, vouched: bool) -> None:
        """Raises `OSError` where the handshake fails."""
        listener = self._listener
        if self._context is None:
            await self._loop.connect_accepted_socket(lambda: listener.introduced(peer, vouched), sock)
            return
        try:
            await self._loop.connect_accepted_socket(
                lambda: listener.introduced(peer, vouched),
                sock,
                ssl=self._context(),
                ssl_handshake_timeout=2 * listener.limits.head_timeout,  # ours comes first
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except BaseException:
            self.failed_handshakes += 1
            raise
        self.handshakes += 1

    def _complain(self, peer: str, why: BadProxyHeader) -> None:
        self._turned_away(Reason.BAD_PROXY_HEADER)
        now = self._loop.time()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            who = peer or "at the unix socket"
            log.warning("listen %s: the trusted peer %s was turned away: %s", self._name, who, why)
