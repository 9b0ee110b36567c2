"""What may be asked for when a token is made (the rest of it: `contract/test_token_store.py`)."""

import pytest

from sidecar.model import Permission, PrincipalKind, Scope
from sidecar.token_requests import (
    MOST_SCOPES,
    NewToken,
    TokenRequestError,
    WantedScope,
    check,
    permissions_of,
    scopes_of,
)

PERSONAL, CI = PrincipalKind.PERSONAL, PrincipalKind.CI
READ, WRITE, DELETE = Permission.READ, Permission.WRITE, Permission.DELETE


def problems(kind: PrincipalKind = PERSONAL, *scopes: WantedScope, **wanted: object) -> tuple[str, ...]:
    try:
        check(NewToken(kind, "ada", scopes=scopes, **wanted), 60.0, 600.0)  # type: ignore[arg-type]
    except TokenRequestError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (("read",), {READ}),
        (("store:read",), {READ}),
        (("store:read", "store:write"), {READ, WRITE}),
        (("store:read-write", "delete"), {READ, WRITE, DELETE}),
        ((), None),
    ],
)
def test_a_permission_may_be_spelled_with_what_it_is_about(
    names: tuple[str, ...], meant: set[Permission] | None
) -> None:
    assert problems(permissions=names) == ()
    assert permissions_of(names) == meant


@pytest.mark.parametrize("name", ["build:start", "store:", "store:fly", "store:store:read", "Store:read"])
def test_nothing_else_is_a_permission(name: str) -> None:
    assert problems(permissions=(name,))


def test_scopes_are_what_they_say_and_each_is_there_once() -> None:
    web = WantedScope("web", "releases/**", ("read", "store:write"))
    assert problems(PERSONAL, web, web, WantedScope("api")) == ()
    assert scopes_of(NewToken(PERSONAL, "ada", scopes=(web, web, WantedScope("api")))) == (
        Scope("web", frozenset({READ, WRITE}), "releases/**"),
        Scope("api"),
    )


@pytest.mark.parametrize(
    ("kind", "scopes", "wanted", "said"),
    [
        (PERSONAL, [WantedScope("web")], {"workspaces": ("api",)}, "not those of its scopes"),
        (PERSONAL, [WantedScope("web")], {"workspaces": ("web", "api")}, "not those of its scopes"),
        (PERSONAL, [WantedScope("web")], {"permissions": ("read",)}, "leave the token's own out"),
        (PERSONAL, [WantedScope("web")], {"path": "a"}, "leave the token's own out"),
        (CI, [WantedScope("web"), WantedScope("api")], {}, "exactly one workspace"),
        (PERSONAL, [WantedScope(f"w{n}") for n in range(MOST_SCOPES + 1)], {}, "at most 32"),
        (PERSONAL, [WantedScope("web", "a" * 1000) for _ in range(5)], {}, "at most 4096 characters together"),
        (PERSONAL, [WantedScope("a b")], {}, "scope 1: workspace 'a b'"),
        (PERSONAL, [WantedScope("web"), WantedScope("web", "a**b")], {}, "scope 2: path"),
        (PERSONAL, [WantedScope("web", "")], {}, "scope 1: path '': it is empty"),
        (PERSONAL, [WantedScope("web", None, ("wirte",))], {}, "did you mean 'write'"),
        (PERSONAL, [WantedScope("web", None, ("",))], {}, "scope 1: permission"),
    ],
)
def test_scopes_that_cannot_be(
    kind: PrincipalKind, scopes: list[WantedScope], wanted: dict[str, object], said: str
) -> None:
    assert any(said in problem for problem in problems(kind, *scopes, **wanted))


def test_a_ci_token_may_have_several_scopes_in_its_workspace() -> None:
    scopes = (WantedScope("web", "a/**"), WantedScope("web", "b/**", ("read",)))
    assert problems(CI, *scopes) == ()
    assert problems(CI, *scopes, workspaces=("web",)) == ()
