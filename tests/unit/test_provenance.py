"""Which claims are written down, and how."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import ANONYMOUS, Principal, PrincipalKind
from sidecar.provenance import CLAIMS, DIGEST_HEADER, HEADER, HEADER_LIMIT, PREFIX, claims_of, header, pieces, room


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


# What the issuers' documentation says of their tokens, less what every JWT has.
GITHUB = [
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "ref",
    "ref_type",
    "sha",
    "run_id",
    "run_number",
    "run_attempt",
    "event_name",
    "workflow_ref",
    "job_workflow_ref",
    "environment",
    "head_ref",
    "base_ref",
    "actor",
]
GITLAB = [
    "project_path",
    "project_id",
    "namespace_path",
    "pipeline_id",
    "pipeline_source",
    "job_id",
    "ref_path",
    "ref_protected",
    "user_login",
]
BUILDKITE = [
    "organization_slug",
    "pipeline_slug",
    "build_number",
    "build_branch",
    "build_commit",
    "build_tag",
    "step_key",
]
CIRCLECI = [f"oidc.circleci.com/{name}" for name in ("project-id", "vcs-origin", "vcs-ref", "job-id")]
PEOPLE = ["email", "name", "user_email", "user_identities", "groups", "oidc.circleci.com/context-ids"]


@pytest.mark.parametrize("names", [GITHUB, GITLAB, BUILDKITE, CIRCLECI])
def test_what_an_issuer_says_of_a_build_is_written_down_and_what_it_says_of_people_is_not(names: list[str]) -> None:
    assert claims_of(dict.fromkeys([*names, *PEOPLE], "x")) == dict.fromkeys(names, "x")


def test_no_and_yes_are_words() -> None:
    assert claims_of({"ref_protected": False}) == {"ref_protected": "false"}


def test_the_headers_are_those_that_stores_and_their_users_know() -> None:
    """They are kept with objects for years: renaming one loses what it says of all of them."""
    assert (HEADER, DIGEST_HEADER, PREFIX) == (b"x-sidecar-provenance", b"x-sidecar-sha256", b"x-sidecar-")


@pytest.mark.parametrize("name", [b"x-amz-meta-mine", b"X-Artifact-Mine"])
def test_what_a_client_wants_kept_leaves_that_much_less_room(name: bytes) -> None:
    assert room([]) == HEADER_LIMIT == 1024
    ours = len(b"x-amz-meta-x-sidecar-provenance-2")  # for each piece of 256 bytes
    assert room([(name, b"v" * 1500), (b"content-type", b"t" * 100)]) == 2048 - len(name) - 1500 - 2 * ours
    assert room([(name, b"v" * 2048)]) < 0


BUILD = Principal(PrincipalKind.JWT, "s" * 100, "i" * 100, token_id="t" * 100, claims={"ref": "r" * 30, "sha": "c"})


def test_each_name_and_claim_is_said_where_there_is_room_for_all() -> None:
    said = {"request_id": "id-1", "type": "jwt", "subject": "s" * 100, "issuer": "i" * 100, "token_id": "t" * 100}
    assert json.loads(header(BUILD, "id-1")) == {**said, "claims": dict(BUILD.claims)}


def test_where_there_is_less_room_than_it_takes_something_is_left_out_and_what_fits_exactly_is_not() -> None:
    whole = header(BUILD, "id-1")
    assert header(BUILD, "id-1", len(whole)) == whole
    assert json.loads(header(BUILD, "id-1", len(whole) - 1))["claims"] == {"ref": "r" * 30}
    bare = header(msgspec.structs.replace(BUILD, claims={}), "id-1")
    assert header(BUILD, "id-1", len(bare)) == bare
    short = json.loads(header(BUILD, "id-1", len(bare) - 1))
    assert (short["subject"], short["issuer"], short["token_id"]) == ("s" * 24, "i" * 24, "t" * 24)
    alone = b'{"request_id":"id-1"}'
    assert header(BUILD, "id-1", len(alone) + 40) == alone, "no claim of nobody"
    assert header(BUILD, "id-1", len(alone)) == alone
    assert header(BUILD, "id-1", len(alone) - 1) == b""


def test_a_name_is_cut_after_256_characters() -> None:
    assert json.loads(header(Principal(PrincipalKind.JWT, "s" * 300), "id-1"))["subject"] == "s" * 256


def test_what_a_header_does_not_take_is_escaped_and_reads_as_it_was() -> None:
    assert b"a\\u007fb" in header(Principal(PrincipalKind.JWT, "a\x7fb"), "id-1")
    assert json.loads(header(Principal(PrincipalKind.JWT, "a\x7fb"), "id-1"))["subject"] == "a\x7fb"


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


def test_which_key_was_written_is_said_with_it() -> None:
    said = json.loads(header(ANONYMOUS, "id-1", workspace="web", key="a b/\u00e9"))
    assert said == {"request_id": "id-1", "workspace": "web", "key": "a b/\u00e9", "type": "anonymous", "subject": ""}


def test_two_keys_are_told_apart_however_long_they_are() -> None:
    said = [json.loads(header(ANONYMOUS, "id-1", key="k" * 256 + more)) for more in ("", "-good", "-evil")]
    assert {each["key"] for each in said} == {"k" * 256}
    assert "key_sha256" not in said[0]
    hashes = [hashlib.sha256(b"k" * 256 + more).hexdigest() for more in (b"-good", b"-evil")]
    assert [each["key_sha256"] for each in said[1:]] == hashes


@pytest.mark.parametrize("limit", [*range(60, 480, 7), 1024])
def test_no_key_is_said_in_part_alone(limit: int) -> None:
    principal = Principal(PrincipalKind.JWT, "s" * 100, "i" * 100, token_id="t" * 100)
    said = [json.loads(header(principal, "id-1", limit, key="k" * 200 + more)) for more in "ab"]
    assert "key" not in said[0] or said[0] != said[1]


def test_a_bucket_gets_it_in_pieces_that_keep_their_ends() -> None:
    value = header(Principal(PrincipalKind.JWT, " " * 200, "corp", claims={"ref": "x " * 120}), "id-1")
    assert b" " not in value
    told = pieces(b"x-amz-meta-x", value)
    assert [name for name, _ in told] == [b"x-amz-meta-x", *(b"x-amz-meta-x-%d" % n for n in range(2, len(told) + 1))]
    assert all(len(each) == 256 for _, each in told[:-1])
    assert 0 < len(told[-1][1]) <= 256
    assert b"".join(each for _, each in told) == value
    assert pieces(b"x", b"") == []


def test_the_pieces_are_numbered_from_the_second() -> None:
    told = [(b"n", b"v" * 256), (b"n-2", b"v" * 256), (b"n-3", b"v" * 88)]
    assert pieces(b"n", b"v" * 600) == told


def test_nobody_in_particular_is_said_to_be_just_that() -> None:
    assert json.loads(header(ANONYMOUS, "id-1")) == {"request_id": "id-1", "type": "anonymous", "subject": ""}
    assert json.loads(header(None, "id-1")) == {"request_id": "id-1"}
