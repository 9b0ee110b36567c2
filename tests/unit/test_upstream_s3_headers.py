"""Which headers go into a bucket and which come out: two allow-lists, and one place for what has none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.upstream import s3_headers
from sidecar.upstream.s3_headers import from_store, from_write, to_delete, to_read, to_write, unheeded

ORDERS = [
    b"x-amz-acl",
    b"X-Amz-Copy-Source",
    b"x-amz-tagging",
    b"x-amz-grant-read",
    b"x-amz-security-token",
    b"x-amz-content-sha256",
    b"x-amz-date",
    b"x-amz-metadata-directive",
    b"X-AMZ-STORAGE-CLASS",
    b"x-amz-metax",
    b"x-goog-acl",
    b"authorization",
    b"x-amz-decoded-content-length",
]


@pytest.mark.parametrize("make", [to_read, to_write, to_delete])
def test_no_order_to_s3_goes_in(make: object) -> None:
    assert callable(make)
    assert make([(name, b"value") for name in ORDERS]) == []


def test_what_a_read_says() -> None:
    said = [
        (b"Range", b"bytes=0-1"),
        (b"If-Match", b'"a"'),
        (b"if-none-match", b'"b"'),
        (b"If-Modified-Since", b"x"),
        (b"If-Unmodified-Since", b"y"),
    ]
    others = [(b"User-Agent", b"curl"), (b"If-Range", b'"c"'), (b"Content-Type", b"text/x"), (b"Accept", b"*/*")]
    assert to_read([*others, *said]) == said


def test_what_is_kept_is_spelled_in_one_way() -> None:
    assert to_write([(b"Content-Type", b"text/x"), (b"X-Artifact-Tag", b"a"), (b"X-Amz-Meta-Own", b"b")]) == [
        (b"content-type", b"text/x"),
        (b"x-amz-meta-x-artifact-tag", b"a"),
        (b"x-amz-meta-own", b"b"),
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Artifact-Tag", b"a"), (b"x-artifact-tag", b"b")],
        [(b"X-Artifact-Tag", b"a"), (b"x-amz-meta-x-artifact-tag", b"b")],
        [(b"x-amz-meta-a", b"1"), (b"X-AMZ-META-A", b"2")],
        [(b"x-artifact-tag", "é".encode())],
        [(b"x-amz-meta-a", b"b\r\nx-amz-acl: public-read")],
        [(b"content-type", b"a\tb")],
        [(b"x-amz-meta-a", b"b\x00c")],
        [(b"Content-Encoding", b"gzip, AWS-chunked")],
    ],
)
def test_what_cannot_be_kept_as_it_is_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Refused) as refusal:
        to_write(headers)
    assert refusal.value.reason is Reason.BAD_HEADER


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=20)), max_size=5))
def test_whatever_comes_only_names_of_the_list_go_in(headers: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"x-artifact-" + name if number % 2 else name, value) for number, (name, value) in enumerate(headers)]
    try:
        sent = to_write(headers)
    except Refused:
        return
    assert len({name for name, _ in sent}) == len(sent)
    for name, value in sent:
        assert name in s3_headers.KEPT | {b"content-md5", b"if-match", b"if-none-match"} or name.startswith(
            b"x-amz-meta-"
        )
        assert all(0x20 <= byte < 0x7F for byte in value)


@given(
    st.dictionaries(
        st.from_regex(rb"(x-artifact-|x-amz-meta-)[a-z0-9-]{1,20}", fullmatch=True).filter(
            lambda name: not name.startswith(b"x-amz-meta-x-artifact-")
        ),
        st.from_regex(rb"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True),
        max_size=5,
    )
)
def test_what_is_kept_comes_back_as_it_was(headers: dict[bytes, bytes]) -> None:
    kept, _ = from_store(to_write(list(headers.items())))
    assert dict(kept) == headers


def test_of_what_the_store_says_only_the_object_reaches_the_client() -> None:
    said = [
        (b"Content-Type", b"text/x"),
        (b"ETag", b'"a"'),
        (b"Last-Modified", b"then"),
        (b"Content-Range", b"bytes 0-1/2"),
        (b"x-amz-request-id", b"1"),
        (b"x-amz-id-2", b"2"),
        (b"x-amz-version-id", b"3"),
        (b"x-amz-server-side-encryption-aws-kms-key-id", b"arn"),
        (b"X-Amz-Expiration", b"soon"),
        (b"Server", b"AmazonS3"),
        (b"X-Trans-Id", b"4"),
        (b"Set-Cookie", b"5"),
        (b"X-AMZ-Meta-X-Artifact-Tag", b"tag"),
        (b"X-Amz-Meta-Own", b"own"),
        (b"Date", b"now"),
    ]
    kept, date = from_store(said)
    assert kept == [*said[:4], (b"x-artifact-tag", b"tag"), (b"x-amz-meta-own", b"own"), (b"date", b"now")]
    assert date == b"now"


def test_an_answer_to_a_write_describes_no_body() -> None:
    said = [(b"Content-Type", b"text/html"), (b"ETag", b'"a"'), (b"Date", b"now"), (b"x-amz-meta-a", b"b")]
    assert from_write(said) == ([(b"ETag", b'"a"'), (b"date", b"now")], b"now")


def test_names_that_clients_invent_are_not_remembered() -> None:
    from_store([(b"x-amz-meta-%d" % number, b"") for number in range(1000)])
    assert not [name for name in s3_headers._remembered if name.startswith(b"x-amz-meta-")]
    from_store([(b"x-%d" % number, b"") for number in range(1000)])
    assert len(s3_headers._remembered) <= 256


@pytest.mark.parametrize(
    ("method", "name", "is_unheeded"),
    [
        ("PUT", b"If-Unmodified-Since", True),
        ("PUT", b"if-modified-since", True),
        ("PUT", b"If-None-Match", False),
        ("DELETE", b"If-None-Match", True),
        ("DELETE", b"If-Match", False),
        ("GET", b"If-Unmodified-Since", False),
    ],
)
def test_conditions_that_s3_passes_over(method: str, name: bytes, is_unheeded: bool) -> None:
    assert unheeded(method, [(name, b"x")]) is is_unheeded
