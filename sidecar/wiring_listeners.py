"""The data plane's addresses become accepting sockets: plain ones straight to the `Listener`, others through an `Entrance`.

Certificates are read before anybody is accepted, and followed from then on; listeners that name the same files share one.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence

from sidecar.background import end
from sidecar.listening import BACKLOG, StartError
from sidecar.metrics import Labels, Metrics
from sidecar.networks import Networks
from sidecar.server.certificate import BadPair, Certificate
from sidecar.server.client import Listener
from sidecar.server.entrance import Entrance, Guests
from sidecar.server.ops import Checks
from sidecar.settings import ListenerSettings, TlsSettings

log = logging.getLogger(__name__)


class Entrances:
    """`open`, `accept`, `close` (no further connection, and who is on the threshold is sent away), `stop` (nothing follows the files
    any more)."""

    def __init__(self, settings: Sequence[ListenerSettings], metrics: Metrics, checks: Checks) -> None:
        self._settings = settings
        self._metrics = metrics
        self._servers: list[asyncio.Server] = []
        self._entrances: dict[str, Entrance] = {}
        self._guests: Guests = set()
        self._certificates: dict[TlsSettings, Certificate] = {}
        self._named: dict[str, Certificate] = {}
        for each in settings:
            if each.tls is not None:
                name = str(each)
                certificate = self._certificates.get(each.tls)
                if certificate is None:
                    certificate = self._certificates[each.tls] = Certificate(each.tls, _teller(name))
                self._named[name] = certificate
                checks.add(f"certificate of {name}", _check(certificate), required=False)
        metrics.read("tls_handshakes_total", self._handshakes)
        metrics.read("tls_certificate_reloads_total", self._reloads)
        metrics.read("tls_certificate_last_reload_successful", self._last_reload)
        metrics.read("tls_certificate_expiry_timestamp_seconds", self._expiry)

    async def open(self) -> None:
        """Raises `StartError` where a certificate can't be served by."""
        for settings, certificate in self._certificates.items():
            try:
                await certificate.load()
            except BadPair as bad:
                raise StartError(f"the certificate {settings.cert_file} can't be used: {bad}") from None
            await certificate.start()

    async def accept(self, sockets: Sequence[Sequence[socket.socket]], listener: Listener) -> None:
        """`sockets`: of each listener of the settings."""
        for settings, bound in zip(self._settings, sockets, strict=True):
            if settings.tls is None and settings.proxy_protocol is None:
                self._servers += [await _accept(each, listener) for each in bound]
                continue
            entrance = self._entrances[str(settings)] = self._entrance(settings, listener)
            for each in bound:
                entrance.open(each)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for entrance in self._entrances.values():
            await entrance.close()
        await end(*self._guests)

    async def stop(self) -> None:
        for certificate in self._certificates.values():
            await certificate.stop()

    def _entrance(self, settings: ListenerSettings, listener: Listener) -> Entrance:
        name, trusted = str(settings), settings.proxy_protocol
        certificate = self._named.get(name)
        return Entrance(
            listener,
            self._guests,
            name=name,
            trusted=None if trusted is None else Networks(trusted.trusted),
            context=None if certificate is None else _context(certificate),
            turned_away=self._metrics.turned_away,
        )

    def _handshakes(self) -> dict[Labels, float]:
        counts: dict[Labels, float] = {}
        for name, entrance in self._entrances.items():
            if entrance.encrypted:
                counts[name, "ok"], counts[name, "error"] = entrance.handshakes, entrance.failed_handshakes
        return counts

    def _reloads(self) -> dict[Labels, float]:
        counts: dict[Labels, float] = {}
        for name, certificate in self._named.items():
            counts[name, "ok"], counts[name, "error"] = certificate.loaded, certificate.failed
        return counts

    def _last_reload(self) -> dict[Labels, float]:
        return {(name,): float(not certificate.problem) for name, certificate in self._named.items()}

    def _expiry(self) -> dict[Labels, float]:
        return {(name,): certificate.served.not_after for name, certificate in self._named.items()}


def _context(certificate: Certificate) -> Callable[[], ssl.SSLContext]:
    return lambda: certificate.served.context


def _check(certificate: Certificate) -> Callable[[], str | None]:
    return lambda: (
        f"the files on disk are not served, an earlier version is: {certificate.problem}"
        if certificate.problem
        else None
    )


def _teller(name: str) -> Callable[[str], None]:
    def tell(problem: str) -> None:
        if problem:
            log.warning("listen %s: the new certificate is not served, the last good one stays: %s", name, problem)
        else:
            log.info("listen %s: a new certificate is served", name)

    return tell


async def _accept(listening: socket.socket, factory: Listener) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listening.family is socket.AF_UNIX:
        return await loop.create_unix_server(factory, sock=listening)
    return await loop.create_server(factory, sock=listening, backlog=BACKLOG)
