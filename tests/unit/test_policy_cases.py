"""Policy cases as data: what each word comes to, and what is refused."""

import pytest

from sidecar.errors import DocumentError
from sidecar.model import ANONYMOUS, Action, Limits, Permission, Person, Principal, PrincipalKind, Scope
from sidecar.policy.cases import CaseFile, LoadCase, read_case_file
from sidecar.policy.compiled import Case
from sidecar.reasons import Reason

READ, WRITE, OVERWRITE, DELETE, ADMIN = Permission
PERSONAL, CI, JWT = PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.JWT


def read(*cases: str) -> list[Case]:
    text = "workspace: web\ncases:\n" + "".join(f"  - {{{case}}}\n" for case in cases)
    return list(read_case_file(text, "web.yaml", ["github"]).cases)


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
            "{ci: web, access_key: true}",
            Principal(PrincipalKind.ACCESS_KEY, "ci of web", workspace="web", token_kind=CI),
            None,
            False,
        ),
        (
            "{personal: ada, access_key: true}",
            Principal(PrincipalKind.ACCESS_KEY, "ada", token_kind=PrincipalKind.PERSONAL, owned=True),
            None,
            False,
        ),
        (
            "{ci: web, workspaces: [web], permissions: [read], path: a/**}",
            Principal(CI, "ci of web", workspace="web", limits=LIMITS),
            None,
            False,
        ),
        (
            "{personal: ada, id: '7', directory: {id: '8'}}",
            Principal(PERSONAL, "ada", owner_id="7"),
            Person(True, frozenset(), "8"),
            True,
        ),
        (
            "{personal: ada, scopes: [{workspace: web, permissions: [read], path: a/**}, {workspace: b}]}",
            Principal(
                PERSONAL,
                "ada",
                limits=Limits(frozenset({"web", "b"}), scopes=(Scope("web", frozenset({READ}), "a/**"), Scope("b"))),
            ),
            None,
            False,
        ),
        ("{legacy: web}", Principal(PrincipalKind.LEGACY, "", workspace="web"), None, False),
        ("{biscuit: build}", Principal(PrincipalKind.BISCUIT, "build"), None, False),
        (
            "{biscuit: build, workspaces: [web], permissions: [read]}",
            Principal(
                PrincipalKind.BISCUIT,
                "build",
                limits=Limits(workspaces=frozenset({"web"}), permissions=frozenset({Permission.READ})),
                bound=True,
            ),
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


ONE_KIND = "exactly one of 'personal', 'ci', 'biscuit', 'jwt' and 'legacy'"
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
        ("name: a, who: {legacy: web, ci: web}, ask: GET /, expect: allow", ONE_KIND),
        ("name: a, who: {ci: web, scopes: [{path: a}]}, ask: GET /, expect: allow", "'workspace' is missing"),
        ("name: a, who: {ci: web, scopes: [], workspaces: [web]}, ask: GET /, expect: allow", "leave 'workspaces' out"),
        ("name: a, who: {ci: web, id: '7'}, ask: GET /, expect: allow", "unknown key 'id'"),
        ("name: a, who: {legacy: web, path: a}, ask: GET /, expect: allow", "unknown key 'path'"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, at: tomorrow", "expected a date"),
        ("name: a, who: {jwt: github, ci: web}, ask: GET /, expect: allow", ONE_KIND),
        ("name: a, who: {jwt: gitbub}, ask: GET /, expect: allow", "unknown issuer 'gitbub'"),
        ("name: a, who: {jwt: github, path: a}, ask: GET /, expect: allow", "unknown key 'path'"),
        ("name: a, who: {ci: web, directory: unknown}, ask: GET /, expect: allow", "unknown key 'directory'"),
        ("name: a, who: {ci: web, path: /a}, ask: GET /, expect: allow", "no leading slash"),
        ("name: a, who: {personal: ada, directory: gone}, ask: GET /, expect: allow", "unknown person 'gone'"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, exists: maybe", "expected true or false"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, exist: true", "did you mean 'exists'?"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, headers: {a b: c}", "'a b' is no header's name"),
        ("name: a, who: anonymous, ask: GET /, expect: allow, headers: [Depth]", "expected a mapping"),
        (
            "name: a, who: anonymous, actions: [{read: a}], expect: allow, headers: {Depth: '1'}",
            "unknown key 'headers'",
        ),
    ],
)
def test_what_is_no_case(case: str, message: str) -> None:
    found = problems(case)
    assert any(message in problem for problem in found), found


def test_a_case_that_is_no_mapping_is_one_problem() -> None:
    with pytest.raises(DocumentError) as caught:
        read_case_file("workspace: web\ncases: [text]", "web.yaml", None)
    assert [problem.message[:18] for problem in caught.value.problems] == ["expected a mapping"]


def test_a_request_may_say_more() -> None:
    [case] = read(
        "name: a, who: anonymous, ask: COPY /web/a, headers: {Destination: /web/b, Depth: infinity}, expect: allow"
    )
    assert case.headers == {"Destination": "/web/b", "Depth": "infinity"}


def test_a_case_may_be_about_a_day() -> None:
    [case] = read("name: a, who: anonymous, ask: GET /, expect: allow, at: 2027-01-01")
    assert case.at == 1_798_761_600.0


@pytest.mark.parametrize(("said", "guard"), [("", False), ("guard: false\n", False), ("guard: true\n", True)])
def test_a_file_of_cases_may_be_a_guard(said: str, guard: bool) -> None:
    assert read_case_file(f"workspace: web\n{said}cases: []", "web.yaml", None) == CaseFile("web", guard)


LOAD = """\
load:
  - name: two files
    files:
      a.yaml: |
        workspace: a
        routes: []
      b.yaml: ""
    problems: ["a.yaml:2 $.routes", b.yaml]
    loads: 0
"""


def test_a_file_may_be_about_loading() -> None:
    with pytest.raises(DocumentError, match="nothing is written here"):
        read_case_file(LOAD, "loading.yaml", None)
    read = read_case_file(LOAD.replace('b.yaml: ""', "b.yaml: x"), "loading.yaml", None)
    files = {"a.yaml": "workspace: a\nroutes: []\n", "b.yaml": "x"}
    assert read == CaseFile(loads=(LoadCase("two files", 2, files, 0, ("a.yaml:2 $.routes", "b.yaml")),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cases: []", "'workspace' is missing"),
        ("workspace: web", "'cases' is missing"),
        ("workspace: web\ncases: []\nguard: yes", "expected true or false"),
        ("workspace: web\ncases: []\nload: []", "unknown key"),
        ("load: [{name: a, files: {}}]", "'loads' is missing"),
        ("load: [{name: a, files: {}, loads: many}]", "expected a number"),
    ],
)
def test_what_is_no_file_of_cases(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_case_file(text, "web.yaml", None)
