"""A route's part of a bucket: what its clients call it, and what its store does. The one mapping, and its inverse.

A key goes from one to the other by its prefix alone; the rest of it stays as it is. What isn't below the prefix has no image.
"""

from collections.abc import Mapping

from msgspec import Struct

from sidecar.errors import Refused
from sidecar.policy.compiled import Route
from sidecar.reasons import Reason
from sidecar.sigv4 import encode_path


class Store(Struct, frozen=True):
    """What has to be known of an upstream to ask it for something that an S3 client wants."""

    bucket: str = ""
    """Where all of its keys lie; empty where a path's first segment is the bucket."""
    servers: frozenset[str] = frozenset()
    """Where it answers. Between two stores that have none in common nothing can be copied."""
    conditional: bool = True
    """Whether it knows `If-None-Match: *` where something is written."""


ANY_STORE = Store()
_MOST_PLACES = 4096


class Place(Struct, frozen=True, gc=False):
    """Prefixes are empty or end in `/`."""

    bucket: str
    prefix: str
    store_bucket: str
    store_prefix: str
    root: str
    """What stands before the slash and a key in the path that the upstream is asked for: empty, or `/bucket`."""

    @property
    def same(self) -> bool:
        """Whether both call everything alike."""
        return self.bucket == self.store_bucket and self.prefix == self.store_prefix

    def path(self, key: str) -> str:
        """What the upstream is asked for; the bucket itself for no key at all. Raises as `object_name`."""
        if not key:
            return self.root or "/"
        return f"{self.root}/{encode_path(self.object_name(key))}"

    def object_name(self, key: str) -> str:
        """The store's key of an object. Raises `Refused(KEY_REQUIRED)` where it would have none there: what clients call `team/`,
        where all of a bucket lies below, is a key to them and the bucket itself to its store."""
        name = self.to_store(key)
        if not name:
            raise Refused(Reason.KEY_REQUIRED, "the route's own folder, which is a whole bucket")
        return name

    def to_store(self, key: str) -> str:
        """A client's key, which must lie below the prefix."""
        return self.store_prefix + key.removeprefix(self.prefix)

    def to_client(self, key: str) -> str | None:
        """A key of the store's; `None` for one that isn't the route's."""
        if not key.startswith(self.store_prefix):
            return None
        return self.prefix + key[len(self.store_prefix) :]

    def after(self, key: str) -> str:
        """The store's key from which on a list goes on that is to begin after `key`, which may lie anywhere."""
        if key.startswith(self.prefix):
            return self.to_store(key)
        # S3 lists in the order of UTF-8 bytes; "0" is what follows "/".
        return f"{self.store_prefix[:-1]}0" if key.encode() > self.prefix.encode() and self.store_prefix else ""


def place(route: Route, store: Store) -> Place:
    """`route` is one for S3 clients: its path is a bucket's, or goes on into one."""
    bucket, _, below = route.path[1:].partition("/")
    keys = route.upstream_path[1:]
    store_bucket, root = store.bucket, ""
    if not store_bucket:
        store_bucket, _, keys = keys.partition("/")
        root = f"/{store_bucket}"
    return Place(bucket, f"{below}/" if below else "", store_bucket, f"{keys}/" if keys else "", root)


class Places:
    """`place()` of each route, reckoned once: it holds for as long as the route is the very same object."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        """`stores` by upstream."""
        self._stores = stores
        self._known: dict[int, tuple[Route, Place]] = {}

    def of(self, route: Route) -> Place:
        known = self._known.get(id(route))
        if known is not None and known[0] is route:
            return known[1]
        if len(self._known) >= _MOST_PLACES:  # those of policies that were replaced are never asked for again
            self._known.clear()
        made = place(route, self._stores.get(route.upstream, ANY_STORE))
        self._known[id(route)] = route, made
        return made
