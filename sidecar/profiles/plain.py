"""The profile of any HTTP client: GET and HEAD read, PUT, POST and PATCH write, DELETE deletes, the rest is refused.

It knows nothing of the store behind, so it refuses what some stores read as more than one object: a write or delete
without a name or of a name that ends in `/` (nginx deletes the whole tree), a part that would be stored as the whole,
and every header by which a store reads or writes another key than the path's.
"""

import re

from sidecar import mapping, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Oddity, Permission, Target
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial, tenant
from sidecar.profiles.profile import Errand, LocalAnswer
from sidecar.reasons import Reason

# RFC 9110 §9.1: method names are case-sensitive, so `get` is an unknown operation.
VERBS = {
    "GET": Permission.READ,
    "HEAD": Permission.READ,
    "PUT": Permission.WRITE,
    "POST": Permission.WRITE,
    "PATCH": Permission.WRITE,
    "DELETE": Permission.DELETE,
}

OTHER_KEYS = frozenset({
    "destination",  # WebDAV MOVE and COPY
    "x-amz-copy-source", "x-goog-copy-source", "x-ms-copy-source", "x-oss-copy-source", "x-cos-copy-source",
    "x-obs-copy-source", "x-copy-from",  # a PUT that reads another object
    "x-object-manifest", "x-symlink-target",  # Swift: an object that shows others
    "x-checksum-deploy",  # Artifactory: stores what it already has under that digest, whoever may read it
    "x-explode-archive", "x-explode-archive-atomic",  # Artifactory: a PUT that writes every file of an archive
})  # fmt: skip
"""Headers that make a request touch another key than its path's. `headers.ONCE` and `LOCAL` hold all of them."""

OVERRIDES = frozenset(
    {"_method", "method_override", "http_method", "x-http-method", "x-http-method-override", "$httpmethod"}
)
"""Query parameters that frameworks (Rails, Laravel, Google's APIs) take for the method, in place of the real one."""


def check_query(query: str) -> None:
    """Raises `Refused(UNKNOWN_OPERATION)` for a parameter that some store takes for the method."""
    if query and any(name in OVERRIDES for name, _ in tenant.parameters(query)):
        raise Refused(Reason.UNKNOWN_OPERATION, "a parameter that names another method")


_SCOPED_NAME = re.compile(r"@[0-9A-Za-z~._-]+/[0-9A-Za-z~._-]+")


class Plain:
    """Of a key that is there and stays as it is, these clients hear 409: of a 403 they say that the token is wrong (Git LFS 3.3.0:
    `Authorization error`)."""

    name = "plain"
    allowed = Oddity.ENCODED_SLASH
    """Within npm's names alone, `/@scope%2fname`, which is the key `@scope/name`. Their spelling travels on as it came."""

    def classify(self, head: Head, route: Route) -> tuple[Action, ...] | Errand | LocalAnswer:
        method, values = head.method, head.headers.values
        permission = route.verbs.get(method) or VERBS.get(method)
        if permission is None:
            if method == "OPTIONS":
                return LocalAnswer(204, ((b"allow", ", ".join({**VERBS, "OPTIONS": None, **route.verbs}).encode()),))
            raise Refused(Reason.UNKNOWN_OPERATION, "a method without a permission")
        check_query(head.target.raw_query)
        if head.target.oddities:
            _check_names(head.target)
        tenant.check_headers(values, route.workspace)
        key = target.key(head.target, len(route.segments))
        if values.get("depth", "0") != "0":
            raise Refused(Reason.UNKNOWN_OPERATION, "a depth: it names every key below")
        if method == "GET" or method == "HEAD":
            return (Action(permission, key),)
        if any(values[name].lower() != "false" for name in OTHER_KEYS & values.keys()):
            raise Refused(Reason.UNKNOWN_OPERATION, "a header that names another object")
        # RFC 9110 §14.5: a server that doesn't know partial PUT may store the part as the whole; nginx does, Apache splices.
        if method == "PUT" and "content-range" in values:
            raise Refused(Reason.UNKNOWN_OPERATION, "a partial PUT")
        if permission is not Permission.READ and (not key or key.endswith("/")):
            raise Refused(Reason.KEY_REQUIRED)
        action = Action(permission, key, creates=permission is Permission.WRITE)
        if route.content_address and permission is not Permission.READ and method != "DELETE":
            return _at_its_digest(head, route, action)
        return (action,)

    def answered(self, method: str, status: int) -> int | Reason:
        return status

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        return denial.plain(head, reason, hint, challenge, workspace)


def _check_names(parsed: Target) -> None:
    if any("/" in segment and _SCOPED_NAME.fullmatch(segment) is None for segment in parsed.segments):
        raise Refused(Reason.BAD_TARGET, "an encoded slash (%2F) outside of a name like @scope%2fname")


def _at_its_digest(head: Head, route: Route, action: Action) -> Errand:
    """A body under its own SHA-256. What a reader would decode first is not what was hashed."""
    if head.method != "PUT":
        raise Refused(Reason.UNKNOWN_OPERATION, "a key that is its content's digest is written by PUT alone")
    if head.headers.values.get("content-encoding", "identity").lower() != "identity":
        raise Refused(Reason.BAD_HEADER, "content-encoding on a body that is hashed as it is")
    sha256 = build_cache.digest(action.key.rpartition("/")[2])
    path = mapping.to_store(route, head.target)
    query = head.target.raw_query
    return Errand((action,), f"{path}?{query}" if query else path, tuple(head.headers.forward), sha256=sha256)
