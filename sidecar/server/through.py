"""What stands between a store and the client's side of an exchange: each class does one thing to a body or an answer.

Laws. A body that isn't what its key says never comes to its end at the store: the last piece is held back until all is known, so
that an announced length stays unmet, a chunked body without its last chunk, a file of the embedded store uncommitted. A status that a
client can't bear never reaches it.
"""

import hashlib

from sidecar.answers import STORE_REFUSED_US
from sidecar.errors import Refused, Unavailable
from sidecar.ports import Downstream, HeaderList
from sidecar.profiles import LocalAnswer, Profile
from sidecar.reasons import Reason
from sidecar.server.exchange import Exchange

_EMPTY = hashlib.sha256().hexdigest()


class Through:
    """Implements `ports.Downstream` over another one, and changes nothing."""

    def __init__(self, inner: Downstream) -> None:
        self._inner = inner
        self.method, self.upstream_path = inner.method, inner.upstream_path
        self.headers, self.content_length = inner.headers, inner.content_length

    async def read(self) -> bytes:
        return await self._inner.read()

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        self._inner.start(status, headers, length)

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    @property
    def congested(self) -> bool:
        return self._inner.congested

    async def drain(self) -> None:
        await self._inner.drain()

    async def sink(self) -> int | None:
        return await self._inner.sink()

    def sank(self, size: int) -> None:
        self._inner.sank(size)

    def finish(self) -> None:
        self._inner.finish()


class Told(Through):
    """Tells the client what it understands in place of what the store said."""

    def __init__(self, exchange: Exchange, profile: Profile, missing: LocalAnswer | None) -> None:
        super().__init__(exchange)
        self._exchange = exchange
        self._profile = profile
        self._missing = missing
        self._instead: LocalAnswer | None = None
        self.beside: HeaderList = ()
        """Headers that the store doesn't keep, for an answer that comes without any of these names."""
        self.store_keeps = False
        """Whether the store's answer had one of them."""

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        exchange = self._exchange
        if status in STORE_REFUSED_US:
            exchange.start(status, headers, length)
            return
        if status == 404 and self._missing is not None:
            self._instead = missing = self._missing
            exchange.start(missing.status, missing.headers, len(missing.body))
            exchange.upstream_status = status
            return
        told = self._profile.answered(self.method, status)
        if isinstance(told, Reason):
            exchange.upstream_status = status
            raise Refused(told, f"the store answered {status}")
        if status < 400:
            self.store_keeps = any(name.lower().startswith(b"x-artifact-") for name, _ in headers)
            if self.beside and not self.store_keeps:
                headers = [*headers, *self.beside]
        if told == status:
            exchange.start(status, headers, length)
            return
        # A `Location` was said of the other status, and by its rules it would be mapped.
        kept = [pair for pair in headers if pair[0].lower() != b"location"]
        exchange.start(told, kept, 0 if status in (204, 205) else length)
        exchange.upstream_status = status

    def write(self, data: bytes) -> None:
        if self._instead is None:
            self._exchange.write(data)

    async def sink(self) -> int | None:
        return await self._exchange.sink() if self._instead is None else None

    def finish(self) -> None:
        if self._instead is not None:
            self._exchange.write(self._instead.body)
        self._exchange.finish()


class Creating(Through):
    """A write that was decided on its key's absence, and that the store was asked to hold to that: where it does, another writer
    was faster, and the client hears what it would have heard a moment later."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._exchange = exchange

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if status == 412:
            self._exchange.upstream_status = status
            raise Refused(Reason.EXISTS, "the store answered 412")
        self._exchange.start(status, headers, length)


class Verified(Through):
    """Lets a body come to its end only if it hashes to `sha256`, in lower-case hex."""

    def __init__(self, inner: Downstream, sha256: str) -> None:
        """Raises `Refused(BODY_MISMATCH)` where there is no body to wait for and the hash isn't that of nothing."""
        super().__init__(inner)
        self.sha256 = sha256
        self._hash = hashlib.sha256()
        self._kept = b""
        self._whole = inner.content_length == 0
        if self._whole and sha256 != _EMPTY:
            raise Refused(Reason.BODY_MISMATCH, "an empty body at the digest of another")

    async def read(self) -> bytes:
        while not self._whole:
            data = await self._inner.read()
            if data:
                self._hash.update(data)
                free, self._kept = self._kept, data
                if free:
                    return free
            elif self._hash.hexdigest() != self.sha256:
                raise Refused(Reason.BODY_MISMATCH, "the key is another body's SHA-256")
            else:
                self._whole = True
        kept, self._kept = self._kept, b""
        return kept

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if not self._whole and status < 300:
            raise Unavailable(Reason.UPSTREAM_BROKEN, f"the store answered {status} before it had the whole body")
        self._inner.start(status, headers, length)


class Own:
    """An exchange of the sidecar's own: a small body each way, and nobody behind it. Implements `ports.Downstream`."""

    def __init__(
        self, method: str, path: str, headers: HeaderList = (), body: bytes = b"", *, limit: int = 64 * 1024
    ) -> None:
        """`limit`: of the answer's body, in bytes; a longer one is `Refused(UPSTREAM_BROKEN)`."""
        self.method, self.upstream_path, self.headers = method, path, headers
        self.content_length: int | None = len(body)
        self._unsent = body
        self._limit = limit
        self.status = 0
        self.answer_headers: HeaderList = ()
        self.length: int | None = None
        self.body = b""
        self.whole = False

    async def read(self) -> bytes:
        data, self._unsent = self._unsent, b""
        return data

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        self.status, self.answer_headers, self.length = status, headers, length

    def write(self, data: bytes) -> None:
        if self.method == "HEAD":
            return
        self.body += data
        if len(self.body) > self._limit:
            raise Unavailable(Reason.UPSTREAM_BROKEN, "the store's answer is longer than such an object may be")

    @property
    def congested(self) -> bool:
        return False

    async def drain(self) -> None:
        """Nothing is ever held."""

    async def sink(self) -> int | None:
        return None

    def sank(self, size: int) -> None:
        """Never asked: there is no sink."""

    def finish(self) -> None:
        self.whole = True

    def tell(self, client: Downstream) -> None:
        """The answer again, to somebody else. Raises `Unavailable(UPSTREAM_BROKEN)` for half of one."""
        if not self.whole:
            raise Unavailable(Reason.UPSTREAM_BROKEN, "the store broke off its answer")
        client.start(self.status, self.answer_headers, self.length if self.method == "HEAD" else len(self.body))
        if self.body:
            client.write(self.body)
        client.finish()


class Held(Own):
    """A client's upload whose answer waits until more has been done: it is told by `tell`."""

    def __init__(self, client: Downstream) -> None:
        super().__init__(client.method, client.upstream_path, client.headers)
        self.content_length = client.content_length
        self._client = client

    async def read(self) -> bytes:
        return await self._client.read()
