"""Whole lines, in order, in files that rotate; a sink that fails says so, takes nothing by halves, and recovers by itself."""

import errno
import json
import os
import resource
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.sinks import FileSink, StdoutSink

RECORDS = Records(Instance(), b"k" * 32)


def numbered(first: int, count: int) -> list[bytes]:
    return [RECORDS.system("tick", 1000.0, changes={"n": n}) for n in range(first, first + count)]


def read(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def ticks(path: Path) -> list[int]:
    return [record["changes"]["n"] for record in read(path) if record["action"] == "tick"]


def rotated(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name + ".*"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@pytest.fixture
def sink(path: Path) -> Iterator[FileSink]:
    path.parent.mkdir()
    made = FileSink(path, RECORDS, rotate_size=8000, keep=3)
    yield made
    made.close()


def test_the_file_is_the_owners_alone(sink: FileSink, path: Path) -> None:
    sink.write(numbered(0, 1), True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_loses_and_reorders_nothing(path: Path) -> None:
    path.parent.mkdir()
    sink = FileSink(path, RECORDS, rotate_size=4000, keep=1000)
    for n in range(0, 60, 2):
        sink.write(numbered(n, 2), n % 4 == 0)
    files = [*rotated(path), path]
    assert len(files) > 5
    assert [n for file in files for n in ticks(file)] == list(range(60))
    assert all(file.stat().st_size <= 4000 + 1000 for file in files)
    headers = [read(file)[0] for file in files[1:]]
    assert [header["action"] for header in headers] == ["rotate"] * len(headers)
    assert [header["changes"]["previous"] for header in headers] == [file.name for file in files[:-1]]


def test_only_so_many_rotated_files_are_kept_and_the_newest(sink: FileSink, path: Path) -> None:
    (path.parent / "audit.jsonl.old").write_text("not ours")
    for n in range(40):
        sink.write(numbered(n, 1), False)
    ours = [file for file in rotated(path) if file.suffix != ".old"]
    assert len(ours) == 3
    kept = [n for file in [*ours, path] for n in ticks(file)]
    assert kept == list(range(kept[0], 40))
    assert (path.parent / "audit.jsonl.old").exists()


def test_opening_again_appends(sink: FileSink, path: Path) -> None:
    sink.write(numbered(0, 1), True)
    sink.close()
    again = FileSink(path, RECORDS, rotate_size=8000, keep=3)
    again.write(numbered(1, 1), True)
    assert ticks(path) == [0, 1]


@pytest.mark.parametrize("cut", [2, 5, 20, 200, 800])
def test_a_torn_last_line_becomes_a_record_of_its_own(path: Path, sink: FileSink, cut: int) -> None:
    sink.write(numbered(0, 3), True)
    sink.close()
    os.truncate(path, path.stat().st_size - cut)
    torn = path.read_bytes().rsplit(b"\n", 1)[1].decode()
    sink.write(numbered(3, 1), True)
    assert ticks(path) == [0, 1, 3]
    assert [record["changes"]["fragment"] for record in read(path) if record["action"] == "torn"] == [torn]


def test_a_record_that_only_lacks_its_newline_stays_a_record(path: Path, sink: FileSink) -> None:
    sink.write(numbered(0, 2), True)
    sink.close()
    os.truncate(path, path.stat().st_size - 1)
    sink.write(numbered(2, 1), True)
    assert ticks(path) == [0, 1, 2]


def test_zeros_that_a_power_failure_left_are_taken_out(path: Path, sink: FileSink) -> None:
    sink.write(numbered(0, 1), True)
    sink.close()
    with path.open("ab") as file:
        file.write(bytes(100))
    sink.write(numbered(1, 1), True)
    assert ticks(path) == [0, 1]


def test_what_is_not_ours_is_never_cut(path: Path, sink: FileSink) -> None:
    path.write_bytes(b"somebody's notes, without a last newline")
    sink.write(numbered(0, 1), True)
    assert path.read_bytes().startswith(b"somebody's notes, without a last newline\n{")


def test_a_file_moved_away_is_made_anew(path: Path, sink: FileSink) -> None:
    sink.write(numbered(0, 1), True)
    path.rename(path.with_name("moved"))
    sink.write(numbered(1, 1), True)
    assert (ticks(path.with_name("moved")), ticks(path)) == ([0], [1])


def test_a_file_put_in_its_place_is_the_one_that_is_written(path: Path, sink: FileSink) -> None:
    sink.write(numbered(0, 1), True)
    path.rename(path.with_name("moved"))
    path.touch()
    sink.write(numbered(1, 1), True)
    assert (ticks(path.with_name("moved")), ticks(path)) == ([0], [1])


def test_a_removed_directory_is_a_failure_until_it_is_back(path: Path, sink: FileSink) -> None:
    sink.write(numbered(0, 1), True)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(OSError):
        sink.write(numbered(1, 1), True)
    path.parent.mkdir()
    sink.write(numbered(2, 1), True)
    assert ticks(path) == [2]


def test_a_fifo_in_the_files_place_is_refused_without_hanging(path: Path, sink: FileSink) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError):
        sink.write(numbered(0, 1), True)


@pytest.mark.parametrize("room", [0, 1, 400, 900])
def test_a_full_disk_leaves_no_half_batch(
    path: Path, sink: FileSink, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.write(numbered(0, 1), True)
    real_write, left = os.write, room

    def write(descriptor: int, data: Any) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "no space left on device")
        written = real_write(descriptor, bytes(data[:left]))
        left -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="no space"):
        sink.write(numbered(1, 2), True)
    monkeypatch.setattr(os, "write", real_write)
    assert ticks(path) == [0]
    sink.write(numbered(3, 1), True)
    assert ticks(path) == [0, 3]


def test_what_the_kernel_refuses_in_the_middle_of_a_batch_is_taken_back(path: Path, sink: FileSink) -> None:
    """The file size limit stands for a full disk: write(2) takes what fits, then refuses."""
    sink.write(numbered(0, 1), True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(numbered(1, 3), True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ticks(path) == [0]
    sink.write(numbered(4, 1), True)
    assert ticks(path) == [0, 4]


def test_a_batch_that_could_not_be_synced_was_not_taken(
    path: Path, sink: FileSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.write(numbered(0, 1), True)

    def fdatasync(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(OSError, match="input/output"):
            sink.write(numbered(1, 1), True)
    sink.write(numbered(2, 1), True)
    assert ticks(path) == [0, 2]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_stdout_marks_its_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = StdoutSink(descriptor=writing)
    sink.write(numbered(0, 2), True)
    lines = os.read(reading, 65536).splitlines()
    assert all(line.startswith(b'{"log":"audit","v":"sidecar.audit/v1",') for line in lines)
    assert [json.loads(line)["changes"]["n"] for line in lines] == [0, 1]
    sink.close()


def test_a_pipe_that_nobody_reads_costs_its_patience_once_and_keeps_lines_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    patience = 1.0
    sink = StdoutSink(descriptor=writing, patience=patience)
    with pytest.raises(TimeoutError):
        sink.write(numbered(0, 300), True)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            sink.write(numbered(1000, 1), True)
    assert time.monotonic() - began < patience, "twenty together"
    assert os.get_blocking(writing)  # whoever shares the descriptor keeps its mode
    received = os.read(reading, 1 << 20)
    sink.write(numbered(2000, 1), True)
    received += os.read(reading, 1 << 20)
    assert received.endswith(b"\n")
    seen = [json.loads(line)["changes"]["n"] for line in received.splitlines()]
    assert seen == [*range(len(seen) - 1), 2000]
    sink.close()


def test_a_closed_pipe_is_a_failure(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    sink = StdoutSink(descriptor=writing)
    own = os.dup(reading)
    os.dup2(os.open(os.devnull, os.O_RDONLY), reading)
    os.close(own)
    with pytest.raises(BrokenPipeError):
        sink.write(numbered(0, 1), True)
    sink.close()
