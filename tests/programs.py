"""Programs that a test drives and that may not be installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

BESIDE_PYTHON = str(Path(sys.executable).parent)
"""Where programs are that a Python package brings."""


def require_program(name: str) -> str:
    """The program's path. Without it the test is skipped by name; with `CI=true`, where all are installed first, it fails."""
    found = shutil.which(name, path=f"{BESIDE_PYTHON}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        missing(f"the program {name} is not installed")
    return found


def require_file(path: Path, package: str) -> None:
    """The same for a file that a program loads, and that a package of its own brings."""
    if not path.exists():
        missing(f"{package} is not installed")


def go_program(module: str, *, built_in_ci: bool = True) -> str:
    """The path of a program written in Go, `MODULE/PATH@VERSION`, built from the pinned source the first time it is asked for.

    Kept under `~/.cache`, so that only the first run pays for it (minutes). Skips the test by name where there is no Go; without
    `built_in_ci` also with `CI=true` where an earlier run has not left it.
    """
    path, _, version = module.partition("@")
    name = Path(re.sub(r"/v[0-9]+$", "", path)).name  # a module's major version names no program
    folder = cache_folder() / "go" / f"{name}-{version}"
    program = folder / name
    if not program.exists():
        if not built_in_ci and os.environ.get("CI") == "true":
            pytest.skip(f"{path} takes minutes to build")
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            missing(f"Go, which builds {path}, is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        done = subprocess.run(
            [go, "install", "-ldflags=-s -w", module],
            env=os.environ | {"GOBIN": str(building), "GOFLAGS": "", "GO111MODULE": "on"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        if done.returncode != 0:
            missing(f"{path} can't be built: {done.stderr[-500:]}")
        (building / program.name).rename(program)  # in one step: another run may build it, too
        building.rmdir()
    return str(program)


def require_node_package(name: str, version: str) -> Path:
    """The folder of a package from npm, as with `npm_install`."""
    folder = cache_folder() / "npm" / f"{name.replace('/', '-')}-{version}"
    npm_install(folder, "--no-save", f"{name}@{version}")
    return folder / "node_modules" / name


def npm_install(folder: Path, *words: str, pinned: Path | None = None) -> None:
    """`npm install WORDS` into `folder`, by the package.json and lock of `pinned`, unless an earlier run has; nothing of what is
    installed is run. Without Node or the registry as with a missing program."""
    require_program("node")
    npm = require_program("npm")
    if folder.exists():
        return
    building = folder.with_name(f"{folder.name}.{os.getpid()}")
    building.mkdir(parents=True)
    if pinned is not None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(pinned / name, building)
    # Not `ci`, which insists on packages of other systems that not every registry has.
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *words]
    done = subprocess.run(command, cwd=building, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        shutil.rmtree(building)
        missing(f"{' '.join(words) or pinned} can't be installed from npm: {done.stderr[-500:]}")
    try:
        building.rename(folder)  # in one step: another run may install it, too
    except OSError:
        shutil.rmtree(building)


def cache_folder() -> Path:
    """Where it is kept what only the first run has to get or build."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sidecar-tests"


def missing(what: str) -> NoReturn:
    """Skips the test by name, or fails it with `CI=true`."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
