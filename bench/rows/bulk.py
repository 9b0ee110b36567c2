"""One large body over one connection, either way."""

from bench.load import Expect, download, render, upload
from bench.peers.base import OK, Running
from bench.process import BenchError
from bench.row import CPU_PER_GIB, Bench, GiB, Row
from bench.store import FOLDER

STORED = frozenset({200, 201, 204})


def _get(bench: Bench, running: Running) -> float:
    size = bench.scale.body
    request = render("GET", bench.store.object(size), bench.credentials.reader)
    before = running.process.settled_cpu()
    download(running.port, request, Expect(OK, size))
    return (running.process.settled_cpu() - before) / (size / GiB)


def _put(bench: Bench, running: Running) -> float:
    size = bench.scale.body
    body = bench.store.file(bench.store.object(size))
    path = f"/{FOLDER}/upload-{running.peer.name}"
    stored = bench.store.file(path)
    try:
        before = running.process.settled_cpu()
        upload(running.port, render("PUT", path, bench.credentials.writer, length=size), body, Expect(STORED))
        spent = running.process.settled_cpu() - before
        if not stored.exists() or stored.stat().st_size != size:
            raise BenchError("the store doesn't hold what was sent")
    finally:
        stored.unlink(missing_ok=True)
    return spent / (size / GiB)


ROWS = (
    Row("get", "bulk GET over plain TCP", CPU_PER_GIB, _get, bulk=True),
    Row("put", "bulk PUT over plain TCP", CPU_PER_GIB, _put, bulk=True),
)
