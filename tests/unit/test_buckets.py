"""What an S3 request comes to, of whom it is asked, and what the store gets of it."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from sidecar import buckets, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Permission, Verdict
from sidecar.policy.buckets import find
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Routes
from sidecar.reasons import Reason
from sidecar.s3 import multi_delete, request
from sidecar.s3.body import Body
from sidecar.s3.multi_delete import Entry, MultiDelete
from sidecar.s3.place import Store

READ, WRITE, DELETE, ADMIN = Permission.READ, Permission.WRITE, Permission.DELETE, Permission.ADMIN
GRANTED = Verdict(True, Reason.GRANTED)
DENIED = Verdict(False, Reason.NO_RULE)
STORES = {
    "one": Store("real", frozenset({"http://a"})),
    "same": Store("second", frozenset({"http://a"})),
    "far": Store("third", frozenset({"http://b"})),
    "old": Store("real", frozenset({"http://a"}), conditional=False),
}


def route(workspace: str, path: str, upstream: str = "one", upstream_path: str = "") -> Route:
    return Route(workspace, path, tuple(path[1:].split("/")), "s3", upstream, upstream_path or path)


ROUTES = Routes().adding([
    route("web", "/web"), route("inner", "/web/inner"), route("mobile", "/mobile", "same"), route("far", "/far", "far"),
    route("old", "/old", "old"), route("a", "/parts/a"), route("b", "/parts/b"),
])  # fmt: skip


class Policy:
    """Grants what is named; hears what is asked."""

    def __init__(self, **granted: set[Permission]) -> None:
        self.granted = granted
        self.asked: list[tuple[str, tuple[Action, ...]]] = []
        self.about_existence = False

    def __call__(self, workspace: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
        self.asked.append((workspace, actions))
        if self.about_existence and exists is None:
            return Verdict(False, Reason.EXISTENCE_UNKNOWN, existence_needed=True)
        fits = all(action.permission in self.granted.get(workspace, set()) for action in actions)
        return GRANTED if fits and not exists else DENIED


def whole(body: bytes) -> Callable[[int], Awaitable[bytes]]:
    async def give(most: int) -> bytes:
        return body

    return give


def settled(
    policy: Policy,
    method: str,
    raw: str,
    *,
    body: bytes | None = None,
    there: bool = False,
    **headers: str,
) -> buckets.Settled:
    values = {name.replace("_", "-"): value for name, value in headers.items()}
    head = Head(method, target.parse(raw), Headers({"host": "sidecar", **values}, ()))
    found = find(ROUTES, head)
    assert found is not None
    asked_at: list[str] = []

    async def exists(where: Route, path: str) -> bool:
        asked_at.append(path)
        return there

    given = whole(body) if body is not None else None
    result = asyncio.run(buckets.settle(request.read(head), head, found, ROUTES, STORES, policy, exists, given))
    assert asked_at == ([f"/{target.parse(raw).raw_path[1:]}"] if policy.about_existence else [])
    return result


def test_one_key() -> None:
    policy = Policy(web={WRITE})
    found = settled(policy, "PUT", "/web/k")
    assert (found.verdict, found.route.path, found.actions) == (GRANTED, "/web", (Action(WRITE, "k", creates=True),))
    assert found.sending is not None
    assert found.sending.path == "/web/k"


@pytest.mark.parametrize(
    ("header", "removed"), [("x_amz_rename_source", ("mobile", "b/old")), ("x_amz_copy_source", None)]
)
def test_what_a_renaming_takes_away_is_told_with_its_own_workspace(
    header: str, removed: tuple[str, str] | None
) -> None:
    policy = Policy(web={WRITE}, mobile={READ, DELETE})
    raw = "/web/k?renameObject" if removed else "/web/k"
    found = settled(policy, "PUT", raw, **{header: "mobile/b/old"})
    assert found.verdict.allowed
    assert (found.removed and (found.removed[0].workspace, found.removed[1])) == removed


def test_what_is_refused_is_not_made_ready() -> None:
    assert settled(Policy(), "PUT", "/web/k").sending is None


@pytest.mark.parametrize(("there", "allowed"), [(True, False), (False, True)])
def test_whether_the_key_is_there_is_asked_where_it_matters(there: bool, allowed: bool) -> None:
    policy = Policy(web={WRITE})
    policy.about_existence = True
    found = settled(policy, "PUT", "/web/k", there=there)
    assert (found.verdict.allowed, found.exists, found.occupied) == (allowed, there, there)
    if found.sending is not None:
        assert (b"If-None-Match", b"*") in found.sending.headers


@pytest.mark.parametrize(("method", "raw"), [("PUT", "/web/k?tagging"), ("DELETE", "/web/k?tagging")])
def test_what_changes_an_object_counts_its_key_as_there(method: str, raw: str) -> None:
    """Nobody is asked: between the answer and the change another might write the key."""
    policy = Policy(web={WRITE})
    policy.about_existence = True
    head = Head(method, target.parse(raw), Headers({"host": "sidecar"}, ()))
    found = find(ROUTES, head)
    assert found is not None

    async def exists(where: Route, path: str) -> bool:
        raise AssertionError("asked")

    settled = asyncio.run(buckets.settle(request.read(head), head, found, ROUTES, STORES, policy, exists, None))
    assert (settled.verdict.allowed, settled.exists) == (False, True)
    assert not settled.occupied, "it isn't known to be there, and nobody is told that it is"


def test_where_the_source_is_refused_it_is_not_for_the_keys_being_there() -> None:
    class Replaces(Policy):
        def __call__(self, workspace: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            if workspace == "web" and exists is None:
                return Verdict(False, Reason.EXISTENCE_UNKNOWN, existence_needed=True)
            return GRANTED if workspace == "web" else DENIED

    policy = Replaces()
    policy.about_existence = True
    found = settled(policy, "PUT", "/web/k", there=True, x_amz_copy_source="mobile/a")
    assert (found.verdict.allowed, found.exists, found.occupied) == (False, True, False)


def test_a_store_without_conditional_writes_is_not_asked_for_one() -> None:
    policy = Policy(old={WRITE})
    policy.about_existence = True
    found = settled(policy, "PUT", "/old/k")
    assert found.sending is not None
    assert found.sending.headers == []


# Copies


def test_a_copy_asks_read_where_its_source_lies() -> None:
    policy = Policy(web={WRITE}, mobile={READ})
    found = settled(policy, "PUT", "/web/k", x_amz_copy_source="/mobile/a%20b")
    assert policy.asked[1] == ("mobile", (Action(READ, "a b"),))
    assert found.sending is not None
    assert (b"x-amz-copy-source", b"second/mobile/a%20b") in found.sending.headers
    assert found.detail == "reads mobile/a b"


@pytest.mark.parametrize("granted", [{"web": {WRITE}}, {"mobile": {READ}}, {"web": {READ}, "mobile": {READ, WRITE}}])
def test_a_copy_needs_both(granted: dict[str, set[Permission]]) -> None:
    found = settled(Policy(**granted), "PUT", "/web/k", x_amz_copy_source="mobile/a")
    assert (found.verdict.allowed, found.sending) == (False, None)


def test_a_copys_source_is_its_longest_routes() -> None:
    policy = Policy(web={READ, WRITE}, inner={WRITE})
    assert not settled(policy, "PUT", "/web/k", x_amz_copy_source="web/inner/secret").verdict.allowed
    assert policy.asked[-1] == ("inner", (Action(READ, "secret"),))


def test_whether_two_upstreams_are_one_server_only_their_settings_say() -> None:
    head = Head("PUT", target.parse("/web/k"), Headers({"host": "h", "x-amz-copy-source": "far/a"}, ()))
    found = find(ROUTES, head)
    assert found is not None

    async def exists(where: Route, path: str) -> bool:
        return False

    policy = Policy(web={WRITE}, far={READ})
    asked = buckets.settle(request.read(head), head, found, ROUTES, {}, policy, exists, None)
    assert asyncio.run(asked).verdict.allowed


def test_a_rename_asks_to_delete_its_source() -> None:
    policy = Policy(web={READ, WRITE})
    assert not settled(policy, "PUT", "/web/k?renameObject", x_amz_rename_source="web/old").verdict.allowed
    assert policy.asked[-1] == ("web", (Action(READ, "old"), Action(DELETE, "old")))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere/k", Reason.NO_ROUTE),
        ("web//inner/k", Reason.NO_ROUTE),
        ("parts/c/k", Reason.NO_ROUTE),
        ("far/k", Reason.UNKNOWN_OPERATION),
    ],
)
def test_a_source_that_nobody_has_or_another_store(source: str, reason: Reason) -> None:
    granted = {name: {READ, WRITE} for name in ("web", "inner", "far")}
    with pytest.raises(Refused) as refused:
        settled(Policy(**granted), "PUT", "/web/k", x_amz_copy_source=source)
    assert refused.value.reason is reason


WHOLE_BUCKETS = Routes().adding([
    route("team", "/shared/team", "any", "/teambucket"),
    Route("top", "/shared/top", ("shared", "top"), "s3", "one", ""),
])  # fmt: skip


@pytest.mark.parametrize(
    ("method", "raw", "headers", "body"),
    [
        ("GET", "/shared/team/", {}, None),  # would list the whole bucket
        ("PUT", "/shared/team/", {}, None),  # would create it
        ("DELETE", "/shared/top/", {}, None),  # would delete it
        ("DELETE", "/shared/top%2F", {}, None),
        ("DELETE", "/shared/top/?tagging", {}, None),  # would delete the bucket's tags
        ("PUT", "/shared/team/k", {"x-amz-copy-source": "shared/top/"}, None),
        ("POST", "/shared?delete", {}, b"<Delete><Object><Key>top/</Key></Object></Delete>"),
    ],
)
def test_a_routes_own_folder_never_becomes_its_stores_bucket(
    method: str, raw: str, headers: dict[str, str], body: bytes | None
) -> None:
    head = Head(method, target.parse(raw), Headers({"host": "sidecar", **headers}, ()))
    found = find(WHOLE_BUCKETS, head)
    assert found is not None
    policy = Policy(team={READ, WRITE, DELETE}, top={READ, WRITE, DELETE})

    async def exists(where: Route, path: str) -> bool:
        raise AssertionError("nothing is asked")

    stores = {**STORES, "any": Store(servers=frozenset({"http://a"}))}
    given = whole(body) if body is not None else None
    with pytest.raises(Refused) as refused:
        asyncio.run(buckets.settle(request.read(head), head, found, WHOLE_BUCKETS, stores, policy, exists, given))
    assert refused.value.reason is Reason.KEY_REQUIRED


# Many keys


def deleting(*keys: str) -> bytes:
    return multi_delete.write(MultiDelete(tuple(Entry(key) for key in keys)))


def test_each_key_to_delete_is_asked_for() -> None:
    policy = Policy(web={DELETE})
    found = settled(policy, "POST", "/web?delete", body=deleting("a", "b/c", "a"))
    assert found.actions == (Action(DELETE, "a"), Action(DELETE, "b/c"))
    assert found.sending is not None
    assert multi_delete.read(found.sending.body or b"").entries[0].key == "web/a"


@pytest.mark.parametrize("keys", [("a", "inner/k"), ("inner/k", "a"), ("a", "/inner/k")])
def test_keys_of_two_workspaces(keys: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        settled(Policy(web={DELETE}, inner={DELETE}), "POST", "/web?delete", body=deleting(*keys))
    assert refused.value.reason is Reason.WRONG_WORKSPACE


def test_a_bucket_of_parts_is_asked_by_its_keys() -> None:
    found = settled(Policy(b={DELETE}), "POST", "/parts?delete", body=deleting("b/k", "b/l"))
    assert (found.route.workspace, found.actions) == ("b", (Action(DELETE, "k"), Action(DELETE, "l")))
    with pytest.raises(Refused):
        settled(Policy(a={DELETE}, b={DELETE}), "POST", "/parts?delete", body=deleting("a/k", "b/k"))


def test_without_its_body_it_asks_for_everything() -> None:
    policy = Policy(mobile={DELETE})
    assert settled(policy, "POST", "/mobile?delete").actions == (Action(DELETE, "", below=True),)


def test_a_body_that_is_not_what_its_md5_says() -> None:
    body = deleting("a")
    right = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert settled(Policy(web={DELETE}), "POST", "/web?delete", body=body, content_md5=right).verdict.allowed
    with pytest.raises(Refused) as refused:
        settled(Policy(web={DELETE}), "POST", "/web?delete", body=deleting("b"), content_md5=right)
    assert refused.value.reason is Reason.BODY_MISMATCH


def test_a_body_is_bounded_and_held_to_its_hash() -> None:
    async def read(pieces: list[bytes], opened: Body | None, most: int) -> bytes:
        async def receive() -> bytes:
            return pieces.pop(0) if pieces else b""

        return await buckets.received(opened, receive, most)

    assert asyncio.run(read([b"ab", b"c"], None, 3)) == b"abc"
    with pytest.raises(Refused, match="more than 2"):
        asyncio.run(read([b"ab", b"c"], None, 2))
    right = Body(3, None, hashlib.sha256(b"abc").hexdigest(), {})
    assert asyncio.run(read([b"ab", b"c"], right, 3)) == b"abc"
    with pytest.raises(Refused):
        asyncio.run(read([b"abd"], Body(3, None, hashlib.sha256(b"abc").hexdigest(), {}), 3))


# Lists, and what is about a bucket


async def test_many_keys_hold_up_nobody_and_their_gravest_refusal_is_told() -> None:
    turns = 0

    def judge(workspace: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
        keys = {action.key for action in actions}
        assert len(keys) <= 32
        if "denied" in keys:
            return Verdict(False, Reason.RULE_DENY, "never")
        return DENIED if "nobody's" in keys else GRANTED

    async def exists(where: Route, path: str) -> bool:
        raise AssertionError("nothing is asked")

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    head = Head("POST", target.parse("/mobile?delete"), Headers({"host": "sidecar"}, ()))
    asked, found = request.read(head), find(ROUTES, head)
    assert found is not None
    waiting = asyncio.create_task(others())
    many = [f"k{number}" for number in range(900)]
    for keys, reason in (([*many, "nobody's", *many[:40], "denied"], Reason.RULE_DENY), (many, Reason.GRANTED)):
        turns = 0
        done = await buckets.settle(asked, head, found, ROUTES, STORES, judge, exists, whole(deleting(*keys)))
        assert (done.verdict.reason, done.sending is not None) == (reason, reason is Reason.GRANTED)
        assert turns > 20
    waiting.cancel()


@pytest.mark.parametrize(
    "raw",
    [
        "/web", "/web?list-type=2", "/web?prefix=in", "/web?versions", "/web?uploads",
        "/web?prefix=/", "/web?prefix=/inner/", "/web?prefix=%2F%2Finner%2Fx",
    ],
)  # fmt: skip
def test_a_list_that_would_show_anothers_keys(raw: str) -> None:
    with pytest.raises(Refused) as refused:
        settled(Policy(web={READ}, inner={READ}), "GET", raw)
    assert refused.value.reason is Reason.WRONG_WORKSPACE


@pytest.mark.parametrize("raw", ["/parts", "/parts?prefix=a", "/parts?prefix=c/"])
def test_a_list_beyond_a_part(raw: str) -> None:
    with pytest.raises(Refused) as refused:
        settled(Policy(a={READ}, b={READ}), "GET", raw)
    assert refused.value.reason is Reason.WRONG_WORKSPACE


def test_a_list_of_a_part() -> None:
    found = settled(Policy(b={READ}), "GET", "/parts?prefix=b/x/y")
    assert (found.route.workspace, found.actions) == ("b", (Action(READ, "x", below=True),))


def test_whether_a_bucket_of_parts_is_there_is_asked_of_whoever_grants_it() -> None:
    assert settled(Policy(b={READ}), "HEAD", "/parts").route.workspace == "b"
    assert not settled(Policy(), "HEAD", "/parts").verdict.allowed


def test_a_part_of_a_bucket_does_not_administer_it() -> None:
    with pytest.raises(Refused):
        settled(Policy(a={ADMIN}, b={ADMIN}), "DELETE", "/parts")


def test_a_bucket_that_is_there_is_not_made_again() -> None:
    found = settled(Policy(mobile={READ, WRITE}), "PUT", "/mobile", x_amz_acl="private")
    assert (found.verdict.allowed, found.sending) == (False, None)
    assert found.answer is not None
    assert (found.answer.status, b"<Code>BucketAlreadyOwnedByYou<" in found.answer.body) == (409, True)
    assert settled(Policy(mobile={READ}), "PUT", "/mobile").answer is None
    assert settled(Policy(mobile={READ, WRITE}), "DELETE", "/mobile").answer is None


# The buckets that one may see


def listed(policy: Policy, raw: str = "/") -> bytes | None:
    head = Head("GET", target.parse(raw), Headers({"host": "sidecar"}, ()))
    answer = asyncio.run(buckets.visible(request.read(head), ROUTES, policy))
    return None if answer is None else answer.body


def test_the_buckets_that_one_may_ask_about() -> None:
    seen = listed(Policy(mobile={READ}, b={READ}, web={WRITE}))
    assert seen is not None
    assert (b"<Name>mobile<" in seen, b"<Name>parts<" in seen, b"<Name>web<" in seen) == (True, True, False)
    narrowed = listed(Policy(mobile={READ}, b={READ}), "/?prefix=mo")
    assert narrowed is not None
    assert b"parts" not in narrowed
    assert listed(Policy()) is None


def test_nothing_else_names_no_bucket() -> None:
    head = Head("POST", target.parse("/"), Headers({"host": "sidecar"}, ()))
    with pytest.raises(Refused) as refused:
        asyncio.run(buckets.visible(request.read(head), ROUTES, Policy()))
    assert refused.value.reason is Reason.UNKNOWN_OPERATION
