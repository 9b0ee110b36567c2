"""Programs that a test drives and that may not be installed."""

import os
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
        _missing(f"the program {name} is not installed")
    return found


def require_file(path: Path, package: str) -> None:
    """The same for a file that a program loads, and that a package of its own brings."""
    if not path.exists():
        _missing(f"{package} is not installed")


def go_program(module: str) -> str:
    """The path of a program written in Go, `MODULE/PATH@VERSION`, built from the pinned source the first time it is asked for.

    Kept under `~/.cache`, so that only the first run pays for it (minutes). Skips the test by name where there is no Go.
    """
    path, _, version = module.partition("@")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sidecar-tests" / "go" / f"{Path(path).name}-{version}"
    program = folder / Path(path).name
    if not program.exists():
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            _missing(f"Go, which builds {path}, is not installed")
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
            _missing(f"{path} can't be built: {done.stderr[-500:]}")
        (building / program.name).rename(program)  # in one step: another run may build it, too
        building.rmdir()
    return str(program)


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
