"""What the store gets of an S3 request."""

import base64
import hashlib
from random import Random
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Head, Headers
from sidecar.s3 import multi_delete
from sidecar.s3.copy_source import CopySource
from sidecar.s3.multi_delete import Entry, MultiDelete
from sidecar.s3.place import Place
from sidecar.s3.request import read
from sidecar.s3.sending import Sending, makes_object, sending, signed
from sidecar.sigv4 import encode_path

SAME = Place("bkt", "", "bkt", "", "")
MAPPED = Place("bkt", "team/", "real", "x/", "")


def sent(place: Place, method: str, raw: str, headers: dict[str, str] | None = None, **more: object) -> Sending:
    values = {"host": "sidecar", **{name.lower(): value for name, value in (headers or {}).items()}}
    forward = tuple((name.encode(), value.encode()) for name, value in (headers or {}).items())
    head = Head(method, target.parse(raw), Headers(values, forward))
    return sending(read(head), head, place, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "method", "raw", "expected"),
    [
        (SAME, "GET", "/bkt/a%20b", "/a%20b"),
        (SAME, "GET", "/bkt/a(1)", "/a%281%29"),
        (SAME, "GET", "/bkt", "/"),
        (SAME, "GET", "/bkt?list-type=2&prefix=a%2F", "/?list-type=2&prefix=a%2F"),
        (SAME, "GET", "/bkt/k?x-id=GetObject&versionId=v", "/k?versionId=v"),
        (MAPPED, "PUT", "/bkt/team/k?partNumber=1&uploadId=u", "/x/k?partNumber=1&uploadId=u"),
        (MAPPED, "GET", "/bkt?prefix=team/a&delimiter=/", "/?delimiter=%2F&prefix=x%2Fa"),
        (MAPPED, "GET", "/bkt?prefix=team/&marker=team/m", "/?marker=x%2Fm&prefix=x%2F"),
        (MAPPED, "GET", "/bkt?prefix=team/&marker=a", "/?prefix=x%2F"),
        (MAPPED, "GET", "/bkt?prefix=team/&marker=z", "/?marker=x0&prefix=x%2F"),
        (MAPPED, "GET", "/bkt?prefix=team/&marker=", "/?marker=&prefix=x%2F"),
        (MAPPED, "GET", "/bkt?location", "/?location="),
    ],
)
def test_path_and_query(place: Place, method: str, raw: str, expected: str) -> None:
    assert sent(place, method, raw).path == expected


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20), st.randoms())
@example("a//b/", Random(1))
@example("%2F+~ é\\?#;", Random(2))
def test_a_key_is_one_key_however_it_is_spelled(key: str, random: Random) -> None:
    assume(not {".", ".."} & set(key.replace("\\", "/").split("/")))
    spelled = "".join(
        character if character in "/ab+~()" and random.random() < 0.5 else quote(character, safe="")
        for character in key
    )
    try:
        found = sent(SAME, "GET", f"/bkt/{spelled}")
    except Refused:  # dots before what some servers cut at
        assume(False)
    assert found.path == f"/{encode_path(key)}"
    assert unquote(found.path[1:]) == key


def test_a_whole_bucket_in_a_part_of_another_lists_that_part() -> None:
    assert sent(Place("bkt", "", "real", "x/", ""), "GET", "/bkt").path == "/?prefix=x%2F"


def test_a_signature_and_the_bodys_form_end_here() -> None:
    raw = "/bkt/k?X-Amz-Algorithm=A&X-Amz-Signature=s&X-Amz-Expires=5&x-amz-meta-a=b&X-Amz-Acl=private"
    found = sent(
        SAME,
        "PUT",
        raw,
        {
            "Content-Type": "text/plain",
            "Content-Encoding": "aws-chunked,gzip",
            "x-amz-decoded-content-length": "3",
            "x-amz-trailer": "x-amz-checksum-crc32",
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-date": "20261122T000000Z",
            "X-Amz-Checksum-CRC32": "AAAAAA==",
            "x-minio-force-delete": "true",
            "Accept-Encoding": "gzip",
        },
    )
    assert found.path == "/k"
    assert found.headers == [
        (b"Content-Type", b"text/plain"),
        (b"Content-Encoding", b"gzip"),
        (b"X-Amz-Checksum-CRC32", b"AAAAAA=="),
        (b"x-amz-acl", b"private"),
        (b"x-amz-meta-a", b"b"),
    ]


def test_a_coding_that_was_only_the_wrapping_is_gone() -> None:
    assert sent(SAME, "PUT", "/bkt/k", {"content-encoding": "aws-chunked"}).headers == []


def test_a_copys_source_is_said_in_the_stores_names() -> None:
    source = CopySource("real", "x/a+b", "v1")
    found = sent(MAPPED, "PUT", "/bkt/team/k", {"x-amz-copy-source": "/bkt/team/a%2Bb"}, source=source)
    assert found.headers == [(b"x-amz-copy-source", b"real/x/a%2Bb?versionId=v1")]


def test_keys_to_delete_are_written_anew() -> None:
    wanted = MultiDelete((Entry("team/a&b", "v"), Entry("team/c")), True)
    headers = {"Content-MD5": "of another text", "x-amz-checksum-crc32": "AAAAAA==", "x-amz-request-payer": "requester"}
    found = sent(MAPPED, "POST", "/bkt?delete", headers, deleted=wanted)
    assert found.body is not None
    assert multi_delete.read(found.body) == MultiDelete((Entry("x/a&b", "v"), Entry("x/c")), True)
    digest = base64.b64encode(hashlib.md5(found.body).digest())
    assert found.headers == [(b"x-amz-request-payer", b"requester"), (b"Content-MD5", digest)]


@pytest.mark.parametrize(
    ("method", "raw", "asked"),
    [
        ("PUT", "/bkt/k", True),
        ("POST", "/bkt/k?uploadId=u", True),
        ("POST", "/bkt/k?uploads", False),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u", False),
        ("PUT", "/bkt/k (a copy)", True),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u (a copy)", False),
        ("PUT", "/bkt/k?renameObject", True),
    ],
)
def test_what_was_decided_on_a_keys_absence_is_held_to_it_where_s3_can(method: str, raw: str, asked: bool) -> None:
    raw, copies, _ = raw.partition(" (a copy)")
    sources = {"x-amz-copy-source": "bkt/s"} if copies else {}
    sources |= {"x-amz-rename-source": "bkt/s"} if "rename" in raw else {}
    found = sent(SAME, method, raw, {"If-Match": '"e"', **sources}, only_creates=True)
    assert ((b"If-None-Match", b"*") in found.headers) is asked
    assert ((b"If-Match", b'"e"') in found.headers) is not asked


COPY = {"x-amz-copy-source": "bkt/s"}


@pytest.mark.parametrize(
    ("method", "raw", "headers", "made"),
    [
        ("PUT", "/bkt/k", {}, True),
        ("PUT", "/bkt/k", COPY, True),
        ("POST", "/bkt/k?uploads", {}, True),
        ("POST", "/bkt/k?uploadId=u", {}, False),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u", {}, False),
        ("PUT", "/bkt/k?partNumber=1&uploadId=u", COPY, False),
        ("PUT", "/bkt/k?tagging", {}, False),
        ("DELETE", "/bkt/k", {}, False),
        ("GET", "/bkt/k", {}, False),
    ],
)
def test_what_takes_an_objects_metadata(method: str, raw: str, headers: dict[str, str], made: bool) -> None:
    assert makes_object(sent(SAME, method, raw, headers).asked) is made


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, True),
        (COPY, False),
        (COPY | {"x-amz-metadata-directive": "COPY"}, False),
        (COPY | {"X-Amz-Metadata-Directive": "REPLACE"}, True),
        (COPY | {"x-amz-tagging-directive": "REPLACE"}, False),
    ],
    ids=repr,
)
def test_who_writes_is_said_where_the_object_is_described_anew(headers: dict[str, str], told: bool) -> None:
    before = sent(SAME, "PUT", "/bkt/k", headers)
    after = signed(before, lambda room: b"{}")
    assert after.headers == [*before.headers, *([(b"x-amz-meta-x-sidecar-provenance", b"{}")] if told else [])]
