"""Walks through the Dockerfile where there is no container engine: the build stage's steps are done in a folder, as written.

`/opt/`, `/src` and so on lie below that folder; `python` is one that every user may run. The last stage is read, not done.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Struct

from tests.docs import ROOT
from tests.programs import require_program

DOCKERFILE = ROOT / "Dockerfile"


class Step(Struct, frozen=True):
    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        """Without the options."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def options(self) -> dict[str, str]:
        return dict(re.findall(r"--(\w+)=(\S+)", self.text))

    @property
    def exec_form(self) -> list[str]:
        """Raises `ValueError` where it is the shell's form."""
        found: list[str] = json.loads(self.text)
        return found


def stages() -> list[list[Step]]:
    """The steps of each stage, beginning with its FROM; what stands before the first one is left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Step]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append(Step(instruction, rest.strip()))
    return found


def ignored(path: str) -> bool:
    """Whether `.dockerignore`, which lets in what it names and nothing else, keeps this path of the repository out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_in = [line[1:].partition("/*")[0] for line in lines if line.startswith("!")]
    return not any(path == each or path.startswith(f"{each}/") for each in let_in)


def build(root: Path) -> None:
    """Does the build stage below `root`."""
    here = root
    for step in stages()[0]:
        if step.instruction == "WORKDIR":
            here = root / step.text.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif step.instruction == "COPY":
            *sources, target = step.words
            for source in sources:
                _copy(ROOT / source, here / target / ("" if (ROOT / source).is_dir() else Path(source).name))
        elif step.instruction == "RUN":
            _run(step.text, root, here)
        else:
            assert step.instruction in ("FROM", "ARG"), step


def _copy(source: Path, target: Path) -> None:
    assert not ignored(str(source.relative_to(ROOT))), source
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def interpreter() -> str:
    """The one that runs the tests, unless it lies where other users can't reach it, as below somebody's home directory."""
    for candidate in (
        Path(sys.executable).resolve(),
        Path(require_program("python3")).resolve(),
        Path("/usr/bin/python3"),
    ):
        if candidate.exists() and all(folder.stat().st_mode & 0o001 for folder in candidate.parents):
            return str(candidate)
    pytest.skip("no python3 that every user may run is installed")


def _run(text: str, root: Path, here: Path) -> None:
    command = re.sub(r"(?<![\w.])/opt/", f"{root}/opt/", text)
    command = re.sub(r"(?<![\w./])python(?= -m)", interpreter(), command)
    done = subprocess.run(["sh", "-ec", command], cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
