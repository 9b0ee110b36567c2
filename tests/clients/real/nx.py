import json
from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, lines, run
from tests.clients.real.node import node_modules


class Nx:
    name: ClassVar[str] = "Nx"
    profile: ClassVar[str] = "nx"

    def __init__(self, folder: Path) -> None:
        self._modules = node_modules()

    def version(self) -> str:
        found: str = json.loads((self._modules / "nx" / "package.json").read_text())["version"]
        return found

    def build(self, folder: Path, project: Project, address: str, token: str | None) -> Built:
        package = folder / "packages" / "a"
        package.mkdir(parents=True)
        (folder / "node_modules").symlink_to(self._modules)  # Nx runs the one of the workspace
        (folder / "package.json").write_text('{"name": "all", "private": true, "workspaces": ["packages/*"]}')
        (folder / "nx.json").write_text(
            '{"targetDefaults": {"build": {"cache": true, "outputs": ["{projectRoot}/dist"]}}, "analytics": false}'
        )
        (package / "package.json").write_text('{"name": "a", "version": "1.0.0", "scripts": {"build": "sh task.sh"}}')
        (package / "task.sh").write_text("mkdir -p dist\n" + project.task("dist/out"))
        environment = {
            "HOME": str(folder),
            "CI": "1",
            "NO_COLOR": "1",
            "NX_DAEMON": "false",
            "NX_TUI": "false",
            "NX_NO_CLOUD": "true",
            "NX_CACHE_DIRECTORY": str(folder / "cache"),
            "NX_WORKSPACE_DATA_DIRECTORY": str(folder / "data"),
            "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": f"http://{address}",
        } | ({} if token is None else {"NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": token})
        done = run(self._modules / ".bin" / "nx", "run", "a:build", cwd=folder, environment=environment)
        return built(done, package / "dist" / "out")

    def told(self, text: str) -> list[str]:
        return lines(text, r"(?i)unauthorized|remote cache|misconfigured")
