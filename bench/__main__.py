"""`python -m bench`: one run. The table goes to stdout, progress to stderr, every sample to a JSON file."""

import argparse
import contextlib
import datetime
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench import marks, report
from bench.credentials import Credentials
from bench.load import interrupt
from bench.peers import PEERS
from bench.peers.base import Missing, Peer, Running, start
from bench.peers.sidecar import NAME, stand_in
from bench.process import BenchError
from bench.results import Cell, Results, RowResult, describe_machine, encode
from bench.row import QUICK, Bench, Row, Scale
from bench.rows import ROWS
from bench.store import Store

MEMORY = Path("/dev/shm")
RESULTS = Path("bench/results/latest.json")


class Cores(msgspec.Struct, frozen=True):
    """The proxy has one core to itself; the load and the store share the other, or have one each where there are three."""

    proxy: int
    load: int
    store: int


def choose_cores(usable: Sequence[int]) -> Cores:
    """With a single core all share it: CPU time still counts, only the caches are fought over."""
    load = usable[min(1, len(usable) - 1)]
    return Cores(usable[0], load, usable[2] if len(usable) > 2 else load)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    rows, peers = [row.name for row in ROWS], [peer.name for peer in PEERS]

    def names(known: list[str]) -> Callable[[str], list[str]]:
        def read(text: str) -> list[str]:
            given = text.split(",")
            if unknown := set(given) - set(known):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
            return [name for name in known if name in given]

        return read

    parser = argparse.ArgumentParser(prog="python -m bench", description="The sidecar and its peers, side by side.")
    parser.add_argument("--rows", type=names(rows), default=rows, metavar="A,B", help=f"of: {', '.join(rows)}")
    parser.add_argument("--peers", type=names(peers), default=peers, metavar="A,B", help=f"of: {', '.join(peers)}")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: shows that it works")
    parser.add_argument("--rounds", type=int, help="measurements of each proxy in each row; the median counts")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=RESULTS,
        help="samples, medians, machine, versions (default: %(default)s)",
    )
    parser.add_argument("--check", action="store_true", help="exit 1 unless every mark is reached")
    parser.add_argument(
        "--sidecar",
        metavar="CMD",
        help="another command in the sidecar's place; {config} {port} {store_port} are filled in",
    )
    return parser.parse_args(arguments)


class Run:
    """Everything that is running, and where it lies; closed by `stack`."""

    def __init__(self, stack: contextlib.ExitStack, cores: Cores, scale: Scale) -> None:
        self._stack, self._cores = stack, cores
        fast = MEMORY if os.access(MEMORY, os.W_OK) else None
        if fast is None:
            say(f"{MEMORY} can't be written to: the store's files lie on a disk")
        self._memory, self._disk = self._directory(fast), self._directory(None)
        self.credentials = Credentials(self._memory)
        directory = self._memory / "store"
        directory.mkdir()
        self.store = Store(directory, cores.store)
        stack.callback(self.store.stop)
        self.bench = Bench(self.store, self.credentials, scale)
        os.sched_setaffinity(0, {cores.load})

    def _directory(self, parent: Path | None) -> Path:
        made = tempfile.mkdtemp(prefix="bench-", dir=parent)
        self._stack.callback(shutil.rmtree, made, ignore_errors=True)
        return Path(made)

    def start(self, peer: Peer) -> Running:
        running = start(peer, self._cores.proxy, self._memory, self._disk, self.store, self.credentials)
        self._stack.callback(running.process.stop)
        return running

    def measure(self, row: Row, running: Running) -> float:
        if not row.fresh:
            return row.measure(self.bench, running)
        fresh = self.start(running.peer)
        try:
            return row.measure(self.bench, fresh)
        finally:
            fresh.process.stop()


def measure_row(run: Run, row: Row, started: Sequence[Running], rounds: int) -> RowResult:
    """Rounds are interleaved (A B C A B C), so that whatever drifts on the machine drifts for everybody."""
    samples: dict[str, list[float]] = {running.peer.name: [] for running in started if row.fits(running.peer)}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for running in started:
            name = running.peer.name
            if name not in samples or name in failed:
                continue
            try:
                value = run.measure(row, running)
            except (BenchError, OSError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
                say(f"  {row.name:14} {name:18} FAILED: {failed[name]}")
            else:
                samples[name].append(value)
                say(f"  {row.name:14} {name:18} {report.number(value):>6} {row.unit}")
    cells = {name: Cell(found) for name, found in samples.items() if found and name not in failed}
    return RowResult(row.name, row.title, row.unit, cells, failed)


def measure(options: argparse.Namespace, stack: contextlib.ExitStack) -> Results:
    cores = choose_cores(sorted(os.sched_getaffinity(0)))
    scale = QUICK if options.quick else Scale()
    if options.rounds is not None:
        scale = msgspec.structs.replace(scale, rounds=options.rounds)
    now = datetime.datetime.now(datetime.UTC)
    run = Run(stack, cores, scale)
    results = Results(
        started=now.isoformat(timespec="seconds"),
        machine=describe_machine(cores.proxy, cores.load, cores.store),
        scale=msgspec.structs.asdict(scale),
        titles={},
        versions={},
        missing={},
        rows=[],
    )
    started = []
    for peer in PEERS:
        if peer.name not in options.peers or not any(row.fits(peer) for row in ROWS if row.name in options.rows):
            continue
        if peer.name == NAME and options.sidecar:
            peer = stand_in(options.sidecar)
        try:
            running = run.start(peer)
        except (Missing, BenchError) as error:
            results.missing[peer.name] = str(error)
            say(f"{peer.title} is left out: {error}")
            continue
        started.append(running)
        results.titles[peer.name], results.versions[peer.name] = peer.title, peer.version()
    for row in ROWS:
        if row.name in options.rows:
            say(f"{row.title}")
            results.rows.append(measure_row(run, row, started, scale.rounds))
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 where a row failed, or with `--check` where a mark was missed; 2 where nothing could be measured."""
    options = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        with contextlib.ExitStack() as stack:
            results = measure(options, stack)
    except BenchError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been stopped")
        return 130
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(encode(results))
    sys.stdout.write(report.render(results))
    judgements = [marks.judge(mark, results) for mark in marks.MARKS]
    sys.stdout.write("\n" + marks.render(judgements))
    failed = any(row.failed for row in results.rows)
    missed = options.check and not all(each.passed for each in judgements)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
