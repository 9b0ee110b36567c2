"""A store that speaks HTTP/1.1, over TCP, TLS or a unix socket."""

import asyncio
import base64
import logging
from pathlib import Path

from sidecar.errors import Refused, Unavailable
from sidecar.ports import Downstream, HeaderList
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.upstream.connection import DeadConnection
from sidecar.upstream.pool import Pool

log = logging.getLogger(__name__)

_RETRIED = frozenset({"GET", "HEAD"})


class HttpUpstream:
    """Sends each request as it was decided, with the store's own credentials in place of the client's."""

    def __init__(self, settings: UpstreamSettings) -> None:
        """Raises `OSError` where a credential's file can't be read."""
        self._settings = settings
        self._pool = Pool(settings)
        name, value = credential_header(settings) or (b"", b"")
        self._preamble = b" HTTP/1.1\r\nHost: " + self._pool.host_header.encode() + b"\r\n"
        self.credential_name = name.lower()
        """The header that the store's credentials travel in; a client's header of that name must not reach the store."""
        if name:
            self._preamble += name + b": " + value + b"\r\n"

    async def forward(self, exchange: Downstream) -> None:
        head = self._head(exchange)
        for attempt in (0, 1):
            connection = (None if attempt else self._pool.idle()) or await self._pool.open(fresh=attempt > 0)
            try:
                await connection.exchange(head, exchange)
            except DeadConnection:
                # A store may close an idle connection just as we write to it. Only what can be asked twice is asked again,
                # and only of a connection that has been idle: a fresh one that closes is an answer.
                if attempt or exchange.method not in _RETRIED or exchange.content_length != 0:
                    raise Unavailable(Reason.UPSTREAM_BROKEN, "closed without an answer") from None
            else:
                return
            finally:
                self._pool.release(connection)

    async def exists(self, upstream_path: str) -> bool:
        probe = _Probe(upstream_path)
        try:
            async with asyncio.timeout(self._settings.timeouts.first_byte):
                await self.forward(probe)
        except (Refused, TimeoutError) as error:
            raise Unavailable(Reason.EXISTENCE_UNKNOWN, str(error) or "the store did not answer in time") from None
        if probe.status in (404, 410):
            return False
        if 200 <= probe.status < 300:
            return True
        raise Unavailable(Reason.EXISTENCE_UNKNOWN, f"the store answered HEAD with {probe.status}")

    async def close(self) -> None:
        await self._pool.close()

    def _head(self, exchange: Downstream) -> bytes:
        parts = [exchange.method.encode("ascii"), b" ", exchange.upstream_path.encode("ascii"), self._preamble]
        if exchange.headers:
            parts += (b"\r\n".join(map(b": ".join, exchange.headers)), b"\r\n")
        length = exchange.content_length
        if length is None:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif length or exchange.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            parts.append(b"Content-Length: %d\r\n" % length)
        parts.append(b"\r\n")
        return b"".join(parts)


class _Probe:
    """The client's side of a HEAD that nobody but us sees."""

    method = "HEAD"
    headers: HeaderList = ()
    content_length: int | None = 0
    congested = False

    def __init__(self, upstream_path: str) -> None:
        self.upstream_path = upstream_path
        self.status = 0

    async def read(self) -> bytes:
        return b""

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        self.status = status

    def write(self, data: bytes) -> None:
        """A HEAD has no body; what comes all the same is dropped."""

    async def drain(self) -> None:
        """Nothing is ever held."""

    async def sink(self) -> int | None:
        return None

    def sank(self, size: int) -> None:
        """Never asked: there is no sink."""

    def finish(self) -> None:
        """Whoever waits reads `status`."""


def credential_header(settings: UpstreamSettings) -> tuple[bytes, bytes] | None:
    """The header that the store asks for, from its files; trailing line ends are not part of a secret."""
    credentials = settings.credentials
    if credentials is None:
        return None
    if credentials.basic is not None:
        pair = credentials.basic.username.encode() + b":" + _secret(credentials.basic.password_file)
        return b"Authorization", b"Basic " + base64.b64encode(pair)
    if credentials.bearer_file is not None:
        return b"Authorization", b"Bearer " + _secret(credentials.bearer_file)
    assert credentials.header is not None
    return credentials.header.name.encode(), _secret(credentials.header.value_file)


def _secret(path: Path) -> bytes:
    return path.read_bytes().rstrip(b"\r\n")
