"""Whether a rule is about a principal (rules 14 and 15); its `path` is about the key and is asked elsewhere.

Law: identity is issuer and subject together. Without `issuer` a rule's `users` and `groups` are those of personal tokens;
with it, those of that issuer's tokens; a name never crosses over. An access key is its token in another form, so that a rule about
its token's kind is about the key as well.
"""

from collections.abc import Mapping
from typing import Any

from sidecar.model import Principal, PrincipalKind
from sidecar.policy.compiled import ClaimGlob, Rule

_PERSONAL = PrincipalKind.PERSONAL


def rule_mismatch(rule: Rule, principal: Principal, groups: frozenset[str]) -> str | None:
    """The first thing stated about who that doesn't hold, by the rule's own key; `None` when all of it holds.

    `groups` are the directory's for this principal.
    """
    if rule.kinds is not None and principal.kind not in rule.kinds and principal.token_kind not in rule.kinds:
        return "kinds"
    ours = rule.issuer is None
    if not ours and principal.issuer != rule.issuer:
        return "issuer"
    kind = principal.token_kind or principal.kind
    if ours and kind is not _PERSONAL and (rule.users is not None or rule.groups is not None):
        return "users" if rule.users is not None else "groups"
    if rule.users is not None and principal.subject not in rule.users:
        return "users"
    if rule.groups is not None and rule.groups.isdisjoint(groups if ours else principal.groups):
        return "groups"
    if rule.claims is not None and (ours or first_unmet(rule.claims, principal.claims) is not None):
        return "claims"
    return None


def first_unmet(wanted: Mapping[str, Any], claims: Mapping[str, Any]) -> str | None:
    """The first claim that is absent or not as wanted."""
    for name, value in wanted.items():
        if name not in claims or not claim_matches(value, claims[name]):
            return name
    return None


def claim_matches(wanted: Any, claim: Any) -> bool:
    """Rule 15. In `wanted` a tuple is any-of, a mapping a recursive subset. A list in the token matches if a member does;
    a list within that list is no member of it, so that the depth of a comparison is the rule's and never the token's."""
    if isinstance(claim, list):
        return any(_member_matches(wanted, member) for member in claim)
    return _member_matches(wanted, claim)


def _member_matches(wanted: Any, claim: Any) -> bool:
    # In Python True == 1 == 1.0; in a token they are three different things.
    if type(wanted) is type(claim) and not isinstance(wanted, dict):
        return bool(wanted == claim)
    if isinstance(wanted, tuple):
        return any(_member_matches(option, claim) for option in wanted)
    if isinstance(wanted, ClaimGlob):
        return isinstance(claim, str) and wanted.glob.matches(claim)
    if isinstance(wanted, dict):
        return isinstance(claim, dict) and first_unmet(wanted, claim) is None
    return False
