"""What narrowing promises: a flag lets through what the same limit of an opaque token does, and a narrower token never may what
its parent may not."""

import base64

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sidecar.credentials.biscuit import meaning, narrowing, spelling, wire
from sidecar.credentials.biscuit.profile import OutOfProfile, examine
from sidecar.errors import CredentialRefused
from sidecar.model import Permission
from sidecar.policy import glob
from tests.biscuits import NOW, holds, made, narrowed, principal

names = st.text('ab.-+é"\\$', min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
keys = st.lists(names, min_size=1, max_size=4).map("/".join)
segments = st.one_of(names, names.map(lambda name: f"{name}*"), st.sampled_from(["*", "**", "a*b", "*.b"]))
globs = st.lists(segments, min_size=1, max_size=4).map("/".join).filter(lambda text: text != "**")
permissions = st.sets(st.sampled_from(list(Permission)), min_size=1).map(frozenset)
times = st.integers(NOW - 100, NOW + 5000)
workspaces = st.sets(st.sampled_from(["web", "docs", "a-b.c_d"]), min_size=1)
checks = st.one_of(
    permissions.map(narrowing.permissions),
    times.map(narrowing.ends),
    workspaces.map(narrowing.workspaces),
    globs.filter(lambda text: glob.key_problem(text) is None).map(narrowing.path),
    st.sampled_from(
        [
            'check if operations($ops), !$ops.contains("store:write")',
            'check if method("GET")',
            'check if setting("channel", "stable")',
            'check if path($p), !$p.contains("b")',
            'check if client_ip($ip), $ip.starts_with("10.")',
        ]
    ),
)
asked = st.fixed_dictionaries(
    {
        "permission": st.sampled_from(list(Permission)),
        "path": keys,
        "workspace": st.sampled_from(["web", "docs", "a-b.c_d"]),
        "settings": st.sampled_from([{}, {"channel": "stable"}, {"channel": "beta"}]),
        "method": st.sampled_from(["GET", "PUT"]),
        "client_ip": st.sampled_from(["", "10.1.2.3", "192.0.2.1"]),
        "below": st.booleans(),
    }
)


def block(check: str) -> wire.Block:
    content = spelling.decoded(narrowed(made(), check))
    assert content is not None
    return wire.blocks(content)[1]


@settings(deadline=None, max_examples=300)
@given(globs, keys)
@example("releases/**", "releases")
@example("releases/**", "releases-old/a")
@example("**/a", "a")
@example("a/**/**", "a/b/c")
@example("a/**/b", "a/b")
@example("*/**", "a")
@example("a.b", "axb")
@example("a*", "a/b")
def test_a_path_lets_through_what_the_glob_does(pattern: str, key: str) -> None:
    assume(glob.key_problem(pattern) is None)
    try:
        token = narrowed(made(), narrowing.path(pattern))
        held = holds(token, path=key)
    except CredentialRefused as refused:
        if "too long together" not in refused.detail:
            raise
        return
    assert held is glob.Glob(pattern).matches(key)


@settings(deadline=None, max_examples=100)
@given(permissions, st.sampled_from(list(Permission)))
def test_permissions_let_through_what_they_name(wanted: frozenset[Permission], permission: Permission) -> None:
    assert holds(made(permissions=None, workspaces=()), permission)
    assert holds(made(permissions=wanted, workspaces=()), permission) is (permission in wanted)


@given(times)
def test_an_end_is_read_back_as_it_was_written(at: int) -> None:
    assert meaning.meaning([block(narrowing.ends(at))]).ends_at == at


@given(workspaces)
def test_so_are_workspaces(wanted: set[str]) -> None:
    assert meaning.meaning([block(narrowing.workspaces(wanted))]).workspaces == wanted


@given(checks)
@settings(deadline=None)
def test_every_flag_makes_a_check_that_is_accepted(check: str) -> None:
    try:
        examine([wire.Block(), block(check)])
    except OutOfProfile as refused:
        if "too long together" not in str(refused):
            raise


@settings(deadline=None, max_examples=200)
@given(
    st.lists(checks, max_size=3),
    st.lists(st.lists(checks, min_size=1, max_size=2), min_size=1, max_size=3),
    asked,
)
def test_a_narrowed_token_never_may_what_its_parent_may_not(
    first: list[str], blocks: list[list[str]], request: dict[str, object]
) -> None:
    token = made(permissions=None, workspaces=())
    if first:
        token = narrowed(token, "; ".join(first))
    allowed = True
    for each in blocks:
        try:
            before = principal(token)
            held = holds(token, **request)  # type: ignore[arg-type]
        except CredentialRefused:  # it ended, or has become too much: from here on it is no caller at all
            with pytest.raises(CredentialRefused):
                principal(narrowed(token, "; ".join(each)))
            return
        assert held <= allowed
        allowed = held
        token = narrowed(token, "; ".join(each))
        try:
            after = principal(token)
        except CredentialRefused:
            return
        assert after.expires_at is not None
        assert before.expires_at is not None
        assert after.expires_at <= before.expires_at
        assert (after.subject, after.token_id, after.bound) == (before.subject, before.token_id, before.bound)
        assert set(before.revocation_ids) < set(after.revocation_ids)
        if before.limits.workspaces is not None:
            assert after.limits.workspaces is not None
            assert after.limits.workspaces <= before.limits.workspaces
    assert holds(token, **request) <= allowed  # type: ignore[arg-type]


def test_a_folder_is_said_as_a_beginning_so_that_trees_can_be_told() -> None:
    assert narrowing.path("a/b/**") == (
        'check if path($path), $path == "a/b" or path($path), $path.starts_with("a/b/")'
    )
    assert "matches" in narrowing.path("a/*/**")


def test_a_token_has_so_many_bytes_and_not_more() -> None:
    longest = b"\x12" + bytes(spelling.MAX_BYTES - 1)
    assert spelling.decoded(base64.urlsafe_b64encode(longest).decode()) == longest
    with pytest.raises(spelling.TooLong):
        spelling.decoded(base64.urlsafe_b64encode(longest + b"\0").decode())
