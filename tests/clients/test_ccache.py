"""ccache as it is shipped, compiling through the sidecar. A build must never fail because of its cache, whatever becomes of it.

What is believed: the compiler's exit status, the object file, ccache's own statistics, the audit log.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.real.compilers import ccache_remote
from tests.e2e.nginx import sidecar_before_nginx
from tests.e2e.process import SidecarProcess, until
from tests.programs import require_program

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes:
  - {path: /nginx, client: plain, upstream: artifacts, upstream_path: /store}
  - {path: /embedded, client: plain, upstream: embedded, upstream_path: /store}
ci_tokens: read-write
"""
STATISTICS = re.compile(r"(?m)^(\w+)\t(\d+)$")
AN_OBJECT = re.compile(r"[0-9a-z]{2}/[0-9a-z]{20,}")
"""Where ccache keeps a result or a manifest, below the route."""


class Compiled:
    """What one compilation came to."""

    def __init__(self, exit_status: int, made: bytes, statistics: dict[str, int]) -> None:
        self.exit_status = exit_status
        self.made = made
        self.hits = statistics["remote_storage_hit"]
        self.misses = statistics["remote_storage_miss"]
        self.puts = statistics["remote_storage_write"]
        self.errors = statistics["remote_storage_error"] + statistics["remote_storage_timeout"]
        self.compiler_ran = statistics["cache_miss"] == 1


class Rig:
    def __init__(self, sidecar: SidecarProcess) -> None:
        self.sidecar = sidecar
        self._ccache, self._gcc = require_program("ccache"), require_program("gcc")

    def compile(self, source: str, remote: str) -> Compiled:
        """With an empty cache of its own, so that whatever is known was known to the store."""
        with tempfile.TemporaryDirectory(dir=self.sidecar.folder) as name:
            folder = Path(name)
            (folder / "unit.c").write_text(source)
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": name,
                "CCACHE_DIR": f"{name}/cache",
                "CCACHE_REMOTE_STORAGE": remote,
                "CCACHE_NOHASHDIR": "1",
                "CCACHE_BASEDIR": name,
            }

            def run(*command: str) -> subprocess.CompletedProcess[bytes]:
                return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60)

            compiled = run(self._ccache, self._gcc, "-c", "unit.c", "-o", "unit.o")
            assert compiled.stderr == b"", "a build's output must not depend on its cache"
            counted = STATISTICS.findall(run(self._ccache, "--print-stats").stdout.decode())
            statistics = {key: int(value) for key, value in counted}
            made = (folder / "unit.o").read_bytes() if compiled.returncode == 0 else b""
            return Compiled(compiled.returncode, made, statistics)

    def bearer(self, route: str, token: str) -> str:
        return ccache_remote(f"http://127.0.0.1:{self.sidecar.port}/{route}", token)

    def basic(self, route: str, token: str) -> str:
        return ccache_remote(f"http://anybody:{token}@127.0.0.1:{self.sidecar.port}/{route}")

    def records(self, token: str, method: str, count: int) -> list[dict[str, Any]]:
        """The complete records of what was asked with a token, once there are `count`."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.sidecar.answered(token) if record["request"]["method"] == method]

        until(lambda: len(found()) >= count)
        assert len(found()) == count
        return found()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require_program("ccache")
    require_program("gcc")
    folder = tmp_path_factory.mktemp("ccache")
    with sidecar_before_nginx(folder, {"web.yaml": POLICY}, upstreams='  embedded: {url: "file://./data"}\n') as (
        sidecar,
        _,
    ):
        yield Rig(sidecar)


@pytest.fixture
def source(request: pytest.FixtureRequest) -> str:
    """A program that no other test compiles."""
    return f'const char *name = "{request.node.name}";\n'


@pytest.mark.parametrize("route", ["nginx", "embedded"])
@pytest.mark.parametrize("carrier", ["bearer", "basic"])
def test_what_one_build_compiled_the_next_one_finds(rig: Rig, source: str, route: str, carrier: str) -> None:
    token = rig.sidecar.token()
    remote = rig.bearer(route, token) if carrier == "bearer" else rig.basic(route, token)

    first = rig.compile(source, remote)
    assert (first.exit_status, first.compiler_ran, first.hits, first.errors) == (0, True, 0, 0)
    assert (first.misses, first.puts) == (1, 2), "a manifest and a result are put"
    written = rig.records(token, "PUT", 2)
    assert {record["response"]["status"] for record in written} == {201}
    assert {record["reason"] for record in written} == {"granted"}
    assert all(AN_OBJECT.fullmatch(record["resource"]["name"]) for record in written)

    second = rig.compile(source, remote)
    assert (second.exit_status, second.compiler_ran, second.puts, second.errors) == (0, False, 0, 0)
    assert second.hits == 1
    assert second.made == first.made
    asked = rig.records(token, "GET", 4)
    assert sorted(record["response"]["status"] for record in asked) == [200, 200, 404, 404]


@pytest.mark.parametrize("route", ["nginx", "embedded"])
def test_a_read_only_token_profits_and_adds_nothing(rig: Rig, source: str, route: str) -> None:
    rig.compile(source, rig.bearer(route, rig.sidecar.token()))
    reader = rig.sidecar.token(permissions=("read",))

    known = rig.compile(source, rig.bearer(route, reader))
    assert (known.exit_status, known.compiler_ran, known.hits, known.puts, known.errors) == (0, False, 1, 0, 0)
    rig.records(reader, "PUT", 0)

    unknown = rig.compile(source + "int more;\n", rig.bearer(route, reader))
    assert (unknown.exit_status, unknown.compiler_ran, unknown.hits, unknown.puts) == (0, True, 0, 0)
    refused = rig.records(reader, "PUT", 1)
    assert [(record["response"]["status"], record["reason"]) for record in refused] == [(403, "token_limit")]

    again = rig.compile(source + "int more;\n", rig.bearer(route, rig.sidecar.token(permissions=("read",))))
    assert (again.hits, again.compiler_ran) == (0, True), "what was refused was stored"


def test_a_revoked_token_finds_nothing_and_the_build_goes_on(rig: Rig, source: str) -> None:
    token = rig.sidecar.token()
    rig.compile(source, rig.bearer("embedded", token))
    assert rig.compile(source, rig.bearer("embedded", token)).hits == 1
    rig.sidecar.revoke(token)
    until(lambda: rig.compile(source, rig.bearer("embedded", token)).hits == 0)
    refused = rig.compile(source, rig.bearer("embedded", token))
    assert (refused.exit_status, refused.compiler_ran, refused.hits, refused.puts) == (0, True, 0, 0)
    until(lambda: any(record["reason"] == "revoked" for record in rig.sidecar.audit()))


def test_without_any_token_nothing_is_found_and_the_build_goes_on(rig: Rig, source: str) -> None:
    rig.compile(source, rig.bearer("embedded", rig.sidecar.token()))
    refused = rig.compile(source, f"http://127.0.0.1:{rig.sidecar.port}/embedded")
    assert (refused.exit_status, refused.compiler_ran, refused.hits, refused.puts) == (0, True, 0, 0)


def test_a_sidecar_that_is_gone_costs_the_build_nothing_but_its_cache(tmp_path: Path, source: str) -> None:
    sidecar = SidecarProcess(
        tmp_path,
        upstreams='  embedded: {url: "file://./data"}\n',
        policies={
            "web.yaml": "workspace: web\nroutes: [{path: /embedded, client: plain, upstream: embedded}]\nci_tokens: read-write\n"
        },
        more="limits: {drain_delay: 0s}",
    ).start()
    try:
        rig, token = Rig(sidecar), sidecar.token()
        made = rig.compile(source, rig.bearer("embedded", token)).made
        assert rig.compile(source, rig.bearer("embedded", token)).hits == 1
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
    without = rig.compile(source, rig.bearer("embedded", token))
    assert (without.exit_status, without.compiler_ran, without.hits) == (0, True, 0)
    assert without.errors == 1
    assert without.made == made
