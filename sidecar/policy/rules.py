"""A policy file's `rules:`, read (rules 11, 14, 15 and 16).

Law: a rule that reads as if it said more, or less, than it does is a load error. So a rule that could never match is one
(a deny rule of that kind is a hole), and so is an allow rule that lets in more than its author can have named.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from sidecar.document import Block, Value
from sidecar.model import NOTHING, Permission, Permissions, PrincipalKind
from sidecar.policy import glob
from sidecar.policy.compiled import ClaimGlob, Rule
from sidecar.policy.names import known_name
from sidecar.settings import IssuerSettings

Issuers = Mapping[str, IssuerSettings] | None
"""`None`: nobody knows the issuers, so their names can't be checked."""

PERMISSION_WORDS = (*(permission.value for permission in Permission), "read-write")
_KINDS = tuple(kind.value for kind in PrincipalKind)
_JWT, _LEGACY = PrincipalKind.JWT, PrincipalKind.LEGACY
_PEOPLE = frozenset({PrincipalKind.PERSONAL, PrincipalKind.ACCESS_KEY})
"""Whose subjects are people of the directory, where no issuer is named; an access key's is its token's."""


class _Provider(Struct, frozen=True):
    """An issuer that serves everybody, and the claims in which it sends ids that nobody else can ever get."""

    name: str
    ids: tuple[str, ...]
    all_text: bool = False
    """It sends what looks like a number or a truth value as text, too."""


# Names are no ids: an owner or project that is renamed leaves its old name to whoever takes it.
# GitHub: docs.github.com "OpenID Connect reference"; GitLab: docs.gitlab.com "ID token authentication";
# Buildkite: `buildkite-agent oidc request-token --claim organization_id`; CircleCI: "Using OpenID Connect tokens in jobs".
_PROVIDERS: dict[str, _Provider] = {
    "token.actions.githubusercontent.com": _Provider("GitHub", ("repository_id", "repository_owner_id"), all_text=True),
    "gitlab.com": _Provider("GitLab", ("project_id", "namespace_id", "job_project_id", "job_namespace_id")),
    "agent.buildkite.com": _Provider("Buildkite", ("organization_id", "pipeline_id")),
    "oidc.circleci.com": _Provider("CircleCI", ("oidc.circleci.com/project-id", "oidc.circleci.com/org-id")),
}
_ANY_IDS = tuple(name for provider in _PROVIDERS.values() for name in provider.ids)


def read_rules(value: Value, issuers: Issuers) -> tuple[Rule, ...]:
    """The `rules:` of a file. Problems are noted in its document."""
    rules: list[Rule] = []
    lines: dict[str, int] = {}
    for number, item in enumerate(value.items(), 1):
        rule = _read_rule(item, f"rule {number}", issuers)
        if rule.name in lines:
            item.problem(f"the rule name {rule.name!r} is used in line {lines[rule.name]} already")
        lines.setdefault(rule.name, item.line)
        rules.append(rule)
    return tuple(rules)


def read_permissions(value: Value) -> Permissions:
    """A list of permissions; `read-write` is `read` and `write` (rule 11)."""
    if value.is_list and not value.items():
        value.problem(f"an empty list says nothing; allowed here: {', '.join(PERMISSION_WORDS)}")
    found: set[Permission] = set()
    for word in value.choices(PERMISSION_WORDS, "permission"):
        found |= {Permission.READ, Permission.WRITE} if word == "read-write" else {Permission(word)}
    return frozenset(found)


def read_key_glob(value: Value) -> glob.Glob:
    return _glob(value, glob.key_problem)


def read_claims(value: Value) -> Mapping[str, Any]:
    """Claims as a rule wants them (rule 15)."""
    claims = {name: _claim(member) for name, member in value.block().entries()}
    if value.is_mapping and not claims:
        value.problem("an empty mapping says nothing; name a claim, as repository_id: '123456'")
    return claims


def ids_to_pin(issuer: IssuerSettings) -> tuple[str, ...]:
    """The claims of which an allow rule must pin one, as the issuer serves everybody (rule 14); none where it doesn't."""
    provider = _provider(issuer)
    if provider is not None:
        return provider.ids
    return _ANY_IDS if issuer.multi_tenant else ()


def _provider(issuer: IssuerSettings) -> _Provider | None:
    return _PROVIDERS.get(urlsplit(issuer.issuer).hostname or "")


def _read_rule(item: Value, default_name: str, issuers: Issuers) -> Rule:
    block = item.block()
    issuer = block.find("issuer")
    kinds = block.get("kinds", _read_kinds, None)
    rule = Rule(
        name=block.get("name", Value.text, "") or default_name,
        line=item.line,
        allow=block.get("allow", read_permissions, NOTHING),
        deny=block.get("deny", read_permissions, NOTHING),
        issuer=None if issuer is None else known_name(issuer, issuers, "issuer"),
        claims=block.get("claims", read_claims, None),
        groups=block.get("groups", _read_names, None),
        users=block.get("users", _read_names, None),
        kinds=kinds,
        path=block.get("path", read_key_glob, None),
    )
    if not item.is_mapping:
        return rule
    allows, denies = block.find("allow") is not None, block.find("deny") is not None
    if allows == denies:
        item.problem("a rule has exactly one of 'allow' and 'deny'")
    _check_identity(block, rule)
    _check_types(block, rule, issuers)
    if allows:
        _check_who(block, rule, issuers)
    return rule


def _check_identity(block: Block, rule: Rule) -> None:
    """A rule must be able to match, and must not look as if it were about tokens that it isn't about."""
    kinds = rule.kinds or frozenset()
    if rule.issuer is not None:
        if rule.kinds is not None and kinds != {_JWT}:
            block.problem("a rule with an 'issuer' is about its JWTs alone; leave 'kinds' out")
        return
    if rule.claims is not None:
        block.problem("'claims' are those of one issuer's JWTs; say which 'issuer'")
    if rule.groups is not None and not (kinds and kinds <= _PEOPLE):
        block.problem(
            "'groups' of JWTs need their 'issuer'; for the directory's groups of personal tokens say 'kinds: [personal]'"
        )
    if rule.users is not None and not kinds <= _PEOPLE:
        block.problem("'users' without 'issuer' are those of personal tokens; leave 'kinds' out, or say which 'issuer'")


def _check_types(block: Block, rule: Rule, issuers: Issuers) -> None:
    """Types count (rule 15), so a number for an id that is sent as text matches nothing: a deny rule of it is a hole."""
    claims, settings = block.find("claims"), (issuers or {}).get(rule.issuer or "")
    if claims is None:
        return
    provider = _provider(settings) if settings is not None else None
    all_text = provider is not None and provider.all_text
    for name, text in _mistyped(rule.claims or {}, all_text):
        what = "ids are text in tokens" if _is_id(name) else "this issuer's claims are all text"
        claims.problem(f'{what}: write "{text}" for {name!r}')


def _mistyped(wanted: Mapping[str, Any], all_text: bool) -> Iterator[tuple[str, str]]:
    """Claims that must be text and aren't, and how to write them. Who lists both, `[42, "42"]`, means either."""
    for name, value in wanted.items():
        members = _members(value)
        for member in members:
            text = str(member).lower()
            if isinstance(member, dict):
                yield from _mistyped(member, all_text)
            elif isinstance(member, int) and (all_text or _is_id(name)) and text not in members:
                yield name, text


def _is_id(name: str) -> bool:
    # GitLab's `runner_id` is a number: docs.gitlab.com "ID token authentication".
    return name.endswith(("_id", "-id")) and name != "runner_id"


def _check_who(block: Block, rule: Rule, issuers: Issuers) -> None:
    """Rule 14's load errors of an allow rule."""
    if rule.issuer is None:
        if rule.claims is None and rule.groups is None and rule.users is None:
            if rule.kinds is None:
                block.problem(
                    "an allow rule says who: 'issuer', 'users', 'groups' or 'kinds' (for everybody: 'anonymous' above)"
                )
            elif rule.kinds == {_LEGACY}:
                block.problem("the old shared password may do what 'legacy.level' says, and no rule adds to it")
            elif _JWT in rule.kinds:
                block.problem("'kinds: [jwt]' alone lets in the JWTs of all issuers; say which 'issuer'")
        return
    settings = issuers.get(rule.issuer) if issuers is not None else None
    if settings is None:
        return
    ids = ids_to_pin(settings)
    if not ids:
        return
    pins = [name for name in ids if name in (rule.claims or {})]
    claims = rule.claims or {}
    if not any(_is_exact(claims[name]) for name in pins):
        provider = _provider(settings)
        who = provider.name if provider is not None else f"the issuer {rule.issuer!r}"
        block.problem(
            f"{who} serves everybody: an allow rule pins an owner, project or repository by its exact id, "
            f"in one of the claims {', '.join(ids)}"
        )


def _members(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _is_exact(wanted: Any) -> bool:
    members = _members(wanted)
    return (
        all(type(member) is int or (isinstance(member, str) and member != "") for member in members) and members != ()
    )


def _read_kinds(value: Value) -> frozenset[PrincipalKind]:
    if value.is_list and not value.items():
        value.problem(f"an empty list matches nobody; allowed here: {', '.join(_KINDS)}")
    return frozenset(PrincipalKind(kind) for kind in value.choices(_KINDS, "kind"))


def _read_names(value: Value) -> frozenset[str]:
    if value.is_list and not value.items():
        value.problem("an empty list matches nobody; name somebody, or leave the key out")
    return frozenset(value.texts())


def _claim(value: Value) -> Any:
    if value.is_list:
        members = value.items()
        if not members:
            value.problem("an empty list matches nothing; name a value")
        for member in members:
            if member.is_list:
                member.problem("a list in a list is not read; write one list of what is allowed")
        return tuple(_claim(member) for member in members if not member.is_list)
    if not value.is_mapping:
        return value.claim()
    block = value.block()
    pattern = block.find("glob")
    others = block.entries()
    if pattern is None:
        if not others:
            value.problem("an empty mapping says nothing; name what it must hold")
        return {name: _claim(member) for name, member in others}
    if others:
        value.problem("'glob' stands alone: {glob: \"release/*\"}")
    return ClaimGlob(_glob(pattern, glob.problem))


def _glob(value: Value, check: Any) -> glob.Glob:
    pattern = value.text()
    wrong = check(pattern)
    if wrong is not None:
        value.problem(wrong)
    return glob.Glob(pattern)
