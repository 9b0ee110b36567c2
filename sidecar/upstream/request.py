"""A request's head as a store reads it, and the request that nobody but the sidecar asks.

The law: the target and the headers are written as they were decided; the framing, the `Host` and the store's credentials are ours.
"""

from sidecar.ports import Downstream, HeaderList

_WITHOUT_A_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


def preamble(authority: str, credential: tuple[bytes, bytes] | None) -> bytes:
    """What follows each target: the version, the `Host`, and the store's credentials."""
    lines = b" HTTP/1.1\r\nHost: " + authority.encode() + b"\r\n"
    return lines if credential is None else lines + credential[0] + b": " + credential[1] + b"\r\n"


def head(exchange: Downstream, preamble: bytes) -> bytes:
    parts = [exchange.method.encode("ascii"), b" ", exchange.upstream_path.encode("ascii"), preamble]
    if exchange.headers:
        parts += (b"\r\n".join(map(b": ".join, exchange.headers)), b"\r\n")
    length = exchange.content_length
    if length is None:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length or exchange.method not in _WITHOUT_A_BODY:
        parts.append(b"Content-Length: %d\r\n" % length)
    parts.append(b"\r\n")
    return b"".join(parts)


class Question:
    """The client's side of a HEAD that nobody but us sees: `status` is the answer, and `location` where it points."""

    method = "HEAD"
    headers: HeaderList = ()
    content_length: int | None = 0
    congested = False

    def __init__(self, upstream_path: str) -> None:
        self.upstream_path = upstream_path
        self.status = 0
        self.location = b""

    async def read(self) -> bytes:
        return b""

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        self.status = status
        self.location = next((value for name, value in headers if name.lower() == b"location"), b"")

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
