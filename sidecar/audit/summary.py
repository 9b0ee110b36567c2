"""Audit records, summed up: who would have been refused (rule 21), and who still uses an old shared password.

Law: an audit file is as hostile as what was asked of the sidecar. A line that is no record is counted and passed over, nothing in a
record can make the sums large, and whoever shows a text from here makes it printable first.
"""

from msgspec import Struct, field

from sidecar.audit.lines import Record, record_of

CALLERS = 10_000
"""The most that are told apart; further ones are counted together. The same for peers with a shared password."""
PEERS = 20
"""The most peers that are named of one caller."""
KEYS = 3
"""Keys that are shown of one caller."""


class Caller(Struct, frozen=True):
    """Whom refusals are summed up by."""

    workspace: str
    kind: str
    issuer: str
    """The issuer of a JWT; empty for what was issued here."""
    principal: str
    reason: str
    """What the refusal will say."""


class Refusals(Struct):
    """One caller's requests that were let through."""

    caller: Caller
    count: int = 0
    permissions: set[str] = field(default_factory=set)
    first: str = ""
    last: str = ""
    groups: frozenset[str] | None = None
    """Those that the caller was in at every request."""
    common: tuple[str, ...] | None = None
    """The segments that all keys are below; empty where they have none in common."""
    keys: list[str] = field(default_factory=list)
    """Some of them."""
    peers: dict[str, int] = field(default_factory=dict)
    more_peers: int = 0
    """Requests of peers beyond those that are named."""


class OldPasswordUse(Struct):
    """What one peer did with a workspace's old shared password."""

    workspace: str
    peer: str
    count: int = 0
    refused: int = 0
    """How many of them were refused, as its last day has passed or it may not do what was asked."""
    first: str = ""
    last: str = ""
    user_agent: str = ""


class Summary(Struct):
    records: int = 0
    unreadable: int = 0
    """Lines that are no record."""
    first: str = ""
    last: str = ""
    callers: dict[Caller, Refusals] = field(default_factory=dict)
    old_passwords: dict[tuple[str, str], OldPasswordUse] = field(default_factory=dict)
    not_told_apart: int = 0
    """Requests of further callers or peers."""
    last_request: str | None = None
    """Of what it did to several keys each has a record, one after another."""

    def add(self, line: bytes) -> None:
        """One line of an audit file."""
        record = record_of(line)
        if record is None:
            self.unreadable += 1
            return
        self.records += 1
        self.first, self.last = _span(self.first, self.last, record.time)
        if record.kind != "access" or record.stage != "complete":
            return
        again = record.resource.path is not None and record.request.id == self.last_request
        self.last_request = record.request.id
        if record.decision.would_deny is not None:
            self._refusal(record, record.decision.would_deny, again)
        if record.actor.type == "legacy" and not again:
            self._old_password(record)

    def _refusal(self, record: Record, reason: str, again: bool) -> None:
        actor = record.actor
        kind = actor.type or "unknown"
        issuer = actor.owner or "" if kind == "jwt" else ""
        caller = Caller(record.workspace or "", kind, issuer, actor.principal or "", reason)
        known = self.callers.get(caller)
        if known is None:
            if len(self.callers) >= CALLERS:
                self.not_told_apart += 1
                return
            known = self.callers[caller] = Refusals(caller)
        known.count += not again
        known.permissions.add(record.action.removeprefix("object."))
        known.first, known.last = _span(known.first, known.last, record.time)
        groups = frozenset(actor.groups or ())
        known.groups = groups if known.groups is None else known.groups & groups
        key = record.resource.name or ""
        known.common = _common(known.common, key)
        if key not in known.keys and len(known.keys) < KEYS:
            known.keys.append(key)
        peer = _peer(record)
        if again:
            return
        if peer in known.peers or len(known.peers) < PEERS:
            known.peers[peer] = known.peers.get(peer, 0) + 1
        else:
            known.more_peers += 1

    def _old_password(self, record: Record) -> None:
        place = record.workspace or "", _peer(record)
        known = self.old_passwords.get(place)
        if known is None:
            if len(self.old_passwords) >= CALLERS:
                self.not_told_apart += 1
                return
            known = self.old_passwords[place] = OldPasswordUse(*place)
        known.count += 1
        known.refused += record.reason not in _LET_THROUGH
        known.first, known.last = _span(known.first, known.last, record.time)
        known.user_agent = record.request.user_agent or known.user_agent


_LET_THROUGH = frozenset({"granted", "answered_here", "would_deny"})


def _span(first: str, last: str, time: str) -> tuple[str, str]:
    """RFC 3339 in UTC sorts as text."""
    return (time if not first or time < first else first), max(last, time)


def _common(before: tuple[str, ...] | None, key: str) -> tuple[str, ...]:
    folder = tuple(key.split("/")[:-1])
    if before is None:
        return folder
    length = 0
    for one, other in zip(before, folder, strict=False):
        if one != other:
            break
        length += 1
    return before[:length]


def _peer(record: Record) -> str:
    return record.client.ip or record.client.peer_ip or "a unix socket"
