"""What an S3 request comes to: the operation, on which bucket and key, and the actions that it asks of a workspace.

The law: nothing of the request is left unread. The operation accounts for every query key, the headers are all known, and
bucket and key are the path's own, decoded once; what goes to the store is written anew from these.
"""

from collections.abc import Mapping

from msgspec import Struct

from sidecar.errors import Refused
from sidecar.model import Action, Head, Permission
from sidecar.reasons import Reason
from sidecar.s3 import copy_source, headers, query
from sidecar.s3.copy_source import CopySource
from sidecar.s3.multi_delete import MultiDelete
from sidecar.s3.operations import COPY_SOURCE, IGNORED, RENAME_SOURCE, Level, Operation, recognise

_SCOPED = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads"})
"""What lists keys, from `prefix` on."""
_DOTS = frozenset({".", ".."})
_READS_ONE = frozenset({"GetObject", "HeadObject"})
_OUTSIDE = "a key outside of the route's part of the bucket"
MULTI_DELETE = "DeleteObjects"
"""The one operation whose keys stand in its body."""


class Asked(Struct, frozen=True):
    operation: Operation
    bucket: str
    """As the client calls it; empty at the service's level."""
    key: str
    """Decoded once; empty at the bucket's level."""
    query: Mapping[str, str]
    """Decoded, without the signature: what may go to the store, by `query.write`."""
    headers: Mapping[str, str]
    """Lower-case names, with those that a signed URL carried as parameters."""
    admin: bool
    """A header asks for more than the operation does."""
    source: CopySource | None
    """The other object that is read; a renamed one is deleted too."""

    @property
    def lists(self) -> bool:
        """Whether it lists keys, from the query's `prefix` on."""
        return self.operation.name in _SCOPED

    @property
    def reads_one(self) -> bool:
        """Whether it is about the object that its path names and no other, with nothing to wait for before it is decided."""
        return self.operation.name in _READS_ONE and not self.admin


def read(head: Head, *, before: int = 0, bucket: str | None = None) -> Asked:
    """`before`: how many of the path's segments stand in front of the bucket's. `bucket`: where the host names it.

    Raises `Refused`: `UNKNOWN_OPERATION`, `BAD_TARGET`, `BAD_HEADER`, `MISPLACED_TOKEN`.
    """
    segments = head.target.segments[before:]
    if bucket is None:
        bucket, segments = (segments[0] if segments else ""), segments[1:]
        if bucket and not copy_source.is_bucket(bucket):
            raise Refused(Reason.BAD_TARGET, "not the name of a bucket")
        if not bucket and any(segments):
            raise Refused(Reason.BAD_TARGET, "a key without a bucket")
    key = "/".join(segments)
    level = Level.OBJECT if key else Level.BUCKET if bucket else Level.SERVICE
    asked: dict[str, str] = {}
    values: Mapping[str, str] = head.headers.values
    if head.target.raw_query:
        asked, values = headers.said(query.pairs(head.target.raw_query), values)
    operation = recognise(head.method, level, asked, values)
    if operation is None or operation.permission is None:
        raise Refused(Reason.UNKNOWN_OPERATION, "no such S3 operation" if operation is None else operation.name)
    admin = headers.asks_admin(values)
    source = copy_source.read(values[operation.source]) if operation.source else None
    if operation.source == RENAME_SOURCE and source is not None and source.version_id:
        raise Refused(Reason.BAD_HEADER, "a version can't be renamed")
    for name in query.IDS.intersection(asked):
        if not query.is_id(asked[name]) or (name == "uploadId" and not asked[name]):
            raise Refused(Reason.BAD_TARGET, f"{name} is no id that a store gives out")
    own = {name: value for name, value in asked.items() if name not in IGNORED} if asked else asked
    return Asked(operation, bucket, key, own, values, admin, source)


def actions(asked: Asked, prefix: str, deleted: MultiDelete | None = None) -> tuple[Action, ...]:
    """What is asked of the workspace whose route holds `prefix` of the bucket (without slashes at its ends; empty: all of it).

    Keys are relative to the prefix. `deleted`: the body of DeleteObjects, which says what is asked. What a copy's source
    asks is `source_permissions()`, of whatever workspace holds it. Raises `Refused`: `WRONG_WORKSPACE` for what reaches beyond
    the prefix, `UNKNOWN_OPERATION` for what no route has.
    """
    operation = asked.operation
    permission = operation.permission
    if permission is None or operation.level is Level.SERVICE:
        raise Refused(Reason.UNKNOWN_OPERATION, operation.name)
    if operation.name == MULTI_DELETE:
        if deleted is None:
            raise Refused(Reason.MALFORMED_BODY, "the keys to delete are missing")
        keys = dict.fromkeys(relative(entry.key, prefix) for entry in deleted.entries)
        extra = (Permission.ADMIN,) if asked.admin else ()
        return tuple(Action(each, key) for key in keys for each in (permission, *extra))
    if operation.name in _SCOPED:
        return (Action(permission, listed(asked.query.get("prefix", ""), prefix), below=True),)
    if operation.level is Level.BUCKET:
        if permission is not Permission.READ and prefix:
            raise Refused(Reason.WRONG_WORKSPACE, f"{operation.name} would reach beyond the route's part of the bucket")
        return (Action(permission, "", below=permission is not Permission.READ),)
    key = relative(asked.key, prefix)
    first = Action(permission, key, creates=operation.creates)
    return (first, Action(Permission.ADMIN, key)) if asked.admin and permission is not Permission.ADMIN else (first,)


def actions_on_one(asked: Asked, prefix: str) -> tuple[Action, ...]:
    """`actions()` of what `reads_one`; `prefix` is empty or ends in `/`."""
    key = asked.key
    if prefix:
        if not key.startswith(prefix):
            raise Refused(Reason.WRONG_WORKSPACE, _OUTSIDE)
        key = key[len(prefix) :]
    return (Action(Permission.READ, key),)


def source_permissions(asked: Asked) -> tuple[Permission, ...]:
    """What is asked of the source's key; empty where there is none."""
    return {
        "": (),
        COPY_SOURCE: (Permission.READ,),
        RENAME_SOURCE: (Permission.READ, Permission.DELETE),
    }[asked.operation.source]


def relative(key: str, prefix: str) -> str:
    """A bucket's key as the route's. Raises `Refused(WRONG_WORKSPACE)` for one outside of the prefix."""
    if not prefix:
        return key
    if not key.startswith(f"{prefix}/"):
        raise Refused(Reason.WRONG_WORKSPACE, _OUTSIDE)
    return key[len(prefix) + 1 :]


def listed(asked: str, prefix: str) -> str:
    """The tree that a list of the keys beginning with `asked` may show, relative to the route's prefix, without slash at its end.

    `releases` begins `releases-internal/x` too, so only what stands before the last `/` says what is shown. Raises
    `Refused(BAD_TARGET)` for dot segments there, as everywhere: no key that may be asked for has any.
    """
    tree = asked[: asked.rfind("/") + 1]
    if not _DOTS.isdisjoint(tree.split("/")):
        raise Refused(Reason.BAD_TARGET, "a dot segment in the prefix")
    return relative(tree, prefix).removesuffix("/")
