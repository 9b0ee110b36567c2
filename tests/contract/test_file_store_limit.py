"""The embedded store as a cache: what was used longest ago makes room, and the sums are exact whatever happens."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.upstream.file import FileStore
from sidecar.upstream.file_index import DAMAGED, NAME, Index, Totals, read_totals
from sidecar.upstream.file_layout import Layout
from sidecar.upstream.file_upkeep import Upkeep
from tests.contract.fake_downstream import FakeDownstream, ask
from tests.waiting import until_in_loop as until

ROOT = Path(__file__).parents[2]
KEYS = 10
BODY = bytes(1000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.asynccontextmanager
async def opened(directory: Path, limit: int | None) -> AsyncIterator[FileStore]:
    store = FileStore(directory, max_size=limit)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def put(store: FileStore, key: str, body: bytes = BODY) -> int:
    return (await ask(store, "PUT", f"/{key}", body=body)).status


async def keys_of(store: FileStore) -> str:
    return "".join([key for key in "abcdefghijklmnopqrstuvwxyz" if await store.exists(f"/{key}")])


def on_disk(directory: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in (directory / "objects").rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


def in_index(directory: Path) -> tuple[int, int]:
    with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
        rows = "SELECT count(*), coalesce(sum(bytes), 0) FROM objects"
        count, size, *sums = connection.execute(
            f"SELECT *, (SELECT objects FROM totals), (SELECT bytes FROM totals) FROM ({rows})"
        ).fetchone()
    assert [count, size] == sums, "the sums are what the rows add up to"
    return count, size


@pytest.fixture
async def one(tmp_path: Path) -> int:
    """Bytes on the disk of one object with BODY."""
    async with opened(tmp_path / "probe", None) as store:
        await put(store, "a")
    return on_disk(tmp_path / "probe")[1]


# Which object goes


async def test_what_was_used_longest_ago_makes_room(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        for key in "abc":
            await put(store, key)
        assert (await ask(store, "GET", "/a")).answer == BODY
        assert await put(store, "d") == 201
        assert await keys_of(store) == "acd"
        await ask(store, "HEAD", "/c")
        await put(store, "e")
        assert await keys_of(store) == "cde"


async def test_asking_whether_it_is_there_is_no_use(directory: Path, one: int) -> None:
    async with opened(directory, 2 * one) as store:
        await put(store, "a")
        await put(store, "b")
        assert await store.exists("/a")
        await put(store, "c")
        assert await keys_of(store) == "bc"


async def test_no_more_goes_than_must(directory: Path, one: int) -> None:
    async with opened(directory, 5 * one) as store:
        for key in "abcde":
            await put(store, key)
        await put(store, "f", bytes(1000 + one))
        assert await keys_of(store) == "cdef"
        assert on_disk(directory) == in_index(directory)


async def test_replacing_an_object_in_a_full_store_evicts_nobody(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        for key in "abcaabc":
            await put(store, key)
        assert await keys_of(store) == "abc"


async def test_an_object_that_grows_does_not_make_room_for_itself(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        for key in "abc":
            await put(store, key)
        await put(store, "a", bytes(1500))
        assert await keys_of(store) == "ac"


async def test_the_order_of_uses_survives_a_restart(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        for key in "abc":
            await put(store, key)
        await ask(store, "GET", "/a")
    async with opened(directory, 3 * one) as store:
        await put(store, "d")
        assert await keys_of(store) == "acd"
        totals = read_totals(directory)
        assert totals is not None
        assert (totals.evictions, totals.evicted_bytes) == (1, one)


async def test_a_smaller_limit_is_kept_after_a_restart(directory: Path, one: int) -> None:
    async with opened(directory, 5 * one) as store:
        for key in "abcde":
            await put(store, key)
        await ask(store, "GET", "/a")
    async with opened(directory, 2 * one) as store:
        await until(lambda: on_disk(directory) == (2, 2 * one))
        assert await keys_of(store) == "ae"


# What doesn't fit


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_object_that_can_not_fit_is_refused_and_nobody_goes_for_it(
    directory: Path, one: int, chunked: bool
) -> None:
    async with opened(directory, 3 * one) as store:
        await put(store, "a")
        exchange = FakeDownstream(
            "PUT", "/big", body=[bytes(300_000)] * 4, content_length=None if chunked else 1_200_000
        )
        with pytest.raises(Unavailable, match="max_size") as refusal:
            await store.forward(exchange)
        assert refusal.value.reason is Reason.STORE_FULL
        assert exchange.invited is chunked, "a length that can't fit is refused before the body is invited"
        assert await keys_of(store) == "a"
        assert list((directory / "tmp").iterdir()) == []


async def test_the_description_counts(directory: Path, one: int) -> None:
    async with opened(directory, one - 1) as store:
        with pytest.raises(Unavailable, match="max_size"):
            await put(store, "a")
        assert (on_disk(directory), in_index(directory)) == ((0, 0), (0, 0))
    async with opened(directory, one) as store:
        assert await put(store, "a") == 201


async def test_an_evicted_object_is_read_to_its_end(directory: Path) -> None:
    body = os.urandom(1_000_000)
    async with opened(directory, 1_100_000) as store:
        await put(store, "a", body)
        reader = FakeDownstream("GET", "/a")
        went_on = asyncio.Event()
        drain = reader.drain

        async def slowly() -> None:
            await went_on.wait()
            await drain()

        reader.drain = slowly  # type: ignore[method-assign]
        reading = asyncio.create_task(store.forward(reader))
        await until(lambda: reader.status == 200)
        await put(store, "b", body)
        assert await keys_of(store) == "b"
        went_on.set()
        await reading
        assert reader.answer == body


# Sums


async def test_sums_are_exact_after_every_kind_of_change(directory: Path, one: int) -> None:
    async with opened(directory, 6 * one) as store:
        for round in range(30):
            key = "abcdefghij"[round * 7 % 10]
            match round % 5:
                case 3:
                    await ask(store, "DELETE", f"/{key}")
                case 4:
                    await ask(store, "PUT", f"/{key}", {"If-None-Match": "*"}, body=bytes(round))
                case _:
                    await put(store, key, bytes(round * 50))
            assert on_disk(directory) == in_index(directory)
            assert in_index(directory)[1] <= 6 * one


async def test_many_writers_at_once_keep_the_limit(directory: Path, one: int) -> None:
    async with opened(directory, 5 * one) as store, opened(directory, 5 * one) as other:
        most = 0
        writing = [put((store, other)[number % 2], "abcdefghijklmnopq"[number % 17]) for number in range(200)]
        for done in asyncio.as_completed(writing):
            assert await done in (201, 204)
            most = max(most, in_index(directory)[1])
        assert most <= 5 * one
        assert on_disk(directory) == in_index(directory)
        for key in "vwxyz":  # two that wrote one key at once may have made room twice
            await put(store, key)
        assert on_disk(directory) == in_index(directory) == (5, 5 * one)


CHILD = """
import asyncio, sys
from pathlib import Path
from sidecar.upstream.file import FileStore
from tests.contract.fake_downstream import ask

async def main():
    store = FileStore(Path(sys.argv[1]), max_size=int(sys.argv[2]))
    await store.open()
    number = 0
    while True:
        number += 1
        key = f"/{sys.argv[3]}{number % 40}"
        if number % 5 == 0:
            await ask(store, "DELETE", key)
        else:
            await ask(store, "PUT", key, body=bytes(number % 1000))
        if number == 20:
            print("on its way", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def children(directory: Path, one: int) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def start(name: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", CHILD, str(directory), str(10 * one), name]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.slow
async def test_processes_that_are_killed_leave_exact_sums_and_no_scan_is_needed_for_them(
    directory: Path, one: int, children: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    async with opened(directory, 10 * one) as store:
        assert store.upkeep is not None
        await until(
            lambda: store.upkeep is not None and store.upkeep.totals is not None and store.upkeep.totals.complete
        )
    with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
        connection.execute(
            "CREATE TRIGGER no_scan BEFORE UPDATE OF scanned ON totals BEGIN SELECT RAISE(FAIL, 'a scan'); END"
        )
        connection.commit()
    for round in range(4):
        crowd = [children(f"{round}{name}-") for name in "xy"]
        for child in crowd:
            assert child.stdout is not None
            assert child.stdout.readline() == "on its way\n"
        for child in crowd:
            child.send_signal(signal.SIGKILL)
            child.wait()
        async with opened(directory, 10 * one) as store:
            assert store.index is not None
            await until(lambda: store.index is not None and store.index.pending() == [])
            assert on_disk(directory) == in_index(directory)
            assert on_disk(directory)[1] <= 10 * one


async def test_a_change_that_a_dead_process_announced_is_settled_by_what_is_on_the_disk(
    directory: Path, one: int
) -> None:
    async with opened(directory, 3 * one) as store:
        assert store.index is not None
        for key in "ab":
            await put(store, key)
        digest = store.index.oldest(1)[0].digest
        store.index.begin(digest, 0)  # it was about to remove the first one, and did
        (directory / "objects" / digest.hex()[:2] / digest.hex()[2:]).unlink()
        await until(lambda: in_index(directory) == (1, one))
        assert store.index.pending() == []


# The index is lost, old, or not one


def spoil(directory: Path, how: str) -> None:
    match how:
        case "gone":
            for file in directory.glob(f"{NAME}*"):
                file.unlink()
        case "no database":
            (directory / NAME).write_bytes(b"certainly not a database" * 1000)
            (directory / f"{NAME}-wal").unlink(missing_ok=True)
        case "other tables":
            (directory / NAME).unlink()
            with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
                connection.execute("CREATE TABLE objects(a)")
        case "found damaged":
            (directory / DAMAGED).touch()
        case "empty":
            (directory / NAME).write_bytes(b"")
        case "other boot":
            with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
                connection.execute("UPDATE totals SET boot = 'another', bytes = 0, objects = 0")
                connection.execute("DELETE FROM objects WHERE digest < x'80'")
                connection.execute(
                    "UPDATE totals SET (objects, bytes) = (SELECT count(*), coalesce(sum(bytes), 0) FROM objects)"
                )
                connection.commit()


@pytest.mark.parametrize("how", ["gone", "no database", "other tables", "found damaged", "empty", "other boot"])
async def test_an_index_is_made_anew_from_what_is_there(directory: Path, one: int, how: str) -> None:
    async with opened(directory, 20 * one) as store:
        for key in "abcdefghij":
            await put(store, key)
    spoil(directory, how)
    async with opened(directory, 20 * one) as store:
        assert (await ask(store, "GET", "/a")).answer == BODY
        await until(lambda: in_index(directory) == (10, 10 * one))
        await put(store, "k")
        assert in_index(directory) == on_disk(directory) == (11, 11 * one)


async def test_a_store_without_a_limit_gets_one_later(directory: Path, one: int) -> None:
    async with opened(directory, None) as store:
        for number, key in enumerate("abcde"):
            await put(store, key)
            for file in (directory / "objects").rglob("*"):
                if file.is_file() and file.stat().st_mtime > 1_000_000:
                    os.utime(file, (1000 + number, 1000 + number))
        assert not (directory / NAME).exists()
    async with opened(directory, 3 * one) as store:
        await until(lambda: on_disk(directory) == (3, 3 * one))
        assert await keys_of(store) == "cde", "what was written first goes first"


async def test_a_store_that_loses_its_limit_forgets_its_index(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        await put(store, "a")
    async with opened(directory, None) as store:
        await put(store, "b")
    async with opened(directory, 3 * one):
        await until(lambda: in_index(directory) == (2, 2 * one))


async def test_an_index_that_breaks_under_way_is_a_refusal_and_not_a_wrong_sum(directory: Path, one: int) -> None:
    async with opened(directory, 3 * one) as store:
        await put(store, "a")
        with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
            connection.execute("DROP TABLE pending")
            connection.commit()
        with pytest.raises(Unavailable, match="index") as refusal:
            await put(store, "b")
        assert refusal.value.reason is Reason.UPSTREAM_UNREACHABLE
        assert (await ask(store, "GET", "/a")).status == 200
        assert on_disk(directory) == (1, one)


async def test_the_upkeep_tells_the_sums(directory: Path, one: int) -> None:
    async with opened(directory, 2 * one) as store:
        upkeep = store.upkeep
        assert upkeep is not None
        for key in "abc":
            await put(store, key)
        await until(lambda: upkeep.totals is not None and upkeep.totals.objects == 2)
        assert isinstance(upkeep.totals, Totals)
        assert (upkeep.totals.bytes, upkeep.totals.evictions, upkeep.totals.complete) == (2 * one, 1, True)
        assert abs((upkeep.totals.oldest or 0) / 1e6 - time.time()) < 60


# A million objects


def filled(directory: Path, count: int) -> None:
    """An index of so many objects of 1 GiB each, that are nowhere but in it."""
    index = Index(directory, 2**62)
    layout = Layout(directory, index)
    layout.prepare()
    index.close()
    with contextlib.closing(sqlite3.connect(directory / NAME)) as connection:
        rows = ((os.urandom(32), 2**30, number) for number in range(count))
        connection.executemany("INSERT INTO objects VALUES (?, ?, ?)", rows)
        connection.execute("UPDATE totals SET objects = ?, bytes = ?, scanned = 256", (count, count * 2**30))
        connection.commit()


@pytest.mark.slow
async def test_a_million_objects_never_hold_up_the_event_loop(directory: Path) -> None:
    count = 1_000_000
    filled(directory, count)
    worst, going = 0.0, True

    async def watch() -> None:
        nonlocal worst
        while going:
            before = time.perf_counter()
            cpu = time.thread_time()
            await asyncio.sleep(0.001)
            # CPU that this thread itself spent tells a step of ours from a machine that is busy with something else.
            worst = max(worst, min(time.perf_counter() - before, time.thread_time() - cpu + 0.001))

    watching = asyncio.create_task(watch())
    async with opened(directory, (count - 500) * 2**30) as store:
        began = time.perf_counter()
        for number in range(300):
            assert await put(store, f"key{number}") == 201
            assert (await ask(store, "GET", f"/key{number}")).answer == BODY
        took = time.perf_counter() - began
        await until(lambda: (read_totals(directory) or Totals(0, 0, 0, 0, 0, None)).bytes <= (count - 500) * 2**30)
    going = False
    await watching
    assert worst < 0.020
    assert took / 300 < 0.1, "a write among a million costs what a write costs"


@pytest.mark.slow
def test_looking_through_many_folders_leaves_the_interpreter_to_others(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    index = Index(directory, 2**40)
    layout = Layout(directory, index)
    layout.prepare()
    for number in range(50_000):
        name = os.urandom(31).hex()
        (directory / "objects" / f"{number % 256:02x}" / name).touch()
    upkeep = Upkeep(directory, layout, index)
    longest, stop = 0.0, threading.Event()

    def watch() -> None:
        nonlocal longest
        while not stop.is_set():
            before = time.perf_counter()
            cpu = time.process_time()
            time.sleep(0.001)
            longest = max(longest, min(time.perf_counter() - before, time.process_time() - cpu))

    watching = threading.Thread(target=watch)
    watching.start()
    upkeep.look(rarely=True)
    stop.set()
    watching.join()
    assert upkeep.totals is not None
    assert upkeep.totals.complete
    assert longest < 0.020
    upkeep.stop()
