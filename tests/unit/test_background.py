"""What runs beside the requests: it goes on through failures, and ends when it is told to."""

import asyncio
import logging
import threading

import pytest

from sidecar.background import Follower, end


async def heard(queue: asyncio.Queue[int]) -> int:
    return await asyncio.wait_for(queue.get(), 20)


class Looks:
    """Counts its calls; the numbers in `bad` fail."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        self.bad = bad
        self.calls = 0
        self.threads: set[int] = set()

    def __call__(self) -> int:
        self.calls += 1
        self.threads.add(threading.get_ident())
        if self.calls in self.bad:
            raise RuntimeError("a bad day")
        return self.calls


async def test_it_looks_in_one_thread_of_its_own_and_publishes_in_the_loop() -> None:
    looks, found, publishing = Looks(), asyncio.Queue[int](), set[int]()

    def publish(number: int) -> None:
        publishing.add(threading.get_ident())
        found.put_nowait(number)

    follower = Follower("thing", look=looks, publish=publish, pause=lambda took: 0.0)
    await follower.start()
    assert [await heard(found) for _ in range(3)] == [1, 2, 3]
    await follower.stop()
    assert publishing == {threading.get_ident()}
    assert len(looks.threads) == 1
    assert looks.threads != publishing


async def test_a_look_that_fails_is_told_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    found = asyncio.Queue[int]()
    follower = Follower("thing", look=Looks(frozenset({1, 3})), publish=found.put_nowait, pause=lambda took: 0.0)
    await follower.start()
    assert [await heard(found) for _ in range(2)] == [2, 4]
    await follower.stop()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["a look at the thing failed; what was found before stands"] * 2


async def test_the_pause_is_told_how_long_the_look_took_and_is_kept() -> None:
    told, asked = [], asyncio.Event()

    def pause(took: float) -> float:
        told.append(took)
        asked.set()
        return 3600.0

    looks, release = Looks(), threading.Event()

    def look() -> int:
        release.wait(20)
        return looks()

    follower = Follower("thing", look=look, publish=lambda number: None, pause=pause)
    began = asyncio.get_running_loop().time()
    await follower.start()
    release.set()
    await asyncio.wait_for(asked.wait(), 20)
    assert 0 < told[0] <= asyncio.get_running_loop().time() - began
    await follower.stop()
    assert looks.calls == 1


async def test_stopping_does_not_wait_for_a_look_that_hangs() -> None:
    release, entered = threading.Event(), threading.Event()

    def look() -> None:
        entered.set()
        release.wait(60)

    follower = Follower("thing", look=look, publish=lambda nothing: None, pause=lambda took: 0.0)
    await follower.start()
    assert await asyncio.to_thread(entered.wait, 5)
    try:
        async with asyncio.timeout(20):
            await follower.stop()
    finally:
        release.set()


async def test_what_was_never_started_can_be_stopped() -> None:
    follower = Follower("thing", look=lambda: 1, publish=lambda number: None, pause=lambda took: 0.0)
    await follower.stop()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_tasks_have_ended_when_end_returns() -> None:
    cleaned = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    await end(*tasks, None)
    assert sorted(cleaned) == [0, 1, 2]
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_had_failed_is_told_and_the_others_still_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("long ago")

    failed, other = asyncio.create_task(fail(), name="the feed"), asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    await end(failed, other)
    assert other.cancelled()
    assert [record.getMessage() for record in caplog.records] == ["the background task the feed had failed"]
    assert caplog.records[0].exc_info is not None
