"""From an S3 request to its route: by bucket and key, in whichever way the client writes them.

Path style is a path like any other; in virtual-hosted style the bucket stands before the route's `host`. Two things a path
alone doesn't tell: an encoded slash divides S3's keys as a plain one does, and a list of a bucket is about the keys that begin
with its `prefix`. The longest route of what is asked wins, as everywhere (rule 1).

Some stores keep keys as files, and read `a//b` as `a/b`, and `a/b/` here and there (Versity's gateway: where tags are
concerned). So a key with an empty segment lies nowhere and asks for nothing unless the key without it does, too.
"""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from sidecar.model import Action, Head, Oddity
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Node, Routes
from sidecar.s3 import query

CLIENT = "s3"
_JOINING = Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT
"""What makes other segments of a key than the path's."""


def find(routes: Routes, head: Head) -> Route | None:
    """The route of a request; of any client's. Where a bucket is asked for of which only parts have routes, the first of them:
    which one is meant, the caller and the body may say.

    Raises `Refused(BAD_TARGET)` as `query.pairs` does.
    """
    segments, suffix = head.target.segments, ""
    if not routes.hosts and _is_plain(head):
        found = routes.match(segments)
        if found is not None:
            return found
    if routes.hosts:
        bucket, suffix = _host(head, routes.hosts)
        if bucket:
            segments = (bucket, *segments)
    if not suffix:
        route = routes.match(segments)
        if route is not None and (route.client != CLIENT or _is_plain(head)):
            return route
    bucket, key = segments[0], "/".join(segments[1:])
    if not bucket:
        return None
    route = owner(routes, bucket, key or _listed(head))
    if route is None and not key:
        route = next(within(routes, bucket), None)
    return route if route is not None and suffix in ("", route.host) else None


def is_service(routes: Routes, head: Head) -> bool:
    """Whether no bucket is named at all, and there are some."""
    return bool(routes.buckets) and head.target.raw_path == "/" and not _host(head, routes.hosts)[0]


def owner(routes: Routes, bucket: str, key: str) -> Route | None:
    """The S3 route that a key is reached by; `None` where there is none, or where it is another kind of client's.

    Nor is there one for a key that lies in another route for a store that keeps keys as files.
    """
    names = key.split("/")
    route = routes.match((bucket, *names))
    if route is None or route.client != CLIENT:
        return None
    if "" in names and routes.match((bucket, *filter(None, names))) is not route:
        return None
    return route


def as_file(key: str) -> str:
    """The key as a store reads it that keeps keys as files. Dot segments never come so far."""
    return "/".join(filter(None, key.split("/")))


def in_both_forms(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """The actions, and beside each the same on its key as a file, where that is another: a rule that denies either denies it,
    and what grants or limits must hold for both."""
    others = [replace(each, key=as_file(each.key)) for each in actions if each.key and "" in each.key.split("/")]
    return (*actions, *others) if others else actions


def within(routes: Routes, bucket: str) -> Iterator[Route]:
    """All S3 routes of a bucket and of its parts, by path."""
    node = routes.paths.below.get(bucket)
    if node is not None:
        yield from _walk(node)


def all_buckets(routes: Routes) -> Iterator[str]:
    """Those that have a route, for whomever."""
    return iter(sorted(routes.paths.below)) if routes.buckets else iter(())


def bucket_in_host(route: Route, head: Head) -> str | None:
    """The bucket, where the request is of virtual-hosted style."""
    return (_host(head, (route.host,))[0] or None) if route.host else None


def _walk(node: Node) -> Iterator[Route]:
    yield from (route for route in node.here if route.client == CLIENT)
    for name in sorted(node.below):
        yield from _walk(node.below[name])


def _is_plain(head: Head) -> bool:
    """Whether the path's own segments say which key is meant."""
    segments = head.target.segments
    if len(segments) < 2 or segments[1] == "":
        return False
    return head.target.oddities is Oddity.NONE or not head.target.oddities & _JOINING  # nearly all have none


def _listed(head: Head) -> str:
    """What stands before the last `/` of the prefix that is to be listed."""
    if "prefix=" not in head.target.raw_query:
        return ""
    return query.pairs(head.target.raw_query).get("prefix", "").rpartition("/")[0]


def _host(head: Head, suffixes: Iterable[str]) -> tuple[str, str]:
    """What stands before one of the suffixes, and the suffix; both empty where none fits."""
    host = head.headers.values.get("host", "").lower().partition(":")[0]
    for suffix in suffixes:
        if host.endswith(suffix):
            return host[: -len(suffix)], suffix
    return "", ""
