"""How a verdict came about, rule by rule, for a person to read. Costs nothing where nobody asks for it.

It tells what `evaluate` did and decides nothing: who matched comes from `match`, what was granted from `evaluate` itself.
"""

from typing import Any

from msgspec import Struct, field

from sidecar.model import NOTHING, Action, Permission, Permissions, Principal, PrincipalKind
from sidecar.policy.compiled import ClaimGlob, Rule, Workspace
from sidecar.policy.match import first_unmet, rule_mismatch

_TYPES: dict[type, str] = {str: "text", int: "a number", float: "a number with a fraction", bool: "true or false"}


class RuleTrace(Struct, frozen=True):
    """A rule, and why it is or isn't about this caller."""

    rule: Rule
    why_not: str | None
    """The first thing that didn't hold, in words; `None` when all that it states about who holds."""


class ActionTrace(Struct, frozen=True):
    action: Action
    needed: Permission
    """What the action asks for, after rule 17."""
    granted: bool
    granted_by: Rule | None
    """`None` where the anonymous level or the ceiling grants it already, or nothing does."""
    denied_by: Rule | None
    within_limits: bool


class Trace(Struct):
    """Hand an empty one to `evaluate`; a second evaluation starts it anew. Stays empty where the caller has no standing at all."""

    anonymous: Permissions = NOTHING
    ceiling: Permissions = NOTHING
    """What membership or the CI binding gives."""
    rules: list[RuleTrace] = field(default_factory=list)
    actions: list[ActionTrace] = field(default_factory=list)

    def begin(self, workspace: Workspace, principal: Principal, groups: frozenset[str], ceiling: Permissions) -> None:
        self.anonymous = workspace.anonymous
        self.ceiling = ceiling
        self.rules.clear()
        self.actions.clear()
        for rule in workspace.rules:
            unmet = rule_mismatch(rule, principal, groups)
            self.rules.append(RuleTrace(rule, unmet and _in_words(unmet, rule, principal, groups)))


def _in_words(unmet: str, rule: Rule, principal: Principal, groups: frozenset[str]) -> str:
    if unmet == "kinds":
        return f"it is for {listed(rule.kinds or ())}, the caller is {principal.kind.value}"
    if unmet == "issuer":
        met = f"the caller's is {principal.issuer}" if principal.issuer else "the caller has none"
        return f"its issuer is {rule.issuer}, {met}"
    if unmet in ("users", "groups") and rule.issuer is None and principal.kind is not PrincipalKind.PERSONAL:
        return f"its {unmet} are those of personal tokens, the caller is {principal.kind.value}"
    if unmet == "users":
        return f"its users are {listed(rule.users or ())}, the caller is {principal.subject}"
    if unmet == "groups":
        theirs = groups if rule.issuer is None else principal.groups
        return f"its groups are {listed(rule.groups or ())}, the caller's are {listed(theirs) or 'none'}"
    wanted = rule.claims or {}
    name = first_unmet(wanted, principal.claims)
    if name is None:
        return "its claims need an issuer"
    expected = f"claim {name} must be {_shown(wanted[name])}"
    if name not in principal.claims:
        return f"{expected}, it is absent"
    met = principal.claims[name]
    asked, sent = _TYPES.get(type(wanted[name])), _TYPES.get(type(met))
    types = f" ({asked}, the token has {sent})" if asked and sent and asked != sent else ""
    return f"{expected}, it is {_shown(met)}{types}"


def listed(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names))


def _shown(value: Any) -> str:
    """A claim's value with its type visible: `"true"` is not `true`."""
    if isinstance(value, ClaimGlob):
        return f"like {value.glob.pattern!r}"
    if isinstance(value, tuple | list):
        return "one of " + ", ".join(_shown(member) for member in value) if value else "an empty list"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(member)}" for key, member in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
