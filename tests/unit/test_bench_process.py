"""Reading `/proc`, and leaving nothing behind."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.process import TICK, BenchError, Process, alive, free_port, parse_peak, parse_stat, tree

STAT = "{pid} ({name}) S {parent} 7 7 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 900 1000 100"


@pytest.mark.parametrize("name", ["nginx", "nginx: worker", "a) S 1 (b", "((", ")"])
def test_a_stat_line_is_read_behind_whatever_the_program_calls_itself(name: str) -> None:
    stat = parse_stat(STAT.format(pid=70, name=name, parent=5))
    assert stat.parent == 5
    assert stat.cpu == pytest.approx((11 + 22 + 33 + 44) * TICK), "own time and that of children waited for"


def test_the_peak_is_in_bytes_and_nothing_for_a_zombie() -> None:
    assert parse_peak("Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t   12 kB\nVmRSS:\t   10 kB\n") == 12 * 1024
    assert parse_peak("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_a_tree_holds_grandchildren_and_no_strangers() -> None:
    assert sorted(tree(10, {10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20})) == [10, 11, 12, 13]


FORKS = """
import os, sys, time, pathlib
if os.fork() == 0:
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
end = time.process_time() + 0.1
while time.process_time() < end: pass
time.sleep(600)
"""


def eventually(what: Callable[[], object], deadline: float = 10.0) -> None:
    until = time.monotonic() + deadline
    while not what():
        assert time.monotonic() < until, "it didn't come true in time"
        time.sleep(0.01)


def test_cpu_and_memory_count_the_whole_tree_and_stopping_ends_it(tmp_path: Path) -> None:
    note = tmp_path / "child"
    process = Process("forks", [sys.executable, "-c", FORKS, str(note)], min(os.sched_getaffinity(0)), tmp_path)
    try:
        eventually(lambda: note.exists() and note.read_text())
        child = int(note.read_text())
        eventually(lambda: process.cpu() >= 0.2)
        assert child in process.pids()
        assert alive(child)
        assert process.peak_rss() > parse_peak(Path(f"/proc/{child}/status").read_text()) > 0
    finally:
        process.stop()
    assert not alive(child)


def test_a_program_that_ends_at_its_start_is_reported_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    process = Process("broken", command, min(os.sched_getaffinity(0)), tmp_path)
    try:
        with pytest.raises(BenchError, match="no such option"):
            process.wait_listening(free_port())
        with pytest.raises(BenchError, match="under load"):
            process.cpu()
    finally:
        process.stop()
