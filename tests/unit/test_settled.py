"""A change counts once two reads 200 ms apart agree (rule 24), whatever the file's times say."""

import os
from pathlib import Path

import pytest
from sidecar.settled import REHASH_SHARE, Settled


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settled(clock: Clock) -> Settled:
    return Settled(1000, 0.2, clock)


def paths(folder: Path) -> dict[str, str]:
    return {path.name: str(path) for path in folder.iterdir()}


def test_a_new_file_counts_after_two_equal_reads(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    assert settled.poll(paths(tmp_path)) == {}
    assert settled.waiting
    clock.now = 0.19
    assert settled.poll(paths(tmp_path)) == {}
    clock.now = 0.2
    assert settled.poll(paths(tmp_path))["a"].content == b"1"
    assert not settled.waiting
    clock.now = 9.0
    assert settled.poll(paths(tmp_path)) == {}


def test_a_file_that_is_still_being_written_waits(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    for tenth in range(10):
        clock.now = tenth / 10
        with (tmp_path / "a").open("a") as file:
            file.write("more\n")
        assert settled.poll(paths(tmp_path)) == {}
    clock.now = 1.1
    assert settled.poll(paths(tmp_path))["a"].content == b"more\n" * 10


def accept(settled: Settled, clock: Clock, folder: Path) -> None:
    settled.poll(paths(folder))
    clock.now += 0.2
    settled.poll(paths(folder))


def test_a_name_that_is_gone_for_a_moment_is_not_gone(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    accept(settled, clock, tmp_path)
    file.rename(tmp_path.parent / "aside")
    assert settled.poll(paths(tmp_path)) == {}
    (tmp_path.parent / "aside").rename(file)
    clock.now += 0.2
    assert settled.poll(paths(tmp_path)) == {}
    file.unlink()
    assert settled.poll(paths(tmp_path)) == {}
    clock.now += 0.2
    gone = settled.poll(paths(tmp_path))["a"]
    assert (gone.content, gone.error) == (None, "")


def test_an_edit_that_is_taken_back_was_none(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    accept(settled, clock, tmp_path)
    (tmp_path / "a").write_text("2")
    settled.poll(paths(tmp_path))
    (tmp_path / "a").write_text("1")
    clock.now += 0.2
    assert settled.poll(paths(tmp_path)) == {}
    assert not settled.waiting


def test_times_are_no_evidence(settled: Settled, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcdefghijklmnopqrstuvwxyz":
        (tmp_path / name).write_text("1")
    accept(settled, clock, tmp_path)
    monkeypatch.setattr("sidecar.settled._signature", lambda path: (1,))
    settled.poll(paths(tmp_path))
    (tmp_path / "q").write_text("2")
    found = {}
    for _ in range(2 * REHASH_SHARE + 2):
        clock.now += 0.2
        found.update(settled.poll(paths(tmp_path)))
    assert {name: reading.content for name, reading in found.items()} == {"q": b"2"}


def test_what_is_no_readable_file_is_said_and_never_waited_for(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "big").write_bytes(b"x" * 1001)
    settled.poll(paths(tmp_path))
    clock.now = 0.2
    found = settled.poll(paths(tmp_path))
    assert {name: reading.content for name, reading in found.items()} == dict.fromkeys(found)
    assert {name: reading.error for name, reading in found.items()} == {
        "fifo": "it is not a regular file",
        "folder": "it is not a regular file",
        "dangling": "No such file or directory",
        "big": "it has more than 1000 bytes",
    }
