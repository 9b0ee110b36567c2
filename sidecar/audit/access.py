"""What the gate tells the audit log about a request, in plain values, and what law 8 owes to its record.

Texts are as received; they are cleaned where the record is made.
"""

from enum import Enum

from msgspec import Struct

from sidecar.audit.schema import NO_TLS, Tls, Trace
from sidecar.model import Action, Permission, Principal, PrincipalKind, Secret
from sidecar.reasons import Outcome, Reason


class Key(Struct, frozen=True):
    """A key that a request changes, where the request's own path doesn't name it."""

    permission: Permission
    name: str
    """With a slash at its end where it stands for all keys below, too."""
    path: str
    """By which a client asks for it, percent-encoded."""
    workspace: str
    upstream: str
    container: str = ""


class Access(Struct, frozen=True, eq=False, kw_only=True):
    """What is known of a request once it has been decided, in plain values."""

    request_id: str
    """The decision's id: intent and completion carry the same one."""
    method: str
    path: str
    """Percent-encoded, as received, without the query."""
    query: str = ""
    host: str = ""
    user_agent: str = ""
    peer: str = ""
    """The TCP peer's address; empty for a unix socket."""
    client_ip: str = ""
    """The client's address where a trusted proxy named it, else empty: then it is the peer."""
    forwarded: tuple[str, ...] = ()
    tls: Tls = NO_TLS
    profile: str = ""
    workspace: str = ""
    upstream: str = ""
    container: str = ""
    """The bucket, as S3's clients call it."""
    actions: tuple[Action, ...] = ()
    """What the profile read in the request; empty where the request was refused earlier."""
    principal: Principal | None = None
    """`None`: there is nobody yet, or the credential was refused."""
    carrier: str = ""
    """Where the credential sat: `bearer`, `basic`, `header`, ..."""
    unknown_token: Secret | None = None
    """The refused credential; only its HMAC is written. Ignored where there is a principal."""
    reason: Reason = Reason.GRANTED
    outcome: Outcome = Outcome.ALLOW
    rule: str | None = None
    policy_sha256: str = ""
    policy_generation: int | None = None
    token_state_seq: int | None = None
    staleness: float | None = None
    """Seconds since the token state was last known to be current."""
    cache: str | None = None
    """`hit`, `miss` or `negative`; `None` where no identity was looked up."""
    detail: str = ""
    """What the reason means here, for operators' eyes: it is never told to the caller and holds no secret."""
    trace: Trace = Trace()
    would_deny: Reason | None = None
    """What will refuse it once report mode is over."""
    operation: str = ""
    """What an S3 tool's request is called by AWS; empty for others, and for what was not let through."""
    key_path: str = ""
    """By which a client asks for the first of the actions' keys; empty where `path` is that."""
    further: tuple[Key, ...] = ()
    """Other keys that it changes: each has records of its own."""


class Completion(Struct, frozen=True, kw_only=True, gc=False):
    """How a request ended."""

    status: int
    duration: float
    """Seconds from the request's head to the answer's end."""
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    aborted: bool = False
    """Client or store broke off before the answer was complete."""
    reason: Reason | None = None
    """Where the end differs from the decision: `upstream_timeout`, `store_full`, ..."""
    outcome: Outcome | None = None
    detail: str = ""
    """As in `Access`, of such an end."""
    digest: str | None = None
    """Of the body that the store took, as `sha256:HEX`."""


class Delivery(Enum):
    """What law 8 owes to a request's record."""

    STRICT = "strict"
    """The request doesn't succeed unless a required sink has it: writes, deletes, admin, refusals of known callers."""
    RELAXED = "relaxed"
    COUNTED = "counted"
    """What unknown callers get without the store's being asked, refusals above all: recorded once, then counted, so that noise
    can't fill the disk."""


def delivery(outcome: Outcome, reason: Reason, principal: Principal | None, actions: tuple[Action, ...]) -> Delivery:
    """Of a decision; the arguments are the fields of `Access`."""
    if outcome is not Outcome.ALLOW or reason is Reason.ANSWERED_HERE:
        known = principal is not None and principal.kind is not PrincipalKind.ANONYMOUS
        if not known or reason is Reason.RATE_LIMITED:  # who asks too often must not fill the disk either
            return Delivery.COUNTED
        return Delivery.RELAXED if outcome is Outcome.ALLOW else Delivery.STRICT
    for action in actions:
        if action.permission is not Permission.READ:
            return Delivery.STRICT
    return Delivery.RELAXED
