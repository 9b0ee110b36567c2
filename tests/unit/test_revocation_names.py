"""Names in the revoked set: no two things have the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials import jwt, opaque, revocation_names
from sidecar.model import PrincipalKind

ISSUERS = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(min_size=1, max_size=20)
THINGS = st.one_of(
    st.tuples(st.just("opaque"), st.from_regex(r"[0-9A-Za-z]{12}", fullmatch=True)),
    st.tuples(st.just("jwt"), ISSUERS, TEXTS),
    st.tuples(st.just("block"), st.from_regex(r"[0-9a-f]{128}", fullmatch=True)),
    st.tuples(st.just("pepper"), st.from_regex(r"[0-9a-f]{8}", fullmatch=True)),
    st.tuples(st.just("root_key"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("identity"), st.one_of(ISSUERS, st.sampled_from(["", "*"])), TEXTS),
)


def name(thing: tuple[object, ...]) -> str:
    kind, *parts = thing
    maker = {"opaque": opaque.revocation_id, "jwt": jwt.revocation_id}.get(str(kind))
    return str((maker or getattr(revocation_names, str(kind)))(*parts))


@given(THINGS, THINGS)
def test_two_things_never_have_one_name(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert (name(one) == name(other)) == (one == other)


@pytest.mark.parametrize(
    ("thing", "stored"),
    [
        (("opaque", "4fTq9XbLm2Za"), "opaque:4fTq9XbLm2Za"),
        (("jwt", "ci", "j-1"), "jwt:ci:j-1"),
        (("block", "aa"), "biscuit:aa"),
        (("pepper", "b9f305cc"), "key:pepper:b9f305cc"),
        (("root_key", 7), "key:biscuit:7"),
        (("identity", "ci", "a:b:c"), "subject:ci:a:b:c"),
        (("identity", revocation_names.ANY_ISSUER, "ada"), "subject:*:ada"),
    ],
)
def test_names_are_those_that_are_stored(thing: tuple[object, ...], stored: str) -> None:
    """Pinned: under another name whatever was revoked before would be let in again."""
    assert name(thing) == stored
    whose = thing[-1] if thing[0] == "identity" else ""
    assert revocation_names.about(stored)[1] == whose


@given(THINGS)
def test_only_identities_are_looked_up_by_time(thing: tuple[object, ...]) -> None:
    assert revocation_names.is_identity(name(thing)) == (thing[0] == "identity")


def test_blocks_are_told_from_a_principal_s_other_names() -> None:
    names = (
        revocation_names.root_key(1),
        revocation_names.block("aa"),
        "opaque:4fTq9XbLm2Za",
        revocation_names.block("bb"),
    )
    assert revocation_names.blocks(names) == ("aa", "bb")


@given(THINGS)
def test_a_name_tells_the_kind_of_its_token_or_whose_it_is(thing: tuple[object, ...]) -> None:
    expected = {
        "jwt": (PrincipalKind.JWT, ""),
        "block": (PrincipalKind.BISCUIT, ""),
        "identity": (None, thing[-1]),
    }.get(str(thing[0]), (None, ""))
    assert revocation_names.about(name(thing)) == expected
