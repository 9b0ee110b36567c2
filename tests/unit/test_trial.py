"""Questions that nobody sent are answered as requests are, by the gate; what doesn't hold is told; and what guards guard."""

import asyncio
from typing import Any

import pytest
from msgspec import structs

from sidecar.gate import Gate
from sidecar.model import ANONYMOUS, LEVELS, Principal, PrincipalKind
from sidecar.policy.cases import read_case_file
from sidecar.policy.compiled import Case, Legacy, Route, Workspace
from sidecar.policy.routes import Routes, Snapshot
from sidecar.policy.trace import Trace
from sidecar.reasons import Reason
from sidecar.trial import Result, decide_case, guard_problems, run_case

NOW = 1_800_000_000.0
ROUTE = Route("web", "/web", ("web",), "plain", "store", "/web")
ELSE = Route("rest", "/", (), "plain", "other", "")
WEB = Workspace(
    "web", "web.yaml", "", (ROUTE,), anonymous=LEVELS["read"], write_once=True, ci_tokens=LEVELS["read-write"]
)
REST = Workspace("rest", "rest.yaml", "", (ELSE,), anonymous=LEVELS["read-write"])
SNAPSHOT = Snapshot(Routes().adding([ROUTE]), {"web": WEB})


def read(*cases: str) -> list[Case]:
    text = "workspace: web\ncases:\n" + "".join(f"  - {{{case}}}\n" for case in cases)
    return list(read_case_file(text, "web.yaml", ["github"]).cases)


def run(case: Case, snapshot: Snapshot = SNAPSHOT) -> Result:
    return asyncio.run(run_case(case, snapshot, NOW))


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("who: anonymous, ask: GET /web/a", "allow"),
        ("who: anonymous, ask: GET /webx/a", "no_route"),
        ("who: anonymous, ask: GET /web/../a", "bad_target"),
        ("who: anonymous, ask: GET /web/a%2fb", "bad_target"),
        ("who: anonymous, ask: OPTIONS /web/a", "answered_here"),
        ("who: anonymous, ask: TRACE /web/a", "unknown_operation"),
        ("who: anonymous, ask: GET /web/a, headers: {Depth: '1'}", "unknown_operation"),
        ("who: anonymous, ask: GET /web/a, headers: {Upgrade: h2c}", "upgrade_refused"),
        ("who: {ci: web}, ask: GET /web/a, headers: {Cookie: a}", "allow"),
        ("who: {ci: web}, ask: GET /web/a, headers: {Authorization: Bearer x}", "bad_header"),
        ("who: anonymous, ask: GET /web/a, headers: {Content-Length: '5'}", "bad_request"),
        ("who: anonymous, ask: PUT /web/a, exists: false", "no_token"),
        ("who: {jwt: github}, ask: PUT /web/a, exists: false", "no_rule"),
        ("who: {ci: web}, ask: PUT /web/a, exists: false", "allow"),
        ("who: {ci: web}, ask: PUT /web/a, exists: true", "no_rule"),
        ("who: {ci: web}, ask: PUT /web/a", "existence_unknown"),
        ("who: {ci: web}, actions: [{write: a}]", "allow"),
        ("who: {ci: web}, actions: [{write: a}, {delete: a}]", "no_rule"),
        ("who: {ci: web}, actions: [{write: a, creates: true}], exists: true", "no_rule"),
        ("who: {ci: web}, actions: []", "unknown_operation"),
        ("who: {ci: other}, actions: [{write: a}]", "wrong_workspace"),
        ("who: {personal: ada, directory: unknown}, actions: [{read: a}]", "inactive_person"),
        ("who: {personal: ada, directory: {active: false}}, actions: [{read: a}]", "inactive_person"),
        ("who: {personal: ada, directory: {}}, actions: [{read: a}]", "allow"),
    ],
)
def test_a_case_is_answered_as_its_request_would_be(case: str, answer: str) -> None:
    [right] = read(f"name: a, {case}, expect: {answer}")
    result = run(right)
    assert (result.reason, result.passed, result.rule) == (right.expect, True, None)


def test_actions_of_a_workspace_that_is_not_there_are_nobody_else_s() -> None:
    [case] = read("name: a, who: anonymous, actions: [{read: a}], workspace: gone, expect: no_route")
    open_to_all = Snapshot(Routes().adding([ELSE]), {"rest": REST})
    assert run(case, open_to_all).passed


def test_the_gate_decides_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    decide = Gate.decide

    async def watched(self: Gate, method: str, raw_target: str, *rest: Any, **named: Any) -> Any:
        asked.append((method, raw_target))
        return await decide(self, method, raw_target, *rest, **named)

    monkeypatch.setattr(Gate, "decide", watched)
    for case in read(
        "name: a, who: anonymous, ask: PUT /web/a?x=1, expect: allow",
        "name: a, who: {ci: web}, actions: [{read: a}], expect: allow",
    ):
        run(case)
    assert asked == [("PUT", "/web/a?x=1"), ("GET", "/web")]


def test_a_trace_tells_how_it_came_about() -> None:
    [case] = read("name: a, who: {ci: web}, actions: [{write: b}], expect: allow")
    trace = Trace()
    decision = asyncio.run(decide_case(case, SNAPSHOT, NOW, trace=trace))
    assert decision.principal == Principal(PrincipalKind.CI, "ci of web", workspace="web")
    assert [(step.action.key, step.granted) for step in trace.actions] == [("b", True)]


def test_a_case_that_does_not_hold_says_what_it_got() -> None:
    [reason, rule] = read(
        "name: a, who: anonymous, ask: GET /web/a, expect: no_rule",
        "name: b, who: anonymous, ask: GET /web/a, expect: allow, rule: open",
    )
    assert [(result.passed, str(result)) for result in (run(reason), run(rule))] == [
        (False, "a: expected no_rule, got allow"),
        (False, "b: expected allow by 'open', got allow"),
    ]
    met = [Result(rule, Reason.GRANTED, name) for name in ("open", "other")]
    assert [(result.passed, str(result)) for result in met] == [
        (True, "b: allow by 'open'"),
        (False, "b: expected allow by 'open', got allow by 'other'"),
    ]


def test_a_guard_tells_each_case_that_does_not_hold() -> None:
    cases = read(
        "name: open, who: anonymous, ask: GET /web/a, expect: allow",
        "name: closed, who: anonymous, ask: GET /web/a, expect: no_token",
        "name: not ours, who: anonymous, ask: GET /x, expect: allow",
    )
    found = guard_problems(WEB, [("cases/web.yaml", case) for case in cases], NOW)
    assert [str(problem) for problem in found] == [
        "cases/web.yaml:4 $.cases: the guard closed: expected no_token, got allow",
        "cases/web.yaml:5 $.cases: the guard not ours: expected allow, got no_route",
    ]


def test_a_guard_that_holds_says_nothing() -> None:
    [case] = read("name: open, who: anonymous, ask: GET /web/a, expect: allow")
    assert guard_problems(WEB, [("web.yaml", case)], NOW) == ()


def test_a_guard_without_a_case_is_none() -> None:
    [problem] = guard_problems(WEB, [], NOW)
    assert str(problem).startswith("web.yaml:1 $.guard: a guard without a case guards nothing")


async def test_a_guard_may_be_asked_within_a_running_loop() -> None:
    [case] = read("name: closed, who: anonymous, ask: GET /web/a, expect: no_token")
    assert len(guard_problems(WEB, [("web.yaml", case)], NOW)) == 1
    assert case.principal is ANONYMOUS


SHARED = structs.replace(WEB, anonymous=LEVELS["none"], legacy=Legacy("basic", "old", LEVELS["read"], NOW + 1, 1))


@pytest.mark.parametrize(
    ("workspace", "case", "answer"),
    [
        (WEB, "who: {legacy: web}, ask: GET /web/a", "bad_token"),
        (SHARED, "who: {legacy: gone}, ask: GET /web/a", "bad_token"),
        (SHARED, "who: {legacy: web}, ask: GET /web/a", "allow"),
        (SHARED, "who: {legacy: web}, ask: GET /web/a, at: 2100-01-01", "expired"),
        (SHARED, "who: {legacy: web}, actions: [{read: a}]", "allow"),
        (SHARED, "who: {legacy: web}, ask: GET /web/../a", "bad_target"),
        (SHARED, "who: anonymous, ask: GET /web/a", "no_token"),
    ],
)
def test_the_old_shared_password(workspace: Workspace, case: str, answer: str) -> None:
    [right] = read(f"name: a, {case}, expect: {answer}")
    assert str(run(right, Snapshot(Routes().adding([ROUTE]), {"web": workspace}))) == f"a: {answer}"


TRIED = structs.replace(WEB, anonymous=LEVELS["none"], report_until=NOW + 86400.0)


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("who: anonymous, ask: GET /web/a", "no_token"),
        ("who: anonymous, ask: GET /web/a", "would_deny"),
        ("who: {jwt: github}, actions: [{read: a}]", "would_deny"),
        ("who: anonymous, ask: GET /web/a, at: 2027-01-01", "would_deny"),
        ("who: anonymous, ask: GET /web/a, at: 2100-01-01", "no_token"),
        ("who: anonymous, ask: GET /web/../a", "bad_target"),
    ],
)
def test_report_mode_counts_as_over_unless_a_case_is_about_it(case: str, answer: str) -> None:
    [right] = read(f"name: a, {case}, expect: {answer}")
    assert str(run(right, Snapshot(Routes().adding([ROUTE]), {"web": TRIED}))) == f"a: {answer}"
