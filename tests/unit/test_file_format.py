"""An object's file: what is served is what was stored under that name, every byte accounted for."""

import os
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.upstream.file_format import SMALL, Damaged, Meta, Stored, open_object, tail_of

KEY = b"web/a"


def write(path: Path, body: bytes, **more: object) -> bytes:
    meta = Meta(**{"key": KEY, "size": len(body), "etag": '"e"', "modified": 7, **more})  # type: ignore[arg-type]
    raw = body + tail_of(meta)
    path.write_bytes(raw)
    return raw


def opened(path: Path, key: bytes = KEY) -> Stored:
    return open_object(os.open(path, os.O_RDONLY), key)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("size", [0, 1, 1000, SMALL - 100, SMALL, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize("headers", [(), ((b"content-type", b"x" * 5000), (b"x-amz-meta-a", b"\xff"))])
def test_what_was_stored_is_read(tmp_path: Path, size: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    body, before = os.urandom(size), descriptors()
    write(tmp_path / "o", body, headers=headers)
    stored = opened(tmp_path / "o")
    assert stored.meta == Meta(KEY, size, '"e"', 7, headers)
    assert stored.read(0, size + 100) == body
    assert stored.read(size // 2, 10) == body[size // 2 : size // 2 + 10]
    assert stored.read(size, 10) == b""
    stored.close()
    assert descriptors() == before


def test_an_object_that_is_open_stays_what_it_was(tmp_path: Path) -> None:
    body = os.urandom(2 * SMALL)
    write(tmp_path / "o", body)
    stored = opened(tmp_path / "o")
    write(tmp_path / "new", b"other" * SMALL)
    os.replace(tmp_path / "new", tmp_path / "o")
    assert stored.read(0, len(body)) == body
    stored.close()


def test_a_closed_object_reads_nothing_and_closes_twice(tmp_path: Path) -> None:
    write(tmp_path / "o", b"x" * 2 * SMALL)
    stored = opened(tmp_path / "o")
    stored.close()
    with (tmp_path / "o").open("rb"):  # whoever has the descriptor's number now is not read, nor closed
        assert stored.read(0, 10) == b""
        before = descriptors()
        stored.close()
        assert descriptors() == before


def test_an_object_is_served_under_its_own_key_alone(tmp_path: Path) -> None:
    write(tmp_path / "o", b"body")
    for key in (b"web/b", b"", b"web/a/"):
        with pytest.raises(Damaged):
            opened(tmp_path / "o", key)


@pytest.mark.parametrize("size", [10, SMALL + 10])
def test_a_damaged_file_is_never_an_object(tmp_path: Path, size: int) -> None:
    """Cut short, grown, or any byte of its description changed."""
    raw, before = write(tmp_path / "o", b"b" * size), descriptors()
    changed = [raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] for place in range(size, len(raw))]
    cut = [raw[:length] for length in (0, 1, 15, 16, 17, size, len(raw) - 1)]
    for damaged in [*changed, *cut, raw + b"x", b"x" + raw, raw[1:]]:
        (tmp_path / "o").write_bytes(damaged)
        with pytest.raises(Damaged):
            opened(tmp_path / "o")
    assert descriptors() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_whatever_is_in_a_file_it_is_an_object_or_damaged(tmp_path: Path, noise: bytes, with_mark: bool) -> None:
    (tmp_path / "o").write_bytes(noise + (tail_of(Meta(KEY, 0, "", 0))[-8:] if with_mark else b""))
    with pytest.raises(Damaged):
        opened(tmp_path / "o")


def test_a_description_of_a_newer_version_is_readable_and_of_another_shape_is_not(tmp_path: Path) -> None:

    def sealed(description: object) -> bytes:
        packed = msgspec.msgpack.encode(description)
        mark = tail_of(Meta(KEY, 0, "", 0))[-8:]
        return packed + len(packed).to_bytes(4, "big") + zlib.crc32(packed).to_bytes(4, "big") + mark

    (tmp_path / "o").write_bytes(b"ab" + sealed([KEY, 2, "e", 7, [], "a later field"]))
    assert opened(tmp_path / "o").read(0, 2) == b"ab"
    for other in ({"key": KEY}, [KEY], "text", [KEY, "2", "e", 7]):
        (tmp_path / "o").write_bytes(b"ab" + sealed(other))
        with pytest.raises(Damaged):
            opened(tmp_path / "o")
