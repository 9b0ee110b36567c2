"""A route's paths and its store's, one into the other: `to_store`, and its inverse `to_client`. There is no third way.

The request's path and `Destination` go through the one, `Location` and the hrefs of a multistatus through the other.
Only the route's prefix is exchanged; the key's bytes stay as they came (law 1). What does not lie below the prefix has no
image, and neither has what can't be read in one way only.
"""

from collections.abc import Collection

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Oddity, Target
from sidecar.policy.compiled import Route


def to_store(route: Route, parsed: Target) -> str:
    """The store's path of one of the route's paths, without the query."""
    return route.upstream_path + target.suffix(parsed, len(route.segments)) or "/"


def to_client(route: Route, reference: str, *, origins: Collection[str], allowed: Oddity = Oddity.NONE) -> str | None:
    """What a store calls one of its resources -> the path (with its query) by which the client may ask for it; `None` where
    it leaves the route.

    `origins` are the store's own, as `http://127.0.0.1:3000` in lower case; any other host, a relative path, a fragment
    and every path that isn't read in one way only (`allowed` are the profile's oddities) leave the route.
    """
    path = path_of(reference, origins)
    if path is None:
        return None
    try:
        parsed = target.parse(path)
    except Refused:
        return None
    if parsed.oddities & ~allowed:
        return None
    below = tuple(route.upstream_path.split("/")[1:])
    if parsed.segments[: len(below)] != below:
        return None
    mapped = ("" if route.path == "/" else route.path) + target.suffix(parsed, len(below)) or "/"
    return f"{mapped}?{parsed.raw_query}" if parsed.raw_query else mapped


def path_of(reference: str, origins: Collection[str]) -> str | None:
    """The path of an absolute path, or of a URL at one of `origins` (in lower case); `None` for anything else."""
    if reference.startswith("/"):
        return reference
    for origin in origins:
        if reference[: len(origin)].lower() == origin and reference.startswith("/", len(origin)):
            return reference[len(origin) :]
    return None
