"""What may be asked for when a token is made (the rest of it: `contract/test_token_store.py`)."""

import pytest

from sidecar.model import NOTHING, Permission, PrincipalKind, Scope
from sidecar.token_requests import (
    MOST_SCOPES,
    NewToken,
    TokenRequestError,
    WantedScope,
    check,
    permissions_named,
    permissions_of,
    scopes_of,
    ttl_problems,
)

PERSONAL, CI, BISCUIT = PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.BISCUIT
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


ONE = {"workspaces": ("web",)}
WHOLE: dict[str, object] = {"all_permissions": True, "ttl": 60.0}


@pytest.mark.parametrize(
    ("kind", "wanted", "said"),
    [
        (PrincipalKind.JWT, {}, "kind: personal, ci or biscuit"),
        (PERSONAL, {"all_permissions": True, "permissions": ("read",)}, "all-permissions:"),
        (PERSONAL, {"name": "n" * 101}, "name: at most 100"),
        (PERSONAL, {"name": "a\tb"}, "name: printable"),
        (PERSONAL, {"name": " a"}, "name: printable"),
        (CI, {}, "workspace: a CI token belongs to exactly one"),
        (CI, {"workspaces": ("web", "api")}, "workspace: a CI token belongs to exactly one"),
        (PERSONAL, {"workspaces": tuple(f"w{n}" for n in range(101))}, "workspace: at most 100"),
        (PERSONAL, {"workspaces": ("web", "a/b")}, "workspace 'a/b'"),
        (PERSONAL, {"permissions": ("wirte",)}, "permission 'wirte' is unknown"),
        (PERSONAL, {"path": ""}, "path '': it is empty"),
        (PERSONAL, {"path": "a**b"}, "path 'a**b'"),
        (BISCUIT, {"ttl": 60.0}, "permission: a Biscuit says what it may"),
        (BISCUIT, {"all_permissions": True}, "ttl: a Biscuit says when it ends"),
        (BISCUIT, {"ttl": 60.0, "permissions": ("read",), "s3": True}, "s3: a Biscuit has no access key"),
        (BISCUIT, {**WHOLE, "scopes": (WantedScope("web"),)}, "scope: a Biscuit has none"),
    ],
)
def test_what_cannot_be_asked_for(kind: PrincipalKind, wanted: dict[str, object], said: str) -> None:
    (problem,) = refused(NewToken(kind, "ada", **wanted))  # type: ignore[arg-type]
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (PERSONAL, {"all_permissions": True, "name": "n" * 100}),
        (PERSONAL, {"workspaces": tuple(f"w{n}" for n in range(100)), "path": "a/**"}),
        (CI, {**ONE, "s3": True}),
        (BISCUIT, WHOLE),
        (BISCUIT, {"permissions": ("read",), "ttl": 60.0, **ONE}),
        (PERSONAL, {"scopes": tuple(WantedScope(f"w{n}", "a" * 128) for n in range(32))}),
    ],
)
def test_what_can(kind: PrincipalKind, wanted: dict[str, object]) -> None:
    assert refused(NewToken(kind, "ada", **wanted)) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("", "subject: who the token belongs to is needed"),
        ("s" * 257, "subject: at most 256"),
        ("a\nb", "subject: printable"),
    ],
)
def test_a_token_belongs_to_somebody(subject: str, said: str) -> None:
    (problem,) = refused(NewToken(PERSONAL, subject))
    assert problem.startswith(said)
    assert refused(NewToken(PERSONAL, "s" * 256)) == ()


@pytest.mark.parametrize(
    ("ttl", "said"),
    [
        (1.0, []),
        (0.999, ["ttl: at least 1s"]),
        (float("nan"), ["ttl: at least 1s"]),
        (86_400.0, []),
        (86_401.0, ["ttl: at most 1d here (tokens.max_ttl)"]),
        (float("inf"), ["ttl: at most 1d here (tokens.max_ttl)"]),
    ],
)
def test_how_long_a_token_may_live(ttl: float, said: list[str]) -> None:
    assert ttl_problems(ttl, 86_400.0) == said


def test_names_of_permissions_that_are_not_all_known_grant_nothing() -> None:
    found = permissions_named(("read", "wirte"))
    assert found.permissions == NOTHING
    assert found.problems == ("permission 'wirte' is unknown; did you mean 'write'?",)
    assert permissions_named(("store:read-write",)).permissions == {READ, WRITE}
    assert permissions_named(()).permissions == NOTHING


def refused(wanted: NewToken) -> tuple[str, ...]:
    try:
        check(wanted, 60.0, 600.0)
    except TokenRequestError as error:
        return error.problems
    return ()
