"""S3 requests, from what is asked to what is decided: their keys in the body, their other object, the buckets that one may see.

The law: each key is judged by the workspace whose route it is reached by, wherever in the request it stands, and both as it
was sent and as a store reads it that keeps keys as files (`policy.buckets`). What reaches keys of more than one route is
refused, but for a copy, which reads in one workspace what it writes in another.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from sidecar.aws_chunked import ChunkSigning
from sidecar.errors import Refused
from sidecar.model import Action, Head, Permission, Verdict
from sidecar.policy import buckets
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Routes
from sidecar.profiles import s3_errors
from sidecar.profiles.profile import LocalAnswer
from sidecar.reasons import Reason
from sidecar.s3 import multi_delete, request
from sidecar.s3.body import Body, open_body
from sidecar.s3.buckets import document
from sidecar.s3.copy_source import CopySource
from sidecar.s3.multi_delete import MultiDelete
from sidecar.s3.operations import Level
from sidecar.s3.place import ANY_STORE, Place, Store, place
from sidecar.s3.request import MULTI_DELETE, Asked
from sidecar.s3.sending import Sending, sending
from sidecar.sigv4_verify import Presented

Judge = Callable[[str, tuple[Action, ...], bool | None], Verdict]
"""A workspace's word on actions in it, given whether the key that one of them creates is there (`None`: not asked)."""
Exists = Callable[[Route, str], Awaitable[bool]]
"""Of a path in a route's store. Raises `Unavailable`."""
Receive = Callable[[], Awaitable[bytes]]
"""The next piece of the request's body; empty at its end. Raises `Refused` and `ClientGone`."""
Whole = Callable[[int], Awaitable[bytes]]
"""The request's whole body, verified, of so many bytes at most. Raises `Refused` for one that is larger or not what it says."""

_AT_ONCE = 128
"""Buckets that are looked at before others have their turn."""
_KEYS_AT_ONCE = 32
"""The same of keys to delete: a token's own checks take up to a millisecond for each."""
_FIRST_OF = (Reason.RULE_DENY, Reason.TOKEN_LIMIT, Reason.NO_RULE)
"""Of several refusals, which one is told (`policy.evaluate`)."""
_ALTERS = frozenset({"PutObjectTagging", "DeleteObjectTagging", "PutObjectAnnotation"})
"""What there is no object for, it fails at the store: so its key counts as there, and no other write can come in between."""
_READ = (Action(Permission.READ, ""),)
_WRITE = (Action(Permission.WRITE, ""),)


class Settled(Struct, frozen=True):
    verdict: Verdict
    route: Route
    actions: tuple[Action, ...] = ()
    """Those that were decided on, in the route's workspace."""
    exists: bool | None = None
    """Whether the key is there, where that was asked."""
    occupied: bool = False
    """Its being there is what refused it."""
    detail: str = ""
    sending: Sending | None = None
    answer: LocalAnswer | None = None
    """What is said in place of a refusal, where nothing is asked of the store."""
    removed: tuple[Route, str] | None = None
    """What a renaming takes away: the route that it is reached by, and the key there."""


async def settle(
    asked: Asked,
    head: Head,
    route: Route,
    routes: Routes,
    stores: Mapping[str, Store],
    judge: Judge,
    exists: Exists,
    body: Whole | None,
) -> Settled:
    """Raises `Refused`: `WRONG_WORKSPACE` for what reaches into another workspace, `NO_ROUTE` for a copy's source that nobody
    serves, what the body is refused for; `Unavailable` as `exists` does where rule 17 needs its answer.

    Where a policy is asked what it would say, there is no `body`, and deleting many keys asks for all of them; and no `stores`,
    and whether two upstreams are one server isn't told.
    """
    deleted = None
    if asked.operation.name == MULTI_DELETE and body is not None:
        deleted = _read(await body(multi_delete.MOST_BYTES), asked)
    route = _owner(asked, deleted, route, routes, judge)
    store = stores.get(route.upstream, ANY_STORE)
    here = place(route, store)
    prefix = here.prefix.removesuffix("/")
    if asked.operation.name == MULTI_DELETE and deleted is None:
        actions: tuple[Action, ...] = (Action(Permission.DELETE, "", below=True),)
    else:
        actions = request.actions(asked, prefix, deleted)
    for action in actions:
        if action.below and routes.reaches_others(route, buckets.as_file(action.key)):
            raise Refused(Reason.WRONG_WORKSPACE, "keys of another workspace lie below")
    verdict, there = await _judged(judge, route.workspace, actions), None
    if verdict.existence_needed:
        there = asked.operation.name in _ALTERS or await exists(route, here.path(asked.key))
        verdict = judge(route.workspace, actions, there)
    source, detail, removed = None, "", None
    occupied = there is True and not verdict.allowed and asked.operation.name not in _ALTERS
    if asked.source is not None:
        where = f"{asked.source.bucket}/{asked.source.key}"
        if verdict.allowed:
            source, of_source, owner, key = _source(asked, asked.source, here, route, routes, stores, judge)
            removed = (owner, key) if Permission.DELETE in request.source_permissions(asked) else None
            detail = f"reads {where}"
            if not of_source.allowed:
                verdict, detail = of_source, f"may not read {where}"
            elif of_source.reason is Reason.WOULD_DENY:
                verdict = of_source
    if not verdict.allowed:
        answer = None
        if asked.operation.name == "CreateBucket" and judge(route.workspace, _WRITE, None).allowed:
            answer = _there_already(head)
        return Settled(verdict, route, actions, there, occupied, detail, answer=answer)
    ready = sending(
        asked, head, here, source=source, deleted=deleted, only_creates=there is False and store.conditional
    )
    return Settled(verdict, route, actions, there, occupied, detail, ready, removed=removed)


async def _judged(judge: Judge, workspace: str, actions: tuple[Action, ...]) -> Verdict:
    """What `judge` says of all of them, with a breath for everybody else between many."""
    worst = judge(workspace, actions[:_KEYS_AT_ONCE], None)
    for at in range(_KEYS_AT_ONCE, len(actions), _KEYS_AT_ONCE):
        await asyncio.sleep(0)
        verdict = judge(workspace, actions[at : at + _KEYS_AT_ONCE], None)
        if not verdict.allowed and (worst.allowed or _rank(verdict) < _rank(worst)):
            worst = verdict
    return worst


def _rank(verdict: Verdict) -> int:
    return _FIRST_OF.index(verdict.reason) if verdict.reason in _FIRST_OF else -1


def _there_already(head: Head) -> LocalAnswer:
    """S3's word to the owner of a bucket that is there. rclone asks for one before each copy, and goes on at this answer."""
    text = s3_errors.document(
        "BucketAlreadyOwnedByYou", "The bucket is there; nothing was changed.", head.target.raw_path, ""
    )
    return LocalAnswer(409, ((b"content-type", b"application/xml"),), text)


def _read(body: bytes, asked: Asked) -> MultiDelete:
    stated = asked.headers.get("content-md5")
    if stated is not None:  # the store gets another body, so nobody else would look
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest())
        if not hmac.compare_digest(digest, stated.encode()):
            raise Refused(Reason.BODY_MISMATCH, "content-md5 is another")
    return multi_delete.read(body)


def _owner(asked: Asked, deleted: MultiDelete | None, route: Route, routes: Routes, judge: Judge) -> Route:
    """Whose request it is. Where a bucket has routes for parts of it alone, `route` is just one of them."""
    if asked.operation.level is not Level.BUCKET:
        return route
    if deleted is not None:
        owners = {id(found): found for entry in deleted.entries for found in [_of(routes, asked.bucket, entry.key)]}
        if len(owners) > 1:
            raise Refused(Reason.WRONG_WORKSPACE, "keys of more than one route")
        return next(iter(owners.values()))
    if len(route.segments) > 1 and not asked.lists and asked.operation.permission is Permission.READ:
        # What says nothing of any key: whether the bucket is there, where it is, whether it keeps versions.
        for each in buckets.within(routes, asked.bucket):
            if judge(each.workspace, _READ, None).allowed:
                return each
    return route


def _of(routes: Routes, bucket: str, key: str) -> Route:
    found = buckets.owner(routes, bucket, key)
    if found is None:
        raise Refused(Reason.WRONG_WORKSPACE, "a key that no workspace has")
    return found


def _source(
    asked: Asked,
    source: CopySource,
    here: Place,
    route: Route,
    routes: Routes,
    stores: Mapping[str, Store],
    judge: Judge,
) -> tuple[CopySource, Verdict, Route, str]:
    """The source as the store calls it, what its own workspace says, and its route and key there."""
    owner = buckets.owner(routes, source.bucket, source.key)
    if owner is None:
        raise Refused(Reason.NO_ROUTE, "no workspace has the copy's source")
    there = place(owner, stores.get(owner.upstream, ANY_STORE))
    if (
        stores
        and owner.upstream != route.upstream
        and stores.get(owner.upstream, ANY_STORE).servers.isdisjoint(stores.get(route.upstream, ANY_STORE).servers)
    ):
        raise Refused(Reason.UNKNOWN_OPERATION, "a copy from one store to another")
    key = request.relative(source.key, there.prefix.removesuffix("/"))
    actions = tuple(Action(permission, key) for permission in request.source_permissions(asked))
    stored = CopySource(there.store_bucket, there.object_name(source.key), source.version_id, source.oddities)
    return stored, judge(owner.workspace, actions, None), owner, key


def body_of(asked: Asked, head: Head, signed: Presented | None, chunks: ChunkSigning | None) -> Body | None:
    """How the request's body is to be read; `None` where it goes on as it comes. Raises `Refused(MALFORMED_BODY)`."""
    values = asked.headers
    length = int(values.get("content-length", 0)) if "transfer-encoding" not in values else None
    payload = values.get("x-amz-content-sha256") if signed is None else signed.payload
    of_object = asked.operation.name == "CompleteMultipartUpload"
    return open_body(values, payload, length, signing=chunks, checksums_of_object=of_object)


async def received(opened: Body | None, receive: Receive, most: int) -> bytes:
    """A whole body of at most `most` bytes, found right. Raises `Refused`, as for one that is larger (`MALFORMED_BODY`)."""
    pieces: list[bytes] = []
    size = 0
    while data := await receive():
        free = [data] if opened is None else opened.feed(data)
        size += sum(map(len, free))
        if size > most:
            raise Refused(Reason.MALFORMED_BODY, f"more than {most} bytes")
        pieces += free
    if opened is not None:
        pieces += opened.finish()
    return b"".join(pieces)


async def visible(asked: Asked, routes: Routes, judge: Judge) -> LocalAnswer | None:
    """The answer to ListBuckets: the buckets that the caller may ask about; `None` if there are none.

    A bucket's parts count as the bucket. Raises `Refused(UNKNOWN_OPERATION)` for any other request that names no bucket.
    """
    if asked.operation.name != "ListBuckets":
        raise Refused(Reason.UNKNOWN_OPERATION, asked.operation.name)
    seen = []
    for number, bucket in enumerate(buckets.all_buckets(routes)):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # thousands of workspaces must not hold up everybody else
        if any(judge(route.workspace, _READ, None).allowed for route in buckets.within(routes, bucket)):
            seen.append(bucket)
    if not seen:
        return None
    body = document(seen, asked.query.get("prefix", ""))
    return LocalAnswer(200, ((b"content-type", b"application/xml"), (b"cache-control", b"private")), body)
