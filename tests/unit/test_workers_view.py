"""Operators see several workers as one program, which is ready only if each of them is."""

import pytest

from sidecar.metrics import Metrics, Snapshot
from sidecar.server.ops import Result
from sidecar.workers import view
from sidecar.workers.channel import Report
from sidecar.workers.view import View


class Worker:
    """What `View` asks of a `Child`."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid: int | None = None
        self.came_up = True
        self.report: Report | None = Report(1, (Result("audit", None, True),), "abc")
        self.counted: Snapshot = {}
        self.asked: list[bool] = []

    async def ask(self, *, metrics: bool) -> Report | None:
        self.asked.append(metrics)
        return self.report


class Rig:
    def __init__(self) -> None:
        self.now = 100.0
        self.workers = [Worker(0), Worker(1)]
        self.view = View(self.workers, clock=lambda: self.now)  # type: ignore[arg-type]

    async def problems(self) -> dict[str, str]:
        await self.view.prepare("/readyz")
        return {result.name: result.problem for result in self.view.run() if result.problem is not None}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_ready_is_when_all_are(rig: Rig) -> None:
    assert await rig.problems() == {}
    assert [(result.name, result.required) for result in rig.view.run()] == [
        ("draining", True),
        ("worker 0", True),
        ("worker 0: audit", True),
        ("worker 1", True),
        ("worker 1: audit", True),
        ("one policy", True),
    ]


async def test_a_worker_s_checks_stand_under_its_number(rig: Rig) -> None:
    rig.workers[1].report = Report(
        1, (Result("audit", "the disk is full", True), Result("directory", "stale", False)), "abc"
    )
    assert await rig.problems() == {"worker 1: audit": "the disk is full", "worker 1: directory": "stale"}
    assert {result.name: result.required for result in rig.view.run()}["worker 1: directory"] is False


async def test_a_worker_that_says_nothing_makes_all_unready(rig: Rig) -> None:
    rig.workers[0].report = None
    assert await rig.problems() == {"worker 0": "it is not running"}
    rig.workers[0].pid = 1
    assert await rig.problems() == {"worker 0": "it does not answer"}


@pytest.mark.parametrize("pid", [None, 1])
async def test_a_worker_that_was_never_up_is_starting(rig: Rig, pid: int | None) -> None:
    rig.workers[0].report, rig.workers[0].came_up, rig.workers[0].pid = None, False, pid
    assert await rig.problems() == {"worker 0": "starting"}


async def test_before_the_first_question_nothing_is_ready(rig: Rig) -> None:
    assert [result.name for result in rig.view.run() if result.problem] == ["worker 0", "worker 1"]


async def test_draining_is_not_ready(rig: Rig) -> None:
    rig.view.draining = True
    assert await rig.problems() == {"draining": "shutting down"}


async def test_workers_may_differ_while_an_edit_spreads_and_not_for_longer(rig: Rig) -> None:
    rig.workers[1].report = Report(1, (), "def")
    assert await rig.problems() == {}
    rig.now += view.DISAGREEMENT
    assert await rig.problems() == {}
    rig.now += 0.1
    assert list(await rig.problems()) == ["one policy"]
    rig.workers[0].report = Report(1, (), "def")
    assert await rig.problems() == {}
    rig.workers[0].report = Report(1, (), "abc")
    assert await rig.problems() == {}


async def test_numbers_are_asked_for_only_by_a_scrape_and_liveness_asks_nobody(rig: Rig) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        await rig.view.prepare(path)
    assert rig.workers[0].asked == [False, True]


async def test_a_scrape_shows_who_answered_and_keeps_what_the_others_counted(rig: Rig) -> None:
    numbers = Metrics().snapshot()
    numbers["requests_in_flight"] = {(): (2.0,)}
    rig.workers[0].report = Report(1, (), "abc", numbers)
    rig.workers[0].counted = {"identity_cache_hits_total": {(): (3.0,)}}
    rig.workers[1].report = None
    rig.workers[1].counted = {"identity_cache_hits_total": {(): (4.0,)}}
    await rig.view.prepare("/metrics")
    body, content_type = rig.view.expose("")
    lines = body.decode().splitlines()
    assert content_type.startswith("text/plain")
    assert "sidecar_identity_cache_hits_total 7.0" in lines
    assert "sidecar_requests_in_flight 2.0" in lines
    assert 'sidecar_worker_up{worker="0"} 1.0' in lines
    assert 'sidecar_worker_up{worker="1"} 0.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
