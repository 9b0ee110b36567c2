"""The one road to a decision: each step, their order, and that nothing but a reason ever comes out."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials.failures import LANE, Failures
from sidecar.credentials.identities import Identities
from sidecar.credentials.legacy import OldPasswords
from sidecar.decision import Decision, LastRead, store_path, upstream_path
from sidecar.errors import CredentialRefused, Refused, Unavailable
from sidecar.gate import Gate
from sidecar.model import (
    ANONYMOUS,
    Action,
    Head,
    Headers,
    Oddity,
    Permission,
    Person,
    Principal,
    PrincipalKind,
    Rate,
    Secret,
)
from sidecar.policy.compiled import Legacy, Route, Rule, Workspace
from sidecar.policy.evaluate import Trace
from sidecar.policy.glob import glob
from sidecar.policy.routes import Routes, Snapshot
from sidecar.profiles import PROFILES, LocalAnswer, Profile
from sidecar.profiles.plain import Plain
from sidecar.reasons import REASONS, Outcome, Reason
from sidecar.settings import IdentityCacheSettings
from sidecar.target import parse

NOW = 1_000_000.0
READ_WRITE = frozenset({Permission.READ, Permission.WRITE})
CI = Principal(PrincipalKind.CI, "ci", workspace="web", token_id="ci", revocation_ids=("ci",))
ADA = Principal(PrincipalKind.PERSONAL, "ada", token_id="ada", revocation_ids=("ada",))
TOKENS = {"ci-token": CI, "ada-token": ADA}


def route(workspace: str = "web", path: str = "/web", **more: Any) -> Route:
    segments = tuple(path[1:].split("/")) if path != "/" else ()
    return Route(workspace, path, segments, "plain", "store", more.pop("upstream_path", path), **more)


WEB = Workspace("web", "web.yaml", "0" * 64, routes=(route(),), ci_tokens=READ_WRITE)
OPEN = Workspace(
    "open", "open.yaml", "1" * 64, routes=(route("open", "/open"),), anonymous=frozenset({Permission.READ})
)
ONCE = Workspace("once", "o.yaml", "2" * 64, routes=(route("once", "/once"),), anonymous=READ_WRITE, write_once=True)
BROKEN = Workspace("broken", "b.yaml", "3" * 64, routes=(route("broken", "/broken"),), broken=True)
DENIED = Workspace(
    "denied",
    "d.yaml",
    "4" * 64,
    routes=(route("denied", "/denied"),),
    anonymous=frozenset({Permission.READ}),
    rules=(Rule("never", 1, deny=frozenset({Permission.READ})),),
)


def snapshot_of(*workspaces: Workspace, generation: int = 7) -> Snapshot:
    routes = Routes()
    for workspace in workspaces:
        routes = routes.adding(workspace.routes)
    return Snapshot(routes, {each.name: each for each in workspaces}, generation)


ALL = snapshot_of(WEB, OPEN, ONCE, BROKEN, DENIED)


class Verifier:
    generation = "1"
    failure: Exception | None = None
    hook: Callable[[], None] = staticmethod(lambda: None)

    async def verify(self, token: Secret, now: float) -> Principal | None:
        self.hook()
        if self.failure is not None:
            raise self.failure
        if token.reveal() == "expired":
            raise CredentialRefused(Reason.EXPIRED, "expired at 1", CI)
        return TOKENS.get(token.reveal())


class Revocations:
    epoch = 0
    revoked_ids: frozenset[str] = frozenset()
    fresh = True

    def revoked(self, principal: Principal) -> bool:
        return not self.revoked_ids.isdisjoint(principal.revocation_ids)

    def is_fresh(self, now: float) -> bool:
        return self.fresh


class People:
    def __init__(self, people: Mapping[str, Person] | None) -> None:
        self.people = people

    def person(self, subject: str) -> Person | None:
        if self.people is None:
            raise Unavailable(Reason.DIRECTORY_UNAVAILABLE)
        return self.people.get(subject)


class Rig:
    def __init__(
        self,
        snapshot: Snapshot = ALL,
        *,
        profiles: Mapping[str, Profile] = PROFILES,
        directory: People | None = None,
        existence: Callable[[Route, str], Awaitable[bool]] | None = None,
        token_headers: Sequence[str] = (),
        failures: Failures | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.verifier, self.revocations = Verifier(), Revocations()
        self.asked: list[str] = []
        self.exists: bool | Exception = False
        self.identities = Identities([self.verifier], self.revocations, IdentityCacheSettings())
        self.gate = Gate(
            snapshot=lambda: self.snapshot,
            profiles=profiles,
            identities=self.identities,
            directory=directory,
            existence=existence or self._existence,
            token_headers=token_headers,
            failures=failures,
        )

    async def _existence(self, route: Route, path: str) -> bool:
        self.asked.append(path)
        if isinstance(self.exists, Exception):
            raise self.exists
        return self.exists

    async def ask(
        self,
        method: str = "GET",
        target: str = "/web/a",
        token: str | None = None,
        *headers: tuple[str, str],
        last: LastRead | None = None,
        trace: Trace | None = None,
    ) -> Decision:
        raw = [(b"Host", b"cache"), *((name.encode(), value.encode()) for name, value in headers)]
        if token is not None:
            raw.append((b"Authorization", f"Bearer {token}".encode()))
        return await self.gate.decide(method, target, tuple(raw), "10.0.0.1", NOW, last=last, trace=trace)

    async def reason(self, *args: Any, **kwargs: Any) -> Reason:
        return (await self.ask(*args, **kwargs)).reason


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_grant_carries_all_that_it_was_decided_on(rig: Rig) -> None:
    decision = await rig.ask("PUT", "/web/a/b?x=1", "ci-token")
    assert decision.allowed
    assert decision.reason is Reason.GRANTED
    assert decision.principal is CI
    assert decision.known
    assert decision.actions == (Action(Permission.WRITE, "a/b", creates=True),)
    assert (decision.workspace, decision.route, decision.generation) == (WEB, WEB.routes[0], 7)
    assert decision.profile is PROFILES["plain"]
    assert decision.head is not None
    assert (decision.head.method, decision.head.peer) == ("PUT", "10.0.0.1")
    assert decision.cache == "miss"
    assert (await rig.ask("PUT", "/web/a/b", "ci-token")).cache == "hit"


REFUSALS: dict[str, tuple[Reason, tuple[Any, ...]]] = {
    "a path that is no path": (Reason.BAD_TARGET, ("GET", "web")),
    "a dot segment": (Reason.BAD_TARGET, ("GET", "/web/../open/a")),
    "two hosts": (Reason.BAD_HEADER, ("GET", "/web/a", None, ("Host", "other"))),
    "an upgrade": (Reason.UPGRADE_REFUSED, ("GET", "/web/a", None, ("Upgrade", "websocket"))),
    "no route": (Reason.NO_ROUTE, ("GET", "/nowhere/a")),
    "a route's name, prolonged": (Reason.NO_ROUTE, ("GET", "/webx/a")),
    "nobody": (Reason.NO_TOKEN, ("GET", "/web/a")),
    "an unknown token": (Reason.BAD_TOKEN, ("GET", "/web/a", "stranger")),
    "an expired token": (Reason.EXPIRED, ("GET", "/web/a", "expired")),
    "two tokens": (Reason.BAD_HEADER, ("GET", "/web/a", "ci-token", ("Authorization", "Bearer x"))),
    "another workspace's token": (Reason.WRONG_WORKSPACE, ("GET", "/open/a", "ci-token")),
    "a parameter of another workspace": (Reason.WRONG_WORKSPACE, ("GET", "/web/a?teamId=api", "ci-token")),
    "an unknown method": (Reason.UNKNOWN_OPERATION, ("BREW", "/web/a", "ci-token")),
    "a write of nothing": (Reason.KEY_REQUIRED, ("PUT", "/web/", "ci-token")),
    "nothing grants it": (Reason.NO_RULE, ("DELETE", "/web/a", "ci-token")),
    "a rule denies it": (Reason.RULE_DENY, ("GET", "/denied/a")),
    "a password from another site": (
        Reason.CROSS_SITE,
        ("GET", "/web/a", None, ("Authorization", "Basic dTpjaS10b2tlbg=="), ("Origin", "https://evil.example")),
    ),
    "a policy that can't be read": (Reason.POLICY_MISSING, ("GET", "/broken/a")),
    "the same, with a token": (Reason.POLICY_MISSING, ("GET", "/broken/a", "ci-token")),
}


@pytest.mark.parametrize(("reason", "request_"), REFUSALS.values(), ids=REFUSALS)
async def test_each_refusal_becomes_a_decision(rig: Rig, reason: Reason, request_: tuple[Any, ...]) -> None:
    decision = await rig.ask(*request_)
    assert decision.reason is reason
    assert not decision.allowed
    assert decision.answer is None


async def test_a_rule_that_decided_is_named(rig: Rig) -> None:
    assert (await rig.ask("GET", "/denied/a")).rule == "never"


@pytest.mark.parametrize(
    "headers",
    [
        (("Authorization", "Bearer"),),
        (("Authorization", "Bearer "),),
        (("Authorization", "Bearer stranger"),),
        (("Authorization", "Bearer expired"),),
        (("Authorization", "Basic"),),
        (("Authorization", "Basic !!!"),),
        (("Authorization", "Basic dTo="),),
        (("Authorization", "Digest username=x"),),
        (("Authorization", ""),),
        (("X-Store-Token", ""),),
        (("X-Store-Token", "stranger"),),
    ],
)
@pytest.mark.parametrize("target", ["/open/a", "/web/a", "/broken/a", "/once/a", "/denied/a"])
async def test_a_bad_credential_is_never_anonymous(target: str, headers: tuple[tuple[str, str], ...]) -> None:
    rig = Rig(token_headers=["X-Store-Token"])
    assert (await rig.ask("GET", "/open/a")).allowed
    for method in ("GET", "OPTIONS"):
        decision = await rig.ask(method, target, None, *headers)
        assert decision.status == 401
        assert decision.principal is None
        assert not decision.known


async def test_a_revoked_token_is_refused_where_anonymous_may_read(rig: Rig) -> None:
    rig.revocations.revoked_ids = frozenset({"ci"})
    assert await rig.reason("GET", "/open/a", "ci-token") is Reason.REVOKED


@pytest.mark.parametrize("target", ["/open/a", "/web/a", "/broken/a", "/once/a", "/denied/a"])
async def test_the_holder_of_an_ended_token_is_told_to_the_log_and_granted_nothing(rig: Rig, target: str) -> None:
    rig.revocations.revoked_ids = frozenset({"ada"})
    for method in ("GET", "PUT", "OPTIONS"):
        for token, holder in (("expired", CI), ("expired", CI), ("ada-token", ADA), ("stranger", None)):
            decision = await rig.ask(method, target, token)
            assert decision.holder is holder
            assert decision.principal is None
            assert not decision.allowed
            assert (decision.actions, decision.answer, decision.known) == ((), None, False)


async def test_two_credentials_are_refused() -> None:
    rig = Rig(token_headers=["X-Store-Token"])
    assert await rig.reason("GET", "/web/a", "ci-token", ("X-Store-Token", "ci-token")) is Reason.TWO_CREDENTIALS


async def test_a_configured_header_carries_a_token_and_ends_here() -> None:
    decision = await Rig(token_headers=["X-Store-Token"]).ask("GET", "/web/a", None, ("x-store-token", "ci-token"))
    assert decision.principal is CI
    assert decision.head is not None
    assert b"x-store-token" not in {name.lower() for name, _ in decision.head.headers.forward}


@pytest.mark.parametrize("token", [None, "stranger", "expired", "ci-token", ""])
async def test_no_route_is_no_route_whoever_asks(rig: Rig, token: str | None) -> None:
    decision = await rig.ask("GET", "/nowhere", token)
    assert (decision.reason, decision.status) == (Reason.NO_ROUTE, 404)
    assert rig.identities.misses == 0


async def test_an_odd_target_is_refused_before_anybody_is_identified(rig: Rig) -> None:
    assert await rig.reason("GET", "/web/..%2f", "ci-token") is Reason.BAD_TARGET
    assert rig.identities.misses == 0


@pytest.mark.parametrize(
    ("target", "oddity"),
    [
        ("/web/a%2fb", Oddity.ENCODED_SLASH),
        ("/web/a%5cb", Oddity.ENCODED_BACKSLASH),
        ("/web/a%25b", Oddity.ENCODED_PERCENT),
        ("/web/a%3fb", Oddity.ENCODED_QUESTION),
        ("/web/a%23b", Oddity.ENCODED_HASH),
        ("/web/a//b", Oddity.EMPTY_SEGMENT),
        ("/web/%c3%a9", Oddity.NON_ASCII),
        ("/web/a;b", Oddity.SEMICOLON),
    ],
)
async def test_an_oddity_passes_only_where_the_profile_allows_it(target: str, oddity: Oddity) -> None:
    class Odd(Plain):
        allowed = oddity

        def classify(self, head: Head, route: Route) -> tuple[Action, ...]:
            return (Action(Permission.READ, "a"),)

    assert await Rig().reason("GET", target, "ci-token") is Reason.BAD_TARGET
    assert await Rig(profiles={"plain": Odd()}).reason("GET", target, "ci-token") is Reason.GRANTED
    other = target + "/%25" if oddity is not Oddity.ENCODED_PERCENT else target + "/;"
    assert await Rig(profiles={"plain": Odd()}).reason("GET", other, "ci-token") is Reason.BAD_TARGET


async def test_anonymous_and_refused_is_asked_for_a_token(rig: Rig) -> None:
    for method, target, reason in [
        ("GET", "/web/a", Reason.NO_TOKEN),
        ("PUT", "/open/a", Reason.NO_TOKEN),
        ("GET", "/denied/a", Reason.RULE_DENY),
        ("BREW", "/open/a", Reason.UNKNOWN_OPERATION),
        ("PUT", "/open/", Reason.KEY_REQUIRED),
        ("GET", "/open/a?tenant=web", Reason.WRONG_WORKSPACE),
    ]:
        decision = await rig.ask(method, target)
        assert (decision.reason, decision.status, decision.known) == (reason, 401, False)
        assert decision.principal is ANONYMOUS


@pytest.mark.parametrize(("anonymous", "reads"), [("read", False), ("read-write", False), ("delete", True)])
async def test_keys_to_delete_are_not_read_of_who_may_delete_none(anonymous: str, reads: bool) -> None:
    """A body that is kept whole would be memory for anybody to fill."""
    levels = {"read": frozenset({Permission.READ}), "read-write": READ_WRITE, "delete": frozenset({Permission.DELETE})}
    bucket = Route("bkt", "/bkt", ("bkt",), "s3", "store", "/bkt")
    rig = Rig(snapshot_of(Workspace("bkt", "b.yaml", "5" * 64, routes=(bucket,), anonymous=levels[anonymous])))
    sent = [b"<Delete><Object><Key>a</Key></Object></Delete>"]
    headers = ((b"Host", b"cache"), (b"Content-Length", b"%d" % len(sent[0])))

    async def body() -> bytes:
        return sent.pop() if sent else b""

    decision = await rig.gate.decide("POST", "/bkt?delete", headers, "10.0.0.1", NOW, body=body)
    assert decision.reason is (Reason.GRANTED if reads else Reason.NO_TOKEN)
    assert bool(sent) is not reads


async def test_known_and_refused_is_a_403(rig: Rig) -> None:
    decision = await rig.ask("DELETE", "/web/a", "ci-token")
    assert (decision.reason, decision.status, decision.known) == (Reason.NO_RULE, 403, True)


async def test_a_profile_may_answer_by_itself(rig: Rig) -> None:
    decision = await rig.ask("OPTIONS", "/web/a")
    assert decision.reason is Reason.ANSWERED_HERE
    assert decision.allowed
    assert decision.answer is not None
    assert decision.answer.status == 204
    assert decision.actions == ()


@pytest.mark.parametrize(
    ("method", "target", "token"),
    [("GET", "/once/a", None), ("DELETE", "/once/a", None), ("PUT", "/web/a", "ci-token"), ("PUT", "/open/a", None)],
)
async def test_existence_is_not_asked_where_it_does_not_matter(
    rig: Rig, method: str, target: str, token: str | None
) -> None:
    await rig.ask(method, target, token)
    assert rig.asked == []


@pytest.mark.parametrize(("exists", "reason"), [(False, Reason.GRANTED), (True, Reason.NO_TOKEN)])
async def test_existence_is_asked_once_where_it_matters(rig: Rig, exists: bool, reason: Reason) -> None:
    rig.exists = exists
    assert await rig.reason("PUT", "/once/a/b?x=1") is reason
    assert rig.asked == ["/once/a/b"], "the question is about the key; a query could turn it to another version of it"


@pytest.mark.parametrize("failure", [Unavailable(Reason.EXISTENCE_UNKNOWN), Unavailable(Reason.UPSTREAM_TIMEOUT)])
async def test_existence_that_cannot_be_learnt_is_a_refusal(rig: Rig, failure: Unavailable) -> None:
    rig.exists = failure
    decision = await rig.ask("PUT", "/once/a")
    assert decision.reason is failure.reason
    assert REASONS[decision.reason].outcome is Outcome.ERROR


@pytest.mark.parametrize("reason", [Reason.TOKEN_STORE_UNAVAILABLE, Reason.VERIFIER_UNAVAILABLE, Reason.STALE_STATE])
async def test_an_outage_of_the_verifier_is_a_503_where_anonymous_may_read_too(rig: Rig, reason: Reason) -> None:
    rig.verifier.failure = Unavailable(reason)
    for target in ("/web/a", "/open/a"):
        decision = await rig.ask("GET", target, "ci-token")
        assert (decision.reason, decision.status) == (reason, 503)


async def test_stale_revocations_are_a_503_for_known_tokens_and_new_ones(rig: Rig) -> None:
    await rig.ask("GET", "/web/a", "ci-token")
    rig.revocations.fresh = False
    assert await rig.reason("GET", "/web/a", "ci-token") is Reason.STALE_STATE
    assert await rig.reason("GET", "/web/a", "ada-token") is Reason.STALE_STATE
    assert (await rig.ask("GET", "/open/a")).allowed


async def test_the_directory_is_asked_for_people_alone() -> None:
    members = msgspec.structs.replace(WEB, users=frozenset({"ada"}), personal_tokens=READ_WRITE)
    active, away = Person(True, frozenset()), Person(False, frozenset())
    for people, reason in [
        ({"ada": active}, Reason.GRANTED),
        ({"ada": away}, Reason.INACTIVE_PERSON),
        ({}, Reason.INACTIVE_PERSON),
        (None, Reason.DIRECTORY_UNAVAILABLE),
    ]:
        rig = Rig(snapshot_of(members, OPEN), directory=People(people))
        assert await rig.reason("GET", "/web/a", "ada-token") is reason
        assert await rig.reason("GET", "/web/a", "ci-token") is Reason.GRANTED
        assert await rig.reason("GET", "/open/a") is Reason.GRANTED


async def explodes(*args: object) -> bool:
    raise ValueError("a bug")


async def test_any_failure_is_a_refusal() -> None:
    """A hole of each collaborator in turn."""

    class Exploding:
        name = "plain"
        allowed = Oddity.NONE

        def classify(self, head: Head, route: Route) -> tuple[Action, ...] | LocalAnswer:
            raise RecursionError

        def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
            raise AssertionError

    unknown_profile = Rig(profiles={})
    verifier = Rig()
    verifier.verifier.failure = KeyError("x")
    no_workspace = Rig(Snapshot(Routes().adding([route()]), {}))
    for rig, method, target in [
        (Rig(profiles={"plain": Exploding()}), "GET", "/open/a"),
        (unknown_profile, "GET", "/open/a"),
        (verifier, "GET", "/open/a"),
        (no_workspace, "GET", "/web/a"),
        (Rig(existence=explodes), "PUT", "/once/a"),
    ]:
        decision = await rig.ask(method, target, "ci-token" if rig is verifier else None)
        assert (decision.reason, decision.status, decision.allowed) == (Reason.INTERNAL_ERROR, 500, False)
        assert decision.detail == "the decision failed"


async def test_one_snapshot_is_used_to_the_end() -> None:
    """The source swaps while the token is verified, and again while the store is asked."""
    rig = Rig(snapshot_of(msgspec.structs.replace(ONCE, ci_tokens=READ_WRITE)))
    nothing = snapshot_of(generation=8)

    def swap() -> None:
        rig.snapshot = nothing

    rig.verifier.hook = swap  # type: ignore[method-assign]
    decision = await rig.ask("PUT", "/once/a", "ada-token")
    assert (decision.reason, decision.generation) == (Reason.GRANTED, 7)
    assert rig.asked == ["/once/a"]
    assert await rig.reason("PUT", "/once/a", "ada-token") is Reason.NO_ROUTE


async def test_a_refused_token_is_not_told_as_a_hit(rig: Rig) -> None:
    assert (await rig.ask("GET", "/web/a", "stranger")).cache == "miss"
    assert (await rig.ask("GET", "/web/a", "stranger")).cache == "negative"
    assert (await rig.ask("GET", "/web/a")).cache is None
    await rig.ask("GET", "/web/a", "ci-token")
    rig.revocations.revoked_ids = frozenset({"ci"})
    assert (await rig.ask("GET", "/web/a", "ci-token")).cache == "hit"


async def test_a_refused_token_is_kept_for_evidence(rig: Rig) -> None:
    decision = await rig.ask("GET", "/web/a", "stranger")
    assert decision.token is not None
    assert decision.token.reveal() == "stranger"
    assert "stranger" not in repr(decision)


async def test_a_trace_tells_about_the_rules(rig: Rig) -> None:
    trace = Trace()
    await rig.ask("GET", "/denied/a", trace=trace)
    assert trace != Trace()


# --- what a connection's last headers said


SENT = st.sampled_from(
    [
        (),
        (("Authorization", "Bearer ci-token"),),
        (("Authorization", "Bearer ada-token"),),
        (("Authorization", "Bearer stranger"),),
        (("Authorization", "Basic !"),),
        (("Authorization", "Basic dTpjaS10b2tlbg=="), ("Origin", "https://evil.example")),
        (("Authorization", "Basic dTpjaS10b2tlbg=="),),
        (("X-Store-Token", "ci-token"),),
        (("X-Store-Token", "ci-token"), ("Authorization", "Bearer ci-token")),
        (("Upgrade", "websocket"),),
        (("Host", "twice"),),
    ]
)
ASKED = st.tuples(
    st.sampled_from(["GET", "PUT", "OPTIONS"]), st.sampled_from(["/web/a", "/open/a", "/nowhere", "/web/a%2fb"]), SENT
)


@given(st.lists(ASKED, min_size=1, max_size=8))
async def test_what_was_read_before_never_changes_a_decision(requests: list[Any]) -> None:
    """Requests of one connection are decided as if each were its first."""
    kept, fresh, last = Rig(token_headers=["X-Store-Token"]), Rig(token_headers=["X-Store-Token"]), LastRead()
    for method, target, headers in requests:
        one = await kept.ask(method, target, None, *headers, last=last)
        other = await fresh.ask(method, target, None, *headers)
        assert (one.reason, one.principal, one.actions, one.head) == (
            other.reason,
            other.principal,
            other.actions,
            other.head,
        )
        assert (one.token is None) == (other.token is None)


@given(st.text(max_size=30), st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=5))
async def test_whatever_is_sent_a_decision_comes_out(target: str, headers: list[tuple[bytes, bytes]]) -> None:
    decision = await Rig().gate.decide("GET", "/" + target, headers, "", NOW)
    assert isinstance(decision.reason, Reason)
    assert decision.reason is not Reason.INTERNAL_ERROR


@pytest.mark.parametrize(
    ("path", "upstream", "target", "asked"),
    [
        ("/web", "/web", "/web/a/b", "/web/a/b"),
        ("/web", "", "/web/a", "/a"),
        ("/web", "", "/web", "/"),
        ("/web", "/x/y", "/web/", "/x/y/"),
        ("/web", "/x", "/web/a?b=c&d", "/x/a?b=c&d"),
        ("/web", "/x", "/web/%7ea%2Bb", "/x/%7ea%2Bb"),
        ("/", "/all", "/a/b", "/all/a/b"),
        ("/", "", "/", "/"),
    ],
)
def test_only_the_routes_prefix_is_exchanged(path: str, upstream: str, target: str, asked: str) -> None:
    head = Head("GET", parse(target), Headers({}, ()))
    assert upstream_path(route(path=path, upstream_path=upstream), head) == asked


def test_a_refusal_of_any_kind_is_no_permission() -> None:
    for reason in Reason:
        assert Decision(reason).allowed is (reason in (Reason.GRANTED, Reason.ANSWERED_HERE, Reason.WOULD_DENY))
    assert issubclass(CredentialRefused, Refused)


# --- report mode (rule 21) ----------------------------------------------------------------------------------------------------

TRIAL = Workspace("trial", "t.yaml", "5" * 64, routes=(route("trial", "/trial"),), report_until=NOW + 1)
OVER = Workspace("over", "v.yaml", "6" * 64, routes=(route("over", "/over"),), report_until=NOW)


@pytest.mark.parametrize(
    ("token", "will_refuse"), [(None, Reason.NO_TOKEN), ("ada-token", Reason.NO_RULE)], ids=["nobody", "ada"]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_report_mode_lets_through_what_only_lacks_a_grant(
    method: str, token: str | None, will_refuse: Reason
) -> None:
    rig = Rig(snapshot_of(TRIAL, OVER))
    decision = await rig.ask(method, "/trial/a", token)
    assert decision.allowed
    assert (decision.reason, decision.would_deny, decision.status) == (Reason.WOULD_DENY, will_refuse, 200)
    assert rig.gate.let_through[will_refuse] == sum(rig.gate.let_through.values()) == 1
    over = await rig.ask(method, "/over/a", token)
    assert not over.allowed
    assert (over.reason, over.would_deny) == (will_refuse, None)
    assert sum(rig.gate.let_through.values()) == 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("DELETE", "/trial/a"), Reason.NO_TOKEN),
        (("DELETE", "/trial/a", "ada-token"), Reason.NO_RULE),
        (("GET", "/trial/a", "stranger"), Reason.BAD_TOKEN),
        (("GET", "/trial/a", "expired"), Reason.EXPIRED),
        (("GET", "/trial/a", ""), Reason.BAD_TOKEN),
        (("GET", "/trial/a", "ci-token"), Reason.WRONG_WORKSPACE),
        (("BREW", "/trial/a"), Reason.UNKNOWN_OPERATION),
        (("PUT", "/trial/"), Reason.KEY_REQUIRED),
        (("GET", "/trial/../web/a"), Reason.BAD_TARGET),
        (("GET", "/elsewhere"), Reason.NO_ROUTE),
        (("GET", "/trial/a?teamId=api"), Reason.WRONG_WORKSPACE),
    ],
)
async def test_what_stands_in_report_mode(asked: tuple[Any, ...], reason: Reason) -> None:
    rig = Rig(snapshot_of(TRIAL))
    assert await rig.reason(*asked) is reason
    assert sum(rig.gate.let_through.values()) == 0


async def test_nothing_that_is_there_is_replaced_in_report_mode() -> None:
    rig = Rig(snapshot_of(msgspec.structs.replace(TRIAL, write_once=True)))
    created = await rig.ask("PUT", "/trial/a")
    assert (created.reason, created.only_creates) == (Reason.WOULD_DENY, True)
    rig.exists = True
    assert await rig.reason("PUT", "/trial/a") is Reason.NO_TOKEN
    rig.exists = Unavailable(Reason.EXISTENCE_UNKNOWN)
    assert await rig.reason("PUT", "/trial/a") is Reason.EXISTENCE_UNKNOWN
    assert sum(rig.gate.let_through.values()) == 1


async def test_what_report_mode_lets_through_is_not_public() -> None:
    rig = Rig(snapshot_of(TRIAL))
    assert not rig.gate.is_public(await rig.ask("GET", "/trial/a"))


async def test_report_mode_ends_for_a_connection_that_goes_on() -> None:
    rig, last = Rig(snapshot_of(TRIAL)), LastRead()
    raw = ((b"Host", b"cache"),)
    before = await rig.gate.decide("GET", "/trial/a", raw, "10.0.0.1", NOW + 0.999, last=last)
    after = await rig.gate.decide("GET", "/trial/a", raw, "10.0.0.1", NOW + 1, last=last)
    assert (before.reason, after.reason) == (Reason.WOULD_DENY, Reason.NO_TOKEN)


# --- the old shared password ---------------------------------------------------------------------------------------------------

OLD = Legacy("basic", "old", frozenset({Permission.READ}), NOW + 10)
SHARED = Workspace("shared", "s.yaml", "7" * 64, routes=(route("shared", "/shared"),), legacy=OLD, ci_tokens=READ_WRITE)
SAME = Workspace("same", "m.yaml", "8" * 64, routes=(route("same", "/same"),), anonymous=READ_WRITE)


def basic(pair: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(pair.encode()).decode()


class OldRig(Rig):
    """`/shared` has an old shared password, in a file that says `content`; `/same` is another workspace."""

    def __init__(self, content: bytes | None = b"cache:pass word", **more: Any) -> None:
        super().__init__(snapshot_of(SHARED, SAME, WEB), **more)
        self.content = content
        self.old = OldPasswords(lambda legacy: self.content and hashlib.sha256(self.content).digest())
        self.gate = Gate(
            snapshot=lambda: self.snapshot,
            profiles=PROFILES,
            identities=self.identities,
            directory=None,
            existence=self._existence,
            token_headers=("x-cache-token",),
            old_passwords=self.old,
        )


async def test_the_old_password_is_a_principal_of_its_own() -> None:
    rig = OldRig()
    decision = await rig.ask("GET", "/shared/a", None, basic("cache:pass word"))
    assert decision.reason is Reason.GRANTED
    assert decision.principal is not None
    assert (decision.principal.kind, decision.principal.workspace) == (PrincipalKind.LEGACY, "shared")
    assert (decision.carrier, decision.token, decision.cache) == ("basic", None, None)
    assert await rig.reason("PUT", "/shared/a", None, basic("cache:pass word")) is Reason.TOKEN_LIMIT
    assert rig.old.accepted == 2


@pytest.mark.parametrize("target", ["/shared/a", "/same/a"])
@pytest.mark.parametrize(
    "headers",
    [
        basic("cache:wrong"),
        basic("cache:"),
        basic("other:pass word"),
        basic("pass word"),
        basic(""),
        ("Authorization", "Basic !"),
        ("Authorization", "Bearer cache:passwords"),
        ("X-Cache-Token", "cache:pass"),
    ],
)
async def test_another_password_is_a_bad_token_and_never_anonymous(target: str, headers: tuple[str, str]) -> None:
    assert await OldRig().reason("GET", target, None, headers) is Reason.BAD_TOKEN


async def test_the_old_password_opens_nothing_elsewhere() -> None:
    """Not even what anybody may do there."""
    for target in ("/same/a", "/web/a"):
        assert await OldRig().reason("GET", target, None, basic("cache:pass word")) is Reason.BAD_TOKEN


@pytest.mark.parametrize("content", [None, b""])
async def test_without_a_password_in_its_file_nobody_is_let_in(content: bytes | None) -> None:
    for pair in ("cache:pass word", "", ":"):
        assert await OldRig(content).reason("GET", "/shared/a", None, basic(pair)) is Reason.BAD_TOKEN


async def test_two_credentials_are_refused_when_one_is_the_old_password() -> None:
    rig = OldRig()
    both = (basic("cache:pass word"), ("X-Cache-Token", "ci-token"))
    assert await rig.reason("GET", "/shared/a", None, *both) is Reason.TWO_CREDENTIALS
    twice = (basic("cache:pass word"), basic("cache:pass word"))
    assert await rig.reason("GET", "/shared/a", None, *twice) is Reason.BAD_HEADER
    foreign = (basic("cache:pass word"), ("Sec-Fetch-Site", "cross-site"))
    assert await rig.reason("GET", "/shared/a", None, *foreign) is Reason.CROSS_SITE
    assert rig.old.accepted == 0


async def test_the_old_password_ends_and_its_holder_is_known() -> None:
    rig = OldRig()
    rig.snapshot = snapshot_of(msgspec.structs.replace(SHARED, legacy=msgspec.structs.replace(OLD, until=NOW)))
    decision = await rig.ask("GET", "/shared/a", None, basic("cache:pass word"))
    assert (decision.reason, decision.status, decision.principal) == (Reason.EXPIRED, 401, None)
    assert decision.holder is not None
    assert decision.holder.kind is PrincipalKind.LEGACY
    assert "pass word" not in decision.detail


async def test_a_connection_remembers_nothing_of_the_old_password() -> None:
    """Its file is asked at every request; and what was remembered of another request isn't mistaken for it."""
    rig, last = OldRig(), LastRead()
    old = basic("cache:pass word")
    assert await rig.reason("GET", "/shared/a", None, old, last=last) is Reason.GRANTED
    assert await rig.reason("GET", "/same/a", None, old, last=last) is Reason.BAD_TOKEN
    assert await rig.reason("GET", "/shared/a", None, old, last=last) is Reason.GRANTED
    assert await rig.reason("PUT", "/web/a", "ci-token", last=last) is Reason.GRANTED
    assert await rig.reason("GET", "/shared/a", None, old, last=last) is Reason.GRANTED
    rig.content = b"cache:changed"
    assert await rig.reason("GET", "/shared/a", None, old, last=last) is Reason.BAD_TOKEN
    assert await rig.reason("GET", "/shared/a", None, basic("cache:changed"), last=last) is Reason.GRANTED
    rig.snapshot = snapshot_of(msgspec.structs.replace(SHARED, legacy=None))
    assert await rig.reason("GET", "/shared/a", None, basic("cache:changed"), last=last) is Reason.BAD_TOKEN


async def test_tokens_go_on_working_beside_the_old_password() -> None:
    rig = OldRig()
    assert await rig.reason("GET", "/shared/a", "ada-token") is Reason.NO_RULE
    assert await rig.reason("GET", "/shared/a", None, basic("any:ada-token")) is Reason.NO_RULE
    assert rig.old.accepted == 0


# --- bad credentials are throttled, good ones never ---------------------------------------------------------------------------


async def test_beyond_the_measure_a_bad_token_is_told_to_wait_and_a_good_one_is_not() -> None:
    rig = Rig(failures=Failures(Rate(0.1, 3)))
    reasons = [await rig.reason("GET", "/web/a", token) for token in ("a", "b", "b", "c", "b")]
    assert reasons == [Reason.BAD_TOKEN] * 3 + [Reason.THROTTLED] * 2
    refused = await rig.ask("GET", "/web/a", "d")
    assert (refused.status, refused.retry_after, refused.principal) == (429, 10, None)
    assert refused.detail == "bad_token: of no kind that is configured"
    assert await rig.reason("GET", "/web/a", "ci-token") is Reason.GRANTED
    assert await rig.reason("GET", "/web/a", "ada-token") is Reason.NO_RULE
    assert await rig.reason("GET", "/open/a") is Reason.GRANTED


async def test_what_is_malformed_counts_and_who_holds_the_token_is_told_the_truth() -> None:
    rig = Rig(failures=Failures(Rate(0.1, 2)))
    assert [await rig.reason("GET", "/web/a", "expired") for _ in range(5)] == [Reason.EXPIRED] * 5
    assert [await rig.reason("GET", "/web/a", token) for token in ("", "a b", "a b")] == [
        *[Reason.BAD_TOKEN] * 2,
        Reason.THROTTLED,
    ]
    assert await rig.reason("GET", "/web/a", "expired") is Reason.EXPIRED


async def test_an_outage_is_nobody_s_failure() -> None:
    rig = Rig(failures=Failures(Rate(0.1, 1)))
    rig.verifier.failure = Unavailable(Reason.TOKEN_STORE_UNAVAILABLE)
    assert [await rig.reason("GET", "/web/a", str(number)) for number in range(5)] == [
        Reason.TOKEN_STORE_UNAVAILABLE
    ] * 5
    assert await rig.reason("GET", "/nowhere/a", "x") is Reason.NO_ROUTE
    rig.verifier.failure = None
    assert await rig.reason("GET", "/web/a", "x") is Reason.BAD_TOKEN


async def test_a_network_over_its_measure_waits_for_a_place_and_is_served() -> None:
    failures = Failures(Rate(0.001, 1))
    rig = Rig(failures=failures)
    assert await rig.reason("GET", "/web/a", "x") is Reason.BAD_TOKEN
    lane = failures.lane("10.0.0.1", NOW)
    assert lane is not None
    for _ in range(LANE):
        await lane.acquire()
    waiting = asyncio.create_task(rig.reason("GET", "/web/a", "ci-token"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    lane.release()
    assert await waiting is Reason.GRANTED


def of_client(client: str, workspace: str, path: str, **more: Any) -> Route:
    return msgspec.structs.replace(route(workspace, path), client=client, **more)


NESTED = snapshot_of(
    Workspace(
        "web",
        "web.yaml",
        "0" * 64,
        routes=(of_client("nx", "web", "/web"), of_client("plain", "web", "/npm", upstream_path="/npm")),
        ci_tokens=READ_WRITE,
    ),
    Workspace(
        "inner",
        "i.yaml",
        "1" * 64,
        routes=(
            of_client("plain", "inner", "/web/v1"),
            of_client("plain", "inner", "/npm/@a", upstream_path="/npm/@a"),
        ),
    ),
)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/web/v1/cache/1", Reason.WRONG_WORKSPACE),
        ("/web//v1/cache/1", Reason.BAD_TARGET),
        ("/web/linux/v1/cache/1", Reason.GRANTED),
        ("/npm/@a/b", Reason.WRONG_WORKSPACE),
        ("/npm/@a%2fb", Reason.BAD_TARGET),
        ("/npm/@b%2fb", Reason.GRANTED),
    ],
)
async def test_a_slash_in_another_spelling_leads_to_no_other_workspace(target: str, reason: Reason) -> None:
    assert await Rig(NESTED).reason("PUT", target, "ci-token") is reason


async def test_an_errand_says_which_key_is_asked_for() -> None:
    once = Workspace(
        "web", "w.yaml", "0" * 64, routes=(of_client("nx", "web", "/web"),), ci_tokens=READ_WRITE, write_once=True
    )
    rig = Rig(snapshot_of(once))
    decision = await rig.ask("PUT", "/web//v1/cache/1?x=1", "ci-token")
    assert rig.asked == ["/web/v1/cache/1"]
    assert (decision.reason, decision.only_creates, decision.exists) == (Reason.GRANTED, True, False)
    assert decision.errand is not None
    assert store_path(decision) == decision.errand.path == "/web/v1/cache/1"
    rig.exists = True
    decision = await rig.ask("PUT", "/web/v1/cache/1", "ci-token")
    assert (decision.reason, decision.only_creates, decision.exists) == (Reason.NO_RULE, False, True)


async def test_which_of_many_keys_the_same_caller_may_read() -> None:
    hidden = Rule("hidden", 1, deny=frozenset({Permission.READ}), path=glob("a/*"))
    rig = Rig(snapshot_of(msgspec.structs.replace(WEB, rules=(hidden,))))
    decision = await rig.ask("GET", "/web/b", "ci-token")
    assert rig.gate.grants(decision, ["a/1", "b/1", "a", "a/1/2"]) == ["b/1", "a", "a/1/2"]
