"""The profile of WebDAV clients (RFC 4918): sccache, rclone, file managers. Its operations act on trees, and two of them on two.

- A path that ends in `/` names a collection. One that doesn't may name one all the same: nginx refuses to delete it so,
  Apache deletes the tree. So both are judged as what acts on every key below (rule 18); where the policy answers a single key
  differently, the gate asks the store which of the two it is.
- A missing `Depth` is `infinity` (RFC 4918 §10.2), and `1` is judged like it. A `Depth` never narrows what changes something.
- MOVE and COPY stay within their route: `Destination` is a header that names a workspace (rule 19).
- Locks and dead properties are refused: LOCK, UNLOCK, PROPPATCH, and `If`, whose conditions name other resources and locks.
"""

from msgspec.structs import replace

from sidecar import mapping, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Oddity, Permission, Target
from sidecar.policy.compiled import Route
from sidecar.profiles import denial, plain, tenant
from sidecar.profiles.profile import Errand, LocalAnswer, Operation
from sidecar.reasons import REASONS, Outcome, Reason

_ONE_KEY = frozenset({"GET", "HEAD", "PUT"})
"""As every HTTP client means them."""
_LOCKS_AND_PROPERTIES = frozenset({"LOCK", "UNLOCK", "PROPPATCH"})
_OPERATIONS = frozenset({"PROPFIND", "MKCOL", "DELETE", "COPY", "MOVE"})
_OTHER_KEYS = plain.OTHER_KEYS - {"destination"}
_DEPTHS = frozenset({"0", "1", "infinity"})

# RFC 4918 §10.1: class 1. What is missing of it, PROPPATCH, clients learn from Allow.
_OPTIONS = LocalAnswer(
    200, ((b"allow", b"OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL, COPY, MOVE"), (b"dav", b"1"))
)

_SCCACHE_CHECK = "/.sccache_check"
"""sccache reads and writes it when its server starts (observed with 0.16.0). The build fails for any answer but 200 and 404 to the
one, in an outage, too; after a refusal of the other it writes nothing at all, so that in a cache whose keys stay as they are this one alone may be
written again: what it holds means nothing to anybody."""


class Webdav:
    name = "webdav"
    allowed = Oddity.NON_ASCII
    """File names are text in any script; stores agree on percent-encoded UTF-8. The other oddities stay refused."""

    def __init__(self) -> None:
        self._plain = plain.Plain()

    def classify(self, head: Head, route: Route) -> tuple[Action, ...] | Operation | Errand | LocalAnswer:
        method, values = head.method, head.headers.values
        if "if" in values:
            raise Refused(Reason.UNKNOWN_OPERATION, "an If header: conditions on locks and other resources")
        if method in _ONE_KEY:
            found = self._plain.classify(head, route)
            if method == "PUT" and isinstance(found, tuple) and head.target.raw_path.endswith(_SCCACHE_CHECK):
                return tuple(replace(action, creates=False) for action in found)
            return found
        if method == "OPTIONS":
            return _OPTIONS
        if method not in _OPERATIONS:
            if method not in route.verbs or method in _LOCKS_AND_PROPERTIES:
                raise Refused(Reason.UNKNOWN_OPERATION, "a method that WebDAV clients are not served")
            found = self._plain.classify(head, route)
            if isinstance(found, tuple) and not any(action.creates for action in found):
                return Operation(found)  # its answer may be a multistatus
            return found
        plain.check_query(head.target.raw_query)
        tenant.check_headers(values, route.workspace)
        if any(values[name].lower() != "false" for name in _OTHER_KEYS & values.keys()):
            raise Refused(Reason.UNKNOWN_OPERATION, "a header that names another object")
        if ("destination" in values) != (method in ("COPY", "MOVE")):
            raise Refused(Reason.BAD_HEADER, "a Destination without COPY or MOVE, or one of these without it")
        depth = values.get("depth", "infinity").lower()
        if depth not in _DEPTHS:
            raise Refused(Reason.BAD_HEADER, "a Depth other than 0, 1 and infinity")
        key, collection = _named(head.target, route)
        if method == "PROPFIND":
            if depth == "0":
                return Operation((Action(Permission.READ, key),))
            return _tree((Action(Permission.READ, key),), collection)
        if method == "MKCOL":
            return Operation((Action(Permission.WRITE, key),))
        if not key:
            raise Refused(Reason.KEY_REQUIRED)
        if route.content_address and method != "DELETE":
            raise Refused(Reason.UNKNOWN_OPERATION, "what is copied to a key that is a digest can't be held to it")
        if method == "DELETE":
            return _tree((Action(Permission.DELETE, key),), collection)
        return _transfer(head, route, key, collection)

    def answered(self, method: str, status: int) -> int | Reason:
        return status

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        answer = denial.plain(head, reason, hint, challenge, workspace)
        if reason is Reason.EXISTS:
            # RFC 4918 §9.8.5: what COPY and MOVE say where something is at the destination. To a PUT a 409 would say that the folder is
            # missing (§9.7.1).
            return replace(answer, status=412)
        if head is None or not _is_sccache_check(head):
            return answer
        if answer.status == 403 or REASONS[reason].outcome is Outcome.ERROR:
            kept = tuple(pair for pair in answer.headers if pair[0] not in (b"www-authenticate", b"retry-after"))
            return replace(answer, status=404, headers=kept)
        return answer


def destination(head: Head, route: Route) -> Target:
    """Where a COPY or MOVE goes to. Raises `Refused` for another host (`BAD_HEADER`), another route (`WRONG_WORKSPACE`), and
    for what would be refused as a request's own target (`BAD_TARGET`)."""
    text = head.headers.values["destination"]
    path = mapping.path_of(text, _origins(head.headers.values.get("host", "").lower()))
    if path is None:
        raise Refused(Reason.BAD_HEADER, "a Destination that is neither a path nor a URL of this host")
    if "?" in path:
        raise Refused(Reason.BAD_HEADER, "a Destination with a query")
    parsed = target.parse(path)
    if parsed.oddities & ~Webdav.allowed:
        met = target.in_words(parsed.oddities & ~Webdav.allowed)
        raise Refused(Reason.BAD_TARGET, f"a Destination with {met}")
    if parsed.segments[: len(route.segments)] != route.segments:
        raise Refused(Reason.WRONG_WORKSPACE, "a Destination outside of the route")
    return parsed


def _transfer(head: Head, route: Route, source: str, collection: bool) -> Operation:
    method, values = head.method, head.headers.values
    replaces = values.get("overwrite", "T").upper()
    if replaces not in ("T", "F"):
        raise Refused(Reason.BAD_HEADER, "an Overwrite other than T and F")
    there = destination(head, route)
    goal, into_collection = _named(there, route)
    if not goal:
        raise Refused(Reason.KEY_REQUIRED)
    if f"{goal}/".startswith(f"{source}/") or f"{source}/".startswith(f"{goal}/"):
        # RFC 4918 §9.8.5 asks for a 403 for the same resource. The one within the other has no end, or loses its source.
        raise Refused(Reason.UNKNOWN_OPERATION, "source and destination lie within each other")
    actions = [Action(Permission.READ, source), Action(Permission.WRITE, goal, creates=True)]
    if method == "MOVE":
        actions.insert(1, Action(Permission.DELETE, source))
    operation = _tree(tuple(actions), collection or into_collection)
    return replace(operation, destination=there, replaces=replaces == "T")


def _tree(actions: tuple[Action, ...], collection: bool) -> Operation:
    below = tuple(replace(action, below=True) for action in actions)
    return Operation(below, None if collection or not actions[0].key else actions)


def _named(parsed: Target, route: Route) -> tuple[str, bool]:
    """The key without a trailing slash, and whether there was one: it names a collection."""
    key = target.key(parsed, len(route.segments))
    return key.removesuffix("/"), key.endswith("/")


def _origins(host: str) -> list[str]:
    """By what URLs a client may call us that sent this `Host` (in lower case). TLS may end before us, so either scheme; a
    default port may be said or not."""
    found = []
    for scheme, port in (("http", ":80"), ("https", ":443")):
        bare = host.removesuffix(port)
        found.append(f"{scheme}://{bare}")
        if bare != host or ":" not in host.rpartition("]")[2]:
            found.append(f"{scheme}://{bare}{port}")
    return found


def _is_sccache_check(head: Head) -> bool:
    return head.method in ("GET", "HEAD") and head.target.raw_path.endswith(_SCCACHE_CHECK)
