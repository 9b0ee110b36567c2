"""What a run found: values that go to a JSON file and come back from it."""

import os
import platform
import statistics
from pathlib import Path

import msgspec
from msgspec import Struct

SCHEMA = "sidecar.bench/v1"


class Cell(Struct, frozen=True):
    """One proxy in one row, in the row's unit."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class RowResult(Struct):
    name: str
    title: str
    unit: str
    cells: dict[str, Cell]
    """By the peer's name; who isn't here wasn't measured in this row."""
    failed: dict[str, str] = {}
    """Peers whose answers weren't as they must be, and why: no number is given for them."""

    def median(self, peer: str) -> float | None:
        cell = self.cells.get(peer)
        return None if cell is None else cell.median


class Results(Struct):
    started: str
    """UTC, ISO 8601."""
    machine: dict[str, str]
    scale: dict[str, int]
    titles: dict[str, str]
    versions: dict[str, str]
    missing: dict[str, str]
    """Peers that aren't installed here."""
    rows: list[RowResult]
    schema: str = SCHEMA

    def row(self, name: str) -> RowResult | None:
        return next((row for row in self.rows if row.name == name), None)


class _CellOnFile(Struct):
    median: float
    min: float
    max: float
    samples: list[float]


def encode(results: Results) -> bytes:
    """JSON for people and programs; medians, least and greatest are written out beside the samples they come from."""
    document = msgspec.to_builtins(results)
    for row, found in zip(document["rows"], results.rows, strict=True):
        row["cells"] = {
            peer: msgspec.to_builtins(_CellOnFile(cell.median, min(cell.samples), max(cell.samples), cell.samples))
            for peer, cell in found.cells.items()
        }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(text: bytes) -> Results:
    """Raises `msgspec.ValidationError` for what isn't a results file."""
    return msgspec.json.decode(text, type=Results)


def describe_machine(proxy_core: int, load_core: int, store_core: int) -> dict[str, str]:
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "cpu": cpu,
        "cores": f"{os.cpu_count()}; proxy on {proxy_core}, load on {load_core}, store on {store_core}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
