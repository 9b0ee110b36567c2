from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, lines, run
from tests.clients.real.node import Workspace


class Turborepo:
    name: ClassVar[str] = "Turborepo"
    profile: ClassVar[str] = "turborepo"

    def __init__(self, folder: Path) -> None:
        self._workspace = Workspace()

    def version(self) -> str:
        return self._workspace.version("turbo")

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        made = self._workspace.write(folder, project, turbo={"tasks": {"build": {"outputs": ["dist/**"]}}})
        # The workspace is the first word of every path here.
        environment = {
            "HOME": str(home),
            "CI": "1",
            "NO_COLOR": "1",
            "TURBO_TELEMETRY_DISABLED": "1",
            "TURBO_API": f"http://{address}",
            "TURBO_TEAM": address.split("/")[1],
        } | ({} if token is None else {"TURBO_TOKEN": token})
        done = run(self._workspace.program("turbo"), "run", "build", cwd=folder, environment=environment)
        return built(done, made)

    def told(self, text: str) -> list[str]:
        return lines(text, r"WARNING|ERROR|Remote caching (?!enabled)|cache hit")
