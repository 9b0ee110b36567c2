"""Many callers: 2,000 known tokens, and one request in twenty with a token that no one has seen before."""

import itertools

from bench.load import Expect, render
from bench.peers.base import OK, Running
from bench.row import CPU_PER_REQUEST, Bench, KiB, Row, cpu_per_request

KNOWN = 2_000
COLD_EVERY = 20


def _tokens(bench: Bench, running: Running) -> float:
    path = bench.store.object(KiB)
    known = [render("GET", path, token) for token in bench.credentials.pool(KNOWN)]
    around = itertools.cycle(known)
    requests = [
        next(around) if at % COLD_EVERY else render("GET", path, bench.credentials.issue("read"))
        for at in range(bench.scale.requests)
    ]
    return cpu_per_request(running, Expect(OK, KiB), known, requests)


ROWS = (Row("tokens", "2,000 tokens, 5 % of requests cold: 1 KiB GET", CPU_PER_REQUEST, _tokens),)
