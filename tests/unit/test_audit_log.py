"""Law 8: strict events wait for a required sink; relaxed ones never wait; what is lost is itself recorded."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.audit import log as log_module
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.sinks import FileSink, StdoutSink
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from tests.waiting import until_in_loop as until

RECORDS = Records(Instance(), b"k" * 32)


def tick(n: int) -> bytes:
    return RECORDS.system("tick", time.time(), changes={"n": n})


class Memory:
    """A sink that can be told to fail or to hang."""

    def __init__(self, name: str = "memory", required: bool = True) -> None:
        self.name = name
        self.required = required
        self.batches: list[tuple[list[bytes], bool]] = []
        self.failing = False
        self.attempts = 0
        self.gate = threading.Event()
        self.gate.set()

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        self.attempts += 1
        self.gate.wait(20)
        if self.failing:
            raise OSError("no")
        self.batches.append((list(lines), durable))

    def close(self) -> None:
        self.gate.set()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for lines, _ in self.batches for line in lines]

    def told(self) -> list[Any]:
        """Ticks as their numbers, gaps as `gap:count`, the rest by name."""
        told: list[Any] = []
        for record in self.records():
            changes = record["changes"] or {}
            told.append(
                changes["n"]
                if "n" in changes
                else f"gap:{changes['count']}"
                if "count" in changes
                else record["action"]
            )
        return told


class Counted:
    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def audit_written(self, sink: str, result: str, count: int, seconds: float) -> None:
        assert seconds >= 0
        self.counts[sink, result] = self.counts.get((sink, result), 0) + count


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def log(memory: Memory, counted: Counted) -> AsyncIterator[AuditLog]:
    made = AuditLog([memory], RECORDS, observer=counted, capacity=4, commit_timeout=20)
    await made.open()
    yield made
    memory.failing = False
    memory.gate.set()
    await made.close()


async def test_the_log_tells_its_start_and_its_stop_and_closing_writes_what_waits(memory: Memory) -> None:
    log = AuditLog([memory], RECORDS)
    await log.open()
    for n in range(10):
        log.put(tick(n))
    await log.close()
    assert memory.told() == ["start", *range(10), "stop"]


async def test_a_commit_returns_after_a_durable_write(log: AuditLog, memory: Memory) -> None:
    await log.commit(tick(1))
    assert memory.told() == ["start", 1]
    assert memory.batches[-1][1] is True


async def test_relaxed_records_come_by_themselves_in_order_and_together(log: AuditLog, memory: Memory) -> None:
    for n in range(3):
        log.put(tick(n))
    assert memory.told() == ["start"]
    await until(lambda: len(memory.told()) == 4)
    assert memory.told() == ["start", 0, 1, 2]
    assert memory.batches[-1][1] is False
    assert len(memory.batches) == 2


async def test_a_commit_takes_the_relaxed_ones_before_it_along(log: AuditLog, memory: Memory) -> None:
    log.put(tick(1))
    await log.commit(tick(2))
    assert memory.told() == ["start", 1, 2]


async def test_a_failing_required_sink_fails_the_commit_and_leaves_a_gap_record(
    log: AuditLog, memory: Memory, counted: Counted
) -> None:
    memory.failing = True
    for n in range(3):
        with pytest.raises(Unavailable) as raised:
            await log.commit(tick(n))
        assert raised.value.reason is Reason.AUDIT_UNAVAILABLE
    assert log.problem() == "memory: no"
    memory.failing = False
    await log.commit(tick(9))
    assert memory.told() == ["start", "gap:3", 9]
    assert counted.counts == {("memory", "ok"): 2, ("memory", "error"): 3}
    assert log.problem() is None


async def test_a_failed_sink_is_tried_again_although_nothing_happens(log: AuditLog, memory: Memory) -> None:
    """A process that isn't ready gets no traffic; without this it would stay so for ever."""
    memory.failing = True
    log.put(tick(0))
    await until(lambda: log.problem() is not None)
    memory.failing = False
    await until(lambda: log.problem() is None)
    assert memory.told() == ["start", "gap:1"]


async def test_a_full_queue_refuses_strict_drops_relaxed_and_is_recorded(
    log: AuditLog, memory: Memory, counted: Counted
) -> None:
    memory.gate.clear()
    stuck = asyncio.ensure_future(log.commit(tick(0)))
    await until(lambda: memory.attempts == 2)  # the writer holds it; the queue is empty again
    for n in range(1, 5):
        log.put(tick(n))
    assert log.depth == 4
    assert log.problem() == "the queue is full"
    log.put(tick(98))
    log.put(tick(99))
    with pytest.raises(Unavailable, match="full"):
        await log.commit(tick(100))
    assert counted.counts["memory", "dropped"] == 3
    memory.gate.set()
    await stuck
    await until(lambda: "gap:3" in memory.told())
    assert memory.told() == ["start", 0, 1, 2, 3, 4, "gap:3"]


async def test_the_queue_is_bounded_in_bytes_too(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CAPACITY_BYTES", 4 * len(tick(0)) + 1)
    log = AuditLog([memory], RECORDS)
    await log.open()
    for n in range(100):
        log.put(tick(n))
    assert log.depth == 5, "one may reach over the bound"
    await until(lambda: log.depth == 0)
    log.put(tick(500))
    await log.close()
    told = memory.told()
    assert told[-2:] == [500, "stop"]
    assert (
        sum(isinstance(entry, int) for entry in told) + sum(int(e[4:]) for e in told if str(e).startswith("gap:"))
        == 101
    )


async def test_a_sinks_failure_is_logged_once_and_so_is_its_recovery(
    log: AuditLog, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.failing = True
    for n in range(3):
        with pytest.raises(Unavailable):
            await log.commit(tick(n))
    memory.failing = False
    await log.commit(tick(3))
    assert [entry.getMessage() for entry in caplog.records] == [
        "the audit sink memory fails: no",
        "the audit sink memory takes records again; 3 are missing",
    ]


async def test_a_sink_that_hangs_is_waited_for_no_longer_than_the_timeout_and_never_by_the_loop(
    log: AuditLog, memory: Memory
) -> None:
    log._commit_timeout = 0.2
    memory.gate.clear()
    began = time.monotonic()
    turned = 0
    stuck = asyncio.ensure_future(log.commit(tick(0)))
    while not stuck.done():
        turned += 1
        await asyncio.sleep(0.01)
    assert 0.15 < time.monotonic() - began < 10.0
    assert turned > 2
    with pytest.raises(Unavailable, match="in time"):
        stuck.result()


async def test_a_client_that_leaves_in_the_middle_of_a_commit_harms_nobody(log: AuditLog, memory: Memory) -> None:
    memory.gate.clear()
    leaving = asyncio.ensure_future(log.commit(tick(1)))
    staying = asyncio.ensure_future(log.commit(tick(2)))
    await until(lambda: memory.attempts == 2)
    leaving.cancel()
    await asyncio.sleep(0)
    memory.gate.set()
    await staying
    assert memory.told() == ["start", 1, 2]


async def test_several_records_are_taken_together_or_their_commit_fails(
    log: AuditLog, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = memory.attempts
    await log.commit(*map(tick, range(100)))
    assert memory.told() == ["start", *range(100)]
    assert memory.attempts == attempts + 1, "not one by one"
    monkeypatch.setattr(log_module, "_BATCH_BYTES", 1)
    write, records = memory.write, [tick(number) for number in (1000, 1001, 1002)]

    def all_but_one(lines: Sequence[bytes], durable: bool) -> None:
        if records[1] in lines:
            raise OSError("no")
        write(lines, durable)

    monkeypatch.setattr(memory, "write", all_but_one)
    with pytest.raises(Unavailable, match="no required sink"):
        await log.commit(*records)


async def test_one_required_sink_is_enough() -> None:
    broken, sound, optional = Memory("broken"), Memory("sound"), Memory("optional", required=False)
    broken.failing = True
    log = AuditLog([optional, broken, sound], RECORDS)
    await log.open()
    await log.commit(tick(1))
    assert sound.told() == ["start", 1]
    assert log.problem() is None
    await log.close()
    assert optional.told() == ["start", 1, "stop"]


async def test_an_optional_sink_does_not_count_as_taken() -> None:
    broken, optional = Memory("broken"), Memory("optional", required=False)
    broken.failing = True
    log = AuditLog([optional, broken], RECORDS)
    with pytest.raises(Unavailable):
        await log.open()
    with pytest.raises(Unavailable):
        await log.commit(tick(1))
    broken.failing = False
    await log.close()


async def test_a_slow_optional_sink_keeps_no_commit_waiting() -> None:
    slow, fast = Memory("slow", required=False), Memory("fast")
    log = AuditLog([slow, fast], RECORDS, commit_timeout=60)
    slow.gate.clear()
    await asyncio.wait_for(log.open(), 20)
    assert fast.told() == ["start"]
    assert slow.told() == []
    slow.gate.set()
    await log.close()
    assert slow.told() == ["start", "stop"]


async def test_without_a_required_sink_strict_is_best_effort() -> None:
    optional = Memory("optional", required=False)
    optional.failing = True
    log = AuditLog([optional], RECORDS)
    await log.open()
    await log.commit(tick(1))
    assert log.problem() is None
    optional.failing = False
    await log.close()


async def test_a_closed_log_takes_no_strict_record(memory: Memory) -> None:
    log = AuditLog([memory], RECORDS)
    with pytest.raises(Unavailable):
        await log.commit(tick(0))
    await log.open()
    await log.close()
    with pytest.raises(Unavailable):
        await log.commit(tick(0))
    log.put(tick(0))
    assert memory.told() == ["start", "stop"]


async def test_a_sink_with_a_bug_does_not_end_the_writer(
    log: AuditLog, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(lines: Sequence[bytes], durable: bool) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(memory, "write", write)
        with pytest.raises(Unavailable):
            await log.commit(tick(0))
    await log.commit(tick(1))
    assert memory.told() == ["start", "gap:1", 1]


async def test_refusals_of_unknown_callers_are_recorded_once_and_then_counted(log: AuditLog, memory: Memory) -> None:
    made = []

    def record() -> bytes:
        made.append(1)
        return tick(7)

    for _ in range(100):
        log.refused_unknown(record, "10.0.0.1")
    assert len(made) == 1
    assert log.suppressed == 99
    await log.close()
    assert memory.told() == ["start", 7, "gap:99", "stop"]
    summary = memory.records()[2]
    assert (summary["action"], summary["changes"]["peer"]) == ("suppressed", "10.0.0.1")


async def test_many_that_wait_share_one_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    path = tmp_path / "audit.jsonl"
    log = AuditLog([FileSink(path, RECORDS, rotate_size=1 << 20, keep=1)], RECORDS)
    await log.open()
    before = synced
    await asyncio.gather(*[log.commit(tick(n)) for n in range(200)])
    assert 1 <= synced - before <= 5
    await log.close()
    assert [r["changes"]["n"] for r in map(json.loads, path.read_text().splitlines()) if r["changes"]] == list(
        range(200)
    )


async def test_rotation_under_load_loses_and_reorders_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog([FileSink(path, RECORDS, rotate_size=20_000, keep=1000)], RECORDS)
    await log.open()
    waiting = []
    for n in range(1000):
        if n % 7 == 0:
            waiting.append(asyncio.ensure_future(log.commit(tick(n))))
            await asyncio.sleep(0)  # its record is queued when the task has begun
        else:
            log.put(tick(n))
    await asyncio.gather(*waiting)
    await log.close()
    files = [*sorted(tmp_path.glob("audit.jsonl.*")), path]
    assert len(files) > 3
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [r["changes"]["n"] for r in records if r["action"] == "tick"] == list(range(1000))


async def test_a_directory_that_is_removed_fails_strict_events_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "log" / "audit.jsonl"
    path.parent.mkdir()
    log = AuditLog([FileSink(path, RECORDS, rotate_size=1 << 20, keep=1)], RECORDS)
    await log.open()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(Unavailable):
        await log.commit(tick(0))
    path.parent.mkdir()
    await log.commit(tick(1))
    await log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["action"] for record in records] == ["gap", "tick", "stop"]
    assert records[0]["changes"]["count"] == 1


async def test_a_pipe_that_nobody_reads_does_not_keep_the_file_waiting(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = tmp_path / "audit.jsonl"
    sinks = [StdoutSink(descriptor=writing, required=False), FileSink(path, RECORDS, rotate_size=1 << 20, keep=1)]
    log = AuditLog(sinks, RECORDS)
    await log.open()
    for n in range(200):
        await log.commit(tick(n))
    await log.close()
    os.close(reading)
    os.close(writing)
    assert len(path.read_text().splitlines()) == 202


WRITER = """
import asyncio, sys, time
from pathlib import Path
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.sinks import FileSink

async def main():
    records = Records(Instance(), b"k" * 32)
    log = AuditLog([FileSink(Path(sys.argv[1]), records, rotate_size=200_000, keep=1000)], records)
    await log.open()
    n = 0
    while True:
        for _ in range(5):
            log.put(records.system("relaxed", time.time()))
        await log.commit(records.system("tick", time.time(), changes={"n": n}))
        print(n, flush=True)
        n += 1

asyncio.run(main())
"""


async def test_after_kill_9_every_acknowledged_record_is_there_and_every_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = -1
    for _ in range(150):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, process.stdout.read().split(b"\n")[:-1])])
    process.wait()
    process.stdout.close()
    log = AuditLog([FileSink(path, RECORDS, rotate_size=1 << 20, keep=1000)], RECORDS)
    await log.open()
    await log.close()
    files = [*sorted(tmp_path.glob("audit.jsonl.*")), path]
    records = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    ticks = [record["changes"]["n"] for record in records if record["action"] == "tick"]
    assert ticks == list(range(len(ticks)))
    assert len(ticks) > acknowledged
    assert [record["action"] for record in records[-2:]] == ["start", "stop"]
