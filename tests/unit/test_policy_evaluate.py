"""Rules 6 to 17: named examples, laws as properties, and a naive second reading of POLICY.md that must agree."""

import timeit
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.model import (
    ANONYMOUS,
    LEVELS,
    Action,
    Limits,
    Permission,
    Permissions,
    Person,
    Principal,
    PrincipalKind,
    Verdict,
)
from sidecar.policy.compiled import ClaimGlob, Legacy, Rule, Workspace
from sidecar.policy.evaluate import evaluate, rules_about
from sidecar.policy.glob import Glob
from sidecar.policy.match import claim_matches
from sidecar.policy.trace import Trace
from sidecar.reasons import Reason

READ, WRITE, OVERWRITE, DELETE, ADMIN = Permission
ADA = Principal(PrincipalKind.PERSONAL, "ada")
CI = Principal(PrincipalKind.CI, "ci", workspace="web")
BUILD = Principal(
    PrincipalKind.JWT, "build", issuer="github", claims={"repository_id": "1"}, groups=frozenset({"team"})
)
NONE = LEVELS["none"]
RW = LEVELS["read-write"]


def only(*permissions: Permission) -> Permissions:
    return frozenset(permissions)


def ask(
    workspace: Workspace,
    principal: Principal,
    *actions: Action,
    person: Person | None = None,
    directory: bool = False,
    exists: bool | None = False,
) -> Verdict:
    return evaluate(workspace, principal, actions, person=person, directory=directory, exists=exists)


def web(**fields: Any) -> Workspace:
    return Workspace("web", "web.yaml", "0" * 64, **fields)


TEAM = Person(True, frozenset({"team"}))
GET = Action(READ, "a")
PUT = Action(WRITE, "a", creates=True)


# --- claims (rule 15) -------------------------------------------------------------------------------------------------

CLAIMS = [
    # wanted, claim, does it match
    ("true", "true", True),
    ("true", True, False),
    (True, True, True),
    (True, 1, False),
    (1, True, False),
    (1, 1, True),
    (1, 1.0, False),
    (1, "1", False),
    ("1", 1, False),
    (False, 0, False),
    (False, None, False),
    ("", None, False),
    ("a", "A", False),
    ("a", "a ", False),
    (("a", "b"), "b", True),
    (("a", "b"), "c", False),
    (("a", 1), True, False),
    ("a", ["x", "a"], True),
    (("a", "b"), ["x", "b"], True),
    ("a", [], False),
    ("a", [["a"]], False),
    ("a", {"a": 1}, False),
    ({"ns": "p"}, {"ns": "p", "more": 1}, True),
    ({"ns": "p"}, {"more": 1}, False),
    ({"ns": {"x": 1}}, {"ns": {"x": 1, "y": 2}}, True),
    ({"ns": {"x": 1}}, {"ns": {"x": True}}, False),
    ({"ns": "p"}, [{"ns": "q"}, {"ns": "p"}], True),
    ({"ns": "p"}, "ns", False),
    (({"a": 1}, "b"), {"a": 1}, True),
    (ClaimGlob(Glob("release/*")), "release/1", True),
    (ClaimGlob(Glob("release/*")), "release/1/2", False),
    (ClaimGlob(Glob("release/*")), "xrelease/1", False),
    (ClaimGlob(Glob("release/*")), ["main", "release/1"], True),
    (ClaimGlob(Glob("*")), 1, False),
    (ClaimGlob(Glob("**")), None, False),
    ("release/*", "release/1", False),
]


@pytest.mark.parametrize(("wanted", "claim", "matches"), CLAIMS)
def test_types_count_in_claims(wanted: Any, claim: Any, matches: bool) -> None:
    assert claim_matches(wanted, claim) is matches


def test_a_claim_is_found_by_its_literal_name_and_absence_is_no_match() -> None:
    rule = Rule("r", 1, allow=only(READ), issuer="github", claims={"kubernetes.io/ns": "p"})
    workspace = web(rules=(rule,))
    dotted = msgspec.structs.replace(BUILD, claims={"kubernetes.io/ns": "p"})
    nested = msgspec.structs.replace(BUILD, claims={"kubernetes": {"io/ns": "p"}})
    assert ask(workspace, dotted, GET).allowed
    assert not ask(workspace, nested, GET).allowed


def test_a_hostile_depth_of_claims_costs_nothing() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = [deep]
    assert not claim_matches("a", deep)


# --- identity ---------------------------------------------------------------------------------------------------------


def test_a_name_means_nothing_without_its_issuer() -> None:
    ours = Rule("ours", 1, allow=only(READ), users=frozenset({"ada"}))
    theirs = Rule("theirs", 2, allow=only(WRITE), issuer="corp", users=frozenset({"ada"}))
    workspace = web(rules=(ours, theirs))
    of = {
        "personal": ADA,
        "corp": Principal(PrincipalKind.JWT, "ada", issuer="corp"),
        "github": Principal(PrincipalKind.JWT, "ada", issuer="github"),
        "ci": Principal(PrincipalKind.CI, "ada", workspace="web"),
    }
    granted = {
        name: [a.permission for a in (GET, PUT) if ask(workspace, principal, a).allowed]
        for name, principal in of.items()
    }
    assert granted == {"personal": [READ], "corp": [WRITE], "github": [], "ci": []}


def test_groups_are_the_directorys_for_people_and_the_issuers_for_jwts() -> None:
    ours = Rule("ours", 1, allow=only(READ), groups=frozenset({"team"}), kinds=frozenset({PrincipalKind.PERSONAL}))
    theirs = Rule("theirs", 2, allow=only(WRITE), issuer="github", groups=frozenset({"team"}))
    workspace = web(rules=(ours, theirs))
    row = Person(True, frozenset({"team"}))
    assert ask(workspace, ADA, GET, person=row, directory=True).rule == "ours"
    assert ask(workspace, BUILD, PUT).rule == "theirs"
    assert not ask(workspace, BUILD, GET, person=row, directory=True).allowed
    assert not ask(workspace, ADA, PUT, person=row, directory=True).allowed
    claimed = msgspec.structs.replace(ADA, groups=frozenset({"team"}))
    assert not ask(workspace, claimed, GET).allowed, "a personal token's groups come from the directory alone"


def test_claims_without_an_issuer_match_nobody() -> None:
    """No file that loads holds such a rule; the law doesn't lean on that."""
    anybody = web(rules=(Rule("r", 1, allow=only(READ), claims={"repository_id": "1"}),))
    assert not ask(anybody, BUILD, GET).allowed


def test_a_jwt_is_no_member_and_meets_no_ceiling() -> None:
    workspace = web(users=frozenset({"build"}), groups=frozenset({"team"}), personal_tokens=RW, ci_tokens=RW)
    assert ask(workspace, BUILD, GET).reason is Reason.NO_RULE


# --- standing and the order of reasons --------------------------------------------------------------------------------

OPEN = web(anonymous=RW, users=frozenset({"ada"}), personal_tokens=RW, ci_tokens=RW)


@pytest.mark.parametrize("row", [None, Person(False, frozenset({"team"}))], ids=["unknown", "inactive"])
def test_who_is_not_active_has_no_access_even_where_anonymous_has(row: Person | None) -> None:
    assert ask(OPEN, ADA, GET, person=row, directory=True).reason is Reason.INACTIVE_PERSON
    assert ask(OPEN, ADA, GET, person=row, directory=False).allowed
    assert ask(OPEN, CI, GET, person=None, directory=True).allowed


@pytest.mark.parametrize("kind", [PrincipalKind.BISCUIT, PrincipalKind.JWT, PrincipalKind.ACCESS_KEY])
def test_an_owner_counts_whatever_kind_of_token_it_is(kind: PrincipalKind) -> None:
    owned, ownerless = Principal(kind, "ada", owned=True, owner_id="7"), Principal(kind, "ada")
    for person in (None, Person(False, frozenset()), Person(True, frozenset(), id="8")):
        assert ask(OPEN, owned, GET, person=person, directory=True).reason is Reason.INACTIVE_PERSON
        assert ask(OPEN, ownerless, GET, person=person, directory=True).allowed
    assert ask(OPEN, owned, GET, person=Person(True, frozenset(), id="7"), directory=True).allowed
    assert ask(OPEN, owned, GET, person=None, directory=False).allowed


@pytest.mark.parametrize(
    "principal",
    [
        msgspec.structs.replace(ADA, limits=Limits(workspaces=frozenset({"other"}))),
        msgspec.structs.replace(ADA, limits=Limits(workspaces=frozenset())),
        msgspec.structs.replace(CI, workspace="other"),
        msgspec.structs.replace(CI, workspace=""),
        msgspec.structs.replace(CI, limits=Limits(workspaces=frozenset({"other"}))),
    ],
)
def test_a_token_of_another_workspace_is_refused_even_where_anonymous_may_read(principal: Principal) -> None:
    assert ask(OPEN, principal, GET).reason is Reason.WRONG_WORKSPACE


def test_each_refusal_has_the_first_reason_that_holds() -> None:
    deny = Rule("no", 1, deny=only(READ))
    limited = Limits(permissions=only(WRITE))
    elsewhere = Limits(workspaces=frozenset(), permissions=NONE)
    inactive = Person(False, frozenset())

    def reason(workspace: Workspace, limits: Limits, directory: bool, *actions: Action) -> Reason:
        principal = msgspec.structs.replace(ADA, limits=limits)
        return ask(workspace, principal, *actions, person=inactive, directory=directory).reason

    closed = web(rules=(deny,))
    assert reason(msgspec.structs.replace(closed, broken=True), elsewhere, True) is Reason.POLICY_MISSING
    assert reason(closed, elsewhere, True) is Reason.INACTIVE_PERSON
    assert reason(closed, elsewhere, False) is Reason.WRONG_WORKSPACE
    assert reason(closed, limited, False) is Reason.UNKNOWN_OPERATION
    assert reason(closed, limited, False, GET) is Reason.RULE_DENY
    assert reason(web(), limited, False, GET) is Reason.TOKEN_LIMIT
    assert reason(web(), Limits(), False, GET) is Reason.NO_RULE


def test_one_refused_action_refuses_the_set() -> None:
    verdict = ask(web(anonymous=only(READ)), ANONYMOUS, GET, Action(DELETE, "b"))
    assert (verdict.allowed, verdict.reason) == (False, Reason.NO_RULE)
    denied = web(anonymous=RW, rules=(Rule("no b", 1, deny=only(READ), path=Glob("b")),))
    assert ask(denied, ANONYMOUS, Action(DELETE, "a"), Action(READ, "b")).rule == "no b"


def test_the_order_of_actions_does_not_matter() -> None:
    one_denied = web(anonymous=only(READ), rules=(Rule("no b", 1, deny=only(READ), path=Glob("b")),))
    narrow = msgspec.structs.replace(ADA, limits=Limits(path="a"))
    for actions in ((Action(READ, "a"), Action(READ, "b")), (Action(READ, "b"), Action(READ, "a"))):
        assert ask(one_denied, ANONYMOUS, *actions).rule == "no b"
        assert ask(OPEN, narrow, *actions).reason is Reason.TOKEN_LIMIT
        assert (
            ask(
                web(rules=(Rule("a", 1, allow=only(READ), users=frozenset({"ada"}), path=Glob("a")),)), ADA, *actions
            ).reason
            is Reason.NO_RULE
        )


def test_of_several_rules_that_decide_the_first_in_the_file_is_named() -> None:
    denies = tuple(Rule(name, 1, deny=only(READ)) for name in ("first", "second"))
    assert ask(web(anonymous=RW, rules=denies), ANONYMOUS, GET).rule == "first"
    allows = tuple(Rule(name, 1, allow=only(READ), users=frozenset({"ada"})) for name in ("first", "second"))
    assert ask(web(rules=allows), ADA, GET).rule == "first"


def test_without_a_directory_nobody_has_groups() -> None:
    row = Person(True, frozenset({"team"}))
    by_group = web(groups=frozenset({"team"}), personal_tokens=RW)
    assert ask(by_group, ADA, GET, person=row, directory=True).allowed
    assert not ask(by_group, ADA, GET, person=row, directory=False).allowed


def test_read_write_gives_neither_overwrite_nor_delete_nor_admin() -> None:
    assert [p for p in Permission if ask(OPEN, ADA, Action(p, "a")).allowed] == [READ, WRITE]


# --- replacing (rule 17) ----------------------------------------------------------------------------------------------

NAMES_OVERWRITE = [
    pytest.param(web(anonymous=RW, write_once=True), id="write_once"),
    pytest.param(web(anonymous=RW, rules=(Rule("keep", 1, deny=only(OVERWRITE), path=Glob("a")),)), id="deny"),
    pytest.param(
        web(anonymous=RW, rules=(Rule("may", 1, allow=only(OVERWRITE), issuer="corp"),), write_once=True), id="other"
    ),
]


@pytest.mark.parametrize("workspace", NAMES_OVERWRITE)
def test_replacing_asks_overwrite_where_the_workspace_says_so(workspace: Workspace) -> None:
    assert ask(workspace, ANONYMOUS, PUT, exists=False).allowed
    assert not ask(workspace, ANONYMOUS, PUT, exists=True).allowed
    unknown = ask(workspace, ANONYMOUS, PUT, exists=None)
    assert (unknown.allowed, unknown.existence_needed) == (False, True)


def test_overwrite_alone_replaces_and_creates_nothing() -> None:
    may = web(rules=(Rule("may", 1, allow=only(OVERWRITE), users=frozenset({"ada"})),))
    assert ask(may, ADA, PUT, exists=True).rule == "may"
    assert not ask(may, ADA, PUT, exists=False).allowed
    assert ask(may, ADA, PUT, exists=None).existence_needed


def test_existence_is_asked_only_if_the_answers_differ() -> None:
    may = Rule("may", 1, allow=only(OVERWRITE), users=frozenset({"ada"}))
    assert ask(web(anonymous=RW, write_once=True, rules=(may,)), ADA, PUT, exists=None).allowed
    refused = ask(web(write_once=True), ADA, PUT, exists=None)
    assert (refused.allowed, refused.existence_needed) == (False, False)
    assert ask(web(anonymous=RW), ADA, PUT, exists=None).allowed
    not_creating = Action(WRITE, "a")
    assert ask(web(anonymous=RW, write_once=True), ADA, not_creating, exists=True).allowed
    assert ask(web(anonymous=RW, write_once=True), ADA, not_creating, exists=None).allowed


def test_a_rule_for_other_keys_or_other_callers_asks_nothing_here() -> None:
    elsewhere = Rule("keep", 1, deny=only(OVERWRITE), path=Glob("releases/**"))
    others = Rule("may", 2, allow=only(OVERWRITE), issuer="corp")
    assert ask(web(anonymous=RW, rules=(elsewhere, others)), ANONYMOUS, PUT, exists=True).allowed


# --- a naive second reading, and laws ---------------------------------------------------------------------------------


def subsets(of: Any, smallest: int = 0, largest: int = 3) -> Any:
    """All subsets of a few things, as one strategy."""
    return st.sampled_from([frozenset(s) for n in range(smallest, largest + 1) for s in combinations(list(of), n)])


PERMISSION_SETS = subsets(Permission)
NAMES = subsets(["ada", "bob", "build"], 1, 2)
GROUPS = subsets(["team", "ops"], 0, 2)
PATHS = st.sampled_from(["a", "b/**", "**", "*"])
KINDS = subsets(PrincipalKind, 1, 3)
ISSUERS = st.sampled_from(["github", "corp"])


@st.composite
def rules(draw: st.DrawFn, name: str) -> Rule:
    permissions = draw(subsets(Permission, 1, 3))
    issuer = draw(st.none() | ISSUERS)
    who = {
        "issuer": issuer,
        "claims": draw(st.none() | st.just({"id": "1"}) | st.just({"id": ("1", "2")})) if issuer else None,
        "users": draw(st.none() | NAMES),
        "groups": draw(st.none() | GROUPS.filter(bool)),
        "kinds": draw(st.none() | KINDS),
        "path": draw(st.none() | PATHS.map(Glob)),
    }
    return Rule(name, 1, **{draw(st.sampled_from(["allow", "deny"])): permissions}, **who)


LEVEL = st.sampled_from(list(LEVELS.values()))


@st.composite
def workspaces(draw: st.DrawFn) -> Workspace:
    return web(
        anonymous=draw(LEVEL),
        users=draw(subsets(["ada", "bob"], 0, 1)),
        groups=draw(GROUPS),
        personal_tokens=draw(LEVEL),
        ci_tokens=draw(LEVEL),
        rules=tuple(draw(rules(f"r{i}")) for i in range(draw(st.integers(0, 4)))),
        write_once=draw(st.booleans()),
    )


LIMITS = st.builds(
    Limits,
    workspaces=st.none() | subsets(["web", "other"], 0, 2),
    permissions=st.none() | PERMISSION_SETS,
    path=st.none() | PATHS,
)
PRINCIPALS = st.one_of(
    st.just(ANONYMOUS),
    st.builds(Principal, st.just(PrincipalKind.PERSONAL), st.sampled_from(["ada", "bob"]), limits=LIMITS),
    st.builds(
        Principal, st.just(PrincipalKind.CI), st.just("ci"), workspace=st.sampled_from(["web", "other"]), limits=LIMITS
    ),
    st.builds(
        Principal,
        st.just(PrincipalKind.JWT),
        st.sampled_from(["ada", "build"]),
        issuer=ISSUERS,
        groups=GROUPS,
        claims=st.sampled_from([{}, {"id": "1"}, {"id": ["2"]}, {"id": 1}]),
    ),
)
ACTIONS = st.lists(
    st.builds(Action, st.sampled_from(Permission), st.sampled_from(["a", "b", "b/c", ""]), st.booleans()), max_size=3
).map(tuple)
PERSONS = st.none() | st.builds(Person, st.booleans(), GROUPS)
REQUESTS = st.fixed_dictionaries({
    "person": PERSONS,
    "directory": st.booleans(),
    "exists": st.none() | st.booleans(),
})  # fmt: skip


def naive_matches(rule: Rule, who: Principal, row: Person | None, key: str) -> bool:
    holds = []
    if rule.issuer is not None:
        holds.append(who.kind is PrincipalKind.JWT and who.issuer == rule.issuer)
    if rule.kinds is not None:
        holds.append(who.kind in rule.kinds)
    if rule.users is not None:
        holds.append(who.subject in rule.users and (who.kind is PrincipalKind.PERSONAL or rule.issuer is not None))
    if rule.groups is not None:
        mine = who.groups if rule.issuer else row.groups if row and who.kind is PrincipalKind.PERSONAL else frozenset()
        holds.append(bool(mine & rule.groups))
    if rule.claims is not None:
        claim = who.claims.get("id")
        wanted = rule.claims["id"] if isinstance(rule.claims["id"], tuple) else (rule.claims["id"],)
        holds.append(any(have in wanted for have in (claim if isinstance(claim, list) else [claim])))
    if rule.path is not None:
        holds.append({"a": key == "a", "b/**": key in ("b", "b/c"), "**": True, "*": "/" not in key}[rule.path.pattern])
    return all(holds)


def naive(workspace: Workspace, who: Principal, actions: Sequence[Action], row: Person | None, exists: bool) -> bool:
    """POLICY.md, sentence by sentence. `row` is the active person's row, if a directory says so."""
    if not actions:
        return False
    for action in actions:
        granted = set(workspace.anonymous)
        if who.kind is PrincipalKind.PERSONAL:
            groups = row.groups if row else frozenset()
            if who.subject in workspace.users or groups & workspace.groups:
                granted |= workspace.personal_tokens
        if who.kind is PrincipalKind.CI:
            granted |= workspace.ci_tokens
        matching = [rule for rule in workspace.rules if naive_matches(rule, who, row, action.key)]
        for rule in matching:
            granted |= rule.allow
        for rule in matching:
            granted -= rule.deny
        if who.limits.permissions is not None:
            granted &= who.limits.permissions
        if who.limits.path is not None and not Glob(who.limits.path).matches(action.key):
            granted = set()
        needed = action.permission
        names_overwrite = any(OVERWRITE in rule.allow | rule.deny for rule in matching)
        if needed is WRITE and action.creates and exists and (workspace.write_once or names_overwrite):
            needed = OVERWRITE
        if needed not in granted:
            return False
    return True


@pytest.mark.slow
@settings(max_examples=400)
@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS)
def test_it_agrees_with_a_naive_reading_of_the_policy(
    workspace: Workspace, who: Principal, actions: tuple[Action, ...], request_: dict[str, Any]
) -> None:
    verdict = evaluate(workspace, who, actions, **request_)
    row = request_["person"] if request_["directory"] else None
    standing = not (who.kind is PrincipalKind.PERSONAL and request_["directory"] and not (row and row.active))
    standing = standing and (who.kind is not PrincipalKind.CI or who.workspace == "web")
    standing = standing and (who.limits.workspaces is None or "web" in who.limits.workspaces)
    answers = {e: standing and naive(workspace, who, actions, row, e) for e in (True, False)}
    if request_["exists"] is None:
        assert verdict.existence_needed == (answers[True] != answers[False])
        assert verdict.allowed == (answers[True] and answers[False])
    else:
        assert not verdict.existence_needed
        assert verdict.allowed == answers[request_["exists"]]
    assert verdict.allowed == (verdict.reason is Reason.GRANTED)


@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS, LIMITS, st.data())
def test_a_limit_or_a_deny_rule_never_allows(
    workspace: Workspace,
    who: Principal,
    actions: tuple[Action, ...],
    request_: dict[str, Any],
    limits: Limits,
    data: Any,
) -> None:
    if evaluate(workspace, who, actions, **request_).allowed or who.limits != Limits():
        return
    assert not evaluate(workspace, msgspec.structs.replace(who, limits=limits), actions, **request_).allowed
    deny = data.draw(rules("more").filter(lambda rule: rule.deny))
    more = msgspec.structs.replace(workspace, rules=(*workspace.rules, deny))
    assert not evaluate(more, who, actions, **request_).allowed


@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS, st.randoms())
def test_the_order_of_rules_does_not_matter(
    workspace: Workspace, who: Principal, actions: tuple[Action, ...], request_: dict[str, Any], random: Any
) -> None:
    shuffled = list(workspace.rules)
    random.shuffle(shuffled)
    one = evaluate(workspace, who, actions, **request_)
    other = evaluate(msgspec.structs.replace(workspace, rules=tuple(shuffled)), who, actions, **request_)
    assert (one.allowed, one.reason, one.existence_needed) == (other.allowed, other.reason, other.existence_needed)


@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS)
def test_which_rules_are_about_a_caller_may_be_asked_beforehand(
    workspace: Workspace, who: Principal, actions: tuple[Action, ...], request_: dict[str, Any]
) -> None:
    about = rules_about(workspace, who, request_["person"], request_["directory"])
    assert evaluate(workspace, who, actions, **request_, rules=about) == evaluate(workspace, who, actions, **request_)


def test_what_was_asked_beforehand_is_not_asked_again() -> None:
    denied = web(anonymous=RW, rules=(Rule("no", 1, deny=only(READ)),))
    request: dict[str, Any] = {"person": None, "directory": False, "exists": None}
    assert evaluate(denied, ANONYMOUS, (GET,), **request, rules=()).allowed
    assert evaluate(denied, ANONYMOUS, (GET,), **request, rules=denied.rules).rule == "no"


@given(workspaces(), ACTIONS)
def test_anonymous_gets_the_anonymous_level_and_what_rules_give_to_anonymous(
    workspace: Workspace, actions: tuple[Action, ...]
) -> None:
    if evaluate(workspace, ANONYMOUS, actions, person=None, directory=False, exists=True).allowed:
        for_anonymous = [r for r in workspace.rules if not (r.issuer or r.users or r.groups or r.claims)]
        given_away = set(workspace.anonymous).union(*(rule.allow for rule in for_anonymous))
        assert {action.permission for action in actions} <= given_away | {WRITE}
        assert not {WRITE} & {action.permission for action in actions} or {WRITE, OVERWRITE} & given_away


@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS)
def test_tracing_changes_nothing_and_starts_anew(
    workspace: Workspace, who: Principal, actions: tuple[Action, ...], request_: dict[str, Any]
) -> None:
    trace = Trace()
    plain = evaluate(workspace, who, actions, **request_)
    for _ in range(2):
        assert evaluate(workspace, who, actions, **request_, trace=trace) == plain
    if trace.actions:
        assert len(trace.rules) == len(workspace.rules)
        assert [step.action for step in trace.actions] == list(actions)
        if not plain.existence_needed:
            assert plain.allowed == all(s.granted and s.within_limits and s.denied_by is None for s in trace.actions)


def test_where_existence_is_not_known_a_trace_tells_what_replacing_would_need() -> None:
    trace = Trace()
    once = web(anonymous=RW, write_once=True)
    assert evaluate(once, ANONYMOUS, (PUT,), person=None, directory=False, exists=None, trace=trace).existence_needed
    assert [(step.needed, step.granted) for step in trace.actions] == [(OVERWRITE, False)]


def test_a_trace_says_the_first_thing_that_did_not_hold() -> None:
    def why(who: Principal = BUILD, person: Person | None = None, **stated: Any) -> str | None:
        trace = Trace()
        workspace = web(rules=(Rule("r", 1, allow=only(READ), **stated),))
        evaluate(workspace, who, (GET,), person=person, directory=person is not None, exists=None, trace=trace)
        return trace.rules[0].why_not

    assert why(issuer="github", claims={"repository_id": "1"}) is None
    assert why(issuer="corp") == "its issuer is corp, the caller's is github"
    assert why(ANONYMOUS, issuer="corp") == "its issuer is corp, the caller has none"
    assert why(kinds=frozenset({PrincipalKind.CI})) == "it is for ci, the caller is jwt"
    assert why(users=frozenset({"build"})) == "its users are those of personal tokens, the caller is jwt"
    assert why(groups=frozenset({"team"})) == "its groups are those of personal tokens, the caller is jwt"
    assert why(claims={"repository_id": "1"}) == "its claims need an issuer"
    assert why(ADA, users=frozenset({"bob"})) == "its users are bob, the caller is ada"
    assert why(issuer="github", groups=frozenset({"ops"})) == "its groups are ops, the caller's are team"
    by_directory: dict[str, Any] = {"groups": frozenset({"ops", "all"}), "kinds": frozenset({PrincipalKind.PERSONAL})}
    assert why(ADA, **by_directory) == "its groups are all, ops, the caller's are none"
    assert why(ADA, **by_directory, person=TEAM) == "its groups are all, ops, the caller's are team"
    assert (
        why(issuer="github", claims={"repository_id": 1})
        == "claim repository_id must be 1, it is '1' (a number, the token has text)"
    )
    assert why(issuer="github", claims={"ref": ("a", True)}) == "claim ref must be one of 'a', true, it is absent"


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ("true", "'true'"),
        (True, "true"),
        (7, "7"),
        (None, "None"),
        ([], "an empty list"),
        (["a", False], "one of 'a', false"),
        ({"a": 1, "b": {"c": "d"}}, "{a: 1, b: {c: 'd'}}"),
    ],
)
def test_a_trace_shows_a_claim_with_its_type(claim: Any, shown: str) -> None:
    trace = Trace()
    rule = Rule("r", 1, allow=only(READ), issuer="github", claims={"id": {"ref": ClaimGlob(Glob("a/*"))}})
    who = msgspec.structs.replace(BUILD, claims={"id": claim})
    evaluate(web(rules=(rule,)), who, (GET,), person=None, directory=False, exists=None, trace=trace)
    assert trace.rules[0].why_not == f"claim id must be {{ref: like 'a/*'}}, it is {shown}"


def test_a_trace_tells_both_levels_that_grant_without_a_rule() -> None:
    trace = Trace()
    evaluate(OPEN, CI, (GET,), person=None, directory=False, exists=None, trace=trace)
    assert (trace.anonymous, trace.ceiling) == (RW, RW)
    evaluate(web(anonymous=only(READ)), ADA, (GET,), person=None, directory=False, exists=None, trace=trace)
    assert (trace.anonymous, trace.ceiling) == (only(READ), NONE)


def test_a_decision_takes_microseconds() -> None:
    claims = {"repository_id": "1", "ref_protected": "true", "event_name": ("push", "schedule")}
    sent = {"repository_id": "1", "ref_protected": "true", "event_name": "push", "actor": "x"}
    who = msgspec.structs.replace(BUILD, claims=sent)
    busy = web(
        rules=(
            Rule("write", 1, allow=RW, issuer="github", claims=claims),
            Rule("read", 2, allow=only(READ), issuer="github", claims={"repository_id": "1"}),
            Rule("team", 3, allow=only(READ), issuer="corp", groups=frozenset({"team"})),
            Rule("keep", 4, deny=only(OVERWRITE, DELETE), path=Glob("releases/**")),
        )
    )
    actions = (Action(READ, "some/key/of/usual/length"),)
    best = min(
        timeit.repeat(
            lambda: evaluate(busy, who, actions, person=None, directory=False, exists=None), number=500, repeat=7
        )
    )
    assert best / 500 < 50e-6, f"{best / 500 * 1e6:.1f} µs"


# --- report mode (rule 21) ----------------------------------------------------------------------------------------------------


def ask_in_report_mode(
    workspace: Workspace, principal: Principal, *actions: Action, exists: bool | None = False
) -> Verdict:
    return evaluate(workspace, principal, actions, person=None, directory=False, exists=exists, report=True)


@pytest.mark.slow
@settings(max_examples=400)
@given(workspaces(), PRINCIPALS, ACTIONS, REQUESTS)
def test_report_mode_is_as_if_everybody_were_granted_read_and_write(
    workspace: Workspace, who: Principal, actions: tuple[Action, ...], request_: dict[str, Any]
) -> None:
    """So whatever stands in the way of a grant stands in its way, too: deny rules, limits, standing, `overwrite`."""
    met = evaluate(workspace, who, actions, **request_, report=True)
    opened = msgspec.structs.replace(workspace, anonymous=workspace.anonymous | RW)
    as_granted = evaluate(opened, who, actions, **request_)
    assert (met.allowed, met.existence_needed) == (as_granted.allowed, as_granted.existence_needed)
    if not met.allowed and not met.existence_needed:
        assert met.reason is not Reason.WOULD_DENY
    if request_["exists"] is not None:
        enforced = evaluate(workspace, who, actions, **request_)
        assert (met.reason is Reason.WOULD_DENY) == (met.allowed and not enforced.allowed)
        assert met == enforced or enforced.reason is Reason.NO_RULE


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action(READ, "a"), Reason.WOULD_DENY),
        (Action(WRITE, "a"), Reason.WOULD_DENY),
        (Action(OVERWRITE, "a"), Reason.NO_RULE),
        (Action(DELETE, "a"), Reason.NO_RULE),
        (Action(ADMIN, "a"), Reason.NO_RULE),
    ],
)
def test_report_mode_lets_reads_and_writes_through_and_nothing_else(action: Action, reason: Reason) -> None:
    for who in (ANONYMOUS, ADA, CI, BUILD):
        verdict = ask_in_report_mode(web(), who, action)
        assert verdict == Verdict(reason is Reason.WOULD_DENY, reason)
        assert ask_in_report_mode(web(), who, GET, action).reason is reason


def test_what_a_rule_denies_or_a_token_excludes_stands_in_report_mode() -> None:
    denied = web(rules=(Rule("never", 1, deny=only(READ), path=Glob("secret/**")),))
    assert ask_in_report_mode(denied, ADA, Action(READ, "secret/a")) == Verdict(False, Reason.RULE_DENY, "never")
    narrow = msgspec.structs.replace(CI, limits=Limits(permissions=only(READ)))
    assert ask_in_report_mode(web(), narrow, PUT).reason is Reason.TOKEN_LIMIT
    elsewhere = msgspec.structs.replace(CI, workspace="other")
    assert ask_in_report_mode(web(), elsewhere, GET).reason is Reason.WRONG_WORKSPACE
    assert ask_in_report_mode(web(broken=True), ADA, GET).reason is Reason.POLICY_MISSING
    gone = evaluate(web(), ADA, [GET], person=None, directory=True, exists=False, report=True)
    assert gone.reason is Reason.INACTIVE_PERSON
    assert ask_in_report_mode(web(), ADA).reason is Reason.UNKNOWN_OPERATION


@pytest.mark.parametrize(("exists", "reason"), [(False, Reason.WOULD_DENY), (True, Reason.NO_RULE)])
def test_nothing_is_replaced_in_report_mode_that_asks_for_overwrite(exists: bool, reason: Reason) -> None:
    """Both answers of an enforced policy are no; in report mode they differ, so the store has to be asked."""
    once = web(write_once=True)
    assert not evaluate(once, CI, [PUT], person=None, directory=False, exists=None).existence_needed
    assert ask_in_report_mode(once, CI, PUT, exists=None).existence_needed
    assert ask_in_report_mode(once, CI, PUT, exists=exists).reason is reason


def test_what_is_granted_is_granted_in_report_mode_too() -> None:
    assert ask_in_report_mode(web(anonymous=only(READ)), ADA, GET) == Verdict(True, Reason.GRANTED)


# --- the old shared password --------------------------------------------------------------------------------------------------

OLD = Legacy("basic", "old", only(READ), until=1e10)
HOLDER = Principal(
    PrincipalKind.LEGACY, "shared password", workspace="web", limits=Limits(frozenset({"web"}), only(READ))
)


def test_the_old_password_may_do_what_its_level_says_and_nothing_else_grants_it_more() -> None:
    generous = web(
        legacy=OLD,
        anonymous=RW,
        users=frozenset({HOLDER.subject}),
        personal_tokens=RW,
        ci_tokens=RW,
        rules=(Rule("all", 1, allow=only(*Permission), kinds=frozenset(PrincipalKind)),),
    )
    assert ask(generous, HOLDER, GET).allowed
    for permission in (WRITE, OVERWRITE, DELETE, ADMIN):
        assert ask(generous, HOLDER, Action(permission, "a")).reason is Reason.TOKEN_LIMIT
    assert ask(web(legacy=OLD), HOLDER, GET).allowed
    assert ask_in_report_mode(web(legacy=OLD), HOLDER, PUT).reason is Reason.TOKEN_LIMIT


def test_the_old_password_opens_no_workspace_but_its_own() -> None:
    other = Workspace("other", "o.yaml", "0" * 64, legacy=OLD, anonymous=RW)
    assert ask(other, HOLDER, GET).reason is Reason.WRONG_WORKSPACE
    unlimited = msgspec.structs.replace(HOLDER, limits=Limits())
    assert ask(Workspace("other", "o.yaml", "0" * 64, legacy=OLD), unlimited, GET).reason is Reason.NO_RULE
    assert ask(web(), HOLDER, GET).reason is Reason.NO_RULE


def test_deny_rules_bind_the_old_password() -> None:
    closed = web(legacy=OLD, rules=(Rule("no", 1, deny=only(READ), kinds=frozenset({PrincipalKind.LEGACY})),))
    assert ask(closed, HOLDER, GET) == Verdict(False, Reason.RULE_DENY, "no")
    assert ask(closed, ANONYMOUS, GET).reason is Reason.NO_RULE


# --- access keys: their tokens, in another form -----------------------------------------------------------------------


def by_access_key(token: Principal) -> Principal:
    personal = token.kind is PrincipalKind.PERSONAL
    return msgspec.structs.replace(token, kind=PrincipalKind.ACCESS_KEY, token_kind=token.kind, owned=personal)


OF_TOKENS = PRINCIPALS.filter(lambda who: who.kind in (PrincipalKind.PERSONAL, PrincipalKind.CI))


@settings(deadline=None)
@given(workspaces(), OF_TOKENS, ACTIONS, REQUESTS)
def test_an_access_key_may_what_its_token_may_where_no_rule_speaks_of_access_keys(
    workspace: Workspace, token: Principal, actions: tuple[Action, ...], request_: dict[str, Any]
) -> None:
    rules = tuple(rule for rule in workspace.rules if PrincipalKind.ACCESS_KEY not in (rule.kinds or ()))
    workspace = msgspec.structs.replace(workspace, rules=rules)
    assert evaluate(workspace, by_access_key(token), actions, **request_) == evaluate(
        workspace, token, actions, **request_
    )


def test_a_rule_about_access_keys_is_not_about_their_tokens() -> None:
    more = Rule("more", 1, allow=only(DELETE), kinds=frozenset({PrincipalKind.ACCESS_KEY}))
    less = Rule("less", 2, deny=only(READ), kinds=frozenset({PrincipalKind.ACCESS_KEY}))
    ours = web(ci_tokens=RW, rules=(more, less))
    assert (ask(ours, by_access_key(CI), Action(DELETE, "a")).rule, ask(ours, by_access_key(CI), GET).rule) == (
        "more",
        "less",
    )
    assert ask(ours, CI, Action(DELETE, "a")).reason is Reason.NO_RULE
    assert ask(ours, CI, GET).allowed


def test_an_access_key_is_bound_to_its_tokens_workspace_and_its_persons_standing() -> None:
    elsewhere = msgspec.structs.replace(CI, workspace="other")
    assert ask(web(anonymous=RW), by_access_key(elsewhere), GET).reason is Reason.WRONG_WORKSPACE
    members = web(users=frozenset({"ada"}), personal_tokens=RW)
    assert ask(members, by_access_key(ADA), GET, person=TEAM, directory=True).allowed
    for person in (None, Person(False, frozenset())):
        refused = ask(members, by_access_key(ADA), GET, person=person, directory=True)
        assert refused.reason is Reason.INACTIVE_PERSON
