"""What every client profile is: a kind of client's meaning, as pure functions of the request's head.

A profile never grants anything: it says which actions a request comes to, and the policy decides on each of them.
What it doesn't know it refuses (rule 3).
"""

from enum import Enum
from typing import Protocol

from msgspec import Struct

from sidecar.model import Action, Head, Oddity, Target
from sidecar.policy.compiled import Route
from sidecar.reasons import Reason
from sidecar.s3.request import Asked


class LocalAnswer(Struct, frozen=True):
    """An answer that the sidecar gives itself. `Content-Length` is the caller's to add; a HEAD has an empty body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    phrase: bytes | None = None
    """Printable ASCII, said after the status instead of its name."""


class Operation(Struct, frozen=True):
    """A request of WebDAV's kind: it may act on trees of keys, on two of them, and be answered by a multistatus."""

    actions: tuple[Action, ...]
    alone: tuple[Action, ...] | None = None
    """What it comes to if its path names no collection; `None` where that makes no difference. The store is asked which of
    the two it is only if the policy answers them differently."""
    destination: Target | None = None
    """The second resource, below the same route's path."""
    replaces: bool = True
    """Whether what is at the destination may be replaced (RFC 4918 §10.6)."""


class Work(Enum):
    """What is done for a request besides carrying it to the store and back."""

    NOTHING = "nothing"
    KEEP_HEADERS = "keep headers"
    """What the client wants back with the object is kept beside it, where the store doesn't keep it."""
    CHECK_NARINFO = "check narinfo"
    ANSWER = "answer"
    """The store isn't asked: a body is read and dropped, and `missing` is the answer."""
    QUERY = "query"
    """The body asks for many keys at once."""


class Errand(Struct, frozen=True):
    """A request of a build cache's client: one object, and what the store is asked in the client's place."""

    actions: tuple[Action, ...]
    path: str
    """What the store is asked for, with the query."""
    forward: tuple[tuple[bytes, bytes], ...]
    """The headers that it is asked with."""
    sha256: str | None = None
    """In lower-case hex: what the body must hash to; no other body becomes visible in the store."""
    missing: LocalAnswer | None = None
    """What is said where the store has nothing there; `None` passes its own 404 on."""
    work: Work = Work.NOTHING


class Profile(Protocol):
    @property
    def name(self) -> str:
        """As in a route's `client:`."""

    @property
    def allowed(self) -> Oddity:
        """The oddities of a path that these clients need; any other is a 400 (law 1)."""

    def classify(self, head: Head, route: Route) -> tuple[Action, ...] | Operation | Errand | Asked | LocalAnswer:
        """The non-empty set of actions that the request comes to, or the answer where the store isn't asked.

        Raises `Refused` (`UNKNOWN_OPERATION`, `KEY_REQUIRED`, `WRONG_WORKSPACE`, `BAD_HEADER`, `BAD_TARGET`).
        """

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        """A refusal as this client understands it; the status may suit the client, the decision stands (rule 20).

        `head` is `None` where the request could not be read; `challenge` asks the caller for a token; `workspace` is
        empty where there is no route.
        """

    def answered(self, method: str, status: int) -> int | Reason:
        """Of a request that was an `Errand`: the status that the client gets for the store's own, or the reason for which it gets
        a refusal instead. 401 and 407 of a store are never asked about: they are about the sidecar's credentials."""
