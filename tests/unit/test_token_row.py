"""A row's seal over what every version of the tables has had, and the column of scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.credentials.token_row import TokenRow, intact, scope_as_json, scopes_of, scopes_text, sealed
from sidecar.model import Limits, Permission, Scope

PEPPER = Pepper(b"5f0c3b7e91d24a86b0e7c1f2a3948d6c5b7a8091e2f3d4c5b6a798081726354f")
PEPPERS = Peppers(PEPPER)
FIRST = TokenRow(
    id="0123456789ab",
    kind="personal",
    subject="ada",
    name="laptop",
    workspaces=None,
    permissions="read write",
    path="releases/**",
    created_at=1800000000,
    created_by="root",
    expires_at=1807776000,
    revoked_at=None,
    revoked_by=None,
    pepper_id="c780679f",
    digest="3c1c49789502e8f677b5000a9da24fcff8b6e7d6ab88f0c8ec2f01b624ee7f1c",
    mac="f1bf2af09e11017f231004535b26d5f74a5fcdf628d0592d9dd613fc3fdbe463",
)
"""As the first version of the tables held it."""
ADDED = {
    "owner_id": "u-17",
    "scopes": "[]",
    "parent": "ab0123456789",
    "family": "ab0123456789",
    "rotated_at": 1800000001,
    "reused_at": 1800000002,
}


def test_a_row_of_the_first_version_is_intact_as_it_stands() -> None:
    assert intact(FIRST, PEPPERS)
    assert sealed(FIRST, PEPPER).mac == FIRST.mac


@pytest.mark.parametrize("column", ADDED)
def test_a_later_versions_column_can_neither_be_filled_nor_emptied_unseen(column: str) -> None:
    filled = replace(FIRST, **{column: ADDED[column]})
    assert not intact(filled, PEPPERS)
    assert not intact(replace(sealed(filled, PEPPER), **{column: None}), PEPPERS)
    assert intact(sealed(filled, PEPPER), PEPPERS)


@given(st.sampled_from(sorted(ADDED)), st.one_of(st.text(), st.integers(), st.binary()))
def test_what_a_later_versions_column_holds_can_not_be_changed_unseen(column: str, value: object) -> None:
    row = sealed(replace(FIRST, **ADDED), PEPPER)
    before = ADDED[column]
    assert intact(replace(row, **{column: value}), PEPPERS) is (type(value) is type(before) and value == before)


@given(st.sampled_from(sorted(ADDED)), st.sampled_from(sorted(ADDED)), st.text(min_size=1))
def test_a_value_cannot_wander_from_one_added_column_to_another(left: str, right: str, value: str) -> None:
    if left != right:
        there = sealed(replace(FIRST, **{left: value}), PEPPER)
        assert not intact(replace(there, **{left: None, right: value}), PEPPERS)


@pytest.mark.parametrize("pepper_id", [None, 7, b"c780679f", "00000000", ""])
def test_a_row_under_a_pepper_that_nobody_has_is_not_intact(pepper_id: object) -> None:
    assert not intact(replace(FIRST, pepper_id=pepper_id), PEPPERS)


SCOPES = st.builds(
    Scope,
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.none() | st.frozensets(st.sampled_from(Permission), min_size=1),
    st.none() | st.text(min_size=1, max_size=20),
)


@given(st.lists(SCOPES, min_size=1, max_size=5))
def test_scopes_read_back_as_they_were_written(scopes: list[Scope]) -> None:
    assert scopes_of(scopes_text(scopes)) == tuple(scopes)


def test_a_scope_is_told_with_what_does_not_narrow_as_null() -> None:
    assert scope_as_json(Scope("web")) == {"workspace": "web", "path": None, "permissions": None}
    told = scope_as_json(Scope("web", frozenset({Permission.WRITE, Permission.READ}), "a/**"))
    assert told == {"workspace": "web", "path": "a/**", "permissions": ["read", "write"]}


def test_a_row_is_never_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        FIRST.permissions = "admin"  # type: ignore[misc]


def test_a_row_without_scopes_has_none_and_one_with_scopes_has_those() -> None:
    assert FIRST.limits == Limits(None, frozenset({Permission.READ, Permission.WRITE}), "releases/**")
    row = replace(
        FIRST, workspaces="api web", permissions=None, path=None, scopes='[{"workspace":"api"},{"workspace":"web"}]'
    )
    assert row.limits == Limits(frozenset({"api", "web"}), scopes=(Scope("api"), Scope("web")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[1]",
        '[{"path":"a"}]',
        '[{"workspace":"w","permissions":["fly"]}]',
        '[{"workspace":"w","until":1}]',
    ],
)
def test_what_a_later_version_wrote_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError):
        scopes_of(text)
