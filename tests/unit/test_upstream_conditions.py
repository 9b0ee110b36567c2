"""RFC 9110 §13.2.2 and §14 as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.conditions import (
    Conditions,
    Outcome,
    byte_range,
    evaluate,
    http_date,
    parse_date,
    read_conditions,
)

ETAG = '"current"'
MODIFIED = 784111777
THEN = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"

PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.FAILED


def conditions(**headers: str) -> Conditions:
    return Conditions(**headers)


# What is asked of an object that is there: the headers, then what a GET and what a PUT may do.
STORED = [
    ({}, PROCEED, PROCEED),
    ({"if_match": ETAG}, PROCEED, PROCEED),
    ({"if_match": "*"}, PROCEED, PROCEED),
    ({"if_match": f'"other", {ETAG}'}, PROCEED, PROCEED),
    ({"if_match": '"other"'}, FAILED, FAILED),
    ({"if_match": f"W/{ETAG}"}, FAILED, FAILED),  # the strong comparison
    ({"if_match": "current"}, FAILED, FAILED),
    ({"if_match": ""}, FAILED, FAILED),
    ({"if_none_match": ETAG}, NOT_MODIFIED, FAILED),
    ({"if_none_match": f"W/{ETAG}"}, NOT_MODIFIED, FAILED),  # the weak comparison
    ({"if_none_match": "*"}, NOT_MODIFIED, FAILED),
    ({"if_none_match": " * "}, NOT_MODIFIED, FAILED),
    ({"if_none_match": f'"other" ,, {ETAG}'}, NOT_MODIFIED, FAILED),
    ({"if_none_match": '"other"'}, PROCEED, PROCEED),
    ({"if_none_match": '"a,b", "c"'}, PROCEED, PROCEED),  # a comma may be part of a tag
    ({"if_none_match": "current"}, PROCEED, FAILED),  # no list of tags: a write's guard is not dropped
    ({"if_none_match": '*, "other"'}, PROCEED, FAILED),
    ({"if_none_match": '"open'}, PROCEED, FAILED),
    ({"if_none_match": "X*"}, PROCEED, FAILED),
    ({"if_none_match": 'X"other"'}, PROCEED, FAILED),
    ({"if_match": "X*"}, FAILED, FAILED),
    ({"if_modified_since": BEFORE}, PROCEED, PROCEED),
    ({"if_modified_since": THEN}, NOT_MODIFIED, PROCEED),  # GET and HEAD alone
    ({"if_modified_since": AFTER}, NOT_MODIFIED, PROCEED),
    ({"if_modified_since": "yesterday"}, PROCEED, PROCEED),
    ({"if_unmodified_since": BEFORE}, FAILED, FAILED),
    ({"if_unmodified_since": THEN}, PROCEED, PROCEED),
    ({"if_unmodified_since": AFTER}, PROCEED, PROCEED),
    ({"if_unmodified_since": "yesterday"}, PROCEED, PROCEED),
    # A tag outweighs the date beside it, in either direction.
    ({"if_match": ETAG, "if_unmodified_since": BEFORE}, PROCEED, PROCEED),
    ({"if_match": '"other"', "if_unmodified_since": AFTER}, FAILED, FAILED),
    ({"if_none_match": '"other"', "if_modified_since": AFTER}, PROCEED, PROCEED),
    ({"if_none_match": ETAG, "if_modified_since": BEFORE}, NOT_MODIFIED, FAILED),
    # What asks for the object to be as it was comes before what asks for it to be new.
    ({"if_match": '"other"', "if_none_match": ETAG}, FAILED, FAILED),
    ({"if_match": ETAG, "if_none_match": ETAG}, NOT_MODIFIED, FAILED),
    ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, FAILED, FAILED),
    ({"if_unmodified_since": AFTER, "if_none_match": ETAG}, NOT_MODIFIED, FAILED),
]


@pytest.mark.parametrize(("headers", "get", "put"), STORED)
def test_an_object_that_is_there(headers: dict[str, str], get: Outcome, put: Outcome) -> None:
    asked = conditions(**headers)
    assert evaluate(asked, reads=True, etag=ETAG, modified=MODIFIED) is get
    assert evaluate(asked, reads=False, etag=ETAG, modified=MODIFIED) is put


@pytest.mark.parametrize(
    ("headers", "put"),
    [
        ({}, PROCEED),
        ({"if_none_match": "*"}, PROCEED),
        ({"if_none_match": ETAG}, PROCEED),
        ({"if_none_match": "current"}, FAILED),
        ({"if_match": "*"}, FAILED),
        ({"if_match": ETAG}, FAILED),
        ({"if_unmodified_since": BEFORE}, PROCEED),  # nothing has a date
        ({"if_unmodified_since": "Sun, 06 Nov 1960 08:49:37 GMT"}, PROCEED),
        ({"if_match": ETAG, "if_none_match": "*"}, FAILED),
    ],
)
def test_a_write_where_nothing_is_stored(headers: dict[str, str], put: Outcome) -> None:
    assert evaluate(conditions(**headers), reads=False, etag=None, modified=0) is put


@pytest.mark.parametrize("name", ["if_none_match", "if_modified_since", "if_unmodified_since"])
def test_a_read_where_nothing_is_stored_goes_on_to_its_404(name: str) -> None:
    for text in (ETAG, "*", THEN):
        assert evaluate(conditions(**{name: text}), reads=True, etag=None, modified=0) is PROCEED


@pytest.mark.parametrize(
    ("headers", "guarded"),
    [
        ({}, False),
        ({"if_match": ETAG}, True),
        ({"if_none_match": "*"}, True),
        ({"if_unmodified_since": THEN}, True),
        ({"if_modified_since": THEN}, False),
        ({"range": "bytes=0-1", "if_range": ETAG}, False),
    ],
)
def test_only_what_can_refuse_a_write_costs_it_a_look(headers: dict[str, str], guarded: bool) -> None:
    assert conditions(**headers).guard_writes is guarded


WHOLE, NOTHING = None, range(0)


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=0-9", range(10)),
        ("bytes=9-9", range(9, 10)),
        ("bytes=2-5", range(2, 6)),
        ("bytes=5-", range(5, 10)),
        ("bytes=0-", range(10)),
        ("bytes=5-99", range(5, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-99", range(10)),
        ("BYTES=2-5", range(2, 6)),
        ("bytes= 2-5 ,", range(2, 6)),
        ("bytes=0002-05", range(2, 6)),
        ("bytes=2-" + "9" * 5000, range(2, 10)),
        ("bytes=10-", NOTHING),
        ("bytes=10-12", NOTHING),
        ("bytes=" + "9" * 5000 + "-", NOTHING),
        ("bytes=-0", NOTHING),
        ("bytes=5-2", WHOLE),
        ("bytes=99-98", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes", WHOLE),
        ("bytes=,", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=1-2-3", WHOLE),
        ("bytes=--3", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=1 - 2", WHOLE),
        ("bytes=\u00b2-3", WHOLE),
        ("lines=1-2", WHOLE),
        ("Xbytes=1-2", WHOLE),
        ("bytes=X1-2", WHOLE),
        ("bytes=1-2X", WHOLE),
        ("bytes=0-1,3-4", WHOLE),
        ("bytes=0-1,bytes=3-4", WHOLE),
    ],
)
def test_a_range_of_ten_bytes(asked: str, span: range | None) -> None:
    assert byte_range(conditions(range=asked), etag=ETAG, size=10) == span
    assert (byte_range(conditions(range=asked), etag=ETAG, size=10) is None) is (span is None)


@pytest.mark.parametrize(
    ("asked", "span"), [("bytes=0-", NOTHING), ("bytes=0-0", NOTHING), ("bytes=-1", WHOLE), ("bytes=-0", NOTHING)]
)
def test_a_range_of_an_empty_object(asked: str, span: range | None) -> None:
    assert byte_range(conditions(range=asked), etag=ETAG, size=0) == span


@pytest.mark.parametrize(
    ("if_range", "partial"),
    [
        (ETAG, True),
        (f" {ETAG} ", True),
        ('"other"', False),
        (f"W/{ETAG}", False),
        (THEN, False),
        ("*", False),
        ("", False),
    ],
)
def test_if_range_takes_the_strong_tag_alone(if_range: str, partial: bool) -> None:
    span = byte_range(conditions(range="bytes=0-1", if_range=if_range), etag=ETAG, size=10)
    assert span == (range(2) if partial else None)


@given(first=st.integers(0, 30), last=st.integers(0, 30), size=st.integers(0, 25))
def test_a_range_is_what_python_slices(first: int, last: int, size: int) -> None:
    body = bytes(range(size))
    span = byte_range(conditions(range=f"bytes={first}-{last}"), etag=ETAG, size=size)
    if first <= last:
        assert span is not None
        assert body[span.start : span.stop] == body[first : last + 1]
    else:
        assert span is None


@given(st.text(max_size=40))
def test_no_range_reaches_outside(text: str) -> None:
    span = byte_range(conditions(range="bytes=" + text), etag=ETAG, size=10)
    assert span is None or not span or (0 <= span.start < span.stop <= 10)


@pytest.mark.parametrize("text", [THEN, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", f" {THEN} "])
def test_all_three_forms_of_a_date_are_read(text: str) -> None:
    assert parse_date(text) == MODIFIED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "Sun, 06 Nov 1994",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        f"X{THEN}",
        f"{THEN}X",
    ],
)
def test_what_is_no_date_is_not_guessed(text: str) -> None:
    assert parse_date(text) is None


@given(st.integers(0, 2**37))
def test_a_date_survives_its_text(seconds: int) -> None:
    assert parse_date(http_date(seconds)) == seconds


@pytest.mark.parametrize(
    "name", ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"]
)
def test_each_header_is_read_by_its_name(name: str) -> None:
    assert read_conditions([(name.encode(), b"x")]) == conditions(**{name.lower().replace("-", "_"): "x"})


def test_headers_are_found_in_any_case_and_repeated_lines_are_one_list() -> None:
    found = read_conditions(
        [(b"IF-None-Match", b'"a"'), (b"Host", b"x"), (b"if-none-match", ETAG.encode()), (b"Range", b"bytes=0-1")]
    )
    assert found == conditions(if_none_match=f'"a", {ETAG}', range="bytes=0-1")
    assert evaluate(found, reads=True, etag=ETAG, modified=0) is NOT_MODIFIED
    assert read_conditions([(b"Host", b"x")]) == Conditions()
