"""Policy cases: who asks for what, and what the answer must be, as data. Read from a policy file's `cases:` or a file of
their own; `sidecar.trial` runs them, by the road that requests take.

    - name: 11 write doesn't give delete
      who: {jwt: github, subject: repo, claims: {repository_id: "123456"}}
      ask: DELETE /web/a                     # a request; or the actions themselves:
      headers: {Depth: infinity}             # optional: what the request says besides
      actions: [{delete: a}]                 # on keys of `workspace`; {write: a, creates: true} may replace one,
                                             # {delete: a, below: true} is on every key below, too (rule 18)
      exists: true                           # rule 17; where it matters and isn't said, the answer is existence_unknown
      expect: no_rule                        # allow, or a reason code
      rule: the rule's name                  # optional: which rule decided
      at: 2027-01-01                         # optional: the day (its first moment, UTC), for what ends; else now

`who` is `anonymous`, or one of `{personal: SUBJECT}`, `{ci: WORKSPACE}`, `{biscuit: SUBJECT}` (made for its `workspaces`, if any, and
narrowed by nothing but its limits), `{jwt: ISSUER, subject, groups, claims}` and
`{legacy: WORKSPACE}`, who sends that workspace's old shared password. Tokens issued here may have limits (`workspaces`, `permissions`, `path`, or `scopes: [{workspace, permissions, path}]`), and a personal one its owner's `id`
when it was made; with `access_key: true` it is their access key that signs, as S3 tools do; `directory: {active: true, groups: [], id: "7"}` is the person's row there,
`directory: unknown` is a person without one; without the key no directory is configured. Report mode counts as over, unless a case
expects `would_deny` or is about a day.

A file of cases says `workspace:`, `cases:` and perhaps `guard: true`: then its workspace's policy is served only if they hold
(rule 26). Instead of cases about requests it may have some about loading, `load:`: whole directories, and what is wrong there.
"""

import calendar
import re
from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.document import Block, Value, parse
from sidecar.model import ANONYMOUS, Action, Limits, Permission, Person, Principal, PrincipalKind, Scope
from sidecar.policy.compiled import Case
from sidecar.policy.names import known_name
from sidecar.policy.rules import read_claims, read_key_glob, read_permissions
from sidecar.reasons import Reason

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_PERMISSIONS = tuple(permission.value for permission in Permission)
_ANSWERS = ("allow", *(reason.value for reason in Reason if reason is not Reason.GRANTED))


class LoadCase(Struct, frozen=True):
    """A whole policy directory, and what is found wrong in it."""

    name: str
    line: int
    files: Mapping[str, str]
    """File name -> its text."""
    loads: int
    """How many of them are served."""
    problems: tuple[str, ...] = ()
    """How each problem that is told begins, in the order of the files."""


class CaseFile(Struct, frozen=True):
    workspace: str = ""
    """Whom its cases are about where they don't say so; empty in a file of load cases."""
    guard: bool = False
    cases: tuple[Case, ...] = ()
    loads: tuple[LoadCase, ...] = ()


def read_case_file(text: str, file: str, issuers: Collection[str] | None) -> CaseFile:
    """A file with `workspace:` and `cases:`, or with `load:`. Raises `DocumentError` with all problems."""
    document = parse(text, file)
    block = document.root.block()
    load = block.find("load")
    if load is not None:
        read = CaseFile(loads=tuple(_read_load(item) for item in load.items()))
    else:
        workspace = block.need("workspace").text()
        guard = block.get("guard", Value.boolean, False)
        read = CaseFile(workspace, guard, read_cases(block.need("cases"), workspace, issuers))
    document.finish()
    return read


def _read_load(item: Value) -> LoadCase:
    block = item.block()
    return LoadCase(
        name=block.need("name").text(),
        line=item.line,
        files={name: member.lines() for name, member in block.need("files").block().entries()},
        loads=block.need("loads").number(),
        problems=block.get("problems", Value.texts, ()),
    )


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
        headers=block.get("headers", _read_headers, {}) if asked is not None else {},
        at=block.get("at", lambda value: float(calendar.timegm(value.date().timetuple())), None),
    )


def _read_request(value: Value) -> tuple[str, str]:
    method, _, path = value.text().partition(" ")
    if not method or not path.startswith("/"):
        value.problem("a request is a method and a path, as GET /web/a")
    return method, path


def _read_headers(value: Value) -> Mapping[str, str]:
    found = {}
    for name, member in value.block().entries():
        if _HEADER.fullmatch(name) is None:
            member.problem(f"{name!r} is no header's name")
        found[name] = member.text()
    return found


def _read_action(value: Value) -> Action:
    block = value.block()
    creates = block.get("creates", Value.boolean, False)
    below = block.get("below", Value.boolean, False)
    found = [
        Action(Permission(word), member.text(), creates, below)
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
    personal, ci, jwt, legacy = block.find("personal"), block.find("ci"), block.find("jwt"), block.find("legacy")
    biscuit = block.find("biscuit")
    if sum(kind is not None for kind in (personal, ci, biscuit, jwt, legacy)) != 1:
        value.problem(
            "a caller is exactly one of 'personal', 'ci', 'biscuit', 'jwt' and 'legacy', or the word anonymous"
        )
    if jwt is not None:
        return _read_jwt(jwt, block, issuers), None, False
    if legacy is not None:
        return Principal(PrincipalKind.LEGACY, "", workspace=legacy.text()), None, False
    scopes = block.get("scopes", lambda found: tuple(_read_scope(item) for item in found.items()), None)
    workspaces = block.get("workspaces", lambda names: frozenset(names.texts()), None)
    if scopes is not None and workspaces is not None:
        block.problem("'scopes' say their workspaces; leave 'workspaces' out")
    limits = Limits(
        workspaces if scopes is None else frozenset(scope.workspace for scope in scopes),
        block.get("permissions", read_permissions, None),
        block.get("path", _read_path, None),
        scopes,
    )
    if biscuit is not None:
        bound = workspaces is not None
        return Principal(PrincipalKind.BISCUIT, biscuit.text(), limits=limits, bound=bound), None, False
    by_access_key = block.get("access_key", Value.boolean, False)
    if ci is not None:
        home = ci.text()
        caller = Principal(PrincipalKind.CI, f"ci of {home}", workspace=home, limits=limits)
        return _by_access_key(caller) if by_access_key else caller, None, False
    subject = personal.text() if personal is not None else ""
    owner_id = block.get("id", Value.text, "")
    row = block.find("directory")
    person = _read_person(row) if row is not None else None
    caller = Principal(PrincipalKind.PERSONAL, subject, limits=limits, owner_id=owner_id)
    return _by_access_key(caller) if by_access_key else caller, person, row is not None


def _by_access_key(caller: Principal) -> Principal:
    """Who signs with the access key of a token, in the place of who sends it."""
    personal = caller.kind is PrincipalKind.PERSONAL
    return replace(caller, kind=PrincipalKind.ACCESS_KEY, token_kind=caller.kind, owned=personal)


def _read_scope(value: Value) -> Scope:
    block = value.block()
    return Scope(
        block.need("workspace").text(),
        block.get("permissions", read_permissions, None),
        block.get("path", _read_path, None),
    )


def _read_path(value: Value) -> str:
    return read_key_glob(value).pattern


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
    return Person(
        block.get("active", Value.boolean, True),
        frozenset(block.get("groups", Value.texts, ())),
        block.get("id", Value.text, ""),
    )


def _sent(wanted: Any) -> Any:
    """Claims as a token holds them: lists, where a rule has any-of."""
    if isinstance(wanted, tuple):
        return [_sent(member) for member in wanted]
    if isinstance(wanted, dict):
        return {name: _sent(member) for name, member in wanted.items()}
    return wanted
