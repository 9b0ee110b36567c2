"""An exchange whose answer may be a multistatus: between the store and the client's side, its body is read and written anew.

Law: nothing of a 207 reaches the client before `HELD` bytes of it, or all, were found right; so what is hostile from its
beginning is a 502, and what becomes so later breaks the answer off. Any other status passes untouched.
"""

from collections.abc import Collection

from sidecar import mapping, multistatus
from sidecar.model import Oddity
from sidecar.multistatus import Multistatus
from sidecar.policy.compiled import Route
from sidecar.ports import Downstream, HeaderList

HELD = 64 * 1024


class Mapped:
    """Implements `ports.Downstream` over another one. `origins` and `allowed`: see `mapping.to_client`."""

    def __init__(self, exchange: Downstream, route: Route, origins: Collection[str], allowed: Oddity) -> None:
        self._exchange = exchange
        self._route, self._origins, self._allowed = route, origins, allowed
        self.method, self.upstream_path = exchange.method, exchange.upstream_path
        self.headers, self.content_length = exchange.headers, exchange.content_length
        self._multistatus: Multistatus | None = None
        self._head: HeaderList | None = None
        """Of the 207 that hasn't started yet."""
        self._held = bytearray()

    async def read(self) -> bytes:
        return await self._exchange.read()

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if status == 207 and self.method != "HEAD":
            self._head = multistatus.head(headers)
            self._multistatus = Multistatus(self._to_client)
        else:
            self._exchange.start(status, headers, length)

    def _to_client(self, href: str) -> str | None:
        return mapping.to_client(self._route, href, origins=self._origins, allowed=self._allowed)

    def write(self, data: bytes) -> None:
        if self._multistatus is None:
            self._exchange.write(data)
            return
        written = self._multistatus.feed(data)
        if self._head is None:
            if written:
                self._exchange.write(written)
            return
        self._held += written
        if len(self._held) >= HELD:
            self._release(self._head, None)

    def _release(self, head: HeaderList, length: int | None) -> None:
        self._exchange.start(207, head, length)
        self._exchange.write(bytes(self._held))
        self._head = None
        self._held.clear()

    @property
    def congested(self) -> bool:
        return self._exchange.congested

    async def drain(self) -> None:
        await self._exchange.drain()

    async def sink(self) -> int | None:
        return None if self._multistatus is not None else await self._exchange.sink()

    def sank(self, size: int) -> None:
        self._exchange.sank(size)

    def finish(self) -> None:
        if self._multistatus is not None:
            rest = self._multistatus.close()
            if self._head is None:
                if rest:
                    self._exchange.write(rest)
            else:
                self._held += rest
                self._release(self._head, len(self._held))
        self._exchange.finish()
