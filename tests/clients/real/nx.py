from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, lines, run
from tests.clients.real.node import Workspace

_NX = {"targetDefaults": {"build": {"cache": True, "outputs": ["{projectRoot}/dist"]}}, "analytics": False}


class Nx:
    name: ClassVar[str] = "Nx"
    profile: ClassVar[str] = "nx"

    def __init__(self, folder: Path) -> None:
        self._workspace = Workspace()

    def version(self) -> str:
        return self._workspace.version("nx")

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        made = self._workspace.write(folder, project, nx=_NX)
        environment = {
            "HOME": str(home),
            "CI": "1",
            "NO_COLOR": "1",
            "NX_DAEMON": "false",
            "NX_ISOLATE_PLUGINS": "false",  # else they are processes that talk by sockets in /tmp
            "NX_SKIP_NATIVE_FILE_CACHE": "true",  # in /tmp, too
            "NX_TUI": "false",
            "NX_NO_CLOUD": "true",
            "NX_CACHE_DIRECTORY": str(folder / "cache"),
            "NX_WORKSPACE_DATA_DIRECTORY": str(folder / "data"),
            "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": f"http://{address}",
        } | ({} if token is None else {"NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": token})
        done = run(self._workspace.program("nx"), "run", "a:build", cwd=folder, environment=environment)
        return built(done, made)

    def told(self, text: str) -> list[str]:
        return lines(text, r"(?i)unauthorized|remote cache|misconfigured")
