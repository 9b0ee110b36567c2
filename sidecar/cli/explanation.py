"""Why a request was decided as it was: as values for machines, and in words for a person."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct

from sidecar.model import Permissions, Principal, PrincipalKind
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.trace import ActionTrace, Trace, listed
from sidecar.reasons import REASONS

if TYPE_CHECKING:
    from sidecar.decision import Decision  # and all that decides: `--help` doesn't need it


class Style(TypedDict, total=False):
    """As `typer.style` takes it."""

    bold: bool
    dim: bool
    fg: str


class RuleLine(Struct, frozen=True):
    name: str
    line: int
    effect: str
    permissions: list[str]
    path: str | None
    matches: bool
    why_not: str | None


class ActionLine(Struct, frozen=True):
    key: str
    asks: str
    needs: str
    """What it asks for after rule 17."""
    granted: bool
    granted_by: str | None
    denied_by: str | None
    within_limits: bool


class Explanation(Struct, frozen=True):
    """The decision and how it came about; what couldn't be reached any more is `None` or empty."""

    request: str
    allowed: bool
    reason: str
    status: int
    hint: str
    detail: str
    rule: str | None
    workspace: str | None
    file: str | None
    sha256: str | None
    route: str | None
    client: str | None
    keys_at: str | None
    """Upstream and path where the route's keys live."""
    caller: str | None
    limits: list[str]
    anonymous_level: list[str]
    ceiling: list[str]
    rules: list[RuleLine]
    actions: list[ActionLine]
    report_until: str | None = None
    """The last day of the workspace's report mode, where it says one."""
    would_deny: str | None = None
    """What will refuse it once report mode is over, where that alone lets it through."""
    ceiling_why: str | None = None
    """Why the ceiling is nothing, where the policy has one for such callers."""
    if_exists: "Explanation | None" = None
    """What it is if the key exists, where the answer depends on that and the question doesn't say."""
    if_missing: "Explanation | None" = None

    def lines(self) -> list[tuple[str, Style]]:
        """Text and its style."""
        plain: Style = {}
        said: list[tuple[str, Style]] = [(self.request, {"bold": True})]
        if self.route is not None:
            said.append(
                (
                    f"route      {self.route} of workspace {self.workspace}, client {self.client}, keys at {self.keys_at}",
                    plain,
                )
            )
            said.append((f"policy     {self.file} (sha256 {self.sha256})", plain))
        if self.report_until is not None:
            said.append((f"mode       report until {self.report_until}, UTC", plain))
        if self.caller is not None:
            said.append((f"caller     {self.caller}", plain))
        said.extend((f"limit      {limit}", plain) for limit in self.limits)
        if self.actions:
            said.append((f"anonymous  {_words(self.anonymous_level)}", plain))
            why = f": {self.ceiling_why}" if self.ceiling_why is not None else ""
            said.append((f"ceiling    {_words(self.ceiling)}{why}", plain))
        for rule in self.rules:
            where = f" on {rule.path}" if rule.path is not None else ""
            said.append(
                (f"rule       {rule.name} (line {rule.line}): {rule.effect} {_words(rule.permissions)}{where}", plain)
            )
            why = "matches" if rule.matches else f"doesn't match: {rule.why_not}"
            said.append((f"           {why}", {"fg": "green"} if rule.matches else {"dim": True}))
        if self.if_exists is None or self.if_missing is None:
            return said + self._outcome()
        either = ("It depends on whether the key exists. --exists or --missing asks for one answer alone.", plain)
        return [*said, either, *self.if_exists._outcome(" if it exists"), *self.if_missing._outcome(" if it doesn't")]

    def _outcome(self, condition: str = "") -> list[tuple[str, Style]]:
        """What becomes of each action and of the request."""
        plain: Style = {}
        said: list[tuple[str, Style]] = []
        for action in self.actions:
            needs = "" if action.needs == action.asks else f", which needs {action.needs}"
            said.append((f"action     {action.asks} {action.key!r}{condition}{needs}: {_outcome(action)}", plain))
        detail = f" ({self.detail})" if self.detail else ""
        by = f" by rule {self.rule!r}" if self.rule is not None else ""
        verdict = "allowed" if self.allowed else f"refused with {self.status}"
        said.append(
            (
                f"verdict    {verdict}{condition}: {self.reason}{by}{detail}",
                {"bold": True, "fg": "green" if self.allowed else "red"},
            )
        )
        said.append((f"           {self.hint}", plain))
        if self.would_deny is not None:
            then = f"           After {self.report_until} it is refused: {self.would_deny}."
            said.append((then, {"fg": "red"}))
        return said


def _outcome(action: ActionLine) -> str:
    if action.denied_by is not None:
        return f"denied by rule {action.denied_by!r}"
    if not action.within_limits:
        return "outside of the token's own limits"
    if not action.granted:
        return "nothing grants it"
    return f"granted by rule {action.granted_by!r}" if action.granted_by is not None else "granted"


def _words(names: list[str]) -> str:
    return ", ".join(names) or "none"


def explanation_of(request: str, decision: "Decision", trace: Trace) -> Explanation:
    """`request` is the question in words, as `GET /web/a`."""
    route, workspace, row = decision.route, decision.workspace, REASONS[decision.reason]
    return Explanation(
        request=request,
        allowed=decision.allowed,
        reason=decision.reason.value,
        status=decision.status,
        hint=row.hint,
        detail=decision.detail,
        rule=decision.rule,
        workspace=route.workspace if route is not None else None,
        file=workspace.file if workspace is not None else None,
        sha256=workspace.sha256 if workspace is not None else None,
        route=route.path if route is not None else None,
        client=route.client if route is not None else None,
        keys_at=f"{route.upstream}:{route.upstream_path or '/'}" if route is not None else None,
        caller=in_words(decision.principal),
        limits=_limits(decision.principal),
        anonymous_level=_names(trace.anonymous),
        ceiling=_names(trace.ceiling),
        rules=[_rule_line(step.rule, step.why_not or _beside(step.rule, trace.actions)) for step in trace.rules],
        actions=[_action_line(step) for step in trace.actions],
        report_until=_last_day(workspace.report_until) if workspace is not None else None,
        would_deny=decision.would_deny,
        ceiling_why=_no_member(workspace, decision.principal, trace),
    )


def _no_member(workspace: Workspace | None, principal: Principal | None, trace: Trace) -> str | None:
    if workspace is None or principal is None or not trace.actions or trace.ceiling or not workspace.personal_tokens:
        return None
    if (principal.token_kind or principal.kind) is not PrincipalKind.PERSONAL:
        return None
    return f"{principal.subject} is neither in members.users nor in a group of members.groups"


def _last_day(until: float | None) -> str | None:
    """`until` is the first moment after it."""
    return None if until is None else time.strftime("%Y-%m-%d", time.gmtime(until - 1))


def in_words(principal: Principal | None) -> str | None:
    """`personal ada@example.com`, `jwt repo of issuer github`."""
    if principal is None:
        return None
    issuer = f" of issuer {principal.issuer}" if principal.issuer else ""
    groups = f", groups {listed(principal.groups)}" if principal.groups else ""
    return f"{principal.kind.value} {principal.subject}".strip() + issuer + groups


def _limits(principal: Principal | None) -> list[str]:
    if principal is None:
        return []
    limits = principal.limits
    stated = [
        ("belongs to workspace", principal.workspace or None),
        ("workspaces", None if limits.workspaces is None else listed(limits.workspaces) or "none"),
        ("permissions", None if limits.permissions is None else listed(limits.permissions) or "none"),
        ("checks", None if limits.checks is None else "the token's own: sidecar token inspect shows them"),
        ("path", limits.path),
        *(("scope", str(scope)) for scope in limits.scopes or ()),
    ]
    return [f"{name} {value}" for name, value in stated if value is not None]


def _beside(rule: Rule, actions: Sequence[ActionTrace]) -> str | None:
    """Why a rule that is about the caller says nothing here."""
    keys = [step.action.key for step in actions]
    if rule.path is None or any(rule.path.matches(key) for key in keys):
        return None
    return f"its path {rule.path.pattern} does not match {' or '.join(repr(key) for key in keys)}"


def _rule_line(rule: Rule, why_not: str | None) -> RuleLine:
    effect, permissions = ("deny", rule.deny) if rule.deny else ("allow", rule.allow)
    path = rule.path.pattern if rule.path is not None else None
    return RuleLine(rule.name, rule.line, effect, _names(permissions), path, why_not is None, why_not)


def _action_line(step: ActionTrace) -> ActionLine:
    action = step.action
    return ActionLine(
        key=action.key,
        asks=action.permission.value,
        needs=step.needed.value,
        granted=step.granted,
        granted_by=step.granted_by.name if step.granted_by is not None else None,
        denied_by=step.denied_by.name if step.denied_by is not None else None,
        within_limits=step.within_limits,
    )


def _names(permissions: Permissions) -> list[str]:
    return sorted(permission.value for permission in permissions)
