"""Policy cases: who asks for what, and what the answer must be, as data. Read from a policy file's `cases:` or a file of
their own, and run through the same routes, profiles and `evaluate` that requests go through.

    - name: 11 write doesn't give delete
      who: {jwt: github, subject: repo, claims: {repository_id: "123456"}}
      ask: DELETE /web/a                     # a request; or the actions themselves:
      actions: [{delete: a}]                 # on keys of `workspace`; {write: a, creates: true} may replace one
      exists: true                           # rule 17; where it matters and isn't said, the answer is existence_unknown
      expect: no_rule                        # allow, or a reason code
      rule: the rule's name                  # optional: which rule decided

`who` is `anonymous`, or one of `{personal: SUBJECT}`, `{ci: WORKSPACE}` and `{jwt: ISSUER, subject, groups, claims}`. Tokens issued
here may have limits (`workspaces`, `permissions`, `path`); `directory: {active: true, groups: []}` is the person's row there,
`directory: unknown` is a person without one; without the key no directory is configured.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import Struct

from sidecar import target
from sidecar.document import Block, Value, parse
from sidecar.errors import Refused
from sidecar.model import ANONYMOUS, Action, Limits, Permission, Person, Principal, PrincipalKind, Target
from sidecar.policy.compiled import Case, Route
from sidecar.policy.evaluate import evaluate
from sidecar.policy.names import known_name
from sidecar.policy.routes import Snapshot
from sidecar.policy.rules import read_claims, read_key_glob, read_permissions
from sidecar.reasons import Reason

Classify = Callable[[str, Target, Route], Sequence[Action] | Reason]
"""What the route's profile takes a request for: actions, or the reason of an answer without any. May raise `Refused`."""

_PERMISSIONS = tuple(permission.value for permission in Permission)
_ANSWERS = ("allow", *(reason.value for reason in Reason if reason is not Reason.GRANTED))


class CaseResult(Struct, frozen=True):
    case: Case
    reason: Reason
    rule: str | None
    """What decided; `None` where no rule did."""

    @property
    def passed(self) -> bool:
        return self.reason is self.case.expect and self.case.rule in (None, self.rule)

    def __str__(self) -> str:
        met = self.reason.value if self.rule is None else f"{self.reason.value} by {self.rule!r}"
        case = self.case
        wanted = case.expect.value if case.rule is None else f"{case.expect.value} by {case.rule!r}"
        return f"{case.name}: {met}" if self.passed else f"{case.name}: expected {wanted}, met {met}"


def run_case(case: Case, snapshot: Snapshot, classify: Classify) -> CaseResult:
    try:
        return CaseResult(case, *_answer(case, snapshot, classify))
    except Refused as refusal:
        return CaseResult(case, refusal.reason, None)


def _answer(case: Case, snapshot: Snapshot, classify: Classify) -> tuple[Reason, str | None]:
    name, actions = case.workspace, case.actions
    if case.method:
        parsed = target.parse(case.path)
        route = snapshot.match(parsed.segments)
        if route is None:
            return Reason.NO_ROUTE, None
        found = classify(case.method, parsed, route)
        if isinstance(found, Reason):
            return found, None
        name, actions = route.workspace, tuple(found)
    verdict = evaluate(
        snapshot.workspaces[name],
        case.principal,
        actions,
        person=case.person,
        directory=case.directory,
        exists=case.exists,
    )
    if verdict.reason is Reason.NO_RULE and case.principal is ANONYMOUS:
        return Reason.NO_TOKEN, None
    return verdict.reason, verdict.rule


def read_case_file(text: str, file: str, issuers: Collection[str] | None) -> tuple[Case, ...]:
    """A file with `workspace:` and `cases:`. Raises `DocumentError` with all problems."""
    document = parse(text, file)
    block = document.root.block()
    cases = read_cases(block.need("cases"), block.need("workspace").text(), issuers)
    document.finish()
    return cases


def read_cases(value: Value, workspace: str, issuers: Collection[str] | None) -> tuple[Case, ...]:
    """Problems are noted in the value's document. `workspace` is whom the cases are about where they don't say so."""
    return tuple(_read_case(item, workspace, issuers) for item in value.items())


def _read_case(item: Value, workspace: str, issuers: Collection[str] | None) -> Case:
    block = item.block()
    principal, person, directory = _read_who(block.need("who"), issuers)
    asked, actions = block.find("ask"), block.find("actions")
    if item.is_mapping and (asked is None) == (actions is None):
        block.problem("a case has exactly one of 'ask' (a request) and 'actions'")
    method, path = _read_request(asked) if asked is not None else ("", "")
    expect = block.need("expect").choice(_ANSWERS, "answer")
    return Case(
        name=block.need("name").text(),
        line=item.line,
        principal=principal,
        person=person,
        directory=directory,
        expect=Reason.GRANTED if expect == "allow" else Reason(expect),
        rule=block.get("rule", Value.text, None),
        method=method,
        path=path,
        workspace=block.get("workspace", Value.text, workspace),
        actions=tuple(_read_action(member) for member in actions.items()) if actions is not None else (),
        exists=block.get("exists", Value.boolean, None),
    )


def _read_request(value: Value) -> tuple[str, str]:
    method, _, path = value.text().partition(" ")
    if not method or not path.startswith("/"):
        value.problem("a request is a method and a path, as GET /web/a")
    return method, path


def _read_action(value: Value) -> Action:
    block = value.block()
    creates = block.get("creates", Value.boolean, False)
    found = [
        Action(Permission(word), member.text(), creates)
        for word in _PERMISSIONS
        if (member := block.find(word)) is not None
    ]
    if value.is_mapping and len(found) != 1:
        value.problem("an action is one permission on one key, as {write: a/b, creates: true}")
    return found[0] if found else Action(Permission.READ, "")


def _read_who(value: Value, issuers: Collection[str] | None) -> tuple[Principal, Person | None, bool]:
    if not value.is_mapping:
        value.choice(("anonymous",), "caller")
        return ANONYMOUS, None, False
    block = value.block()
    personal, ci, jwt = block.find("personal"), block.find("ci"), block.find("jwt")
    if sum(kind is not None for kind in (personal, ci, jwt)) != 1:
        value.problem("a caller is exactly one of 'personal', 'ci' and 'jwt', or the word anonymous")
    if jwt is not None:
        return _read_jwt(jwt, block, issuers), None, False
    limits = Limits(
        block.get("workspaces", lambda names: frozenset(names.texts()), None),
        block.get("permissions", read_permissions, None),
        block.get("path", lambda glob: read_key_glob(glob).pattern, None),
    )
    if ci is not None:
        bound = ci.text()
        return Principal(PrincipalKind.CI, f"ci of {bound}", workspace=bound, limits=limits), None, False
    subject = personal.text() if personal is not None else ""
    row = block.find("directory")
    person = _read_person(row) if row is not None else None
    return Principal(PrincipalKind.PERSONAL, subject, limits=limits), person, row is not None


def _read_jwt(issuer: Value, block: Block, issuers: Collection[str] | None) -> Principal:
    return Principal(
        PrincipalKind.JWT,
        block.get("subject", Value.text, "somebody"),
        issuer=known_name(issuer, issuers, "issuer"),
        groups=frozenset(block.get("groups", Value.texts, ())),
        claims=_sent(block.get("claims", read_claims, {})),
    )


def _read_person(value: Value) -> Person | None:
    if not value.is_mapping:
        value.choice(("unknown",), "person")
        return None
    block = value.block()
    return Person(block.get("active", Value.boolean, True), frozenset(block.get("groups", Value.texts, ())))


def _sent(wanted: Any) -> Any:
    """Claims as a token holds them: lists, where a rule has any-of."""
    if isinstance(wanted, tuple):
        return [_sent(member) for member in wanted]
    if isinstance(wanted, dict):
        return {name: _sent(member) for name, member in wanted.items()}
    return wanted
