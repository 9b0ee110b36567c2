"""Which line would fit a caller: what is suggested grants what was asked, and no more than that."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import Action, Permission, Principal, PrincipalKind
from sidecar.policy.advice import Advice, Asker, advise
from sidecar.policy.compiled import Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.policy.file import compile_file
from sidecar.settings import IssuerSettings

WEB = (Path(__file__).parents[2] / "config/policies/web.yaml").read_text()
BARE = "workspace: web\nroutes: [{path: /web, client: plain, upstream: artifacts}]\n"
ISSUERS = {
    "github": IssuerSettings("github", "https://token.actions.githubusercontent.com", "cache"),
    "corp": IssuerSettings("corp", "https://idp.example.com", "cache"),
    "shared": IssuerSettings("shared", "https://everybody.example.com", "cache", multi_tenant=True),
}


def load(text: str) -> Workspace:
    return compile_file(text, "web.yaml", issuers=ISSUERS, upstreams=None, profiles=["plain"])


def asker(kind: str = "jwt", subject: str = "build", **more: Any) -> Asker:
    fields: dict[str, Any] = {
        "issuer": "corp" if kind == "jwt" else "",
        "groups": frozenset(),
        "permissions": frozenset({"read"}),
        "folder": ("a", "b"),
        "keys": ("a/b/c", "a/b/d"),
    }
    return Asker(kind, subject=subject, **{**fields, **more})


def advice(who: Asker, text: str | None = WEB) -> tuple[Advice, ...]:
    return advise(who, load(text) if text is not None else None, ISSUERS)


def new_rule(who: Asker) -> str:
    [found] = [each for each in advice(who, None) if each.kind == "rule"]
    assert found.yaml is not None
    return BARE + "rules:\n" + "".join(f"  {line}\n" for line in found.yaml.splitlines())


def test_what_the_policy_grants_by_now_needs_nothing() -> None:
    for who in (asker("personal", "ada@example.com"), asker("ci"), asker(groups=frozenset({"web-team"}))):
        assert advice(who) == (Advice("granted", "the policy as it is now grants this"),)


@pytest.mark.parametrize(
    ("who", "rule", "condition"),
    [
        (asker(), "the web team reads", "if 'build' is in one of its groups (web-team)"),
        (
            asker(groups=frozenset({"web-team"}), permissions=frozenset({"read", "write"})),
            "the web team reads",
            "if it allows write too",
        ),
        (
            asker(issuer="github", permissions=frozenset({"write"})),
            "protected branches write",
            "if the token's claims do (event_name, ref_protected, repository_id)",
        ),
    ],
)
def test_a_rule_that_is_there_and_what_it_lacks(who: Asker, rule: str, condition: str) -> None:
    [found] = [each for each in advice(who) if each.kind == "existing"]
    assert found.rule == rule
    assert f"the rule {rule!r} (line " in found.text
    assert condition in found.text


def test_a_rule_s_path_and_users_that_miss_the_caller() -> None:
    text = BARE + "rules:\n  - {name: docs, allow: [read], users: [bob], path: docs/**}\n"
    [path] = [each for each in advice(asker("personal", "bob"), text) if each.kind == "existing"]
    assert "if its path docs/** takes these keys in" in path.text
    there = asker("personal", "eve", keys=("docs/a",), folder=("docs",))
    [users] = [each for each in advice(there, text) if each.kind == "existing"]
    assert "if its users include 'eve'" in users.text
    assert [each for each in advice(asker("personal", "eve"), text) if each.kind == "existing"] == []


def test_a_rule_about_others_is_not_offered() -> None:
    text = (
        BARE + "rules:\n  - {name: ci, allow: [read], kinds: [ci]}\n  - {name: people, allow: [read], users: [build]}\n"
    )
    assert [each.rule for each in advice(asker(), text) if each.kind == "existing"] == []


@pytest.mark.parametrize(
    ("who", "yaml"),
    [
        (asker("anonymous", ""), "anonymous: read"),
        (asker("anonymous", "", permissions=frozenset({"write"})), "anonymous: read-write"),
        (asker("ci", permissions=frozenset({"read", "write"})), "ci_tokens: read-write"),
        (asker("personal", "eve"), 'members:\n  users: ["eve"]'),
    ],
)
def test_levels(who: Asker, yaml: str) -> None:
    assert yaml in [each.yaml for each in advice(who, BARE) if each.kind == "level"]


def test_a_member_whose_level_is_too_low() -> None:
    text = BARE + "members: {users: [ada]}\npersonal_tokens: read\n"
    found = advice(asker("personal", "ada", permissions=frozenset({"write"})), text)
    assert [each.yaml for each in found if each.kind == "level"] == ["personal_tokens: read-write"]


def test_whoever_sends_no_token_is_better_given_one() -> None:
    assert [each.kind for each in advice(asker("anonymous", ""), BARE)] == ["token", "level"]


NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), min_size=1, max_size=20).filter(str.isprintable)
KEYS = st.text(st.sampled_from("ab*?[]{}'\": .#\n"), max_size=8)


@given(
    st.sampled_from(["jwt", "personal"]),
    NAMES,
    st.sets(st.sampled_from(["read", "write"]), min_size=1),
    st.lists(KEYS, max_size=4),
    KEYS,
)
def test_a_new_rule_loads_and_grants_exactly_what_was_asked(
    kind: str, subject: str, permissions: set[str], folder: list[str], name: str
) -> None:
    """Whatever the names and keys are, and those may be anything: they don't break out of their place in the file."""
    key = "/".join([*folder, name])
    who = asker(kind, subject, permissions=frozenset(permissions), folder=tuple(folder), keys=(key,))
    workspace = load(new_rule(who))
    [rule] = workspace.rules
    assert (rule.users, rule.issuer) == ({subject}, "corp" if kind == "jwt" else None)

    def granted(permission: Permission, subject: str) -> bool:
        principal = Principal(PrincipalKind(kind), subject, issuer=who.issuer)
        action = Action(permission, key)
        return evaluate(workspace, principal, [action], person=None, directory=False, exists=False).allowed

    assert {word.value for word in Permission if granted(word, subject)} == permissions
    assert not any(granted(word, f"{subject}x") for word in Permission)


@pytest.mark.parametrize(("issuer", "pin"), [("github", "repository_id"), ("shared", "repository_id")])
def test_on_an_issuer_that_serves_everybody_an_id_is_left_to_fill_in(issuer: str, pin: str) -> None:
    """Until somebody does it matches nobody."""
    who = asker(issuer=issuer)
    text = new_rule(who)
    assert f'claims: {{"{pin}": "FILL IN"}}' in text
    found = load(text)
    stated = Principal(PrincipalKind.JWT, "build", issuer=issuer, claims={pin: "1"})
    assert not evaluate(
        found, stated, [Action(Permission.READ, "a/b/c")], person=None, directory=False, exists=False
    ).allowed
    filled = load(text.replace("FILL IN", "1"))
    assert evaluate(
        filled, stated, [Action(Permission.READ, "a/b/c")], person=None, directory=False, exists=False
    ).allowed


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        (("a", "b"), "a/b/**"),
        (("a*", "b"), None),
        (("a", "b*"), "a/**"),
        ((), None),
        (("a", "", "b"), "a/**"),
        (("x" * 2000,), None),
    ],
)
def test_the_folder_of_a_new_rule(folder: tuple[str, ...], path: str | None) -> None:
    [rule] = load(new_rule(asker(folder=folder, keys=("/".join([*folder, "k"]),)))).rules
    assert (rule.path.pattern if rule.path is not None else None) == path


def test_a_name_that_no_file_can_hold_gets_no_rule() -> None:
    assert [each for each in advice(asker(subject="a\nb"), None) if each.kind == "rule"] == []
