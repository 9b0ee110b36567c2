"""Recorded audit as questions to a policy: who asked for what, as far as the log knows it.

Law: what the log doesn't hold is never made up in silence. Its gaps are counted and told: a JWT's claims are not recorded, so its
caller is taken to claim what the rule that decided asks for; nor are a token's path limit, and a request's headers.
An audit file is as hostile as what was asked: a line that is no record is counted, and nothing in it can make the sums large.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from sidecar.audit.lines import Actor, Record, record_of
from sidecar.model import ANONYMOUS, Limits, Permission, Person, Principal, PrincipalKind
from sidecar.policy.compiled import Case, ClaimGlob
from sidecar.policy.routes import Snapshot
from sidecar.ports import Directory
from sidecar.reasons import Reason

QUESTIONS = 100_000
"""The most that are told apart; what is asked beyond is counted."""
_DECIDED = frozenset(
    {
        Reason.GRANTED,
        Reason.NO_TOKEN,
        Reason.NO_RULE,
        Reason.RULE_DENY,
        Reason.TOKEN_LIMIT,
        Reason.WRONG_WORKSPACE,
        Reason.INACTIVE_PERSON,
    }
)
"""What a policy alone decides: only of these can be told whether the log holds all that went into it."""


_REASONS = {reason.value: reason for reason in Reason}


class Question(Struct):
    """Requests that are alike, as one case; `case.expect` is what the log says that they got."""

    case: Case
    assumed: bool
    """Its claims are guessed from the rule that decided."""
    sha256: str | None
    """Of the policy that decided."""
    count: int = 1

    def checkable(self) -> bool:
        return self.case.expect in _DECIDED


class Replay(Struct):
    questions: list[Question] = []
    requests: int = 0
    """What the questions stand for."""
    unknown: int = 0
    """Requests of callers who were never identified, or who are of a kind that can't be asked for."""
    unreadable: int = 0
    """Lines that are no record."""
    beyond: int = 0
    """Requests beyond `QUESTIONS` different ones."""


def read_audit(lines: Iterable[bytes], old: Snapshot, directory: Directory | None) -> Replay:
    """The requests in an audit log, each once with its number. `old` is the policy whose rules are named in it."""
    replay = Replay()
    seen: dict[tuple[Any, ...], Question] = {}
    for line in lines:
        record = record_of(line)
        if record is None:
            replay.unreadable += 1
            continue
        asked, actor = record.request, record.actor
        if record.kind != "access" or record.stage != "complete" or not asked.method or not asked.path:
            continue
        reason = _REASONS.get(record.reason or "", Reason.INTERNAL_ERROR)
        path = asked.path if asked.query is None else f"{asked.path}?{asked.query}"
        scopes = None if actor.scopes is None else tuple(actor.scopes)
        who = (actor.type, actor.owner, actor.principal, tuple(actor.groups or ()), scopes)
        key = (*who, asked.method, path, reason, record.decision.rule, record.decision.policy_sha256)
        if key in seen:
            seen[key].count += 1
            replay.requests += 1
            continue
        claims = _claims(record, old) if actor.type == PrincipalKind.JWT else {}
        principal = _principal(actor, claims)
        if principal is None:
            replay.unknown += 1
            continue
        if len(seen) >= QUESTIONS:
            replay.beyond += 1
            continue
        person, configured = _person(principal, directory)
        case = Case(
            f"{asked.method} {path}", 0, principal, reason, record.decision.rule, asked.method, path,
            record.workspace or "", person=person, directory=configured,
        )  # fmt: skip
        assumed = principal.kind is PrincipalKind.JWT
        seen[key] = Question(case, assumed, record.decision.policy_sha256)
        replay.requests += 1
    replay.questions = list(seen.values())
    return replay


def _principal(actor: Actor, claims: Mapping[str, Any]) -> Principal | None:
    """Who asked, as the policy sees them; `None` where the log doesn't know."""
    subject, owner, groups = actor.principal or "", actor.owner or "", frozenset(actor.groups or ())
    known = {permission.value for permission in Permission}
    scopes = None if actor.scopes is None else frozenset(Permission(scope) for scope in actor.scopes if scope in known)
    limits = Limits(permissions=scopes)
    if actor.type == PrincipalKind.ANONYMOUS:
        return ANONYMOUS
    if actor.type == PrincipalKind.PERSONAL:
        return Principal(PrincipalKind.PERSONAL, subject, limits=limits)
    if actor.type == PrincipalKind.CI:
        return Principal(PrincipalKind.CI, subject, workspace=owner, limits=limits)
    if actor.type == PrincipalKind.JWT:
        return Principal(PrincipalKind.JWT, subject, issuer=owner, groups=groups, claims=claims, limits=limits)
    if actor.type == PrincipalKind.LEGACY:
        return Principal(PrincipalKind.LEGACY, subject, workspace=owner)
    return None


def _person(principal: Principal, directory: Directory | None) -> tuple[Person | None, bool]:
    if directory is None or principal.kind is not PrincipalKind.PERSONAL:
        return None, directory is not None
    return directory.person(principal.subject), True


def _claims(record: Record, old: Snapshot) -> Mapping[str, Any]:
    """Claims by which the rule that decided is about its caller."""
    workspace = old.workspaces.get(record.workspace or "")
    for rule in workspace.rules if workspace is not None else ():
        if rule.name == record.decision.rule and rule.issuer == record.actor.owner and rule.claims is not None:
            return {name: _sent(wanted) for name, wanted in rule.claims.items()}
    return {}


def _sent(wanted: Any) -> Any:
    """A value that a rule's claim is content with."""
    if isinstance(wanted, ClaimGlob):
        return wanted.glob.pattern.replace("**", "x").replace("*", "x")
    if isinstance(wanted, tuple):
        return _sent(wanted[0])
    if isinstance(wanted, dict):
        return {name: _sent(member) for name, member in wanted.items()}
    return wanted
