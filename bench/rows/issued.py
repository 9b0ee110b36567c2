"""Tokens that the sidecar issued: a hit in the identity cache, and a verification by kind. Each cold request has a token that is no
longer in the cache, so the difference to a hit is what its verification costs.
"""

import itertools
from collections.abc import Callable, Sequence

from bench.load import Expect, render
from bench.peers.base import OK, Running
from bench.peers.issued import BISCUITS, HOSTILE, ISSUED, MILLION, OPAQUE, tokens
from bench.row import CPU_PER_REQUEST, Bench, KiB, Row, cpu_per_request

UNAUTHORIZED = frozenset({401})
JWTS = 300

Found = Callable[[Bench, Running], Sequence[str]]


def _file(name: str) -> Found:
    return lambda bench, running: tokens(bench.credentials.directory / running.peer.name, name)


def _jwts(bench: Bench, running: Running) -> Sequence[str]:
    return bench.credentials.pool(JWTS)


def _row(
    name: str, title: str, found: Found, *, hit: bool = False, hostile: bool = False, million: bool = False
) -> Row:
    def measure(bench: Bench, running: Running) -> float:
        path, known = bench.store.object(KiB), found(bench, running)
        around = itertools.cycle(render("GET", path, token) for token in (known[:1] if hit else known))
        count = bench.scale.requests
        warm_up, requests = ([next(around) for _ in range(each)] for each in (count // 10, count))
        expect = Expect(UNAUTHORIZED) if hostile else Expect(OK, KiB)
        return cpu_per_request(running, expect, warm_up, requests)

    return Row(name, title, CPU_PER_REQUEST, measure, peers=frozenset({ISSUED, MILLION} if million else {ISSUED}))


ROWS = (
    _row("issued", "hot CI token: 1 KiB GET, keep-alive", _file(OPAQUE), hit=True, million=True),
    _row("hit-biscuit", "hot Biscuit: 1 KiB GET, keep-alive", _file(BISCUITS), hit=True),
    _row("cold-token", "cold CI token: looked up in the store", _file(OPAQUE), million=True),
    _row("cold-jwt", "cold JWT, RS256", _jwts),
    _row("cold-biscuit", "cold Biscuit", _file(BISCUITS)),
    _row("hostile-biscuit", "hostile Biscuit: five seconds of work, if it were done", _file(HOSTILE), hostile=True),
)
