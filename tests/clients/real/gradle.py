from pathlib import Path
from typing import ClassVar

from tests.clients.real import QUICK, Built, Project, built, lines, run
from tests.programs import require_program

_BUILD = """
task a(type: Exec) {
    inputs.file('task.sh').withPathSensitivity(PathSensitivity.RELATIVE)
    outputs.file 'build/out'
    outputs.cacheIf { true }
    commandLine 'sh', 'task.sh'
}
"""
_SETTINGS = """
buildCache {
    local { enabled = false }
    remote(HttpBuildCache) { url = 'http://%s/'; push = true%s }
}
"""
_CREDENTIALS = "; credentials { username = 'ci'; password = '%s' }"


class Gradle:
    """Debian's, with Debian's JDK."""

    name: ClassVar[str] = "Gradle"
    profile: ClassVar[str] = "gradle"

    def __init__(self, folder: Path) -> None:
        self._gradle = require_program("gradle")
        self._home = folder / "home"  # what Gradle makes of itself and of build scripts

    def version(self) -> str:
        done = run(self._gradle, "--version", cwd=Path("/"), environment={"GRADLE_USER_HOME": str(self._home)})
        return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Gradle "))

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        (folder / "task.sh").write_text("mkdir -p build\n" + project.task("build/out"))
        (folder / "build.gradle").write_text(_BUILD)
        (folder / "settings.gradle").write_text(
            "rootProject.name = 'all'\n" + _SETTINGS % (address, "" if token is None else _CREDENTIALS % token)
        )
        done = run(
            *(self._gradle, "--no-daemon", "--build-cache", "--console=plain", "a"),
            cwd=folder,
            environment={"HOME": str(home), "GRADLE_USER_HOME": str(self._home), "JAVA_OPTS": QUICK},
        )
        return built(done, folder / "build" / "out")

    def told(self, text: str) -> list[str]:
        return lines(text, r"FROM-CACHE|Could not|remote build cache|FAILED")
