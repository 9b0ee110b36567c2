"""Reading one object after another: what the first of such requests came to, for those that differ from it in their key alone.

The law: it says what `request.read`, `request.actions` and `sending.sending` would say, of plain paths in the route's own bucket, or
nothing. Anything that has to be decoded, has a query or ends in a slash isn't plain.
"""

from sidecar.model import Action, Head, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.ports import HeaderList
from sidecar.s3.operations import OPERATIONS
from sidecar.s3.place import Place
from sidecar.s3.request import Asked
from sidecar.s3.sending import Sending
from sidecar.sigv4 import PLAIN_PATH, encode_path

_GET, _HEAD = OPERATIONS["GetObject"], OPERATIONS["HeadObject"]
_PLAIN = Oddity.NONE


class Reading:
    """Holds for one route and for requests that say in their headers what the first one said."""

    __slots__ = ("_bucket", "_kept", "_keys", "_place", "_same", "_theirs", "_to", "route")

    def __init__(self, route: Route, place: Place, kept: HeaderList) -> None:
        """`kept`: what goes on of the headers. Buckets that stand in the host's name are none of it: see `begin`."""
        self.route = route
        self._place, self._same, self._kept = place, place.same, kept
        self._bucket = place.bucket
        self._theirs = len(place.bucket) + 2
        self._keys = f"/{place.bucket}/{place.prefix}"
        self._to = f"{place.root}/{encode_path(place.store_prefix)}"

    def again(self, head: Head, route: Route) -> tuple[tuple[Action, ...], Sending] | None:
        """What a GET or HEAD asks of the workspace, and what its store gets; `None` where `request` has to say it."""
        target = head.target
        path = target.raw_path
        if route is not self.route or target.raw_query or target.oddities is not _PLAIN:
            return None
        if not path.startswith(self._keys) or path.endswith("/") or PLAIN_PATH.fullmatch(path) is None:
            return None
        key = path[len(self._keys) :]
        operation = _GET if head.method == "GET" else _HEAD
        asked = Asked(operation, self._bucket, path[self._theirs :], {}, head.headers.values, False, None)
        return (Action(Permission.READ, key),), Sending(
            f"{self._to}{key}", self._kept, asked, self._place, None, self._same
        )


def begin(head: Head, route: Route, sent: Sending) -> Reading | None:
    """After a request that `reads_one` has been judged by all of its words; `None` where no other is like it."""
    if route.host or head.target.raw_query:  # what stands there may be a header, too
        return None
    return Reading(route, sent.place, sent.headers)
