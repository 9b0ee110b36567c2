"""`sidecar demo` as a newcomer meets it: run it, paste every line that it prints, press Ctrl-C."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import free_port, free_ports
from tests.programs import require_program

pytestmark = pytest.mark.slow

COMMANDS = ("echo ", "curl ", "grep ")


class Demo:
    """The command, run in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.ops_port = free_ports(2)
        self._out, self._err = folder.with_suffix(".out"), folder.with_suffix(".err")
        folder.mkdir(exist_ok=True)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command(self.port, self.ops_port), cwd=folder, stdout=out, stderr=err)

    def start(self) -> "Demo":
        deadline = time.monotonic() + 60
        while "Ctrl-C ends the demo" not in self.out:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < deadline, self.err
            time.sleep(0.02)
        return self

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def paste(self, folder: Path) -> list[str]:
        """What each printed command prints, run in a shell that stands elsewhere."""
        lines = [line for line in self.out.splitlines() if line.startswith(COMMANDS)]
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return [
            subprocess.run(
                ["/bin/sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=True
            ).stdout
            for line in lines
        ]  # fmt: skip

    def interrupt(self) -> tuple[int, float]:
        """The exit status, and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60), time.monotonic() - began

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def command(port: int, ops_port: int) -> list[str]:
    return [sys.executable, "-m", "sidecar", "demo", "--port", str(port), "--ops-port", str(ops_port)]


def tokens(text: str) -> set[str]:
    found = set(re.findall(r"asc_ci_\w+", text))
    assert len(found) == 2
    return found


def run(folder: Path, port: int, ops_port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(port, ops_port), cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path / "new here")
    yield running
    running.kill()


def test_every_printed_line_does_what_the_text_says(demo: Demo, tmp_path: Path) -> None:
    require_program("curl")
    stored, fetched, refused, counted, recorded = demo.start().paste(tmp_path)
    assert stored == "201\n"
    assert fetched == "hello\n"
    assert refused.endswith("(token_limit)\n403\n")
    assert 'decision="deny",reason="token_limit"} 1.0' in counted
    record = json.loads(recorded)
    assert (record["action"], record["outcome"], record["reason"]) == ("object.write", "deny", "token_limit")
    assert record["resource"]["name"] == "hello.txt"
    assert record["actor"]["token_name"] == "read-only"


def test_ctrl_c_ends_it_at_once_and_cleanly(demo: Demo) -> None:
    status, seconds = demo.start().interrupt()
    assert status == 0
    assert seconds < 20
    assert "drain_delay: 0s" in (demo.folder / ".demo" / "sidecar.yaml").read_text()
    assert "Traceback" not in demo.err
    assert demo.out.endswith("Ended. What it wrote is still in .demo, until the next run.\n")


INTERRUPTED_WHILE_IMPORTING = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
sys.argv = ["sidecar", "demo", "--help"]
runpy.run_module("sidecar", run_name="__main__")
"""


def test_ctrl_c_while_it_starts_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_each_run_begins_anew(demo: Demo) -> None:
    demo.start().interrupt()
    first = demo.out
    (demo.folder / ".demo" / "left").write_text("by hand")
    again = Demo(demo.folder)
    try:
        again.start()
        assert tokens(first).isdisjoint(tokens(again.out))
        assert not (demo.folder / ".demo" / "left").exists()
    finally:
        again.kill()


def test_only_its_owner_may_look_into_its_folder(demo: Demo) -> None:
    demo.start()
    assert (demo.folder / ".demo").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in demo.folder.iterdir()] == [".demo"]


@pytest.mark.parametrize("taken", ["--port", "--ops-port"])
def test_a_port_in_use_is_said_before_anything_else(tmp_path: Path, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]
        ports = (busy, free_port()) if taken == "--port" else (free_port(), busy)
        done = run(tmp_path, *ports)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"127.0.0.1:{busy} is in use. Stop what listens there, or take another port: "
        f'sidecar demo {taken} {busy + 1}, or make demo ARGS="{taken} {busy + 1}"'
    ]
    assert not (tmp_path / ".demo").exists()


def test_one_port_for_both_is_said(tmp_path: Path) -> None:
    port = free_port()
    done = run(tmp_path, port, port)
    assert (done.returncode, done.stderr) == (1, f"--port and --ops-port are both {port}; choose two\n")


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_it_removes_nothing_that_it_did_not_make(tmp_path: Path, kind: str) -> None:
    place, elsewhere = tmp_path / ".demo", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "link":
        place.symlink_to(elsewhere)
    elif kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "sidecar.yaml").write_text("listen: mine\n")
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path, *free_ports(2))
    assert done.returncode == 1
    assert done.stderr == f"{place}: is there and was not made by this command; move it away\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_help_says_what_will_happen() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "demo", "--help"], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stdout.split())
    for word in (".demo", "Ctrl-C", "PUT", "GET", "metrics", "audit", "--port", "--ops-port"):
        assert word in said
