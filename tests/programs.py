"""Programs that a test drives and that may not be installed."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The program's path. Without it the test is skipped by name; with `CI=true`, where all are installed first, it fails."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"the program {name} is not installed")
    pytest.skip(f"the program {name} is not installed")
