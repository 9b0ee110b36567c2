"""Clients from npm, with the versions that `tests/clients/node/` pins."""

import hashlib
import json
from pathlib import Path

from tests.clients.real import Project
from tests.programs import cache_folder, npm_install

_PINNED = Path(__file__).parent.parent / "node"


class Workspace:
    """Of npm, with one package, whose script `build` is the project's task."""

    def __init__(self) -> None:
        """Installs the pinned packages, once for their lock."""
        lock = hashlib.sha256((_PINNED / "package-lock.json").read_bytes()).hexdigest()
        folder = cache_folder() / "npm" / f"clients-{lock[:16]}"
        npm_install(folder, pinned=_PINNED)
        self._modules = folder / "node_modules"

    def program(self, name: str) -> Path:
        return self._modules / ".bin" / name

    def version(self, package: str) -> str:
        found: str = json.loads((self._modules / package / "package.json").read_text())["version"]
        return found

    def write(self, folder: Path, project: Project, **files: object) -> Path:
        """`files`: name -> what is in `NAME.json`, besides what `package.json` needs. Where the task's result will be."""
        package = folder / "packages" / "a"
        package.mkdir(parents=True)
        (folder / "node_modules").symlink_to(self._modules)  # Nx runs the one that it finds here
        root = {"name": "all", "private": True, "packageManager": "npm@10.0.0", "workspaces": ["packages/*"]}
        lock = {"name": "all", "lockfileVersion": 3, "packages": {}}
        for name, content in {"package": root, "package-lock": lock, **files}.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        scripts = {"build": "sh task.sh"}
        (package / "package.json").write_text(json.dumps({"name": "a", "version": "1.0.0", "scripts": scripts}))
        (package / "task.sh").write_text("mkdir -p dist\n" + project.task("dist/out"))
        return package / "dist" / "out"
