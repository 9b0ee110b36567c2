"""An S3 client in front of a bucket: each request is verified, judged, and signed anew. No two in a row have the same signature."""

import itertools
import time

from bench.load import Expect, download
from bench.peers.base import OK, Running
from bench.peers.s3_client import KEY, S3_CLIENT, SIGNED, SIGNED_GET
from bench.row import CPU_PER_GIB, CPU_PER_REQUEST, Bench, GiB, KiB, Row, cpu_per_request
from sidecar.model import Secret
from sidecar.sigv4 import EMPTY_SHA256, Signer

HOST = "proxy.example"
SECONDS = 300
"""So many signatures, each of another second; all of them hold for a quarter of an hour."""


def _signed(bench: Bench, running: Running, path: str) -> list[bytes]:
    key_id, secret = (bench.credentials.directory / running.peer.name / KEY).read_text().split()
    signer, now = Signer(key_id, Secret(secret), "us-east-1"), time.time()
    requests = []
    for second in range(SECONDS):
        lines = signer.sign("GET", path, "", (), now - second, host=HOST, payload=EMPTY_SHA256)
        head = [f"GET {path} HTTP/1.1".encode(), f"Host: {HOST}".encode(), b"User-Agent: bench", b"Accept: */*"]
        requests.append(b"\r\n".join([*head, *map(b": ".join, lines), b"", b""]))
    return requests


def _small(bench: Bench, running: Running) -> float:
    around = itertools.cycle(_signed(bench, running, bench.store.object(KiB)))
    count = bench.scale.requests
    warm_up, requests = ([next(around) for _ in range(each)] for each in (count // 10, count))
    return cpu_per_request(running, Expect(OK, KiB), warm_up, requests)


def _bulk(bench: Bench, running: Running) -> float:
    size = bench.scale.body
    request = _signed(bench, running, bench.store.object(size))[0]
    before = running.process.settled_cpu()
    download(running.port, request, Expect(OK, size))
    return (running.process.settled_cpu() - before) / (size / GiB)


ROWS = (
    Row(SIGNED, "S3 client: signed 1 KiB GET, keep-alive", CPU_PER_REQUEST, _small, peers=frozenset({S3_CLIENT})),
    Row(SIGNED_GET, "S3 client: signed bulk GET", CPU_PER_GIB, _bulk, peers=frozenset({S3_CLIENT})),
)
