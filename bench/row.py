"""What a row is: one kind of load, and the number that it asks of a proxy."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from bench.credentials import Credentials
from bench.load import ClosedLoop, Expect, run
from bench.peers.base import Peer, Running
from bench.store import Store

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30
CONNECTIONS = 32

CPU_PER_REQUEST = "µs CPU per request"
CPU_PER_GIB = "s CPU per GiB"
PEAK = "MiB peak RSS"


class Scale(Struct, frozen=True):
    """How much of everything; a quick run shows that it works and roughly where things stand."""

    requests: int = 20_000
    connections_opened: int = 5_000
    body: int = GiB
    stream: int = 32 * MiB
    rounds: int = 5


QUICK = Scale(requests=4_000, connections_opened=1_500, body=256 * MiB, stream=8 * MiB, rounds=3)


class Bench(Struct, frozen=True):
    """What all rows share."""

    store: Store
    credentials: Credentials
    scale: Scale


class Row(Struct, frozen=True):
    name: str
    title: str
    unit: str
    measure: Callable[[Bench, Running], float]
    """One measurement, in `unit`; less is better. Raises `BenchError` if any answer wasn't as it must be."""
    needs_check: bool = False
    """Only where the proxy verifies tokens."""
    bulk: bool = False
    """Measured for the variants that differ for large bodies, too."""
    fresh: bool = False
    """Each measurement needs a process that has done nothing yet."""
    peers: frozenset[str] = frozenset()
    """Only of these; empty: of all that fit."""

    def fits(self, peer: Peer) -> bool:
        if (peer.only and self.name not in peer.only) or (self.peers and peer.name not in self.peers):
            return False
        return (peer.checks_tokens or not self.needs_check) and (self.bulk or not peer.bulk_only)


def cpu_per_request(
    running: Running,
    expect: Expect,
    warm_up: Sequence[bytes],
    requests: Sequence[bytes],
    *,
    close_each: bool = False,
) -> float:
    """µs of CPU for each of `requests`, over connections that `warm_up` has opened; opening them isn't counted."""
    spent = 0.0

    async def load() -> None:
        nonlocal spent
        loop = ClosedLoop(running.port, CONNECTIONS, expect, close_each=close_each)
        try:
            await loop.run(warm_up)
            before = running.process.settled_cpu()
            await loop.run(requests)
            spent = running.process.settled_cpu() - before
        finally:
            loop.close()

    run(load())
    return spent / len(requests) * 1e6
