"""What every client profile is: a kind of client's meaning, as pure functions of the request's head.

A profile never grants anything: it says which actions a request comes to, and the policy decides on each of them.
What it doesn't know it refuses (rule 3).
"""

from typing import Protocol

from msgspec import Struct

from sidecar.model import Action, Head, Oddity, Target
from sidecar.policy.compiled import Route
from sidecar.reasons import Reason


class LocalAnswer(Struct, frozen=True):
    """An answer that the sidecar gives itself. `Content-Length` is the caller's to add; a HEAD has an empty body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


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


class Profile(Protocol):
    @property
    def name(self) -> str:
        """As in a route's `client:`."""

    @property
    def allowed(self) -> Oddity:
        """The oddities of a path that these clients need; any other is a 400 (law 1)."""

    def classify(self, head: Head, route: Route) -> tuple[Action, ...] | Operation | LocalAnswer:
        """The non-empty set of actions that the request comes to, or the answer where the store isn't asked.

        Raises `Refused` (`UNKNOWN_OPERATION`, `KEY_REQUIRED`, `WRONG_WORKSPACE`, `BAD_HEADER`, `BAD_TARGET`).
        """

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        """A refusal as this client understands it; the status may suit the client, the decision stands (rule 20).

        `head` is `None` where the request could not be read; `challenge` asks the caller for a token; `workspace` is
        empty where there is no route.
        """
