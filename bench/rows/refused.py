"""Refusals: a token with a false signature, and a write by someone who may only read. The store must not see either."""

from bench.load import Expect, render
from bench.peers.base import Running
from bench.process import BenchError
from bench.row import CPU_PER_REQUEST, Bench, KiB, Row, cpu_per_request
from bench.store import FOLDER

UNAUTHORIZED, FORBIDDEN = frozenset({401, 429}), frozenset({403})
"""The sidecar says 429 once one address has sent too many bad tokens; that costs it the same."""


def _bad_token(bench: Bench, running: Running) -> float:
    request = render("GET", bench.store.object(KiB), bench.credentials.forged())
    count = bench.scale.requests
    return cpu_per_request(running, Expect(UNAUTHORIZED), [request] * (count // 10), [request] * count)


def _read_only_write(bench: Bench, running: Running) -> float:
    path = f"/{FOLDER}/refused"
    request = render("PUT", path, bench.credentials.reader, body=bytes(KiB))
    count = bench.scale.connections_opened
    spent = cpu_per_request(running, Expect(FORBIDDEN), [request] * (count // 10), [request] * count)
    if bench.store.file(path).exists():
        raise BenchError("a refused write reached the store")
    return spent


ROWS = (
    Row("refused-token", "refused: forged token, GET", CPU_PER_REQUEST, _bad_token, needs_check=True),
    Row("refused-write", "refused: read-only token, 1 KiB PUT", CPU_PER_REQUEST, _read_only_write, needs_check=True),
)
