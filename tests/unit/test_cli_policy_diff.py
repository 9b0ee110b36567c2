"""`sidecar policy diff`: whose access an edit changes, over cases and over what was really asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import replay
from sidecar.cli.policy import app
from sidecar.cli.policy_compare import compare_cases, compare_requests
from sidecar.cli.replay import Replay, read_audit
from sidecar.errors import DocumentError, SidecarError
from sidecar.model import ANONYMOUS, Limits, Permission, Person, Principal, PrincipalKind
from sidecar.policy.routes import Snapshot
from sidecar.reasons import Reason

READ, WRITE, *_ = Permission
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: artifacts}]\n"
RULE = """\
rules:
  - name: main writes
    allow: [read, write]
    issuer: github
    claims: {repository_id: "1", ref: {glob: "refs/heads/*"}, event_name: [push, schedule], job: {kind: [build]}}
"""
CASES = """\
workspace: web
cases:
  - {name: anybody reads, who: anonymous, ask: GET /web/a, expect: allow}
  - {name: CI writes, who: {ci: web}, ask: PUT /web/a, expect: allow}
  - {name: CI deletes, who: {ci: web}, actions: [{delete: a}, {read: b}], expect: no_rule}
"""
Policies = Callable[[str, str], tuple[Path, Path]]


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    def write(old: str, new: str) -> tuple[Path, Path]:
        for name, text in (("old", old), ("new", new)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "web.yaml").write_text(HEAD + text)
        return tmp_path / "old", tmp_path / "new"

    (tmp_path / "cases.yaml").write_text(CASES)
    return write


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["diff", *(str(argument) for argument in arguments)])


def record(actor: dict[str, Any], method: str = "GET", path: str = "/web/a", **more: Any) -> bytes:
    said = {
        "v": "sidecar.audit/v1",
        "time": "2026-11-22T04:00:00.000000Z",
        "kind": "access",
        "action": "object.read",
        "stage": "complete",
        "reason": "granted",
        "workspace": "web",
        "actor": {"type": None, "owner": None, "principal": None, "groups": [], "scopes": None, **actor},
        "request": {"method": method, "path": path, "query": None},
        "decision": {"rule": None, "policy_sha256": None},
        "changes": {"unheard": "of"},
    }
    return json.dumps(said | more).encode() + b"\n"


ADA = {"type": "personal", "owner": "ada", "principal": "ada"}
BUILD = {"type": "ci", "owner": "web", "principal": "build"}
REPO = {"type": "jwt", "owner": "github", "principal": "repo:a/b"}
NOBODY = {"type": "anonymous"}


def told(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_who_gains_and_who_loses_by_cases(policies: Policies, tmp_path: Path) -> None:
    new = "ci_tokens: read-write\nrules: [{name: tidy, allow: [delete], kinds: [ci]}]"
    old, new_folder = policies("anonymous: read\nci_tokens: read-write\n", new)
    result = run(old, new_folder, "--cases", tmp_path / "cases.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "- anonymous: GET /web/a",
        "    allow -> no_token",
        "    case: anybody reads",
        "+ ci ci of web: delete 'a', read 'b' in web",
        "    no_rule -> allow by rule 'tidy'",
        "    case: CI deletes",
        "1 gains access, 1 loses it",
    ]


def test_the_answer_for_scripts(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("anonymous: read\n", "rules: [{name: shut, deny: [read]}]\nanonymous: read\n")
    result = run(old, new, "--cases", tmp_path / "cases.yaml", "--json")
    assert result.exit_code == 1
    [change] = told(result).pop("changes")
    assert change == {
        "who": "anonymous",
        "what": "GET /web/a",
        "from": "allow",
        "to": "rule_deny",
        "from_rule": None,
        "to_rule": "shut",
        "gains": False,
        "case": "anybody reads",
        "condition": None,
        "requests": 1,
        "examples": [],
    }


def test_another_reason_is_no_other_access(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("anonymous: read\n", "anonymous: read\nrules: [{name: never, deny: [write, delete]}]\n")
    result = run(old, new, "--cases", tmp_path / "cases.yaml")
    assert (result.exit_code, result.stdout) == (0, "nobody's access changes (3 asked)\n")


def test_what_report_mode_lets_through_is_access(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("mode: {report: {until: 2999-12-31}}\nci_tokens: read-write\n", "ci_tokens: read-write\n")
    result = run(old, new, "--cases", tmp_path / "cases.yaml")
    assert result.stdout.splitlines()[:2] == ["- anonymous: GET /web/a", "    would_deny -> no_token"]


def test_what_depends_on_the_key_is_told_for_both(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("ci_tokens: read-write\n", "ci_tokens: read-write\nwrite_once: true\n")
    result = run(old, new, "--cases", tmp_path / "cases.yaml")
    assert result.stdout.splitlines()[:2] == ["- ci ci of web: PUT /web/a if it exists", "    allow -> no_rule"]
    assert result.stdout.splitlines()[-1] == "0 gain access, 1 loses it"


def test_one_file_and_its_own_cases(policies: Policies, tmp_path: Path) -> None:
    own = "cases: [{name: a, who: anonymous, ask: GET /web/a, expect: allow}]\n"
    old, new = policies(own, "anonymous: read\n" + own)
    result = run(old / "web.yaml", new / "web.yaml", "--cases", new)
    assert result.stdout.splitlines()[0] == "+ anonymous: GET /web/a"


# Recorded audit


def test_without_a_word_both_versions_own_cases_are_asked_each_once(policies: Policies, tmp_path: Path) -> None:
    reads = "{name: anybody reads, who: anonymous, ask: GET /web/a, expect: %s}"
    old, new = policies(
        f"anonymous: read\ncases: [{reads % 'allow'}]\n",
        f"ci_tokens: read\ncases: [{reads % 'no_token'}, {{name: CI reads, who: {{ci: web}}, ask: GET /web/a, expect: allow}}]\n",
    )
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "web.yaml").write_text(CASES.replace("anybody reads", "the same by another name"))
    result = run(old, new, "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["asked"]) == (1, 5)
    assert [change["case"] for change in said["changes"]] == ["anybody reads", "the same by another name"]


def test_who_gains_and_who_loses_by_what_was_asked(policies: Policies, tmp_path: Path) -> None:
    old, new = policies(
        "anonymous: read\nmembers: {users: [ada]}\npersonal_tokens: read-write\nci_tokens: read-write\n",
        "members: {users: [ada]}\npersonal_tokens: read\nci_tokens: read-write\n",
    )
    (tmp_path / "audit.jsonl").write_bytes(
        b"".join(
            [
                *(record(NOBODY, path=f"/web/{key}") for key in "abcabcd"),
                record(ADA),
                record(ADA, "PUT", "/web/x", stage="intent"),
                record(ADA, "PUT", "/web/x"),
                record(BUILD, "PUT"),
                record({"type": "unknown"}, reason="bad_token"),
                record(NOBODY, kind="token"),
                b"not json\n",
                b"\n",
                b'{"v": "something else", "kind": "access"}\n',
            ]
        )
    )
    result = run(old, new, "--audit", tmp_path / "audit.jsonl")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "- anonymous: GET in web (7 requests)",
        "    allow -> no_token",
        "    such as /web/a, /web/b, /web/c",
        "- personal ada: PUT in web",
        "    allow -> no_rule",
        "    such as /web/x",
        "0 gain access, 2 lose it",
    ]
    assert result.stderr.splitlines() == [
        "note: 1 request not compared: of callers who were not identified",
        "note: 2 lines of the log could not be read",
    ]


def test_jwts_are_taken_to_claim_what_their_rule_asks_for(policies: Policies, tmp_path: Path) -> None:
    old, new = policies(RULE, RULE.replace("[push, schedule]", "[schedule]").replace('"1"', '["2", "1"]'))
    by = {"rule": "main writes", "policy_sha256": None}
    (tmp_path / "audit.jsonl").write_bytes(record(REPO, "PUT", decision=by) + record(REPO, reason="no_rule"))
    result = run(old, new, "--audit", tmp_path / "audit.jsonl")
    assert result.stdout.splitlines()[:2] == [
        "- jwt repo:a/b of issuer github: PUT in web",
        "    allow by rule 'main writes' -> no_rule",
    ]
    assert "note: 2 requests of JWTs: their claims are not in the log" in result.stderr
    assert run(old, old, "--audit", tmp_path / "audit.jsonl").exit_code == 0


def snapshot(text: str, folder: Path) -> Snapshot:
    from sidecar.cli.policy_files import load_policies

    (folder / "one.yaml").write_text(HEAD + text)
    loaded = load_policies(folder / "one.yaml", None)
    assert loaded.problems == ()
    return loaded.snapshot


async def test_what_the_log_does_not_hold_is_not_compared(tmp_path: Path) -> None:
    """A path limit of the token refused it, and no record tells of such a limit."""
    old = snapshot("ci_tokens: read\n", tmp_path)
    own = {"rule": None, "policy_sha256": old.workspaces["web"].sha256}
    other = {"rule": None, "policy_sha256": "another"}
    lines = [
        record(BUILD, reason="token_limit", decision=own),
        record(BUILD, reason="token_limit", path="/web/b", decision=other),
        record(BUILD, reason="upstream_timeout", path="/web/c", decision=own),
    ]
    found = await compare_requests(read_audit(lines, old, None).questions, old, Snapshot(), 0.0, lambda text: None)
    assert (found.unsure, found.asked) == (1, 2)
    assert [(change.now, change.requests) for change in found.changes] == [("no_route", 2)]


class People:
    def person(self, subject: str) -> Person | None:
        return Person(True, frozenset({"team"})) if subject == "ada" else None


def asked(line: bytes, directory: People | None = None, old: Snapshot | None = None) -> Replay:
    return read_audit([line], old or Snapshot(), directory)


@pytest.mark.parametrize(
    ("actor", "principal"),
    [
        (NOBODY, ANONYMOUS),
        (ADA, Principal(PrincipalKind.PERSONAL, "ada")),
        (ADA | {"scopes": ["read", "fly"]}, Principal(PrincipalKind.PERSONAL, "ada", limits=Limits(permissions=frozenset({READ})))),
        (BUILD, Principal(PrincipalKind.CI, "build", workspace="web")),
        (REPO | {"groups": ["g"]}, Principal(PrincipalKind.JWT, "repo:a/b", issuer="github", groups=frozenset({"g"}))),
        ({"type": "legacy", "owner": "web"}, Principal(PrincipalKind.LEGACY, "", workspace="web")),
        ({"type": "operator", "principal": "root"}, None),
        ({"type": "unknown"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_who_asked(actor: dict[str, Any], principal: Principal | None) -> None:
    found = asked(record(actor))
    assert [question.case.principal for question in found.questions] == ([] if principal is None else [principal])
    assert found.unknown == (1 if principal is None else 0)


def test_people_are_as_the_directory_knows_them() -> None:
    [known] = asked(record(ADA), People()).questions
    assert (known.case.person, known.case.directory) == (Person(True, frozenset({"team"})), True)
    [gone] = asked(record(ADA | {"principal": "bob"}), People()).questions
    assert (gone.case.person, gone.case.directory) == (None, True)
    [nobody] = asked(record(ADA)).questions
    assert (nobody.case.person, nobody.case.directory) == (None, False)


def test_the_claims_of_a_rule_s_caller(tmp_path: Path) -> None:
    line = record(REPO, decision={"rule": "main writes", "policy_sha256": None})
    [question] = asked(line, old=snapshot(RULE, tmp_path)).questions
    assert question.case.principal.claims == {
        "repository_id": "1",
        "ref": "refs/heads/x",
        "event_name": "push",
        "job": {"kind": "build"},
    }
    [other] = asked(line.replace(b"github", b"corpus"), old=snapshot(RULE, tmp_path)).questions
    assert other.case.principal.claims == {}


def test_a_request_is_asked_with_its_query_and_counted_once() -> None:
    query = record(ADA, request={"method": "GET", "path": "/web/a", "query": "team=x"})
    found = read_audit([query, query, record(ADA), record(ADA, reason="unheard_of")], Snapshot(), None)
    assert [(question.case.path, question.count) for question in found.questions] == [
        ("/web/a?team=x", 2),
        ("/web/a", 1),
        ("/web/a", 1),
    ]
    assert found.questions[2].case.expect is Reason.INTERNAL_ERROR
    assert found.requests == 4


def test_noise_can_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "QUESTIONS", 2)
    found = read_audit([record(ADA, path=f"/web/{number}") for number in range(5)] * 2, Snapshot(), None)
    assert (len(found.questions), found.requests, found.beyond) == (2, 4, 6)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"\xff", b"[" * 5000, b'{"v": 1}', record(NOBODY).replace(b"audit/", b"audio/")]
)
def test_a_line_that_is_no_record_is_counted(line: bytes) -> None:
    found = asked(line)
    assert (found.unreadable, found.questions) == (1, [])


def test_control_characters_of_callers_do_not_reach_the_terminal(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("rules: [{allow: [read], issuer: github}]\n", "")
    (tmp_path / "audit.jsonl").write_bytes(record(REPO | {"principal": "\x1b[2Jrepo"}))
    result = run(old, new, "--audit", tmp_path / "audit.jsonl")
    assert "\x1b" not in result.stdout
    assert "- jwt \ufffd[2Jrepo of issuer github: GET in web" in result.stdout


# What can't be compared


def test_what_shall_be_asked_is_said_once(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("", "")
    both = run(old, new, "--cases", tmp_path / "cases.yaml", "--audit", tmp_path / "cases.yaml")
    assert both.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("--cases", b"workspace: web\ncases: []\n", "there is no case in --cases"),
        ("--audit", b"", "there is no request of a known caller"),
        ("--audit", None, "can't be read: No such file"),
    ],
)
def test_nothing_to_ask_is_no_agreement(
    policies: Policies, tmp_path: Path, kind: str, content: bytes | None, message: str
) -> None:
    old, new = policies("", "")
    if content is not None:
        (tmp_path / "asked").write_bytes(content)
    with pytest.raises(SidecarError, match=message):
        CliRunner().invoke(app, ["diff", str(old), str(new), kind, str(tmp_path / "asked")], catch_exceptions=False)


def test_versions_without_cases_say_what_to_ask(policies: Policies) -> None:
    old, new = policies("", "")
    with pytest.raises(SidecarError, match="no case in OLD and NEW; say --cases, or --audit"):
        CliRunner().invoke(app, ["diff", str(old), str(new)], catch_exceptions=False)


def test_policies_that_are_not_right(policies: Policies, tmp_path: Path) -> None:
    old, new = policies("", "anonymous: nothing\n")
    with pytest.raises(DocumentError, match=r"new/web.yaml:3 \$.anonymous: unknown level"):
        CliRunner().invoke(
            app, ["diff", str(old), str(new), "--cases", str(tmp_path / "cases.yaml")], catch_exceptions=False
        )


async def test_a_long_comparison_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr("sidecar.cli.policy_run.Progress.step", lambda self: steps.append(self._total))
    found = asked(record(ADA)).questions
    await compare_requests(found, Snapshot(), Snapshot(), 0.0, lambda text: None)
    await compare_cases([found[0].case] * 2, Snapshot(), Snapshot(), 0.0, lambda text: None)
    assert steps == [1, 2, 2]


def test_reading_a_long_log_says_how_far_it_is(
    policies: Policies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int | None] = []
    monkeypatch.setattr("sidecar.cli.policy_run.Progress.step", lambda self: steps.append(self._total))
    (tmp_path / "log").write_bytes(record(ADA) * 3)
    old, new = policies("", "")
    assert run(old, new, "--audit", tmp_path / "log").exit_code == 0
    assert steps == [None] * 3 + [1]
