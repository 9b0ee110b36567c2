"""Who wrote which key, read out of audit records in one pass, the oldest first.

Laws. Memory stays bounded whatever is in a file, and a line that is no record is counted and passed over. In doubt it was written:
a request whose end is missing, or that broke off, counts, and is marked. What has been written or deleted since is not a
token's work any more: only the last write of a key is `current`.
"""

import re
from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, unquote, unquote_to_bytes

from msgspec import Struct
from msgspec.structs import replace

from sidecar.audit import redact
from sidecar.audit.lineage import Lineage
from sidecar.audit.lines import Actor, Record, record_of
from sidecar.audit.uploads import Uploads

MOST = 1_000_000
"""Keys, or writes of one key, that are remembered; what is beyond is counted."""
MOST_PENDING = 4_096
"""Intents whose completion is still to come."""
_WRITES = frozenset({"object.write", "object.overwrite", "object.delete"})
_LAST_ESCAPE = re.compile("%.?$")
"""One that was cut."""
_UNESCAPED = "/!$&'()*+,;=:@"
"""What a path has as it is, besides letters, digits and `-._~` (RFC 3986 §3.3)."""
_SUB_RESOURCES = "object.admin"
"""What needs `admin` writes nothing, but for an S3 tool's request that says more than its operation asks."""
_Place = tuple[str, str | None, str]
"""A request's id, and a key of a workspace."""


class Write(Struct, frozen=True):
    """One write or deletion of one key."""

    time: str
    workspace: str | None
    key: str
    path: str | None
    """By which a client asks for it, percent-encoded; `None` where the log doesn't say it whole."""
    deleted: bool
    """It was not written but deleted."""
    below: bool
    """So was all below it."""
    certain: bool
    """False: the request's end is missing or it broke off, so the store may have taken it or not."""
    current: bool
    """Nobody wrote or deleted it since, as far as the log goes."""
    times: int
    """How often the same one wrote it before, this one included."""
    digest: str | None
    status: int | None
    store: str | None
    type: str | None
    """The principal's kind."""
    subject: str | None
    owner: str | None
    token_id: str | None
    token_name: str | None
    root_id: str | None
    blocks: list[str] | None
    claims: dict[str, str] | None
    request_id: str | None


class Writes:
    """Either of one `key`, or by one token or subject (`by`), of one workspace or of all."""

    def __init__(self, *, key: str = "", by: str = "", workspace: str | None = None, since: str = "") -> None:
        """`key`: decoded, or the path by which it is asked for, beginning with a slash. `since`: RFC 3339, in UTC."""
        self._key = redact.text(key)
        self._by = by
        self._lineage = Lineage(by)
        self._uploads = Uploads()
        self._workspace = workspace
        self._since = since
        self._pending: dict[_Place, tuple[Write, bool]] = {}
        self._found: dict[tuple[str | None, str], Write] = {}
        self._history: deque[Write] = deque(maxlen=MOST)
        self.records = self.unreadable = self.beyond = 0

    def add(self, line: bytes) -> None:
        """One line of an audit file."""
        if b'"action":"object.read"' in line:
            return
        record = record_of(line)
        if record is None:
            self.unreadable += 1
            return
        self.records += 1
        if record.kind == "token":
            self._lineage.born(record.changes)
        elif record.kind == "access" and _may_write(record) and self._uploads.changes(record):
            for write in _writes(record, self._uploads.digest(record)):
                self._access(record, write)

    def results(self) -> Iterator[Write]:
        """To be asked at the end, once: the oldest first."""
        for write, theirs in list(self._pending.values()):
            self._took(write, theirs)
        if self._by:
            yield from sorted(self._found.values(), key=lambda write: write.time)
            return
        for number, each in enumerate(self._history, 1):
            yield replace(each, current=number == len(self._history) and not each.deleted)

    def _access(self, record: Record, write: Write) -> None:
        if self._workspace is not None and record.workspace != self._workspace:
            return
        place, theirs = (record.request.id or "", write.workspace, write.key), self._is_theirs(record.actor)
        if record.stage == "intent":
            if len(self._pending) >= MOST_PENDING:
                self._took(*self._pending.pop(next(iter(self._pending))))
            self._pending[place] = write, theirs
            return
        self._pending.pop(place, None)
        taken = record.response.upstream_status
        refused = record.outcome != "allow" or (record.response.status or 0) >= 400
        if refused and not (taken is not None and 200 <= taken < 300):
            return
        self._took(write, theirs)

    def _took(self, write: Write, theirs: bool) -> None:
        if self._by:
            self._took_by(write, theirs)
        elif write.time >= self._since and (
            self._key in (write.key, write.path) or (write.below and _is_below(self._key, write.key))
        ):
            self.beyond += len(self._history) == MOST
            self._history.append(write)

    def _took_by(self, write: Write, theirs: bool) -> None:
        place = write.workspace, write.key
        known = self._found.get(place)
        if theirs and write.time >= self._since and not write.deleted:
            if known is None and len(self._found) >= MOST:
                self.beyond += 1
                return
            self._found[place] = replace(write, times=1 if known is None else known.times + 1)
            return
        if not write.certain:
            return
        if known is not None:
            self._found[place] = replace(known, current=False)
        if write.deleted and write.below:
            for other, found in self._found.items():
                if other[0] == write.workspace and _is_below(other[1], write.key):
                    self._found[other] = replace(found, current=False)

    def _is_theirs(self, actor: Actor) -> bool:
        # nobody in particular goes by their kind
        named = actor.principal == self._by or (actor.type == self._by and not actor.principal)
        return self._lineage.acted(actor) or named


def _may_write(record: Record) -> bool:
    return record.action in _WRITES or (record.action == _SUB_RESOURCES and record.request.operation is not None)


def _writes(record: Record, digest: str | None) -> Iterator[Write]:
    """What a MOVE writes, and what it takes away; of others one, if any."""
    name = record.resource.name
    if name is None:
        return
    path = _path(record, name)
    destination = record.changes.destination if record.changes is not None else None
    deleted = Uploads.deletes(record)
    if destination is not None:
        beside = None if path is None else _beside(path, name, destination)
        yield _write(record, destination, beside, digest, False, destination.endswith("/"))
    if destination is None or deleted:
        # A slash at an S3 key's end is a part of that key like any other.
        below = deleted and name.endswith("/") and record.request.protocol != "s3"
        yield _write(record, name, path, digest, deleted, below)


def _write(record: Record, name: str, path: str | None, digest: str | None, deleted: bool, below: bool) -> Write:
    actor = record.actor
    return Write(
        time=record.time,
        workspace=record.workspace,
        key=name,
        path=path,
        deleted=deleted,
        below=below,
        certain=record.stage == "complete" and not record.response.aborted,
        current=not deleted,
        times=1,
        digest=digest,
        status=record.response.status,
        store=record.resource.store,
        type=actor.type,
        subject=actor.principal,
        owner=actor.owner,
        token_id=actor.token_id,
        token_name=actor.token_name,
        root_id=actor.root_id,
        blocks=actor.blocks,
        claims=actor.claims,
        request_id=record.request.id,
    )


def _path(record: Record, name: str) -> str | None:
    """The whole path of a record's key, where the record says it or enough to put it together."""
    said = record.resource.path
    path = _whole(
        record.request.path if said is None else said, name if record.request.protocol == "s3" else redact.CUT
    )
    if said is None and record.resource.container is not None and path is not None:
        return _in_path_style(path, record.resource.container, name)
    return path


def _whole(path: str | None, name: str) -> str | None:
    """A path that had a secret in it names nothing any more. Nor does one that was cut, but for an S3 key's, which no spelling
    changes, where only one path begins so and ends in it."""
    if path is None or not path.startswith("/") or redact.TAKEN_OUT in path:
        return None
    if not path.endswith(redact.CUT):
        return path
    if name.endswith(redact.CUT) or redact.TAKEN_OUT in name:
        return None
    begun = _LAST_ESCAPE.sub("", path.removesuffix(redact.CUT))
    written = quote(name, safe=_UNESCAPED)
    found = {
        begun[: at + 1] + written for at, each in enumerate(begun) if each == "/" and _begins(begun[at + 1 :], name)
    }
    return found.pop() if len(found) == 1 else None


def _begins(begun: str, name: str) -> bool:
    """Whether what stands before the cut is the beginning of a key; the cut may be within a character."""
    return name.encode().startswith(unquote_to_bytes(begun))


def _in_path_style(path: str, bucket: str, key: str) -> str | None:
    """S3's clients may name the bucket in `Host`: then the path alone is that of something else."""
    decoded = unquote(path)
    if not decoded.endswith(f"/{key}"):
        return None  # of many keys in a body
    named = decoded.startswith(f"/{bucket}/") and decoded[len(bucket) + 1 :].endswith(f"/{key}")
    return path if named else f"/{bucket}{path}"


def _beside(path: str, name: str, destination: str) -> str | None:
    """The path of another key of the same route."""
    for length in range(len(path), 0, -1):
        if path[length - 1] == "/" and unquote(path[length:]).rstrip("/") == name.rstrip("/"):
            return path[:length] + quote(destination, safe="/")
    return None


def _is_below(key: str, folder: str) -> bool:
    return folder.endswith("/") and key.startswith(folder)
