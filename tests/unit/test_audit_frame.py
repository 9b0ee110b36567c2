"""A record that was filled into a frame says what the same record says that was made the long way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.audit.access import Access, Completion
from sidecar.audit.record import Records
from sidecar.audit.schema import STRING_LIMIT, Instance
from sidecar.model import Action, Permission, Principal, PrincipalKind

NOW = 1_700_000_000.25
RECORDS = Records(Instance(pod="p"), b"k" * 32)
ADA = Principal(PrincipalKind.PERSONAL, "ada@example.com", token_id="t1", groups=frozenset({"web"}))
LAST = Access(
    request_id="r-1",
    method="GET",
    path="/web/other",
    host="cache.example",
    user_agent='an "agent" of\u00e9',
    peer="10.0.0.1",
    profile="plain",
    workspace="web",
    upstream="store",
    actions=(Action(Permission.READ, "other"),),
    principal=ADA,
    carrier="bearer",
    rule="members",
    policy_sha256="ab" * 32,
    policy_generation=7,
    token_state_seq=3,
    staleness=0.5,
    cache="hit",
)
TOKEN = "asc_pat_AAAAAAAAAAAA_" + "B" * 49


def by_frame(path: str, key: str, duration: float = 0.0, size: int = 0, staleness: float | None = None) -> bytes | None:
    frame = RECORDS.frame(LAST, NOW, Completion(status=200, duration=9.9, upstream_status=200))
    assert frame is not None
    return RECORDS.framed(frame, NOW, duration, path, size, key, staleness)


def the_long_way(path: str, key: str, duration: float, size: int, staleness: float | None) -> dict[str, Any]:
    access = replace(LAST, path=path, actions=(Action(Permission.READ, key),), staleness=staleness)
    end = Completion(status=200, duration=duration, bytes_out=size, upstream_status=200)
    return json.loads(RECORDS.access(access, NOW, end))  # type: ignore[no-any-return]


@given(
    st.text(st.characters(min_codepoint=0, max_codepoint=0x17F), max_size=60),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60),
    st.floats(0, 100_000),
    st.integers(0, 2**53),
    st.none() | st.floats(0, 1000),
)
def test_it_says_the_same(prefix: str, key: str, duration: float, size: int, staleness: float | None) -> None:
    path = f"/{prefix}/{key}"
    line = by_frame(path, key, duration, size, staleness)
    if line is None:
        return
    framed, made = json.loads(line), the_long_way(path, key, duration, size, staleness)
    assert framed["id"] == framed["request"]["id"]
    framed["id"] = framed["request"]["id"] = "r-1"
    assert framed == made
    assert list(framed) == list(made)


@pytest.mark.parametrize("path", ["/web/a", "/web/a-b_c.d~e/f+g,h:i@j=k!l$m&n'(o)*p;q"])
def test_plain_paths_are_filled_in(path: str) -> None:
    assert by_frame(path, path.rpartition("/")[2]) is not None


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ('/web/"', '"'),
        ("/web/\\", "\\"),
        ("/web/%41", "A"),
        ("/web/\u00e9", "\u00e9"),
        ("/web/\x1f", "\x1f"),
        ("/web/\n", "\n"),
        (f"/web/{TOKEN}", TOKEN),
        ("/web/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "a"),
        ("/web/a", "b"),
        ("/web/" + "a" * STRING_LIMIT, "a" * STRING_LIMIT),
    ],
    ids=["quote", "backslash", "percent", "non-ascii", "control", "newline", "token", "jwt", "another key", "long"],
)
def test_what_needs_care_goes_the_long_way(path: str, key: str) -> None:
    assert by_frame(path, key) is None


def test_a_text_that_json_cannot_hold_makes_no_frame() -> None:
    access = replace(LAST, user_agent="\udc80")
    assert RECORDS.frame(access, NOW, Completion(status=200, duration=0.1)) is None
