"""One token, used over and over: what a busy build agent does."""

from bench.load import Expect, render
from bench.peers.base import OK, Running
from bench.row import CPU_PER_REQUEST, Bench, KiB, Row, cpu_per_request


def _hot(bench: Bench, running: Running) -> float:
    request = render("GET", bench.store.object(KiB), bench.credentials.reader)
    count = bench.scale.requests
    return cpu_per_request(running, Expect(OK, KiB), [request] * (count // 10), [request] * count)


def _connection_each(bench: Bench, running: Running) -> float:
    request = render("GET", bench.store.object(KiB), bench.credentials.reader, close=True)
    count = bench.scale.connections_opened
    warm_up, requests = [request] * (count // 10), [request] * count
    return cpu_per_request(running, Expect(OK, KiB), warm_up, requests, close_each=True)


ROWS = (
    Row("hot", "hot token: 1 KiB GET, keep-alive, 32 connections", CPU_PER_REQUEST, _hot),
    Row("connection", "connection per request: 1 KiB GET", CPU_PER_REQUEST, _connection_each),
)
