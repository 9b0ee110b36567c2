"""The serving process before it serves: what it refuses to start with."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar.serving", *arguments],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_it_does_not_start_on_aiohttps_python_parser(tmp_path: Path) -> None:
    done = start("sidecar.yaml", cwd=tmp_path, AIOHTTP_NO_EXTENSIONS="1")
    assert done.returncode == 1
    assert done.stderr == (
        "aiohttp's C parser is missing, and its Python one is not safe here: install a binary wheel of aiohttp\n"
    )


def test_an_invalid_configuration_is_told_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text("listen: 127.0.0.1:1\n")
    done = start("sidecar.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "sidecar.yaml:1 $: the key 'ops' is missing" in done.stderr.splitlines()


def test_a_file_that_a_setting_names_must_be_there_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text(
        "listen: 127.0.0.1:1\nops: 127.0.0.1:2\npolicies: ./policies\nupstreams: {local: {url: file://./data}}\n"
    )
    done = start("sidecar.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "$.policies" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sidecar.yaml"]


def test_every_address_that_is_taken_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        listen, ops = (f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, two))
        (tmp_path / "sidecar.yaml").write_text(
            f"listen: {listen}\nops: {ops}\npolicies: ./policies\nupstreams: {{local: {{url: file://./data}}}}\n"
        )
        done = start("sidecar.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert f"`listen: {listen}` is in use already" in first
    assert f"`ops: {ops}` is in use already" in second


def test_people_are_told_what_to_run_instead(tmp_path: Path) -> None:
    done = start(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "sidecar serve --config CONFIG" in done.stderr


INTERRUPTED_WHILE_IMPORTING = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, *_):
        if name == "uvloop":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize("module", ["sidecar.serving", "sidecar.workers"])
def test_ctrl_c_while_it_starts_shows_no_traceback(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING, module, "sidecar.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
