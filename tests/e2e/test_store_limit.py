"""An embedded store with a limit behind two workers: full, never fuller, and the same numbers whoever is asked."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

LIMIT = 1024 * 1024
POLICY = "workspace: web\nroutes: [{path: /web, client: plain, upstream: local}]\nci_tokens: read-write\n"


def test_two_workers_share_one_limit(tmp_path: Path) -> None:
    sidecar = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data", max_size: 1MiB}\n',
        policies={"web.yaml": POLICY},
        more="workers: 2\nlimits: {drain_delay: 0s}",
    )
    try:
        sidecar.start()
        token = bearer(sidecar.token())

        def put(number: int) -> int:
            return ask(sidecar.port, "PUT", f"/web/{number:03}", token, os.urandom(50_000)).status

        with ThreadPoolExecutor(8) as crowd:
            assert set(crowd.map(put, range(60))) == {201}
        files = [file.stat().st_size for file in (tmp_path / "data/objects").rglob("*") if file.is_file()]
        assert LIMIT - 60_000 < sum(files) <= LIMIT
        (told,) = json.loads(sidecar.cli("store", "stats", "--json"))["stores"]
        assert (told["objects"], told["bytes"], told["limit"]) == (len(files), sum(files), LIMIT)
        assert told["evictions"] == 60 - len(files)
        label = '{upstream="local"}'
        until(lambda: sidecar.metric(f"sidecar_embedded_store_bytes{label}") == sum(files))
        assert sidecar.metric(f"sidecar_embedded_store_objects{label}") == len(files)
        assert sidecar.metric(f"sidecar_embedded_store_limit_bytes{label}") == LIMIT
        until(lambda: sidecar.metric(f"sidecar_embedded_store_evictions_total{label}") == told["evictions"])
        refused = ask(sidecar.port, "PUT", "/web/large", token, bytes(LIMIT + 1))
        assert (refused.status, refused.reason) == (507, "store_full")
        missing = ask(sidecar.port, "GET", "/web/000", token).status
        assert missing == 404, "the first one made room"
    finally:
        sidecar.kill()
