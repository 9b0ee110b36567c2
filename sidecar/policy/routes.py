"""From a path to its workspace (rule 1), and who may not share what with whom.

Law: an index is immutable. A change makes a new one that shares all untouched nodes with the old one, so that one changed
file among ten thousand costs microseconds, and whoever holds a snapshot keeps it whole.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from sidecar.errors import Problem
from sidecar.policy.compiled import Route, Workspace


class Node(Struct, frozen=True, gc=False):
    """A place in a tree of path segments."""

    here: tuple[Route, ...] = ()
    below: Mapping[str, "Node"] = {}


_EMPTY = Node()


class Routes(Struct, frozen=True, gc=False):
    """Two trees over the same routes: by the path that clients ask for, and by the keys that they reach in an upstream."""

    paths: Node = _EMPTY
    keys: Node = _EMPTY
    buckets: int = 0
    """How many of them are for S3 clients, whose requests find theirs by `policy.buckets`."""
    hosts: Mapping[str, int] = {}
    """How many of those have each `Route.host`; the longest first."""

    def match(self, segments: Sequence[str]) -> Route | None:
        """The longest route at or above this path. One dict look-up for each segment, none past the longest route."""
        node = self.paths
        best = node.here
        for segment in segments:
            found = node.below.get(segment)
            if found is None:
                break
            node = found
            best = node.here or best
        return best[0] if best else None

    def reaches_others(self, route: Route, key: str) -> bool:
        """Whether another workspace's route begins at or below a key of this one's tree, in the same upstream. Who shares all of
        the route's keys is not another there."""
        place = (*_key_place(route), *(key.split("/") if key else ()))
        return any(found == "below" or (found == "same" and key) for _, found in _related(self.keys, place, route))

    def adding(self, routes: Sequence[Route]) -> "Routes":
        paths, keys = self.paths, self.keys
        for route in routes:
            paths = _with(paths, route.segments, route)
            keys = _with(keys, _key_place(route), route)
        return Routes(paths, keys, *self._counted(routes, 1))

    def removing(self, routes: Sequence[Route]) -> "Routes":
        paths, keys = self.paths, self.keys
        for route in routes:
            paths = _without(paths, route.segments, route)
            keys = _without(keys, _key_place(route), route)
        return Routes(paths, keys, *self._counted(routes, -1))

    def _counted(self, routes: Sequence[Route], each: int) -> tuple[int, Mapping[str, int]]:
        buckets, hosts = self.buckets, dict(self.hosts)
        for route in routes:
            buckets += each * (route.client == "s3")
            if route.host:
                hosts[route.host] = hosts.get(route.host, 0) + each
        longest_first = sorted(hosts.items(), key=lambda pair: -len(pair[0]))
        return buckets, {host: count for host, count in longest_first if count}


class FileStatus(Struct, frozen=True, gc=False):
    """How one file of the policy directory stands."""

    file: str
    ok: bool
    workspace: str | None
    """The workspace that it serves now: from this version, or from its last good one."""
    problems: tuple[Problem, ...] = ()
    """Of the version that is on disk now."""


class Snapshot(Struct, frozen=True, gc=False):
    """All policies at one moment. A request takes one and uses it to its end."""

    routes: Routes = Routes()
    workspaces: Mapping[str, Workspace] = {}
    generation: int = 0
    """Grows with every change; only for people, the files' digests are what compares across replicas."""
    files: Mapping[str, FileStatus] = {}

    def match(self, segments: Sequence[str]) -> Route | None:
        """The route of a path's decoded segments; `None` is a 404, whoever asks (rule 2)."""
        return self.routes.match(segments)


class Conflict(Struct, frozen=True):
    """What keeps two workspaces from standing side by side."""

    route: Route
    """The new one's."""
    other: str
    """The other workspace."""
    message: str
    over_path: bool = True
    """Over what clients ask for; otherwise over the keys behind it."""


def conflicts(new: Workspace, routes: Routes, workspaces: Mapping[str, Workspace]) -> list[Conflict]:
    """What of `new` contradicts the workspaces that are there (rule 1). Empty is fine.

    The outer one's file must say `shares: [inner]`; where two reach the very same keys, each is the other's outer one.
    """
    found: list[Conflict] = []
    for route in new.routes:
        for other, place in _related(routes.paths, route.segments, route):
            owner = workspaces[other.workspace]
            where = f"{other.path} of workspace {owner.name!r} ({owner.file})"
            if place == "same":
                found.append(Conflict(route, owner.name, f"the route {route.path} is also that of {where}"))
            elif not _agreed(new, owner, place):
                message = f"the routes {route.path} and {where} nest; {_remedy(new, owner, place)}"
                found.append(Conflict(route, owner.name, message))
        for other, place in _related(routes.keys, _key_place(route), route):
            owner = workspaces[other.workspace]
            if not _agreed(new, owner, place):
                ours, theirs = route.upstream_path or "/", other.upstream_path or "/"
                where = f"{theirs} of workspace {owner.name!r} ({owner.file})"
                how = "the same" if place == "same" else "nested"
                message = (
                    f"in upstream {route.upstream!r}, {ours} and {where} are {how} keys; {_remedy(new, owner, place)}"
                )
                found.append(Conflict(route, owner.name, message, over_path=False))
    return found


def _remedy(new: Workspace, other: Workspace, place: str) -> str:
    if place == "same":
        return f"both files need 'shares': [{other.name}] here, [{new.name}] there"
    outer, inner = (other, new) if place == "above" else (new, other)
    return f"the file of {outer.name!r} needs 'shares: [{inner.name}]'"


def _agreed(new: Workspace, other: Workspace, place: str) -> bool:
    ours, theirs = other.name in new.shares, new.name in other.shares
    if place == "same":
        return ours and theirs
    return theirs if place == "above" else ours


def _related(root: Node, place: Sequence[str], route: Route) -> Iterator[tuple[Route, str]]:
    """Other workspaces' routes at, above and below a place in a tree."""
    node = root
    for segment in place:
        yield from ((other, "above") for other in node.here if other.workspace != route.workspace)
        found = node.below.get(segment)
        if found is None:
            return
        node = found
    yield from ((other, "same") for other in node.here if other.workspace != route.workspace)
    waiting = list(node.below.values())
    while waiting:
        node = waiting.pop()
        yield from ((other, "below") for other in node.here if other.workspace != route.workspace)
        waiting.extend(node.below.values())


def _key_place(route: Route) -> tuple[str, ...]:
    keys = tuple(route.upstream_path.split("/")[1:]) if route.upstream_path else ()
    return (route.upstream, *keys)


def _with(node: Node, place: Sequence[str], route: Route) -> Node:
    if not place:
        return Node((*node.here, route), node.below)
    below = dict(node.below)
    below[place[0]] = _with(below.get(place[0], _EMPTY), place[1:], route)
    return Node(node.here, below)


def _without(node: Node, place: Sequence[str], route: Route) -> Node:
    if not place:
        return Node(tuple(other for other in node.here if other != route), node.below)
    below = dict(node.below)
    rest = _without(below[place[0]], place[1:], route)
    if rest.here or rest.below:
        below[place[0]] = rest
    else:
        del below[place[0]]
    return Node(node.here, below)
