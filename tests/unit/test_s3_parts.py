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
    known = {1: ("a", sha("one")), 2: ("b", sha("two")), 7: ("c", sha("seven"))} if known is None else known
    listed = Listed()
    for piece in (body[:at], body[at:]):
        if piece:
            listed.feed(piece)
    return listed.digest(known)


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
    listed = Listed()
    listed.feed(first)
    listed.feed(second)
    assert listed.digest({1: ("", sha("one"))}) is None


def add(parts: Parts, upload: bytes, number: int, tag: str, sha256: bytes) -> None:
    """A part that the store took, with no other under way."""
    write = object()
    parts.begin(upload, number, write)
    parts.took(upload, number, write, tag, sha256)


def test_a_part_that_is_sent_again_takes_the_others_place() -> None:
    parts = Parts()
    add(parts, UPLOAD, 1, "a", sha("one"))
    add(parts, UPLOAD, 1, "z", sha("again"))
    assert parts.of(UPLOAD) == {1: ("z", sha("again"))}
    add(parts, UPLOAD, 1, "z", sha("again"))
    assert parts.of(UPLOAD) == {1: ("z", sha("again"))}


def test_what_takes_a_parts_place_ends_what_was_known_of_it_when_it_begins() -> None:
    """Whoever wants to can make two bodies of one MD5, and which of the two the store has isn't to be seen."""
    parts, write = Parts(), object()
    add(parts, UPLOAD, 1, "a", sha("harmless"))
    parts.begin(UPLOAD, 1, write)
    assert parts.of(UPLOAD) == {}
    parts.took(UPLOAD, 1, write, "a", b"")
    assert parts.of(UPLOAD) == {}, "a copy: of what, isn't known"
    add(parts, UPLOAD, 1, "a", sha("harmful"))
    assert parts.of(UPLOAD) == {1: ("a", sha("harmful"))}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_two_that_are_under_way_together_neither_is_known_but_where_they_are_alike(order: str) -> None:
    for second, known in (("harmful", {}), ("harmless", {1: ("t", sha("harmless"))})):
        parts, writes = Parts(), {"a": object(), "b": object()}
        bodies = {"a": sha("harmless"), "b": sha(second)}
        for each in "ab":
            parts.begin(UPLOAD, 1, writes[each])
        for each in order:
            assert parts.of(UPLOAD) == {}
            parts.took(UPLOAD, 1, writes[each], "t", bodies[each])
        assert parts.of(UPLOAD) == known


@pytest.mark.parametrize("first", ["lost", "sent"])
def test_what_was_lost_on_its_way_may_be_there_in_place_of_what_was_not(first: str) -> None:
    for body, known in ((sha("harmful"), {}), (b"", {}), (sha("harmless"), {1: ("a", sha("harmless"))})):
        parts, write = Parts(), object()
        parts.begin(UPLOAD, 1, write)
        if first == "sent":
            add(parts, UPLOAD, 1, "a", sha("harmless"))
        parts.lost(UPLOAD, 1, write, body)
        add(parts, UPLOAD, 1, "a", sha("harmless"))
        assert parts.of(UPLOAD) == known


def test_what_the_store_refused_is_not_there() -> None:
    parts, write = Parts(), object()
    parts.begin(UPLOAD, 1, write)
    parts.refused(UPLOAD, 1, write)
    add(parts, UPLOAD, 1, "a", sha("one"))
    assert parts.of(UPLOAD) == {1: ("a", sha("one"))}


def test_what_was_forgotten_and_ends_after_all_is_held_against_what_came_since() -> None:
    parts, write = Parts(most=1), object()
    parts.begin(UPLOAD, 1, write)
    add(parts, upload("other", "/bkt/k", "u-1"), 1, "t", sha("x"))
    add(parts, UPLOAD, 1, "a", sha("harmless"))
    parts.took(UPLOAD, 1, write, "a", sha("harmful"))
    assert parts.of(UPLOAD) == {}


def test_a_part_that_the_store_alone_can_number_may_be_any() -> None:
    parts = Parts()
    add(parts, UPLOAD, 1, "a", sha("one"))
    parts.doubt(UPLOAD)
    assert parts.of(UPLOAD) == {}
    add(parts, UPLOAD, 1, "a", sha("one"))
    assert parts.of(UPLOAD) == {}


@pytest.mark.parametrize("path", ["/bkt//k", "/bkt/k/", "//bkt/k"])
def test_keys_that_are_one_to_some_stores_have_one_upload(path: str) -> None:
    assert upload("store", path, "u-1") == UPLOAD


def test_uploads_are_told_apart_and_forgotten() -> None:
    parts = Parts()
    others = [upload("other", "/bkt/k", "u-1"), upload("store", "/bkt/l", "u-1"), upload("store", "/bkt/k", "u-2")]
    for each in others:
        add(parts, each, 1, "a", sha("theirs"))
    assert parts.of(UPLOAD) == {}
    add(parts, UPLOAD, 1, "a", sha("one"))
    parts.forget(UPLOAD)
    parts.forget(UPLOAD)
    assert parts.of(UPLOAD) == {}
    assert [len(parts.of(each)) for each in others] == [1, 1, 1]


def test_memory_is_bounded_and_who_was_not_heard_of_for_longest_goes() -> None:
    parts = Parts(most=4)
    first, second, third = [upload("s", "/k", name) for name in "abc"]
    for number in (1, 2):
        add(parts, first, number, "t", sha("x"))
        add(parts, second, number, "t", sha("x"))
    add(parts, first, 1, "t", sha("x"))  # known already: nothing has to go
    assert [len(parts.of(each)) for each in (first, second)] == [2, 2]
    add(parts, third, 1, "t", sha("x"))
    assert [len(parts.of(each)) for each in (first, second, third)] == [2, 0, 1]
    parts.forget(first)
    for number in (1, 2, 3):
        add(parts, second, number, "t", sha("x"))
    assert [len(parts.of(each)) for each in (second, third)] == [3, 1]
