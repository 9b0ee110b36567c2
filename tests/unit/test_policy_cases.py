"""Policy cases as data: what each word comes to, what is refused, and that a case which doesn't hold is told."""

from collections.abc import Sequence

import pytest
from sidecar.errors import DocumentError, Refused
from sidecar.model import ANONYMOUS, LEVELS, Action, Limits, Permission, Person, Principal, PrincipalKind, Target
from sidecar.policy.cases import CaseResult, read_case_file, run_case
from sidecar.policy.compiled import Case, Route, Workspace
from sidecar.policy.routes import Routes, Snapshot
from sidecar.reasons import Reason

READ, WRITE, OVERWRITE, DELETE, ADMIN = Permission
PERSONAL, CI, JWT = PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.JWT


def read(*cases: str) -> list[Case]:
    text = "workspace: web\ncases:\n" + "".join(f"  - {{{case}}}\n" for case in cases)
    return list(read_case_file(text, "web.yaml", ["github"]))


def problems(case: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(case)
    return [problem.message for problem in caught.value.problems]


def test_a_request_and_its_answer() -> None:
    [first, second] = read(
        "name: a, who: anonymous, ask: GET /web/a b, expect: no_rule",
        "name: b, who: anonymous, ask: PUT /x, expect: allow, rule: r, exists: true, workspace: other",
    )
    assert first == Case("a", 3, ANONYMOUS, Reason.NO_RULE, method="GET", path="/web/a b", workspace="web")
    assert second == Case("b", 4, ANONYMOUS, Reason.GRANTED, "r", "PUT", "/x", "other", exists=True)


def test_actions_in_place_of_a_request() -> None:
    [case] = read(
        "name: a, who: anonymous, expect: allow, exists: false, "
        "actions: [{read: a}, {write: b, creates: true}, {write: b, creates: false}, {overwrite: c}, {delete: d}, {admin: e}]"
    )
    assert (case.method, case.path, case.exists) == ("", "", False)
    assert case.actions == (
        Action(READ, "a"),
        Action(WRITE, "b", creates=True),
        Action(WRITE, "b"),
        Action(OVERWRITE, "c"),
        Action(DELETE, "d"),
        Action(ADMIN, "e"),
    )


LIMITS = Limits(frozenset({"web"}), frozenset({READ}), "a/**")


@pytest.mark.parametrize(
    ("who", "principal", "person", "directory"),
    [
        ("anonymous", ANONYMOUS, None, False),
        ("{personal: ada}", Principal(PERSONAL, "ada"), None, False),
        ("{personal: ada, directory: unknown}", Principal(PERSONAL, "ada"), None, True),
        ("{personal: ada, directory: {}}", Principal(PERSONAL, "ada"), Person(True, frozenset()), True),
        (
            "{personal: ada, directory: {active: false, groups: [team]}}",
            Principal(PERSONAL, "ada"),
            Person(False, frozenset({"team"})),
            True,
        ),
        (
            "{personal: ada, workspaces: [web], permissions: [read], path: a/**}",
            Principal(PERSONAL, "ada", limits=LIMITS),
            None,
            False,
        ),
        ("{ci: web}", Principal(CI, "ci of web", workspace="web"), None, False),
        (
            "{ci: web, workspaces: [web], permissions: [read], path: a/**}",
            Principal(CI, "ci of web", workspace="web", limits=LIMITS),
            None,
            False,
        ),
        ("{jwt: github}", Principal(JWT, "somebody", issuer="github"), None, False),
        (
            "{jwt: github, subject: s, groups: [g], claims: {a: [1, b], c: {d: [true]}}}",
            Principal(JWT, "s", issuer="github", groups=frozenset({"g"}), claims={"a": [1, "b"], "c": {"d": [True]}}),
            None,
            False,
        ),
    ],
)
def test_who_asks(who: str, principal: Principal, person: Person | None, directory: bool) -> None:
    [case] = read(f"name: a, who: {who}, ask: GET /, expect: allow")
    assert (case.principal, case.person, case.directory) == (principal, person, directory)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.GRANTED])
def test_every_refusal_can_be_expected(reason: Reason) -> None:
    assert read(f"name: a, who: anonymous, ask: GET /, expect: {reason}")[0].expect is reason


ONE_KIND = "exactly one of 'personal', 'ci' and 'jwt'"
ONE_ASK = "exactly one of 'ask'"
ONE_PERMISSION = "one permission on one key"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("name: a, who: anonymous, ask: GET /, expect: granted", "unknown answer 'granted'"),
        ("name: a, who: anonymous, ask: GET /, expect: denied", "unknown answer 'denied'"),
        ("name: a, who: anonymous, ask: GET /", "'expect' is missing"),
        ("who: anonymous, ask: GET /, expect: allow", "'name' is missing"),
        ("name: a, ask: GET /, expect: allow", "'who' is missing"),
        ("name: a, who: anonymous, expect: allow", ONE_ASK),
        ("name: a, who: anonymous, ask: GET /, actions: [{read: a}], expect: allow", ONE_ASK),
        ("name: a, who: anonymous, ask: /web, expect: allow", "a method and a path"),
        ("name: a, who: anonymous, ask: GET web, expect: allow", "a method and a path"),
        ("name: a, who: anonymous, ask: ' /web', expect: allow", "a method and a path"),
        ("name: a, who: anonymous, actions: [{}], expect: allow", ONE_PERMISSION),
        ("name: a, who: anonymous, actions: [{read: a, write: a}], expect: allow", ONE_PERMISSION),
        ("name: a, who: anonymous, actions: [read], expect: allow", "expected a mapping"),
        ("name: a, who: anonymous, actions: [{reed: a}], expect: allow", "unknown key 'reed'"),
        ("name: a, who: nobody, ask: GET /, expect: allow", "unknown caller 'nobody'"),
        ("name: a, who: {}, ask: GET /, expect: allow", ONE_KIND),
        ("name: a, who: {personal: ada, ci: web}, ask: GET /, expect: allow", ONE_KIND),
        ("name: a, who: {jwt: github, ci: web}, ask: GET /, expect: allow", ONE_KIND),
        ("name: a, who: {jwt: gitbub}, ask: GET /, expect: allow", "unknown issuer 'gitbub'"),
        ("name: a, who: {jwt: github, path: a}, ask: GET /, expect: allow", "unknown key 'path'"),
        ("name: a, who: {ci: web, directory: unknown}, ask: GET /, expect: allow", "unknown key 'directory'"),
        ("name: a, who: {ci: web, path: /a}, ask: GET /, expect: allow", "no leading slash"),
        ("name: a, who: {personal: ada, directory: gone}, ask: GET /, expect: allow", "unknown person 'gone'"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, exists: maybe", "expected true or false"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, exist: true", "did you mean 'exists'?"),
    ],
)
def test_what_is_no_case(case: str, message: str) -> None:
    found = problems(case)
    assert any(message in problem for problem in found), found


def test_a_case_that_is_no_mapping_is_one_problem() -> None:
    with pytest.raises(DocumentError) as caught:
        read_case_file("workspace: web\ncases: [text]", "web.yaml", None)
    assert [problem.message[:18] for problem in caught.value.problems] == ["expected a mapping"]


# --- run --------------------------------------------------------------------------------------------------------------

ROUTE = Route("web", "/web", ("web",), "plain", "store", "/web")
WEB = Workspace(
    "web", "web.yaml", "", (ROUTE,), anonymous=LEVELS["read"], write_once=True, ci_tokens=LEVELS["read-write"]
)
SNAPSHOT = Snapshot(Routes().adding([ROUTE]), {"web": WEB})


def classify(method: str, target: Target, route: Route) -> Sequence[Action] | Reason:
    if method == "OPTIONS":
        return Reason.ANSWERED_HERE
    if method == "TRACE":
        raise Refused(Reason.UNKNOWN_OPERATION)
    return [Action(READ if method == "GET" else WRITE, target.segments[-1], creates=method == "PUT")]


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("who: anonymous, ask: GET /web/a", "allow"),
        ("who: anonymous, ask: GET /webx/a", "no_route"),
        ("who: anonymous, ask: GET /web/../a", "bad_target"),
        ("who: anonymous, ask: OPTIONS /web/a", "answered_here"),
        ("who: anonymous, ask: TRACE /web/a", "unknown_operation"),
        ("who: anonymous, ask: PUT /web/a, exists: false", "no_token"),
        ("who: {jwt: github}, ask: PUT /web/a, exists: false", "no_rule"),
        ("who: {ci: web}, ask: PUT /web/a, exists: false", "allow"),
        ("who: {ci: web}, ask: PUT /web/a, exists: true", "no_rule"),
        ("who: {ci: web}, ask: PUT /web/a", "existence_unknown"),
        ("who: {ci: web}, ask: POST /web/a", "allow"),
        ("who: {ci: web}, actions: [{write: a}]", "allow"),
        ("who: {ci: web}, actions: [{write: a}, {delete: a}]", "no_rule"),
        ("who: {ci: other}, actions: [{write: a}]", "wrong_workspace"),
        ("who: {personal: ada, directory: unknown}, actions: [{read: a}]", "inactive_person"),
        ("who: {personal: ada, directory: {active: false}}, actions: [{read: a}]", "inactive_person"),
        ("who: {personal: ada, directory: {}}, actions: [{read: a}]", "allow"),
    ],
)
def test_a_case_is_answered_as_its_request_would_be(case: str, answer: str) -> None:
    [right] = read(f"name: a, {case}, expect: {answer}")
    result = run_case(right, SNAPSHOT, classify)
    assert (result.passed, result.rule, str(result)) == (True, None, f"a: {result.reason.value}")


def test_a_case_that_does_not_hold_says_what_was_met() -> None:
    [reason, rule] = read(
        "name: a, who: anonymous, ask: GET /web/a, expect: no_rule",
        "name: b, who: anonymous, ask: GET /web/a, expect: allow, rule: open",
    )
    unmet = [run_case(case, SNAPSHOT, classify) for case in (reason, rule)]
    assert [(result.passed, str(result)) for result in unmet] == [
        (False, "a: expected no_rule, met granted"),
        (False, "b: expected granted by 'open', met granted"),
    ]
    met = [CaseResult(rule, Reason.GRANTED, name) for name in ("open", "other")]
    assert [(result.passed, str(result)) for result in met] == [
        (True, "b: granted by 'open'"),
        (False, "b: expected granted by 'open', met granted by 'other'"),
    ]
