"""Takes each clause of the pure modules away, one at a time, and asks whether a test notices.

    python -m tests.mutation.run                       all pure modules (about half an hour on one core)
    python -m tests.mutation.run sidecar/target.py     one of them
    python -m tests.mutation.run --every 20            a sample, for a quick look

It works on a copy in a temporary directory, one mutant at a time, and lists the survivors. Exits 1 if fewer than 90 % of
the mutants were killed.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest

from tests.mutation.mutate import mutants

ROOT = Path(__file__).parents[2]
TESTS_OF = {
    "sidecar/target.py": ["tests/unit/test_target.py"],
    "sidecar/headers.py": ["tests/unit/test_headers.py", "tests/unit/test_plain.py"],
    "sidecar/answers.py": ["tests/unit/test_answers.py"],
    "sidecar/profiles/*.py": ["tests/unit/test_plain.py", "tests/unit/test_denial.py", "tests/unit/test_tenant.py"],
    "sidecar/policy/*.py": ["tests/unit/test_policy_*.py"],
    "sidecar/credentials/carriers.py": ["tests/unit/test_carriers.py"],
}
NOT_PURE = {"sidecar/policy/source.py"}
TIMEOUT = 60.0
"""Seconds; a mutant that loops is killed by it."""
GOAL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="paths from the repository's root; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th mutant")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the survivors there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder))
        killed, survivors = 0, []
        for module, tests in _modules(options.modules):
            if _run(copy, tests) != 0:
                raise SystemExit(f"the tests of {module} fail without any mutation: {' '.join(tests)}")
            began, here = time.monotonic(), []
            chosen = list(mutants((ROOT / module).read_text()))[:: options.every]
            for mutant in chosen:
                (copy / module).write_text(mutant.source)
                if _run(copy, tests) == 0:
                    here.append({"module": module, "line": mutant.line, "what": mutant.what})
                    print(f"survived  {module}:{mutant.line}  {mutant.what}", flush=True)
            shutil.copy(ROOT / module, copy / module)
            killed += len(chosen) - len(here)
            survivors += here
            print(
                f"{module}: {len(chosen) - len(here)} of {len(chosen)} killed, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    total = killed + len(survivors)
    print(f"all: {killed} of {total} killed ({killed / max(total, 1):.1%}), {len(survivors)} survived")
    if options.json:
        options.json.write_text(json.dumps({"killed": killed, "total": total, "survivors": survivors}, indent=1))
    raise SystemExit(killed < GOAL * total)


def _modules(wanted: list[str]) -> list[tuple[str, list[str]]]:
    found = []
    for pattern, tests in TESTS_OF.items():
        for path in sorted(ROOT.glob(pattern)):
            module = str(path.relative_to(ROOT))
            if module not in NOT_PURE and (not wanted or module in wanted):
                found.append(
                    (module, [str(test.relative_to(ROOT)) for name in tests for test in sorted(ROOT.glob(name))])
                )
    return found


def _copy(folder: Path) -> Path:
    """The package and the tests, without compiled files: a mutant may be as old and as long as what it replaces."""
    copy = folder / "copy"
    for name in ("sidecar", "tests", "config"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return copy


def _run(copy: Path, tests: list[str]) -> int:
    """The tests' exit code over the copy, in a fork: this process has imported what is slow and nothing that is tested."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(copy)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(copy))
        for name in [name for name in sys.modules if name.split(".")[0] in {"tests", "sidecar"}]:
            del sys.modules[name]
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        hypothesis.settings.register_profile(
            "mutation", max_examples=50, derandomize=True, database=None, deadline=None
        )
        hypothesis.settings.load_profile("mutation")
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), *tests])))
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


if __name__ == "__main__":
    main()
