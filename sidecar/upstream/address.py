"""The places where a store listens: from its URLs to what can be connected to.

A name may stand for many addresses (a headless Service), each of which is judged for itself. `localhost` is one place with two
ways to it: of those, one is often not listened on, and that says nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from sidecar.settings import Timeouts, UpstreamSettings
from sidecar.upstream.connection import Connection
from sidecar.upstream.health import Health

MOST = 64
"""Addresses of one name that are used."""

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""A name and a port -> IP addresses. Raises `OSError`."""


class Site(Struct, frozen=True):
    """One URL of a store."""

    authority: str
    """The `Host` that it is told."""
    host: str = ""
    port: int = 0
    server_name: str | None = None
    """What its certificate must be for; `None` without TLS."""
    unix: str | None = None

    @property
    def is_name(self) -> bool:
        """Whether it has to be looked up."""
        if self.unix is not None or self.host == "localhost":
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def sites(settings: UpstreamSettings) -> tuple[Site, ...]:
    return tuple(_site(url, settings.server_name) for url in settings.urls or (settings.url,))


def _site(url: str, server_name: str | None) -> Site:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Site("localhost", unix=parts.path)
    host = parts.hostname or ""
    tls = parts.scheme == "https"
    authority = f"[{host}]" if ":" in host else host
    return Site(
        authority=f"{authority}:{parts.port}" if parts.port else authority,
        host=host,
        port=parts.port or (443 if tls else 80),
        server_name=(server_name or host) if tls else None,
    )


class Address:
    """One of them, with its connections. `preamble` is what the head of each request to it goes on with after the target."""

    def __init__(self, site: Site, host: str, health: Health, preamble: bytes) -> None:
        """`host`: what to connect to, an IP address or `localhost`; the path of a unix socket."""
        self.site = site
        self.host = host
        self.health = health
        self.preamble = preamble
        self.idle: list[Pooled] = []
        self.connections: set[Pooled] = set()
        """Made and not lost, idle ones included."""
        self.opening = 0

    @property
    def load(self) -> int:
        """Requests under way."""
        return len(self.connections) - len(self.idle) + self.opening

    def __str__(self) -> str:
        if self.site.unix is not None:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.site.port}" if ":" in self.host else f"{self.host}:{self.site.port}"


class Pooled(Connection):
    """A connection that knows where it leads."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, lost: Callable[[Any], None], address: Address
    ) -> None:
        super().__init__(loop, timeouts, lost)
        self.address = address


async def look_up(name: str, port: int) -> list[str]:
    """All addresses of a name, as the system resolves it. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
