"""What one token did, and what derives from it, read out of audit records in one pass.

Law: memory stays bounded whatever is in a file, and a line that is no record is counted and passed over. What derives from a token is
learnt on the way: its replacements name their parent, a Biscuit names all its blocks. So a pass begins with the oldest record, also where
only the newest are asked for.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct, field

from sidecar.audit.lines import RecordReader

MOST_TOKENS = 10_000
"""Derived tokens that are followed."""
MOST_PENDING = 4_096
"""Intents whose completion is still to come."""
_SEARCHED = 16
"""With so many ids at most, a line is searched for them before it is read."""
_REFUSED = frozenset({"deny", "unauthenticated"})
_WRITES = frozenset({"object.write", "object.overwrite", "object.delete", "object.admin"})


class _Actor(Struct):
    type: str | None = None
    token_id: str | None = None
    token_name: str | None = None
    principal: str | None = None
    root_id: str | None = None
    parent: str | None = None
    blocks: list[str] | None = None


class _Client(Struct):
    ip: str | None = None
    peer_ip: str | None = None


class _Request(Struct):
    id: str | None = None
    method: str | None = None
    path: str | None = None
    user_agent: str | None = None


class _Response(Struct):
    status: int | None = None
    aborted: bool | None = None


class _Resource(Struct):
    store: str | None = None
    name: str | None = None


class _Changes(Struct):
    token_id: str | None = None
    parent: str | None = None
    destination: str | None = None


class _Record(Struct):
    v: str
    time: str
    kind: str
    action: str
    stage: str | None = None
    outcome: str | None = None
    reason: str | None = None
    workspace: str | None = None
    request: _Request = field(default_factory=_Request)
    response: _Response = field(default_factory=_Response)
    client: _Client = field(default_factory=_Client)
    actor: _Actor = field(default_factory=_Actor)
    resource: _Resource = field(default_factory=_Resource)
    changes: _Changes | None = None


class Use(Struct, frozen=True):
    """One request of the token, or one thing that happened to it."""

    time: str
    token_id: str
    block: str | None
    """Of a Biscuit: the revocation id of the last block."""
    derived: bool
    """It was used through what derives from it."""
    kind: str
    """`access` or `token`."""
    action: str
    outcome: str | None
    reason: str | None
    status: int | None
    client: str | None
    user_agent: str | None
    workspace: str | None
    store: str | None
    key: str | None
    method: str | None
    path: str | None
    subject: str | None
    token_name: str | None
    by: str | None
    """Who did it, of what happened to the token."""
    finished: bool
    """False: the record of its end is missing, so what came of it is not known."""

    @property
    def wrote(self) -> bool:
        """Whether the store may hold something else since."""
        return self.kind == "access" and self.action in _WRITES and self.outcome == "allow" and (self.status or 0) < 400


class Query:
    def __init__(self, token_id: str, *, since: str = "", denied: bool = False) -> None:
        """`token_id`: an id, a `jti`, or the revocation id of a Biscuit's block. `since`: RFC 3339, in UTC."""
        self._wanted = token_id
        self._since = since
        self._denied = denied
        self._ids = {token_id}
        self._searched = [_as_written(token_id)]
        self._pending: dict[str, Use] = {}
        self.records = 0
        """Records that were read; the others didn't name the token."""
        self.unreadable = 0

    @property
    def ids(self) -> frozenset[str]:
        """The token's id, and those of its replacements that were met."""
        return frozenset(self._ids)

    def add(self, line: bytes) -> Use | None:
        """One line of an audit file: what it says of the token, if anything."""
        if len(self._searched) <= _SEARCHED and not any(each in line for each in self._searched):
            if not line.startswith(b"{"):
                self.unreadable += 1
            return None
        record = _READER.read(line)
        if record is None:
            self.unreadable += 1
            return None
        self.records += 1
        use = self._event(record) if record.kind == "token" else self._access(record)
        if use is None or use.time < self._since or (self._denied and use.outcome not in _REFUSED):
            return None
        return use

    def unfinished(self) -> Iterator[Use]:
        """Requests of which only the beginning was met. To be asked at the end."""
        for use in self._pending.values():
            if use.time >= self._since and not self._denied:
                yield use

    def _access(self, record: _Record) -> Use | None:
        actor = record.actor
        if not self._is_meant(actor):
            return None
        token_id, blocks = actor.token_id or "", actor.blocks or []
        changes, name = record.changes, record.resource.name
        use = Use(
            time=record.time,
            token_id=token_id,
            block=blocks[-1] if blocks else None,
            derived=token_id != self._wanted if not blocks else blocks[-1] != self._wanted and len(blocks) > 1,
            kind="access",
            action=record.action,
            outcome=record.outcome,
            reason=record.reason,
            status=record.response.status,
            client=record.client.ip or record.client.peer_ip,
            user_agent=record.request.user_agent,
            workspace=record.workspace,
            store=record.resource.store,
            key=changes.destination if changes is not None and changes.destination is not None else name,
            method=record.request.method,
            path=record.request.path,
            subject=actor.principal,
            token_name=actor.token_name,
            by=None,
            finished=record.stage == "complete",
        )
        request_id = record.request.id or ""
        if record.stage == "intent":
            if len(self._pending) >= MOST_PENDING:
                self._pending.pop(next(iter(self._pending)))
            self._pending[request_id] = use
            return None
        self._pending.pop(request_id, None)
        return use

    def _is_meant(self, actor: _Actor) -> bool:
        ids = self._ids
        if actor.parent is not None and actor.parent in ids:
            self._follow(actor.token_id)
            return True
        if actor.token_id in ids or (actor.root_id is not None and actor.root_id in ids):
            return True
        return actor.blocks is not None and not ids.isdisjoint(actor.blocks)

    def _event(self, record: _Record) -> Use | None:
        changes = record.changes
        named = changes.token_id if changes is not None else None
        if changes is None or named is None:
            return None
        if changes.parent is not None and changes.parent in self._ids:
            self._follow(named)
        # What has no row of its own is named with its kind: `jwt:ISSUER:JTI`, `biscuit:ID`.
        elif named not in self._ids and not named.endswith(f":{self._wanted}"):
            return None
        return Use(
            time=record.time,
            token_id=named,
            block=None,
            derived=named != self._wanted and named in self._ids,
            kind="token",
            action=record.action,
            outcome=record.outcome,
            reason=None,
            status=None,
            client=None,
            user_agent=None,
            workspace=record.workspace,
            store=None,
            key=None,
            method=None,
            path=None,
            subject=None,
            token_name=None,
            by=record.actor.principal,
            finished=True,
        )

    def _follow(self, token_id: str | None) -> None:
        if token_id and token_id not in self._ids and len(self._ids) < MOST_TOKENS:
            self._ids.add(token_id)
            self._searched.append(_as_written(token_id))


_READER = RecordReader(_Record)


def _as_written(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]
