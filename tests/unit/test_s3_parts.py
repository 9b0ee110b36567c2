"""What an upload comes to: said of parts that passed here and of a list that is read in one way, and of nothing else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.s3.multi_delete import NAMESPACE
from sidecar.s3.parts import Listed, Parts, upload

UPLOAD = upload("store", "/bkt/k", "u-1")


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def part(number: int, tag: str, more: str = "") -> str:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{tag}&quot;</ETag>{more}</Part>"


def document(*parts: str, head: str = "", namespace: str = NAMESPACE) -> bytes:
    inner = "".join(parts)
    return f'{head}<CompleteMultipartUpload xmlns="{namespace}">{inner}</CompleteMultipartUpload>'.encode()


def found(body: bytes, at: int = 0, known: dict[int, tuple[str, bytes]] | None = None) -> str | None:
    listed = Listed({1: ("a", sha("one")), 2: ("b", sha("two")), 7: ("c", sha("seven"))} if known is None else known)
    for piece in (body[:at], body[at:]):
        if piece:
            listed.feed(piece)
    return listed.digest()


def composed(*texts: str) -> str:
    return f"sha256-parts:{hashlib.sha256(b''.join(map(sha, texts))).hexdigest()}-{len(texts)}"


WHOLE = document(part(1, "a"), part(2, "b"), part(7, "c"))


@given(st.integers(0, len(WHOLE)))
def test_the_parts_that_are_listed_in_their_order_wherever_the_body_is_cut(at: int) -> None:
    assert found(WHOLE, at) == composed("one", "two", "seven")


@pytest.mark.parametrize(
    "body",
    [
        document(part(1, "a"), part(7, "c")).replace(b"&quot;", b""),
        document(part(1, "a", "<ChecksumSHA256>x</ChecksumSHA256>"), part(7, "c"), namespace=""),
        document(part(1, "a"), "\n  ", part(7, "c"), head='<?xml version="1.0" encoding="UTF-8"?>\n'),
    ],
)
def test_a_part_that_is_not_listed_is_not_counted(body: bytes) -> None:
    assert found(body) == composed("one", "seven")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUpload/>",
        document(),
        WHOLE[:-1],
        WHOLE + b"<more/>",
        document(part(1, "a"), part(2, "other")),
        document(part(1, "a"), part(3, "never sent")),
        document(part(2, "b"), part(1, "a")),
        document(part(1, "a"), part(1, "a")),
        document(part(1, "a").replace(">1<", "> 1<")),
        document(part(1, "a").replace(">1<", ">\u0661<")),
        document(part(1, "a").replace("<ETag>", "<ETag>x</ETag><ETag>")),
        document(part(1, "a"), "text"),
        document("<Part><Part><PartNumber>1</PartNumber></Part></Part>"),
        document("<Part><ETag><b>a</b></ETag><PartNumber>1</PartNumber></Part>"),
        document(part(1, "a", "<!-- -->")),
        document(part(1, "a", "<![CDATA[x]]>")),
        document(part(1, "a", "<?x y?>")),
        document(part(1, "a"), namespace="urn:other"),
        document(part(1, "a").replace("<Part>", '<Part a="b">')),
        document(part(1, "a"), head='<!DOCTYPE x [<!ENTITY e "1">]>'),
        document(part(1, "a"), head='<?xml version="1.0" encoding="ISO-8859-1"?>'),
        document(part(1, "a"), head='<?xml version="1.1"?>'),
        document(part(1, "a", f"<More>{'x' * 2000}</More>")),
        document(part(1, "a"), " " * 5_000_000),
        WHOLE.decode().encode("utf-16"),
        b"<Delete>" + part(1, "a").encode() + b"</Delete>",
    ],
    ids=range(27),
)
def test_whatever_could_be_read_in_another_way_is_not_known(body: bytes) -> None:
    assert found(body) is None
    assert found(body, len(body) // 2) is None


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_no_body_raises(first: bytes, second: bytes) -> None:
    listed = Listed({1: ("", sha("one"))})
    listed.feed(first)
    listed.feed(second)
    assert listed.digest() is None


def test_a_part_that_is_sent_again_takes_the_others_place() -> None:
    parts = Parts()
    parts.add(UPLOAD, 1, "a", sha("one"))
    parts.add(UPLOAD, 1, "z", sha("again"))
    assert parts.of(UPLOAD) == {1: ("z", sha("again"))}
    parts.add(UPLOAD, 1, "z", sha("again"))
    assert parts.of(UPLOAD) == {1: ("z", sha("again"))}


def test_two_bodies_with_one_etag_are_not_told_apart_so_neither_is_known() -> None:
    """Whoever wants to can make two of one MD5, and which of the two the store has isn't to be seen."""
    parts = Parts()
    parts.add(UPLOAD, 1, "a", sha("harmless"))
    parts.add(UPLOAD, 1, "a", sha("harmful"))
    assert found(document(part(1, "a")), known=dict(parts.of(UPLOAD))) is None
    parts.add(UPLOAD, 1, "a", sha("harmless"))
    assert found(document(part(1, "a")), known=dict(parts.of(UPLOAD))) is None


def test_uploads_are_told_apart_and_forgotten() -> None:
    parts = Parts()
    others = [upload("other", "/bkt/k", "u-1"), upload("store", "/bkt/l", "u-1"), upload("store", "/bkt/k", "u-2")]
    for each in others:
        parts.add(each, 1, "a", sha("theirs"))
    assert parts.of(UPLOAD) == {}
    parts.add(UPLOAD, 1, "a", sha("one"))
    parts.forget(UPLOAD)
    parts.forget(UPLOAD)
    assert parts.of(UPLOAD) == {}
    assert [len(parts.of(each)) for each in others] == [1, 1, 1]


def test_memory_is_bounded_and_who_was_not_heard_of_for_longest_goes() -> None:
    parts = Parts(most=4)
    first, second, third = [upload("s", "/k", name) for name in "abc"]
    for number in (1, 2):
        parts.add(first, number, "t", sha("x"))
        parts.add(second, number, "t", sha("x"))
    parts.add(first, 1, "t", sha("x"))  # known already: nothing has to go
    assert [len(parts.of(each)) for each in (first, second)] == [2, 2]
    parts.add(third, 1, "t", sha("x"))
    assert [len(parts.of(each)) for each in (first, second, third)] == [2, 0, 1]
    parts.forget(first)
    for number in (1, 2, 3):
        parts.add(second, number, "t", sha("x"))
    assert [len(parts.of(each)) for each in (second, third)] == [3, 1]
