"""The house rules hold, and the check that says so would notice if they didn't."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import breaches, layer, read, untested

ROOT = Path(__file__).parent.parent

WITHOUT_A_TEST_OF_THEIR_OWN = {
    "sidecar.ports": "shapes without behaviour",
    "sidecar.__main__": "one import; the tests of the command line run it",
    "sidecar.serving": "the end-to-end tests run it as a process",
    "sidecar.wiring": "the end-to-end tests run all of it",
    "sidecar.store.migrations.env": "run by the tests of the token store, which make their database by it",
    "sidecar.store.migrations.versions.rev_0001_tokens": "run by the tests of the token store",
    "sidecar.store.migrations.versions.rev_0002_rotation": "run by the tests of the token store",
    "sidecar.store.migrations.versions.rev_0003_revocations": "run by the tests of the token store",
    "sidecar.store.migrations.versions.rev_0004_root_keys": "run by the tests of the token store",
    "sidecar.store.migrations.versions.rev_0005_access_keys": "run by the tests of the token store",
    "sidecar.store.migrations.versions.rev_0006_root_key": "run by the tests of the token store",
}


def test_imports_go_one_way() -> None:
    assert breaches(ROOT / "sidecar") == []


def test_every_module_has_a_test_module() -> None:
    assert [
        name for name in untested(ROOT / "sidecar", ROOT / "tests") if name not in WITHOUT_A_TEST_OF_THEIR_OWN
    ] == []


def test_every_exception_is_a_module() -> None:
    assert {module.name for module in read(ROOT / "sidecar")} >= set(WITHOUT_A_TEST_OF_THEIR_OWN)


def test_the_check_sees_the_whole_project() -> None:
    names = {module.name for module in read(ROOT / "sidecar")}
    assert {"sidecar", "sidecar.model", "sidecar.config.file", "sidecar.cli.root", "sidecar.policy.source"} <= names


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("sidecar", 0),
        ("sidecar.policy.rules", 1),
        ("sidecar.policy.source", 4),
        ("sidecar.store.migrations.run", 4),
        ("sidecar.unheard_of", None),
        ("sidecarx", None),
    ],
)
def test_a_module_s_layer_is_the_longest_entry_s(module: str, expected: int | None) -> None:
    assert layer(module) == expected


PLANTED = {
    "upwards": ("gate.py", "from sidecar.server.client import x", "layer 3 must not import sidecar.server.client of layer 5"),
    "upwards, by name": ("model.py", "from sidecar import gate", "layer 0 must not import sidecar.gate of layer 3"),
    "upwards, plain": ("target.py", "import sidecar.gate", "layer 1 must not import sidecar.gate of layer 3"),
    "upwards, in a function": ("target.py", "def f():\n    import sidecar.gate", "layer 1 must not import sidecar.gate of layer 3"),
    "pure policy to its source": ("policy/file.py", "from sidecar.policy.source import x", "layer 1 must not import sidecar.policy.source of layer 4"),
    "between layer 4's packages": ("store/x.py", "from sidecar.audit.log import y", "layer 4's packages don't import one another: sidecar.audit.log"),
    "relative": ("store/x.py", "from . import y", "relative import"),
    "clock": ("target.py", "import time", "layer 1 is pure and must not import time"),
    "clock, by call": ("target.py", "import datetime\ndatetime.datetime.now()", "layer 1 is pure and must not call now()"),
    "file": ("policy/file.py", "open('x')", "layer 1 is pure and must not call open()"),
    "path": ("policy/file.py", "from pathlib import Path", "layer 1 is pure and must not import pathlib"),
    "path, read by settings": ("settings.py", "import pathlib\npathlib.Path().read_text()", "layer 0 is pure and must not call read_text()"),
    "part of a banned package": ("target.py", "from concurrent.futures import Future", "layer 1 is pure and must not import concurrent.futures"),
    "logging": ("headers.py", "import logging", "layer 1 is pure and must not import logging"),
    "made outside of wiring": ("server/x.py", "from sidecar.upstream.http import HttpUpstream\nHttpUpstream()", "only wiring and the command line make a sidecar.upstream.http.HttpUpstream"),
    "made outside, renamed": ("server/x.py", "from sidecar.upstream.http import HttpUpstream as U\nU()", "only wiring and the command line make a sidecar.upstream.http.HttpUpstream"),
    "no layer": ("newcomer.py", "", "it has no layer; enter it in tests/architecture.py"),
    "import of what has no layer": ("target.py", "import sidecar.newcomer", "sidecar.newcomer has no layer"),
}  # fmt: skip


def plant(folder: Path, file: str, code: str) -> Path:
    root = folder / "sidecar"
    target = root / file
    target.parent.mkdir(parents=True)
    target.write_text(f'"""Law."""\n{code}\n')
    for known in ("gate.py", "wiring.py"):
        if not (root / known).exists():
            (root / known).write_text('"""Law."""\n')
    return root


@pytest.mark.parametrize(("file", "code", "message"), PLANTED.values(), ids=PLANTED)
def test_a_planted_breach_is_found(tmp_path: Path, file: str, code: str, message: str) -> None:
    found = breaches(plant(tmp_path, file, code))
    assert len(found) == 1, found
    place, _, said = found[0].partition(": ")
    assert said == message
    assert place.startswith(f"sidecar.{file.removesuffix('.py').replace('/', '.')}:")


RIGHT = {
    "downwards": ("server/x.py", "from sidecar.gate import Gate\nGate()"),
    "within a package of layer 4": ("store/x.py", "from sidecar.store.y import Y\nY()"),
    "layer 4 to layer 1": ("policy/source.py", "from sidecar.policy.file import compile_file\nimport time"),
    "wiring makes everything": ("wiring.py", "from sidecar.upstream.http import HttpUpstream\nHttpUpstream()"),
    "named for its type alone": ("server/x.py", "from sidecar.audit.log import AuditLog\nx: AuditLog"),
    "a path's type in settings": ("settings.py", "from pathlib import Path"),
    "a longer name": ("target.py", "import timeit"),
}


@pytest.mark.parametrize(("file", "code"), RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_no_breach(tmp_path: Path, file: str, code: str) -> None:
    assert breaches(plant(tmp_path, file, code)) == []


def test_a_value_of_layer_4_may_be_made_anywhere(tmp_path: Path) -> None:
    root = plant(tmp_path, "server/x.py", "from sidecar.audit.record import Access, Log\nAccess()")
    (root / "audit").mkdir()
    (root / "audit" / "record.py").write_text('"""Law."""\nclass Access(Struct, frozen=True): ...\nclass Log: ...\n')
    assert breaches(root) == []
    (root / "server" / "x.py").write_text((root / "server" / "x.py").read_text().replace("Access()", "Log()"))
    assert breaches(root) == ["sidecar.server.x:3: only wiring and the command line make a sidecar.audit.record.Log"]


def test_a_missing_docstring_is_found(tmp_path: Path) -> None:
    root = plant(tmp_path, "target.py", "")
    (root / "target.py").write_text("x = 1\n")
    assert breaches(root) == ["sidecar.target:1: it has no docstring"]


def test_a_module_without_a_test_is_found(tmp_path: Path) -> None:
    root = plant(tmp_path, "store/changes.py", "")
    (root / "store" / "__init__.py").write_text('"""Only words."""\n')
    (root / "audit").mkdir()
    (root / "audit" / "__init__.py").write_text('"""A law."""\ndef f(): ...\n')
    tests = tmp_path / "tests" / "unit"
    tests.mkdir(parents=True)
    (tests / "test_gate.py").touch()
    assert untested(root, tests) == ["sidecar.audit", "sidecar.store.changes", "sidecar.wiring"]
    (tests / "test_one.py").write_text("from sidecar.store import changes\n")
    (tests / "test_audit.py").touch()
    assert untested(root, tests) == ["sidecar.wiring"]


def test_the_serving_process_carries_nothing_of_the_command_line() -> None:
    """Memory is paid for in every pod: no command line, no migrations, no templates, no AWS library, and no
    library for tokens of a kind that isn't used."""
    code = "import sys, sidecar.serving; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert "aiohttp" in loaded
    assert {"typer", "click", "rich", "alembic", "mako", "jinja2", "botocore", "biscuit_auth"}.isdisjoint(loaded)
