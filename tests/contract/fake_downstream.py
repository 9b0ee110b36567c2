"""A client in memory: `ports.Downstream` without a network, which records what it was answered and can misbehave."""

import asyncio
from collections.abc import AsyncIterable, Iterable

from sidecar.errors import ClientGone
from sidecar.model import Target
from sidecar.ports import Downstream, HeaderList, Upstream


class FakeDownstream:
    """`body` is what `read()` yields, piece by piece; an exception among the pieces is raised there.

    After the exchange: `status`, `answer_headers` (names lower-case), `length`, `pieces`, `finished`.
    """

    def __init__(
        self,
        method: str,
        upstream_path: str,
        headers: dict[str, str] | HeaderList = (),
        body: bytes | Iterable[bytes | Exception] | AsyncIterable[bytes] = b"",
        content_length: int | None = None,
        chunked: bool = False,
        leaves_after: int | None = None,
    ) -> None:
        self.method = method
        self.upstream_path = upstream_path
        self.target = Target(upstream_path, "", (), ())
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.headers: HeaderList = [
            (name.encode(), value.encode("latin-1")) if isinstance(name, str) else (name, value)  # type: ignore[union-attr]
            for name, value in pairs
        ]
        self.content_length = content_length
        if isinstance(body, bytes):
            self.content_length = None if chunked else len(body) if content_length is None else content_length
            body = [body] if body else []
        self._body = body
        self._reading = aiter(body) if isinstance(body, AsyncIterable) else None
        self._pieces = iter(body) if not isinstance(body, AsyncIterable) else None
        self._leaves_after = leaves_after
        self.invited = False
        self.status = 0
        self.answer_headers: dict[str, str] = {}
        self.length: int | None = None
        self.pieces: list[bytes] = []
        self.finished = False
        self.drains = 0

    async def read(self) -> bytes:
        assert self.status == 0, "the body is read before the answer starts"
        self.invited = True
        await asyncio.sleep(0)
        if self._reading is not None:
            return await anext(self._reading, b"")
        assert self._pieces is not None
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        assert self.status == 0, "started twice"
        self.status = status
        names = [name.decode().lower() for name, _ in headers]
        assert len(set(names)) == len(names) or "x-amz-meta-twice" in names
        self.answer_headers = {name: value.decode("latin-1") for name, (_, value) in zip(names, headers, strict=True)}
        self.length = length

    def write(self, data: bytes) -> None:
        assert self.status != 0
        assert not self.finished
        assert data, "an empty piece would end a chunked answer"
        self.pieces.append(data)

    congested = False

    async def sink(self) -> int | None:
        return None

    def sank(self, size: int) -> None:
        raise AssertionError("there is no sink")

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.drains += 1
        if self._leaves_after is not None and self.drains >= self._leaves_after:
            raise ClientGone

    def finish(self) -> None:
        assert self.status != 0
        assert not self.finished
        if self.method != "HEAD" and self.length is not None:
            assert self.length == len(self.answer), "a clean end needs every byte that was promised"
        self.finished = True

    @property
    def answer(self) -> bytes:
        return b"".join(self.pieces)


async def ask(
    store: Upstream,
    method: str,
    path: str,
    headers: dict[str, str] | HeaderList = (),
    body: bytes | Iterable[bytes | Exception] | AsyncIterable[bytes] = b"",
    *,
    chunked: bool = False,
    content_length: int | None = None,
) -> FakeDownstream:
    """One exchange to its clean end."""
    exchange = FakeDownstream(method, path, headers, body, content_length, chunked)
    downstream: Downstream = exchange
    await store.forward(downstream)
    assert exchange.finished
    return exchange
