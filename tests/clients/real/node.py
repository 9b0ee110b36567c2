"""Clients from npm, with the versions that `tests/clients/node/` pins."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.programs import cache_folder, missing, require_program

_PINNED = Path(__file__).parent.parent / "node"


def node_modules() -> Path:
    """The folder of the pinned packages, installed once for this lock; nothing of them is run for it.

    Skips the test by name without Node, npm or the registry.
    """
    require_program("node")
    npm = require_program("npm")
    lock = _PINNED / "package-lock.json"
    folder = cache_folder() / "npm" / f"clients-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        building.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_PINNED / name, building)
        # Not `ci`, which insists on packages of other systems that not every registry has.
        words = ["install", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run([npm, *words], cwd=building, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            shutil.rmtree(building)
            missing(f"the clients from npm can't be installed: {done.stderr[-500:]}")
        try:
            building.rename(folder)  # in one step: another run may install it, too
        except OSError:
            shutil.rmtree(building)
    return folder / "node_modules"
