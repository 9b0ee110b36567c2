"""Blocking steps on threads of their own."""

import asyncio
import gc
import threading
import weakref

import pytest

from sidecar.upstream.file_threads import Threads


class Thing:
    """Something that a weak reference can point to."""


async def test_results_and_exceptions_come_back_to_who_asked() -> None:
    threads = Threads(3, "test")
    asked = [threads.run(divmod, number, 7) for number in range(500)]
    bad = threads.run(divmod, 1, 0)
    assert await asyncio.gather(*asked) == [divmod(number, 7) for number in range(500)]
    with pytest.raises(ZeroDivisionError):
        await bad
    assert await threads.run(threading.current_thread) is not threading.current_thread()
    await threads.stop()


async def test_what_is_cancelled_in_time_never_runs() -> None:
    threads, go, ran = Threads(1, "test"), threading.Event(), list[int]()
    first = threads.run(go.wait, 10)
    cancelled, after = threads.run(ran.append, 1), threads.run(ran.append, 2)
    cancelled.cancel()
    go.set()
    assert await first
    await after
    assert ran == [2]
    await threads.stop()


async def test_what_is_cancelled_too_late_runs_to_its_end_and_is_dropped() -> None:
    threads, started, go, ended = Threads(1, "test"), threading.Event(), threading.Event(), list[bool]()

    def step() -> None:
        started.set()
        ended.append(go.wait(20))
        raise ValueError("nobody hears it")

    late = threads.run(step)
    await asyncio.to_thread(started.wait, 10)
    late.cancel()
    go.set()
    assert await threads.run(len, ended) == 1
    assert late.cancelled()
    await threads.stop()


async def test_an_idle_thread_holds_on_to_nothing() -> None:
    threads = Threads(1, "test")
    thing = Thing()
    seen = weakref.ref(thing)
    gc.disable()  # a reference that only the collector would find counts as held
    try:
        assert await threads.run(lambda given: given, thing) is thing
        with pytest.raises(TypeError):
            await threads.run(lambda given: int(given), thing)
        del thing
        assert await threads.run(int) == 0
        assert seen() is None
    finally:
        gc.enable()
    await threads.stop()


async def test_stopping_waits_for_what_was_asked_and_a_new_step_starts_again() -> None:
    threads, done = Threads(2, "stopped"), list[int]()
    for number in range(50):
        threads.run(done.append, number)
    await threads.stop()
    assert sorted(done) == list(range(50))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stopped")]
    assert await threads.run(int) == 0
    await threads.stop()


async def test_threads_that_never_had_a_step_need_none_to_stop() -> None:
    await Threads(2, "idle").stop()
