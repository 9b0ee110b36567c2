"""One exchange with a bucket, as the connection sees it: between the client's side and what S3 says.

The law: an object reaches the client as it comes, unbuffered and at no cost; an error's body never does. It is collected
up to a bound, and what it means is decided once it has ended, when another try is still possible.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from sidecar.ports import Downstream, HeaderList
from sidecar.upstream.answer import broken
from sidecar.upstream.s3_errors import MAX_BODY, Said
from sidecar.upstream.s3_headers import from_store, from_write


class S3Exchange:
    """Implements `ports.Downstream` over another one. After it has ended, `error` is what went wrong, if anything did."""

    __slots__ = (
        "_client",
        "_collected",
        "_error_head",
        "_heard",
        "content_length",
        "error",
        "finish",
        "headers",
        "method",
        "upstream_path",
        "write",
    )

    def __init__(self, client: Downstream, path: str, headers: HeaderList, heard: Callable[[bytes], None]) -> None:
        """`path` in S3's canonical spelling, with the bucket where it belongs there. `heard` is told the store's `Date`."""
        self._client = client
        self._heard = heard
        self.method = client.method
        self.upstream_path = path
        self.headers = headers
        self.content_length = client.content_length
        self.write: Callable[[bytes], None] = client.write
        self.finish: Callable[[], None] = client.finish
        self.error: Said | None = None
        self._error_head: tuple[int, HeaderList] | None = None

    # What is asked for now and then only is looked up when it is.

    @property
    def read(self) -> Callable[[], Coroutine[Any, Any, bytes]]:
        return self._client.read

    @property
    def drain(self) -> Callable[[], Coroutine[Any, Any, None]]:
        return self._client.drain if self._error_head is None else _nothing

    @property
    def sink(self) -> Callable[[], Coroutine[Any, Any, int | None]]:
        return self._client.sink if self._error_head is None else _nothing

    @property
    def sank(self) -> Callable[[int], None]:
        return self._client.sank

    @property
    def sha256(self) -> str | None:
        """Of the body, in lower-case hex, where it is held to one (`server.through.Verified`)."""
        return getattr(self._client, "sha256", None)

    @property
    def congested(self) -> bool:
        return self._client.congested

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        kept, date = from_write(headers) if self.method in ("PUT", "DELETE") else from_store(headers)
        if date:
            self._heard(date)
        if status < 300:
            self._client.start(status, kept, length)
        elif status == 304:
            # Some servers say that it has a body of no bytes; its length would be the object's (RFC 9110 §8.6).
            self._client.start(status, kept, None)
        else:
            self._collect_error(status, headers)

    def _collect_error(self, status: int, headers: HeaderList) -> None:
        self._error_head, self._collected = (status, headers), b""
        self.write, self.finish = self._collect, self._ended

    def _collect(self, data: bytes) -> None:
        self._collected += data
        if len(self._collected) > MAX_BODY:
            raise broken("an error without end")

    def _ended(self) -> None:
        assert self._error_head is not None
        self.error = Said(*self._error_head, self._collected)


async def _nothing() -> Any:
    return None
