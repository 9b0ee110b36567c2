"""Reads the pages: marked fences, tables, links; and runs a page's commands as its reader would.

A line `<!-- runs -->` stands before a fence of shell commands that are run, `<!-- runs: ccache gcc -->` where they need these
programs. The fence after it is the output, in which `…` stands for anything. The commands of a page run in one shell, in
order: the README's in an empty directory, any other page's where `sidecar init` has been and `sidecar serve` is running.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from tests.e2e.process import free_ports

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
HAS_ITS_OWN = {"audit.md": "tests/test_docs_audit.py"}
"""Pages whose commands are run elsewhere."""

_RUNS = re.compile(r"<!-- runs(?::([\w ]+))? -->\n```sh\n(.+?)```\n(?:```text\n(.+?)```\n)?", re.DOTALL)
_YAML = re.compile(r"<!-- (config|policy|people|values) -->\n```yaml\n(.+?)```\n", re.DOTALL)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

_PORTS = (":8080", ":9090")
_READY = """\
sidecar init . > /dev/null
sidecar serve 2> sidecar.log &
for _ in $(seq 400); do curl -fs http://127.0.0.1:9090/readyz > /dev/null && break; sleep 0.05; done
"""

_PATIENCE = 'sleep() { command sleep "$1" "$1" "$1"; }'
"""A reader pauses where the page says so; here other tests may be on the same cores."""


class Block(Struct, frozen=True):
    commands: str
    output: str | None
    programs: tuple[str, ...]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_blocks(page: Path) -> list[Block]:
    return [
        Block(commands, output or None, ("curl", *programs.split()))
        for programs, commands, output in _RUNS.findall(page.read_text())
    ]


def yaml_blocks(page: Path, kind: str) -> list[str]:
    return [text for found, text in _YAML.findall(page.read_text()) if found == kind]


def fences(text: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    """Without the fences."""
    return _FENCE.sub("", text)


def rows(text: str) -> list[list[str]]:
    """The cells of every table's rows, headings and rules left out."""
    found = []
    for line in re.findall(r"^\|(.+)\|$", text, re.MULTILINE):
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
        if cells[0].startswith("`"):
            found.append(cells)
    return found


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def matches(expected: str, output: str) -> bool:
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def run(page: Path, blocks: list[Block], folder: Path) -> tuple[list[str], str]:
    """What each block printed on standard output, and what all of them complained of. The ports of the page are exchanged
    for free ones, in the commands and in whatever `sidecar init` writes, and exchanged back in what was printed."""
    ports = tuple(f":{port}" for port in free_ports(2))
    here, programs = folder / "here", folder / "bin"
    here.mkdir()
    programs.mkdir()
    change = "; ".join(f"s/{page_port}/{port}/" for page_port, port in zip(_PORTS, ports, strict=True))
    shim = programs / "sidecar"
    shim.write_text(
        f'#!/bin/sh\n[ "$1" = init ] || exec {sys.executable} -m sidecar "$@"\n'
        f"{sys.executable} -m sidecar \"$@\" && find . -name sidecar.yaml -exec sed -i '{change}' '{{}}' +\n"
    )
    shim.chmod(0o755)
    script = ["trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT"]
    if page.name != "README.md":
        script.append(_READY)
    script.append(_PATIENCE)
    for number, block in enumerate(blocks):
        script.append(f"{{\n{block.commands}}} > '{folder}/out.{number}'\n")
    text = "\n".join(script)
    for page_port, port in zip(_PORTS, ports, strict=True):
        text = text.replace(page_port, port)
    done = subprocess.run(
        ["bash", "-c", text], cwd=here, env=_environment(programs, here), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
    )  # fmt: skip
    printed = [(folder / f"out.{number}").read_text() for number in range(len(blocks))]
    for page_port, port in zip(_PORTS, ports, strict=True):
        printed = [text.replace(port, page_port) for text in printed]
    return printed, done.stderr


def _environment(programs: Path, home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("SIDECAR_", "CCACHE_", "PYTHON"))
    }
    python = Path(shutil.which("python3") or sys.executable).parent
    path = os.pathsep.join([str(programs), os.environ.get("PATH", ""), str(python)])
    return {**kept, "PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
