"""Which claims are written down, and how."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidecar.model import ANONYMOUS, Principal, PrincipalKind
from sidecar.provenance import CLAIMS, HEADER_LIMIT, claims_of, header


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ({}, None),
        ({"sub": "x", "email": "ada@example.com", "name": "Ada"}, None),
        ({"repository": "acme/web", "email": "a@b.c"}, {"repository": "acme/web"}),
        ({"run_id": 7, "ref_protected": True}, {"run_id": "7", "ref_protected": "true"}),
        ({"ref": {"a": "b"}, "sha": ["x"], "repository": None}, None),
        ({"ref": "r" * 1000}, {"ref": "r" * 256}),
        ({"run_id": "1", "ref": "x", "repository": "y"}, {"repository": "y", "ref": "x", "run_id": "1"}),
    ],
)
def test_only_what_is_listed_is_written_down(claims: dict[str, Any], found: dict[str, str] | None) -> None:
    assert claims_of(claims) == found
    assert list(claims_of(claims) or {}) == list(found or {})


@given(st.text(), st.text(), st.dictionaries(st.sampled_from(CLAIMS), st.text()))
def test_whatever_a_token_says_the_header_is_a_short_line_of_ascii(
    subject: str, issuer: str, claims: dict[str, str]
) -> None:
    value = header(Principal(PrincipalKind.JWT, subject, issuer, claims=claims), "id-1")
    assert all(0x20 <= byte < 0x7F for byte in value)
    said = json.loads(value)
    assert len(value) <= HEADER_LIMIT
    assert subject.startswith(said["subject"])
    assert said.get("claims", {}).items() <= {name: text[:256] for name, text in claims.items()}.items()


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f600", '"', "\x7f"])
def test_however_long_a_token_is_the_header_is_short(letter: str) -> None:
    claims = dict.fromkeys(CLAIMS, letter * 300)
    value = header(
        Principal(PrincipalKind.JWT, letter * 300, letter * 300, token_id=letter * 300, claims=claims), "i" * 36
    )
    assert 300 < len(value) <= HEADER_LIMIT
    assert all(0x20 <= byte < 0x7F for byte in value)
    small = {"repository": "acme/web", "ref": "refs/heads/main"}
    principal = Principal(PrincipalKind.JWT, "s", "corp", token_id="t", claims={**claims, **small})
    assert json.loads(header(principal, "id-1"))["claims"].items() >= small.items(), "what is short has room"


def test_nobody_in_particular_is_said_to_be_just_that() -> None:
    assert json.loads(header(ANONYMOUS, "id-1")) == {"request_id": "id-1", "type": "anonymous", "subject": ""}
    assert json.loads(header(None, "id-1")) == {"request_id": "id-1"}
