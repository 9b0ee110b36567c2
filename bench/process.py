"""Programs under measurement: started on a core of their own, measured through `/proc`, stopped with their whole tree.

Law: whatever is started here is gone when `stop()` has returned, and when this process dies without calling it.
`/proc/PID/stat` counts in clock ticks (10 ms on Linux), but the sum of user and system time comes from the scheduler's
exact clock: a measurement of 0.5 s is good to 2 %.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

TICK = 1 / os.sysconf("SC_CLK_TCK")
STOP_DEADLINE = 5.0
SETTLE_DEADLINE = 2.0
SETTLE_PAUSE = 0.05
PR_SET_PDEATHSIG = 1
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps servers, and what an ordinary user's PATH lacks."""

_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """The measurement can't be trusted or can't be made; the message says why."""


class Stat(Struct, frozen=True):
    """What is used of one line of `/proc/PID/stat` (proc(5))."""

    parent: int
    cpu: float
    """Seconds of user and system time, of children that were waited for too."""


def parse_stat(line: str) -> Stat:
    """The second field is the program's name in parentheses and may hold spaces and parentheses itself: read from the last one."""
    fields = line[line.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), cpu=sum(int(ticks) for ticks in fields[11:15]) * TICK)


def parse_peak(status: str) -> int:
    """`VmHWM` of `/proc/PID/status`, in bytes; 0 for what has no memory of its own (a zombie)."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def tree(root: int, parents: Mapping[int, int]) -> list[int]:
    """`root` and all that descend from it; `parents` maps a pid to its parent's."""
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def alive(pid: int) -> bool:
    """False for a zombie too: it holds nothing any more."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def find_program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One program and its workers, on one core; what it says goes to `directory/log`."""

    def __init__(self, name: str, command: Sequence[str], core: int, directory: Path) -> None:
        self.name = name
        self._log = directory / "log"

        def before_exec() -> None:
            os.sched_setaffinity(0, {core})
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal reaches this program alone, which then stops them
                preexec_fn=before_exec,
            )

    def wait_listening(self, port: int, deadline: float = 20.0) -> None:
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self._process.returncode} at its start:\n{self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        raise BenchError(f"{self.name} doesn't listen on port {port} after {deadline:g} s:\n{self.log()}")

    def log(self) -> str:
        """The end of what the program said."""
        return self._log.read_text(errors="replace")[-4000:]

    def pids(self) -> list[int]:
        parents = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended while we were looking
                    parents[int(entry.name)] = parse_stat(Path(entry.path, "stat").read_text()).parent
        return tree(self._process.pid, parents)

    def cpu(self) -> float:
        """Seconds that the whole tree has spent so far."""
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self._process.returncode} under load:\n{self.log()}")
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += parse_stat(Path(f"/proc/{pid}/stat").read_text()).cpu
        return total

    def settled_cpu(self) -> float:
        """`cpu()` once the program has come to rest: what a request leaves behind (records, batches) belongs to its price."""
        until = time.monotonic() + SETTLE_DEADLINE
        before = self.cpu()
        while time.monotonic() < until:
            time.sleep(SETTLE_PAUSE)
            now = self.cpu()
            if now == before:
                break
            before = now
        return before

    def peak_rss(self) -> int:
        """Bytes; the sum of all processes' own peaks, so pages that they share count more than once."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += parse_peak(Path(f"/proc/{pid}/status").read_text())
        return total

    def pause(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the whole tree: ask first, insist after `STOP_DEADLINE`."""
        tree_before = self.pids()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_DEADLINE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + STOP_DEADLINE
        while any(alive(pid) for pid in tree_before) and time.monotonic() < until:
            time.sleep(0.005)
