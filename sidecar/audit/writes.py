"""Who wrote which key, read out of audit records in one pass, the oldest first.

Laws. Memory stays bounded whatever is in a file, and a line that is no record is counted and passed over. In doubt it was written:
a request whose end is missing, or that broke off, counts, and is marked. What has been written or deleted since is not a
token's work any more: only the last write of a key is `current`.
"""

from collections import deque
from collections.abc import Iterator
from urllib.parse import quote, unquote

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


class Write(Struct, frozen=True):
    """One write or deletion of one key."""

    time: str
    workspace: str | None
    key: str
    path: str | None
    """By which a client asks for it, percent-encoded; `None` where the log doesn't say it whole."""
    deleted: bool
    """It was not written but deleted; with a slash at the key's end, all below it."""
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
        self._pending: dict[str, tuple[Write, bool]] = {}
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
        elif record.kind == "access" and record.action in _WRITES and self._uploads.changes(record):
            self._access(record)

    def results(self) -> Iterator[Write]:
        """To be asked at the end, once: the oldest first."""
        for write, theirs in list(self._pending.values()):
            self._took(write, theirs)
        if self._by:
            yield from sorted(self._found.values(), key=lambda write: write.time)
            return
        for number, each in enumerate(self._history, 1):
            yield replace(each, current=number == len(self._history) and not each.deleted)

    def _access(self, record: Record) -> None:
        if self._workspace is not None and record.workspace != self._workspace:
            return
        write = _write(record, self._uploads.digest(record))
        if write is None:
            return
        request_id, theirs = record.request.id or "", self._is_theirs(record.actor)
        if record.stage == "intent":
            if len(self._pending) >= MOST_PENDING:
                self._took(*self._pending.pop(next(iter(self._pending))))
            self._pending[request_id] = write, theirs
            return
        self._pending.pop(request_id, None)
        taken = record.response.upstream_status
        refused = record.outcome != "allow" or (record.response.status or 0) >= 400
        if refused and not (taken is not None and 200 <= taken < 300):
            return
        self._took(write, theirs)

    def _took(self, write: Write, theirs: bool) -> None:
        if self._by:
            self._took_by(write, theirs)
        elif write.time >= self._since and (
            self._key in (write.key, write.path) or (write.deleted and _is_below(self._key, write.key))
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
        if write.deleted and write.key.endswith("/"):
            for other, found in self._found.items():
                if other[0] == write.workspace and _is_below(other[1], write.key):
                    self._found[other] = replace(found, current=False)

    def _is_theirs(self, actor: Actor) -> bool:
        # nobody in particular goes by their kind
        named = actor.principal == self._by or (actor.type == self._by and not actor.principal)
        return self._lineage.acted(actor) or named


def _write(record: Record, digest: str | None) -> Write | None:
    actor, name = record.actor, record.resource.name
    if name is None:
        return None
    path = _whole(record.request.path)
    if record.resource.container is not None and path is not None:
        path = _in_path_style(path, record.resource.container, name)
    destination = record.changes.destination if record.changes is not None else None
    deleted = record.action == "object.delete"
    if destination is not None:
        path = None if path is None else _beside(path, name, destination)
        name, deleted = destination, False  # what a MOVE takes away it puts there
    return Write(
        time=record.time,
        workspace=record.workspace,
        key=name,
        path=path,
        deleted=deleted,
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


def _whole(path: str | None) -> str | None:
    """A path that was cut, or had a secret in it, names nothing any more."""
    if path is None or not path.startswith("/") or path.endswith(redact.CUT) or redact.TAKEN_OUT in path:
        return None
    return path


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
