"""A change counts once two reads 200 ms apart agree (rule 24), whatever the file's times say."""

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.settled import REHASH_SHARE, FollowedFiles, Reading, Settled


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


def test_of_many_files_those_that_changed_are_read_at_once(settled: Settled, clock: Clock, tmp_path: Path) -> None:
    """Not only when their turn comes."""
    files = [tmp_path / f"{number}" for number in range(3 * REHASH_SHARE)]
    for said in ("1", "of another size"):
        for file in files:
            file.write_text(said)
        assert settled.poll(paths(tmp_path)) == {}
        clock.now += 0.2
        assert settled.poll(paths(tmp_path)).keys() == {file.name for file in files}


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


class Notes(FollowedFiles[dict[str, bytes | None]]):
    """Follows a folder; what it was told of comes as it was told."""

    def __init__(self, folder: Path, settle: float = 0.01) -> None:
        super().__init__("notes", 1000, interval=0.01, settle=settle)
        self.folder = folder
        self.looks = 0
        self.told: asyncio.Queue[dict[str, bytes | None]] = asyncio.Queue()
        self.publishing: set[int] = set()

    def _paths(self) -> Mapping[str, str]:
        self.looks += 1
        return paths(self.folder)

    def _take(self, changed: Mapping[str, Reading]) -> dict[str, bytes | None]:
        return {name: reading.content for name, reading in changed.items()}

    def _publish(self, found: dict[str, bytes | None]) -> None:
        self.publishing.add(threading.get_ident())
        if found:
            self.told.put_nowait(found)


def test_a_cold_start_waits_until_all_files_have_settled(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    notes = Notes(tmp_path)
    notes.load_now()
    assert notes.told.get_nowait() == {"a": b"1", "b": b"2"}
    assert notes.told.empty()


def test_a_cold_start_does_not_wait_where_nothing_is(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.load_now()
    assert (notes.looks, notes.told.empty()) == (1, True)


def test_a_cold_start_goes_on_without_a_file_that_keeps_changing(tmp_path: Path) -> None:
    class Written(Notes):
        def _paths(self) -> Mapping[str, str]:
            (tmp_path / "log").write_text(str(self.looks))
            return super()._paths()

    (tmp_path / "a").write_text("1")
    notes = Written(tmp_path)
    notes.load_now()
    assert notes.told.get_nowait() == {"a": b"1"}


async def test_in_a_loop_a_cold_start_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    notes, meanwhile = Notes(tmp_path, settle=0.2), 0
    loading = asyncio.create_task(notes.load())
    while not loading.done():
        await asyncio.sleep(0.005)
        meanwhile += 1
    assert meanwhile > 1
    assert notes.told.get_nowait() == {"a": b"1"}
    assert notes.publishing == {threading.get_ident()}


async def test_what_changes_later_is_told_and_what_is_gone_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    notes = Notes(tmp_path)
    await notes.load()
    await notes.start()
    try:
        async with asyncio.timeout(20):
            assert await notes.told.get() == {"a": b"1"}
            (tmp_path / "b").write_text("2")
            assert await notes.told.get() == {"b": b"2"}
            (tmp_path / "a").unlink()
            assert await notes.told.get() == {"a": None}
    finally:
        await notes.stop()
    assert notes.publishing == {threading.get_ident()}


def test_a_look_that_takes_long_is_followed_by_a_longer_pause(tmp_path: Path) -> None:
    notes = Notes(tmp_path, settle=0.2)
    assert [notes._pause(took) for took in (0.0, 0.05, 60.0)] == [0.01, 1.0, 2.0]
    (tmp_path / "a").write_text("1")
    notes._look()
    assert notes._pause(60.0) == 0.2
