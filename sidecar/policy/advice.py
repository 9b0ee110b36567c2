"""Which line of a policy would fit a caller who would be refused: one that is there, or one to write.

Law: a suggestion is read by a person before it grants anything, so it names the narrowest thing that the audit log knows of: this
caller, these permissions, the folder that all its keys were in. A JWT's claims are not in the log, so no rule about claims is
said to match; and the keys were chosen by whoever asked.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from sidecar.model import LEVELS, Action, Permission, Permissions, Principal, PrincipalKind
from sidecar.policy import glob
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.policy.rules import Issuers, ids_to_pin

_KINDS = {kind.value: kind for kind in PrincipalKind}
_WORDS = {"personal": "personal_tokens", "ci": "ci_tokens"}


class Asker(Struct, frozen=True):
    """What the audit log says of a caller."""

    kind: str
    issuer: str
    subject: str
    groups: frozenset[str]
    permissions: frozenset[str]
    folder: tuple[str, ...]
    """The segments that all its keys are below."""
    keys: Sequence[str]
    """Some of them."""


class Advice(Struct, frozen=True):
    kind: str
    """`granted` (already, by the policy as it is now), `existing` (a rule that is there, changed), `level` (a line other than a
    rule), `rule` (a new one), `token` (not the policy's business)."""
    text: str
    rule: str | None = None
    """The name of the rule that is there."""
    yaml: str | None = None
    """What to write."""


def advise(asker: Asker, workspace: Workspace | None, issuers: Issuers) -> tuple[Advice, ...]:
    """The most fitting first. `workspace` is the policy as it is now, `None` where it isn't known."""
    needed = frozenset(Permission(word) for word in asker.permissions if word in ("read", "write"))
    found: list[Advice] = []
    if workspace is not None and needed:
        if _is_granted(asker, workspace, needed):
            return (Advice("granted", "the policy as it is now grants this"),)
        found += _existing(asker, workspace, needed)
    found += _levels(asker, workspace, needed)
    return (*found, *_new_rule(asker, needed, issuers))


def _is_granted(asker: Asker, workspace: Workspace, needed: Permissions) -> bool:
    kind = _KINDS.get(asker.kind, PrincipalKind.ANONYMOUS)
    principal = Principal(
        kind, asker.subject, asker.issuer, asker.groups, workspace=workspace.name if kind is PrincipalKind.CI else ""
    )
    actions = [Action(permission, key) for permission in sorted(needed) for key in asker.keys]
    return evaluate(workspace, principal, actions, person=None, directory=False, exists=False).allowed


def _existing(asker: Asker, workspace: Workspace, needed: Permissions) -> Iterable[Advice]:
    """Rules that speak of this caller's kind and would grant it, but for one thing that they say."""
    for rule in workspace.rules:
        if not rule.allow & needed or not _speaks_of(rule, asker):
            continue
        missing = list(_missing(rule, asker, needed))
        if len(missing) == 1:
            text = f"the rule {rule.name!r} (line {rule.line}) fits, {missing[0]}"
            yield Advice("existing", text, rule.name)


def _speaks_of(rule: Rule, asker: Asker) -> bool:
    if rule.kinds is not None and asker.kind not in {kind.value for kind in rule.kinds}:
        return False
    if rule.issuer is not None:
        return rule.issuer == asker.issuer
    return asker.kind == "personal" or (rule.users is None and rule.groups is None)


def _missing(rule: Rule, asker: Asker, needed: Permissions) -> Iterable[str]:
    if not needed <= rule.allow:
        yield f"if it allows {_listed(needed - rule.allow)} too"
    if rule.users is not None and asker.subject not in rule.users:
        yield f"if its users include {asker.subject!r}"
    if rule.groups is not None and rule.groups.isdisjoint(asker.groups):
        yield f"if {asker.subject!r} is in one of its groups ({_listed(rule.groups)})"
    if rule.claims is not None:
        names = _listed(rule.claims)
        yield f"if the token's claims do ({names}); `sidecar policy explain --claims FILE` tells"
    if rule.path is not None and not all(rule.path.matches(key) for key in asker.keys):
        yield f"if its path {rule.path.pattern} takes these keys in"


def _levels(asker: Asker, workspace: Workspace | None, needed: Permissions) -> Iterable[Advice]:
    level = next((word for word, given in LEVELS.items() if needed <= given), "read-write")
    if asker.kind == "anonymous":
        yield Advice("token", "these callers sent no token: make one for each, `sidecar token create`")
        yield Advice("level", f"if everybody may: `anonymous: {level}`", yaml=f"anonymous: {level}")
    elif asker.kind == "ci":
        yield Advice(
            "level", f"if every CI token of this workspace may: `ci_tokens: {level}`", yaml=f"ci_tokens: {level}"
        )
    elif asker.kind == "personal":
        is_member = workspace is not None and asker.subject in workspace.users
        if not is_member:
            yaml = f"members:\n  users: [{_quoted(asker.subject)}]"
            yield Advice("level", f"if {asker.subject!r} belongs here: one of `members.users`", yaml=yaml)
        if workspace is None or not needed <= workspace.personal_tokens:
            text = f"if every member's personal token may: `personal_tokens: {level}`"
            yield Advice("level", text, yaml=f"personal_tokens: {level}")


def _new_rule(asker: Asker, needed: Permissions, issuers: Issuers) -> Iterable[Advice]:
    """For callers that have a name, as far as a policy can say it."""
    if not needed or not asker.subject.isprintable() or asker.kind not in ("personal", "jwt"):
        return
    who: dict[str, str] = {"users": f"[{_quoted(asker.subject)}]"}
    note = "a rule for this caller alone"
    if asker.kind == "jwt":
        who = {"issuer": _quoted(asker.issuer), **who}
        settings = (issuers or {}).get(asker.issuer)
        pins = ids_to_pin(settings) if settings is not None else ()
        if pins:
            who["claims"] = f'{{{_quoted(pins[0])}: "FILL IN"}}'
            note += f"; fill in the {pins[0]} that its tokens claim, which the audit log doesn't have"
    written: Mapping[str, str] = {
        "name": _quoted(f"{asker.subject} {' and '.join(f'{word}s' for word in sorted(needed))}"),
        "allow": f"[{_listed(needed)}]",
        **who,
        **_path(asker.folder),
    }
    lines = [f"{name}: {text}" for name, text in written.items()]
    yield Advice("rule", note, yaml="- " + "\n  ".join(lines))


def _path(folder: tuple[str, ...]) -> dict[str, str]:
    """A segment that a glob would read as a pattern, or that no file can hold, ends it."""
    kept: list[str] = []
    for segment in folder:
        if not segment or "*" in segment or not segment.isprintable():
            break
        kept.append(segment)
    pattern = "/".join([*kept, "**"])
    return {"path": _quoted(pattern)} if kept and glob.key_problem(pattern) is None else {}


def _quoted(text: str) -> str:
    """YAML's double-quoted form takes JSON's for printable text."""
    return json.dumps(text, ensure_ascii=False)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
