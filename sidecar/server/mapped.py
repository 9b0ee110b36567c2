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
from sidecar.server.through import Through

HELD = 64 * 1024


class Mapped(Through):
    """`origins` and `allowed`: see `mapping.to_client`."""

    def __init__(self, exchange: Downstream, route: Route, origins: Collection[str], allowed: Oddity) -> None:
        super().__init__(exchange)
        self._route, self._origins, self._allowed = route, origins, allowed
        self._multistatus: Multistatus | None = None
        self._head: HeaderList | None = None
        """Of the 207 that hasn't started yet."""
        self._held = bytearray()

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if status == 207 and self.method != "HEAD":
            self._head = multistatus.head(headers)
            self._multistatus = Multistatus(self._to_client)
        else:
            self._inner.start(status, headers, length)

    def _to_client(self, href: str) -> str | None:
        return mapping.to_client(self._route, href, origins=self._origins, allowed=self._allowed)

    def write(self, data: bytes) -> None:
        if self._multistatus is None:
            self._inner.write(data)
            return
        written = self._multistatus.feed(data)
        if self._head is None:
            if written:
                self._inner.write(written)
            return
        self._held += written
        if len(self._held) >= HELD:
            self._release(self._head, None)

    def _release(self, head: HeaderList, length: int | None) -> None:
        self._inner.start(207, head, length)
        self._inner.write(bytes(self._held))
        self._head = None
        self._held.clear()

    async def sink(self) -> int | None:
        return None if self._multistatus is not None else await self._inner.sink()

    def finish(self) -> None:
        if self._multistatus is not None:
            rest = self._multistatus.close()
            if self._head is None:
                if rest:
                    self._inner.write(rest)
            else:
                self._held += rest
                self._release(self._head, len(self._held))
        self._inner.finish()
