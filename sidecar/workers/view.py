"""What operators see of several workers: one program. The law: it is ready only if each of its workers is."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from sidecar.metrics import Snapshot, encoded, registry_of
from sidecar.server.ops import Result
from sidecar.workers import merge
from sidecar.workers.channel import Report
from sidecar.workers.child import Child

DISAGREEMENT = 5.0
"""Seconds that workers may have different policies: an edit is live within 3 s (rule 24), not at one moment everywhere."""


class View:
    """Give `prepare` to the ops server: its answers are about what the workers said then."""

    def __init__(self, children: Sequence[Child], clock: Callable[[], float] = time.monotonic) -> None:
        self.draining = False
        self._children = children
        self._clock = clock
        self._reports: list[Report | None] = [None] * len(children)
        self._disagreeing_since: float | None = None
        self._registry = registry_of(self._snapshot)
        self._registry.register(merge.Processes(self._pids))

    async def prepare(self, path: str) -> None:
        """Ask all workers at once, for as long as the slowest takes, at most 0.5 s. Liveness asks nobody."""
        if path in ("/readyz", "/metrics"):
            asked = [child.ask(metrics=path == "/metrics") for child in self._children]
            self._reports = await asyncio.gather(*asked)

    def run(self) -> list[Result]:
        """Readiness: each worker's checks under its number, and that all agree about the policy."""
        results = [Result("draining", "shutting down" if self.draining else None, True)]
        for child, report in zip(self._children, self._reports, strict=True):
            name = f"worker {child.index}"
            problem = None if report else _silence(child)
            results.append(Result(name, problem, True))
            results += (
                [Result(f"{name}: {each.name}", each.problem, each.required) for each in report.checks]
                if report
                else []
            )
        results.append(Result("one policy", self._disagreement(), True))
        return results

    def expose(self, accept: str) -> tuple[bytes, str]:
        return encoded(self._registry, accept)

    def _disagreement(self) -> str | None:
        now = self._clock()
        if len({report.policy for report in self._reports if report}) <= 1:
            self._disagreeing_since = None
            return None
        since = self._disagreeing_since = now if self._disagreeing_since is None else self._disagreeing_since
        return "the workers have different policies in force" if now - since > DISAGREEMENT else None

    def _snapshot(self) -> Snapshot:
        live = [report.metrics for report in self._reports if report and report.metrics is not None]
        snapshot = merge.merged(live, merge.summed(child.counted for child in self._children))
        snapshot["worker_up"] = {
            (str(child.index),): (float(report is not None),)
            for child, report in zip(self._children, self._reports, strict=True)
        }
        return snapshot

    def _pids(self) -> list[int]:
        return [os.getpid(), *(child.pid for child in self._children if child.pid is not None)]


def _silence(child: Child) -> str:
    """Why nothing was heard of it."""
    if not child.came_up:
        return "starting"
    return "it does not answer" if child.pid else "it is not running"
