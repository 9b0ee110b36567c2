"""Programs that a test drives and that may not be installed."""

import os
import shutil
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


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
