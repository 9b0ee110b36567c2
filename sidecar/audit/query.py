"""What one token did, and what derives from it, read out of audit records in one pass.

Law: memory stays bounded whatever is in a file, and a line that is no record is counted and passed over. What derives from a token is
learnt on the way, so a pass begins with the oldest record, also where only the newest are asked for.
"""

from collections.abc import Iterator

from msgspec import Struct, structs

from sidecar.audit.lineage import Lineage
from sidecar.audit.lines import Record, record_of
from sidecar.credentials.revocation_names import is_block

MOST_PENDING = 4_096
"""Intents whose completion is still to come."""
MOST_UNPLACED = 10_000
"""Revocations of Biscuits' blocks that nobody has used yet."""
_OF_BLOCK = b'"token_id":"biscuit:'
_REFUSED = frozenset({"deny", "unauthenticated"})
_WRITES = frozenset({"object.write", "object.overwrite", "object.delete", "object.admin"})


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
    request_id: str | None = None
    """The same in what one request did to several keys."""

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
        self._lineage = Lineage(token_id)
        self._pending: dict[tuple[str, str | None, str | None], Use] = {}
        self._unplaced: list[Use] = []
        self.records = 0
        """Records that were read; the others didn't name the token."""
        self.unreadable = 0

    @property
    def ids(self) -> frozenset[str]:
        """The token's id, and those of its replacements that were met."""
        return self._lineage.ids

    def add(self, line: bytes) -> Use | None:
        """One line of an audit file: what it says of the token, if anything."""
        if not self._lineage.may_name(line) and _OF_BLOCK not in line:
            if not line.startswith(b"{"):
                self.unreadable += 1
            return None
        record = record_of(line)
        if record is None:
            self.unreadable += 1
            return None
        self.records += 1
        use = self._event(record) if record.kind == "token" else self._access(record)
        if use is None or use.time < self._since or (self._denied and use.outcome not in _REFUSED):
            return None
        return use

    def unfinished(self) -> Iterator[Use]:
        """Requests of which only the beginning was met, and revocations of what was narrowed, where that was used after it alone. To be
        asked at the end."""
        placed = [use for use in self._unplaced if self._lineage.narrowed(use.token_id) is not None]
        for use in sorted([*placed, *self._pending.values()], key=lambda use: use.time):
            if use.time >= self._since and not self._denied:
                yield use

    def _access(self, record: Record) -> Use | None:
        actor = record.actor
        if not self._lineage.acted(actor):
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
            request_id=record.request.id,
        )
        request = record.request.id or "", record.workspace, name
        if record.stage == "intent":
            if len(self._pending) >= MOST_PENDING:
                self._pending.pop(next(iter(self._pending)))
            self._pending[request] = use
            return None
        self._pending.pop(request, None)
        return use

    def _event(self, record: Record) -> Use | None:
        changes = record.changes
        named = changes.token_id if changes is not None else None
        if changes is None or named is None:
            return None
        narrowed = self._lineage.narrowed(named)
        # What has no row of its own is named with its kind: `jwt:ISSUER:JTI`, `biscuit:ID`.
        known = self._lineage.born(changes) or named in self._lineage or named.endswith(f":{self._wanted}")
        use = Use(
            time=record.time,
            token_id=named,
            block=None,
            derived=(named != self._wanted and named in self._lineage) if narrowed is None else narrowed,
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
        if known or narrowed is not None:
            return use
        if len(self._unplaced) < MOST_UNPLACED and is_block(named):
            self._unplaced.append(structs.replace(use, derived=True))
        return None
