import json
from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, lines, run
from tests.clients.real.node import node_modules


class Turborepo:
    name: ClassVar[str] = "Turborepo"
    profile: ClassVar[str] = "turborepo"

    def __init__(self, folder: Path) -> None:
        self._modules = node_modules()

    def version(self) -> str:
        found: str = json.loads((self._modules / "turbo" / "package.json").read_text())["version"]
        return found

    def build(self, folder: Path, project: Project, address: str, token: str | None) -> Built:
        package = folder / "packages" / "a"
        package.mkdir(parents=True)
        (folder / "node_modules").symlink_to(self._modules)
        (folder / "package.json").write_text(
            '{"name": "all", "private": true, "packageManager": "npm@10.0.0", "workspaces": ["packages/*"]}'
        )
        (folder / "package-lock.json").write_text('{"name": "all", "lockfileVersion": 3, "packages": {}}')
        (folder / "turbo.json").write_text('{"tasks": {"build": {"outputs": ["dist/**"]}}}')
        (package / "package.json").write_text('{"name": "a", "version": "1.0.0", "scripts": {"build": "sh task.sh"}}')
        (package / "task.sh").write_text("mkdir -p dist\n" + project.task("dist/out"))
        # The workspace is the first word of every path here.
        environment = {
            "HOME": str(folder),
            "CI": "1",
            "NO_COLOR": "1",
            "TURBO_TELEMETRY_DISABLED": "1",
            "TURBO_API": f"http://{address}",
            "TURBO_TEAM": address.split("/")[1],
        } | ({} if token is None else {"TURBO_TOKEN": token})
        program = self._modules / ".bin" / "turbo"
        done = run(program, "run", "build", cwd=folder, environment=environment)
        return built(done, package / "dist" / "out")

    def told(self, text: str) -> list[str]:
        return lines(text, r"WARNING|ERROR|Remote caching (?!enabled)|cache hit")
