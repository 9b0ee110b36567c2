"""The shapes of what the inside asks of the outside: one page, so that every variant can be read against it."""

from collections.abc import Sequence
from typing import Protocol

from sidecar.model import Person, Principal, Secret

HeaderList = Sequence[tuple[bytes, bytes]]


class Verifier(Protocol):
    """One credential kind. `None` is "not mine"; raising is "mine and bad"."""

    @property
    def generation(self) -> str:
        """Changes with any configuration that could change a verdict; part of the identity cache's key."""

    async def verify(self, token: Secret, now: float) -> Principal | None:
        """Raises `CredentialRefused` (a verdict on the token) or `Unavailable` (an outage). `now` in Unix seconds."""


class Revocations(Protocol):
    """What has been revoked, in memory, kept current by the change feed."""

    @property
    def epoch(self) -> int:
        """Grows with every revocation that arrives: a verification that began under an older epoch isn't cached."""

    def revoked(self, principal: Principal) -> bool: ...

    def is_fresh(self, now: float) -> bool:
        """False once the feed has been silent for longer than its bound: then nobody's standing is known."""


class Directory(Protocol):
    """Who belongs where, in memory (rule 9)."""

    def person(self, subject: str) -> Person | None:
        """`None`: the directory doesn't know this person. Raises `Unavailable` if it never could be read."""


class Downstream(Protocol):
    """The client's side of one exchange, as an upstream sees it. Methods raise `ClientGone` once the client has left."""

    method: str
    upstream_path: str
    """Path and query to ask the upstream for, percent-encoded, ready to send."""
    headers: HeaderList
    """The end-to-end headers that may be forwarded: no credential, no hop-by-hop header, no `Host`, no `Content-Length`."""
    content_length: int | None
    """The body's length; 0 without a body, `None` where it is chunked."""

    async def read(self) -> bytes:
        """The next piece of the request's body; empty at its end. Invites the body where the client waits for
        `100 Continue`. Raises `Refused(BODY_TIMEOUT)` for a sender that has stopped."""

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        """The answer's head, as the store gave it: what must not reach the client is taken out here. `length` is the body's
        size in bytes (it becomes `Content-Length`), `None` if unknown. Raises `Refused` for an answer that is not passed on."""

    def write(self, data: bytes) -> None:
        """A piece of the answer's body. Follow with `drain()` unless the pieces are few and small."""

    @property
    def congested(self) -> bool:
        """Whether the client takes slower than it is written to: time to `drain()` before writing more."""

    async def drain(self) -> None:
        """Returns when the client has taken enough of what was written; raises `ClientGone` when it takes nothing."""

    async def sink(self) -> int | None:
        """After `start()` with a length: everything written has left, and this is the descriptor of a plain socket that
        takes the body's further bytes as they are; report them with `sank()`. `None` where there is no such thing."""

    def sank(self, size: int) -> None:
        """`size` bytes went through the `sink()`."""

    def finish(self) -> None:
        """The answer is complete. Without this call the connection is broken off: never a clean end of half a body."""


class Upstream(Protocol):
    """A store behind the sidecar."""

    async def exists(self, upstream_path: str) -> bool:
        """Whether an object is stored there (rule 17). Raises `Unavailable(EXISTENCE_UNKNOWN)` if it can't be learnt."""

    async def forward(self, exchange: Downstream) -> None:
        """Carry the exchange to its end. Raises `Refused` only before `start()`; afterwards it simply doesn't `finish()`."""

    async def close(self) -> None: ...
