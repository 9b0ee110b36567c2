"""Audit files, read back: a line is a record or it is none, whatever somebody wrote there."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.lines import MAX_LINE, lines_of, record_of

LEAST = b'"time":"t","kind":"access","action":"object.read"'


@pytest.mark.parametrize("version", ["sidecar.audit/v1", "sidecar.audit/v2"])
def test_a_record_of_any_version_is_read_as_far_as_it_is_asked_for(version: str) -> None:
    record = record_of(b'{"v":"%b",%b,"more":[1],"changes":{"count":7}}' % (version.encode(), LEAST))
    assert record is not None
    assert (record.v, record.action, record.actor.principal) == (version, "object.read", None)
    assert record.changes is not None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'"sidecar.audit/v1"',
        b'{"v":"sidecar.audit/v1","action":"a"}',
        b'{"v":"sidecar.audit/v1",' + LEAST,
        b'{"v":"sidecar.audit/v1",%b}' % LEAST.replace(b'"t"', b"7"),
        b'{"v":"sidecar.audit/v1",%b}' % LEAST.replace(b'"t"', b'"\xff"'),
        b'{"v":"sidecar.audit/v1",%b,"actor":{"principal":7}}' % LEAST,
        b'{"v":"other/v1",%b}' % LEAST,
        b'{"v":"sidecar.audit/v1",%b,"more":' % LEAST + b"[" * 50_000,
    ],
    ids=range(13),
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert record_of(line) is None


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    assert record_of(line) is None


@given(st.lists(st.binary(max_size=20)))
def test_lines_are_those_of_the_file_without_the_empty_ones(written: list[bytes]) -> None:
    content = b"\n".join(written)
    assert list(lines_of(io.BytesIO(content))) == [line.strip() for line in content.split(b"\n") if line.strip()]


def test_a_line_longer_than_any_record_comes_in_parts() -> None:
    assert [len(part) for part in lines_of(io.BytesIO(b"x" * (2 * MAX_LINE + 3)))] == [MAX_LINE, MAX_LINE, 3]
