"""A token for several places: each of its scopes stands alone, and together they only narrow (rules 10 and 13)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.model import LEVELS, Action, Limits, Permission, Person, Principal, PrincipalKind, Scope
from sidecar.policy.compiled import Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.policy.glob import glob
from sidecar.reasons import Reason
from tests.unit.test_policy_evaluate import ADA, web

READ, WRITE, DELETE = Permission.READ, Permission.WRITE, Permission.DELETE


def ada(*scopes: Scope) -> Principal:
    return replace(ADA, limits=Limits(frozenset(scope.workspace for scope in scopes), scopes=scopes))


def verdict(workspace: Workspace, who: Principal, *actions: Action) -> Reason:
    return evaluate(workspace, who, actions, person=None, directory=False, exists=False).reason


OPEN = web(anonymous=LEVELS["read-write"])
"""Whatever is refused there, a limit refuses."""
DELETABLE = web(anonymous=frozenset({DELETE}))


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action(READ, "releases/1"), Reason.GRANTED),
        (Action(WRITE, "releases/1"), Reason.TOKEN_LIMIT),
        (Action(WRITE, "nightly/1"), Reason.GRANTED),
        (Action(READ, "nightly/1"), Reason.TOKEN_LIMIT),
        (Action(READ, "elsewhere"), Reason.TOKEN_LIMIT),
    ],
)
def test_a_scopes_permissions_are_for_its_own_path(action: Action, expected: Reason) -> None:
    who = ada(Scope("web", frozenset({READ}), "releases/**"), Scope("web", frozenset({WRITE}), "nightly/**"))
    assert verdict(OPEN, who, action) is expected


def test_a_workspace_that_no_scope_names_is_the_wrong_one() -> None:
    assert verdict(OPEN, ada(Scope("api")), Action(READ, "a")) is Reason.WRONG_WORKSPACE
    assert verdict(OPEN, ada(Scope("api"), Scope("web")), Action(READ, "a")) is Reason.GRANTED


def test_every_action_of_a_set_lies_within_some_scope() -> None:
    who = ada(Scope("web", None, "a/**"), Scope("web", None, "b/**"))
    assert verdict(OPEN, who, Action(READ, "a/1"), Action(WRITE, "b/1")) is Reason.GRANTED
    assert verdict(OPEN, who, Action(READ, "a/1"), Action(WRITE, "c/1")) is Reason.TOKEN_LIMIT


def test_two_halves_of_a_collection_are_not_the_whole() -> None:
    """`**` below `a/` is held by neither of them alone."""
    below = Action(DELETE, "a", below=True)
    halves = ada(Scope("web", None, "a/x/**"), Scope("web", None, "a/y/**"))
    assert verdict(DELETABLE, halves, below) is Reason.TOKEN_LIMIT
    assert verdict(DELETABLE, ada(Scope("web", None, "a/**")), below) is Reason.GRANTED


KEYS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=3).map("/".join)
SCOPES = st.lists(
    st.builds(
        Scope,
        st.sampled_from(["web", "api"]),
        st.none() | st.frozensets(st.sampled_from([READ, WRITE]), min_size=1),
        st.none() | GLOBS,
    ),
    min_size=1,
    max_size=4,
)
ACTIONS = st.lists(st.builds(Action, st.sampled_from([READ, WRITE, DELETE]), KEYS), min_size=1, max_size=3)


@given(SCOPES, ACTIONS, st.sampled_from(["none", "read", "read-write"]))
def test_scopes_only_narrow_and_just_as_one_by_one(scopes: list[Scope], actions: list[Action], level: str) -> None:
    workspace = web(anonymous=LEVELS[level])
    limited = verdict(workspace, ada(*scopes), *actions) is Reason.GRANTED
    unlimited = verdict(workspace, ADA, *actions) is Reason.GRANTED
    held = all(
        any(
            scope.workspace == "web"
            and (scope.permissions is None or action.permission in scope.permissions)
            and (scope.path is None or glob(scope.path).matches(action.key))
            for scope in scopes
        )
        for action in actions
    )
    assert limited is (unlimited and held)


@given(SCOPES, SCOPES, ACTIONS)
def test_another_scope_takes_nothing_away(scopes: list[Scope], more: list[Scope], actions: list[Action]) -> None:
    if verdict(OPEN, ada(*scopes), *actions) is Reason.GRANTED:
        assert verdict(OPEN, ada(*scopes, *more), *actions) is Reason.GRANTED


# Whose token it is


@pytest.mark.parametrize(
    ("owner_id", "person", "expected"),
    [
        ("u-17", Person(True, frozenset(), "u-17"), Reason.GRANTED),
        ("u-17", Person(True, frozenset(), "u-18"), Reason.INACTIVE_PERSON),
        ("u-17", Person(True, frozenset()), Reason.INACTIVE_PERSON),
        ("u-17", Person(False, frozenset(), "u-17"), Reason.INACTIVE_PERSON),
        ("u-17", None, Reason.INACTIVE_PERSON),
        ("", Person(True, frozenset()), Reason.GRANTED),
        ("", Person(True, frozenset(), "u-18"), Reason.GRANTED),
    ],
)
def test_a_reused_name_inherits_nothing(owner_id: str, person: Person | None, expected: Reason) -> None:
    """A token from before there were ids knows its owner by name alone."""
    who = Principal(PrincipalKind.PERSONAL, "ada", owner_id=owner_id)
    found = evaluate(OPEN, who, [Action(READ, "a")], person=person, directory=True, exists=None).reason
    assert found is expected
    without = evaluate(OPEN, who, [Action(READ, "a")], person=None, directory=False, exists=None)
    assert without.reason is Reason.GRANTED
