"""What a workspace's policy says about a principal and a set of actions (`docs/policy.md` rules 6 to 17 and 22). Pure, and hot.

Law: an action is granted by what grants (rule 12), minus what any matching deny rule names, within the token's limits
(rule 13); nothing else decides. A set is granted when each of its actions is, and an empty set never is. An action on all
keys below one is denied by what could touch one of them, and granted and within limits only by what covers each (rule 18).

One refusal has one reason, the first that holds of: the workspace's file is broken, the person is not active, the token is for
another workspace, there is nothing to decide, a rule denies, the token's own limits, nothing grants it. Report mode (rule 21)
turns the last one alone into a grant, and of `read` and `write` alone.
"""

from collections.abc import Sequence

from sidecar.model import (
    NOTHING,
    Action,
    Checks,
    Circumstances,
    Permission,
    Permissions,
    Person,
    Principal,
    PrincipalKind,
    Scope,
    Verdict,
)
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.glob import Glob, glob
from sidecar.policy.match import rule_mismatch
from sidecar.policy.subtree import could_touch, covers
from sidecar.policy.trace import ActionTrace, Trace
from sidecar.reasons import Reason

__all__ = ["Trace", "evaluate", "rules_about"]

_PERSONAL, _CI, _LEGACY = PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.LEGACY
_BISCUIT = PrincipalKind.BISCUIT
_WRITE, _OVERWRITE = Permission.WRITE, Permission.OVERWRITE
_REPORTED = frozenset({Permission.READ, Permission.WRITE})
"""What report mode may let through."""
_NO_GROUPS: frozenset[str] = frozenset()


def evaluate(
    workspace: Workspace,
    principal: Principal,
    actions: Sequence[Action],
    *,
    person: Person | None,
    directory: bool,
    exists: bool | None,
    rules: Sequence[Rule] | None = None,
    report: bool = False,
    trace: Trace | None = None,
    circumstances: Circumstances | None = None,
) -> Verdict:
    """`person` is the directory's row for the subject, where that is a person's; it counts only where `directory` is configured.
    `rules` may hold what `rules_about` said of the same workspace, principal and person. `report`: report mode is on.

    `exists` is whether the key that a `creates` action names is there; with `None` the verdict may come back with
    `existence_needed`, refused until then (rule 17). `trace` gathers how the verdict came about. `circumstances` are for checks
    that the token carries: without them such a token's limits refuse. Raises `Unavailable` where those can't be judged.
    """
    reason = _standing(workspace, principal, person, directory)
    if reason is None and not actions:
        reason = Reason.UNKNOWN_OPERATION
    if reason is not None:
        return Verdict(False, reason)
    groups = person.groups if directory and person is not None else _NO_GROUPS
    base = workspace.anonymous | _ceiling(workspace, principal, groups)
    matched = rules_about(workspace, principal, person, directory) if rules is None else rules
    if trace is not None:
        trace.begin(workspace, principal, groups, _ceiling(workspace, principal, groups))
    if exists is None and _existence_may_matter(workspace, matched, actions):
        fresh = _decide(workspace, base, matched, principal, actions, False, report, None, circumstances)
        replaced = _decide(workspace, base, matched, principal, actions, True, report, None, circumstances)
        if fresh.allowed != replaced.allowed:
            _decide(workspace, base, matched, principal, actions, True, report, trace, circumstances)
            return Verdict(False, Reason.EXISTENCE_UNKNOWN, existence_needed=True)
    return _decide(workspace, base, matched, principal, actions, bool(exists), report, trace, circumstances)


def rules_about(workspace: Workspace, principal: Principal, person: Person | None, directory: bool) -> Sequence[Rule]:
    """The rules whose every word about who holds (rule 14). Nothing else goes into it: no key, no clock, no other request."""
    groups = person.groups if directory and person is not None else _NO_GROUPS
    return [rule for rule in workspace.rules if rule_mismatch(rule, principal, groups) is None]


def _standing(workspace: Workspace, principal: Principal, person: Person | None, directory: bool) -> Reason | None:
    """Why the principal has no business here at all, even where anonymous may read (rules 7, 9 and 10)."""
    if workspace.broken:
        return Reason.POLICY_MISSING
    if directory and (principal.kind is _PERSONAL or principal.owned) and not _is_here(principal, person):
        return Reason.INACTIVE_PERSON
    if (principal.token_kind or principal.kind) is _CI and principal.workspace != workspace.name:
        return Reason.WRONG_WORKSPACE
    workspaces = principal.limits.workspaces
    if workspaces is not None and workspace.name not in workspaces:
        return Reason.WRONG_WORKSPACE
    return None


def _is_here(principal: Principal, person: Person | None) -> bool:
    """A name may have been given to somebody else since; whose id the token doesn't know has only the name."""
    if person is None or not person.active:
        return False
    return not principal.owner_id or principal.owner_id == person.id


def _ceiling(workspace: Workspace, principal: Principal, groups: frozenset[str]) -> Permissions:
    """What membership or the CI binding gives (rules 6 to 9), or the old shared password's level."""
    kind = principal.token_kind or principal.kind
    if kind is _CI or (kind is _BISCUIT and principal.bound):
        # A Biscuit that was made for some workspaces is bound to them as a CI token is to its one.
        return workspace.ci_tokens
    if kind is _PERSONAL and (principal.subject in workspace.users or not workspace.groups.isdisjoint(groups)):
        return workspace.personal_tokens
    if principal.kind is _LEGACY and workspace.legacy is not None and principal.workspace == workspace.name:
        return workspace.legacy.level
    return NOTHING


def _existence_may_matter(workspace: Workspace, matched: Sequence[Rule], actions: Sequence[Action]) -> bool:
    for action in actions:
        if action.creates and action.permission is _WRITE:
            return workspace.write_once or any(_names_overwrite(rule) for rule in matched)
    return False


def _names_overwrite(rule: Rule) -> bool:
    return _OVERWRITE in rule.allow or _OVERWRITE in rule.deny


def _decide(
    workspace: Workspace,
    base: Permissions,
    matched: Sequence[Rule],
    principal: Principal,
    actions: Sequence[Action],
    exists: bool,
    report: bool,
    trace: Trace | None,
    circumstances: Circumstances | None,
) -> Verdict:
    limits = principal.limits
    allowed_path = None if limits.path is None else glob(limits.path)
    denier = granter = None
    limited = ungranted = False
    for action in actions:
        needed = _needed(workspace, matched, action, exists)
        denied_by = granted_by = None
        granted = needed in base
        for rule in matched:
            if needed in rule.deny or (action.proved and action.permission in rule.deny):
                if denied_by is None and _touches(rule.path, action):
                    denied_by = rule
            elif not granted and needed in rule.allow and _covers(rule.path, action):
                granted, granted_by = True, rule
        within = (limits.permissions is None or needed in limits.permissions) and _covers(allowed_path, action)
        if limits.scopes is not None:
            within = within and _in_a_scope(limits.scopes, workspace.name, needed, action)
        if limits.checks is not None:
            within = within and _checks_hold(limits.checks, workspace, needed, action, circumstances)
        denier = denier or denied_by
        granter = granter or granted_by
        limited = limited or not within
        if not granted:
            ungranted = True
            report = report and needed in _REPORTED
        if trace is not None:
            trace.actions.append(ActionTrace(action, needed, granted, granted_by, denied_by, within))
    if denier is not None:
        return Verdict(False, Reason.RULE_DENY, denier.name)
    if limited:
        return Verdict(False, Reason.TOKEN_LIMIT)
    if ungranted:
        return Verdict(True, Reason.WOULD_DENY) if report else Verdict(False, Reason.NO_RULE)
    return Verdict(True, Reason.GRANTED, None if granter is None else granter.name)


def _needed(workspace: Workspace, matched: Sequence[Rule], action: Action, exists: bool) -> Permission:
    """Rule 17: replacing asks `overwrite` where the workspace says so or a matching rule names it."""
    if action.proved:
        return Permission.READ
    if not (exists and action.creates and action.permission is _WRITE):
        return action.permission
    if workspace.write_once or any(_names_overwrite(rule) and _touches(rule.path, action) for rule in matched):
        return _OVERWRITE
    return _WRITE


def _checks_hold(
    checks: Checks, workspace: Workspace, needed: Permission, action: Action, circumstances: Circumstances | None
) -> bool:
    return circumstances is not None and checks.hold(workspace.name, workspace.settings, needed, action, circumstances)


def _in_a_scope(scopes: Sequence[Scope], workspace: str, needed: Permission, action: Action) -> bool:
    """Whether one of them alone holds the whole action: what two hold in halves, neither gives."""
    return any(
        scope.workspace == workspace
        and (scope.permissions is None or needed in scope.permissions)
        and _covers(None if scope.path is None else glob(scope.path), action)
        for scope in scopes
    )


def _covers(path: Glob | None, action: Action) -> bool:
    if path is None:
        return True
    return covers(path.pattern, action.key) if action.below else path.matches(action.key)


def _touches(path: Glob | None, action: Action) -> bool:
    if path is None:
        return True
    return could_touch(path.pattern, action.key) if action.below else path.matches(action.key)
