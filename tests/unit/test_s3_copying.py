"""A copy says of itself what its source says, and who copied; what can't be said whole stays as it was asked for."""

import pytest

from sidecar import target
from sidecar.model import Head, Headers
from sidecar.s3.copy_source import CopySource
from sidecar.s3.copying import described, source_path
from sidecar.s3.place import Place
from sidecar.s3.request import read
from sidecar.s3.sending import OURS, Sending, sending, signed

MAPPED = Place("bkt", "team/", "real", "x/", "")
SOURCE = [
    (b"ETag", b'"e"'),
    (b"Content-Type", b"text/x-odd"),
    (b"Cache-Control", b"no-store"),
    (b"Content-Length", b"7"),
    (b"x-amz-storage-class", b"GLACIER"),
    (b"X-Amz-Meta-Mine", b"m"),
    (b"x-amz-meta-x-sidecar-provenance", b"{}"),
    (b"x-amz-meta-x-sidecar-provenance-2", b"{}"),
]
COPY = {"x-amz-copy-source": "bkt/team/source"}


def copy(
    headers: dict[str, str] | None = None, source: CopySource | None = None, line: str = "PUT /bkt/team/k"
) -> Sending:
    method, raw = line.split()
    said = {**COPY, **(headers or {})}
    values = {"host": "sidecar", **{name.lower(): value for name, value in said.items()}}
    head = Head(method, target.parse(raw), Headers(values, tuple((n.encode(), v.encode()) for n, v in said.items())))
    return sending(read(head), head, MAPPED, source=source or CopySource("real", "x/source"))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (CopySource("real", "x/source"), "/x/source"),
        (CopySource("real", "x/a b+\u00e9"), "/x/a%20b%2B%C3%A9"),
        (CopySource("real", "x/source", "v-1"), "/x/source?versionId=v-1"),
        (CopySource("other", "x/source"), None),
        (CopySource("real", "x/k"), None),
        (CopySource("real", "x/k", "v-1"), "/x/k?versionId=v-1"),
    ],
)
def test_the_source_that_is_asked_for(source: CopySource, path: str | None) -> None:
    assert source_path(copy(source=source)) == path


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-metadata-directive": "REPLACE"},
        {"x-amz-copy-source-server-side-encryption-customer-key": "k"},
        {"x-amz-copy-source-if-match": '"e"'},
        # S3 passes over this one where a condition on the tag holds
        {"x-amz-copy-source-if-unmodified-since": "Sun, 22 Nov 2026 10:00:00 GMT"},
        {"x-amz-copy-source-if-none-match": '"e"'},
    ],
)
def test_a_copy_that_is_left_as_it_is(headers: dict[str, str]) -> None:
    assert source_path(copy(headers)) is None


def test_only_a_copy_of_a_whole_object_is_described() -> None:
    assert source_path(copy({"x-amz-metadata-directive": "COPY"})) == "/x/source"
    assert source_path(copy(line="PUT /bkt/team/k?partNumber=1&uploadId=u")) is None


def test_a_copy_is_described_as_its_source_and_says_who_copied() -> None:
    ready = copy({"x-amz-metadata-directive": "COPY", "Content-Type": "text/theirs", "x-amz-meta-passed": "over"})
    found = signed(described(ready, SOURCE), lambda room: b"by")
    assert sorted(found.headers) == sorted(
        [
            (b"x-amz-copy-source", b"real/x/source"),
            (b"content-type", b"text/x-odd"),
            (b"cache-control", b"no-store"),
            (b"x-amz-meta-mine", b"m"),
            (b"x-amz-copy-source-if-match", b'"e"'),
            (b"x-amz-metadata-directive", b"REPLACE"),
            (OURS, b"by"),
        ]
    )


@pytest.mark.parametrize(
    "source",
    [
        [],
        [pair for pair in SOURCE if pair[0] != b"ETag"],
        [*SOURCE, (b"x-amz-missing-meta", b"1")],
        [*SOURCE, (b"x-amz-meta-odd", b"\xc3\xa9")],
        [*SOURCE, (b"x-amz-meta-mine", b"twice")],
    ],
)
def test_what_can_not_be_said_whole_is_not_said(source: list[tuple[bytes, bytes]]) -> None:
    ready = copy()
    assert signed(described(ready, source), lambda room: b"by") == ready
