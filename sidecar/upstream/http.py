"""A store that speaks HTTP/1.1, over TCP, TLS or a unix socket, at one address or several."""

import asyncio

from sidecar.errors import Refused, Unavailable
from sidecar.ports import Downstream
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.upstream.address import Address, Lookup, look_up
from sidecar.upstream.connection import DeadConnection
from sidecar.upstream.own_files import Material, OwnFiles
from sidecar.upstream.pool import Pool
from sidecar.upstream.request import Question, head

_RETRIED = frozenset({"GET", "HEAD"})


class HttpUpstream:
    """Sends each request as it was decided, with the store's own credentials in place of the client's."""

    def __init__(self, settings: UpstreamSettings, lookup: Lookup = look_up) -> None:
        """`open()` it before its files have to be followed. Raises `OSError` or `OwnFilesUnusable` where one of them can't be
        used."""
        self._settings = settings
        self.files = OwnFiles(settings, self._renew)
        self.pool = Pool(settings, self.files.in_force, lookup)
        credential = self.files.in_force.credential
        self.credential_name = credential[0].lower() if credential is not None else b""
        """The header that the store's credentials travel in; a client's header of that name must not reach the store."""

    async def open(self) -> None:
        await self.files.start()

    def _renew(self, material: Material) -> None:
        self.pool.renew(material)

    def _written(self, exchange: Downstream, address: Address) -> bytes:
        """The head of a request, as it is sent there."""
        return head(exchange, address.preamble)

    async def close(self) -> None:
        await self.files.stop()
        await self.pool.close()

    async def forward(self, exchange: Downstream) -> None:
        pool = self.pool
        for attempt in (0, 1):
            connection = (None if attempt else pool.idle()) or await pool.open(fresh=attempt > 0)
            try:
                await connection.exchange(self._written(exchange, connection.address), exchange)
            except DeadConnection:
                # A store may close an idle connection just as we write to it. Only what can be asked twice is asked again,
                # and only of a connection that has been idle: a fresh one that closes is an answer.
                if attempt or exchange.method not in _RETRIED or exchange.content_length != 0:
                    raise Unavailable(Reason.UPSTREAM_BROKEN, "closed without an answer") from None
            except BaseException as error:
                pool.blame(connection, error)
                raise
            else:
                if connection.status >= 500 or connection.address.health.failures:
                    pool.addresses.answered(connection.address, connection.status)
                return
            finally:
                pool.release(connection)

    async def exists(self, upstream_path: str) -> bool:
        question = Question(upstream_path)
        try:
            async with asyncio.timeout(self._settings.timeouts.first_byte):
                await self.forward(question)
        except (Refused, TimeoutError) as error:
            raise Unavailable(Reason.EXISTENCE_UNKNOWN, str(error) or "the store did not answer in time") from None
        if question.status in (404, 410):
            return False
        # nginx and Apache point from a collection's name to the same with a slash.
        collection = upstream_path.encode() + b"/"
        if 200 <= question.status < 300 or (300 < question.status < 400 and question.location.endswith(collection)):
            return True
        raise Unavailable(Reason.EXISTENCE_UNKNOWN, f"the store answered HEAD with {question.status}")
