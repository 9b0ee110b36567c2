"""Audit files, read back: a line is a record or it is none, whatever somebody wrote there."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from sidecar.audit.lines import MAX_LINE, RecordReader, lines_of


class Shape(Struct):
    v: str
    action: str
    note: str | None = None


READER = RecordReader(Shape)


@pytest.mark.parametrize("version", ["sidecar.audit/v1", "sidecar.audit/v2"])
def test_a_record_of_any_version_is_read_as_far_as_it_is_asked_for(version: str) -> None:
    record = READER.read(b'{"v":"%b","action":"object.read","more":[1]}' % version.encode())
    assert record == Shape(version, "object.read")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'"sidecar.audit/v1"',
        b'{"v":"sidecar.audit/v1","action":"a"',
        b'{"v":"sidecar.audit/v1","action":7}',
        b'{"v":"sidecar.audit/v1","action":"\xff"}',
        b'{"v":"other/v1","action":"a"}',
        b'{"v":"sidecar.audit/v1","action":"a","more":' + b"[" * 50_000,
    ],
    ids=range(11),
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert READER.read(line) is None


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    assert READER.read(line) is None


@given(st.lists(st.binary(max_size=20)))
def test_lines_are_those_of_the_file_without_the_empty_ones(written: list[bytes]) -> None:
    content = b"\n".join(written)
    assert list(lines_of(io.BytesIO(content))) == [line.strip() for line in content.split(b"\n") if line.strip()]


def test_a_line_longer_than_any_record_comes_in_parts() -> None:
    assert [len(part) for part in lines_of(io.BytesIO(b"x" * (2 * MAX_LINE + 3)))] == [MAX_LINE, MAX_LINE, 3]
