"""Operations on trees of keys (rule 18): what has to be asked before one is decided, and how the store is held to the answer.

Law: where it isn't certain that a tree is not touched, it counts as touched. The store is asked only where the policy's answer
depends on it, and only on behalf of a caller who would be granted one of the two.
"""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from sidecar import mapping, target
from sidecar.errors import Refused, Unavailable
from sidecar.model import Action, Head, Permission, Verdict
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Snapshot
from sidecar.ports import HeaderList
from sidecar.profiles.profile import Operation
from sidecar.reasons import Reason

Judge = Callable[[tuple[Action, ...], bool | None], Verdict]
"""The policy's word on actions, given whether the key that one of them creates is there (`None`: not asked)."""
Exists = Callable[[str], Awaitable[bool]]
"""Of a path in the route's store. Raises `Unavailable`."""

# Asked with one of these, a store could answer with bytes in which no href can be found, or act on what was not judged.
_REPLACED = frozenset({b"destination", b"overwrite", b"accept-encoding"})


class Settled(Struct, frozen=True):
    verdict: Verdict
    actions: tuple[Action, ...]
    """Those that were decided on."""
    exists: bool | None
    """Whether something is at the destination, where that was asked."""
    forward: HeaderList
    """The headers that the store gets: of `Headers.forward`, with its own `Destination`."""


async def settle(
    operation: Operation, head: Head, route: Route, snapshot: Snapshot, judge: Judge, exists: Exists
) -> Settled:
    """Raises `Refused(WRONG_WORKSPACE)` for what reaches into another workspace, and `Unavailable` as `exists` does where
    rule 17 needs its answer."""
    goal = operation.destination
    if goal is not None and snapshot.match(goal.segments) is not route:
        raise Refused(Reason.WRONG_WORKSPACE, "a Destination in another route")
    for action in operation.actions:
        if action.below and snapshot.routes.reaches_others(route, action.key):
            raise Refused(Reason.WRONG_WORKSPACE, "keys of another workspace lie below")
    place = mapping.to_store(route, goal) if goal is not None else ""
    there: bool | None = None

    async def decide(actions: tuple[Action, ...]) -> Verdict:
        nonlocal there
        verdict = judge(actions, there)
        if verdict.existence_needed:
            there = await exists(place.removesuffix("/"))
            verdict = judge(actions, there)
        return verdict

    actions = operation.actions
    verdict = await decide(actions)
    if operation.alone is not None and verdict.reason is not Reason.GRANTED:
        alone = await decide(operation.alone)
        better = alone.allowed and alone.reason is not verdict.reason
        if better and not await _may_hold(exists, mapping.to_store(route, head.target) + "/"):
            actions, verdict = operation.alone, alone
    spared = there is False or not operation.replaces
    if goal is not None and verdict.allowed and not spared:
        spared = not _may_empty(judge, target.key(goal, len(route.segments)).removesuffix("/")) and (
            place.endswith("/") or await _may_hold(exists, place + "/")
        )
    return Settled(verdict, actions, there, _forward(operation, head, route, spared))


def _may_empty(judge: Judge, key: str) -> bool:
    """Whether the caller may lose all that is below a key: RFC 4918 §9.8.4 and §9.9.3 delete the tree at the destination
    before something takes its place, and `write` alone never deletes."""
    return any(
        judge((Action(permission, key, below=True),), None).allowed
        for permission in (Permission.DELETE, Permission.OVERWRITE)
    )


async def _may_hold(exists: Exists, collection: str) -> bool:
    """Whether there may be a collection at a path that ends in `/`. Only a clear no is one: stores hide them behind a 403."""
    try:
        return await exists(collection)
    except Unavailable:
        return True


def _forward(operation: Operation, head: Head, route: Route, spared: bool) -> HeaderList:
    kept = [pair for pair in head.headers.forward if pair[0].lower() not in _REPLACED]
    if operation.destination is not None:
        # A path: nginx answers 400 to a URL of another host than its own, and RFC 4918 §10.3 takes either.
        kept.append((b"Destination", mapping.to_store(route, operation.destination).encode("ascii")))
        if spared:
            kept.append((b"Overwrite", b"F"))
    return kept
