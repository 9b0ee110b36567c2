"""Takes each clause of the pure modules away, one at a time, and asks whether a test notices.

    python -m tests.mutation.run                       all pure modules
    python -m tests.mutation.run sidecar/target.py     one of them
    python -m tests.mutation.run --every 20            a sample, for a quick look

It works on a copy in a temporary directory, one mutant at a time, and lists the survivors. A module's first tests are
those that state its law; the second ones are asked about what those let live. Exits 1 if fewer than 90 % of a module's
mutants were killed.
"""

import argparse
import compileall
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest

from tests.mutation.mutate import mutants

ROOT = Path(__file__).parents[2]
TESTS_OF = {
    "sidecar/policy/evaluate.py": ("policy_evaluate", "cases"),
    "sidecar/policy/match.py": ("policy_evaluate", "policy_rules cases"),
    "sidecar/credentials/carriers.py": ("carriers", ""),
    "sidecar/target.py": ("target", ""),
    "sidecar/headers.py": ("headers", "plain"),
    "sidecar/profiles/tenant.py": ("tenant", "plain"),
    "sidecar/profiles/plain.py": ("plain", "denial"),
    "sidecar/profiles/webdav.py": ("webdav", "trees cases"),
    "sidecar/profiles/build_cache.py": ("build_cache", "nx turborepo bazel gradle nix"),
    "sidecar/profiles/nx.py": ("nx", "build_cache"),
    "sidecar/profiles/turborepo.py": ("turborepo", "build_cache errands"),
    "sidecar/profiles/bazel.py": ("bazel", "build_cache"),
    "sidecar/profiles/gradle.py": ("gradle", "build_cache"),
    "sidecar/profiles/nix.py": ("nix", "build_cache errands"),
    "sidecar/narinfo.py": ("narinfo", "nix"),
    "sidecar/policy/subtree.py": ("policy_subtree", "trees"),
    "sidecar/mapping.py": ("mapping", "answers webdav"),
    "sidecar/multistatus.py": ("multistatus", "mapped"),
    "sidecar/trees.py": ("trees", "cases values"),
    "sidecar/profiles/denial.py": ("denial", "plain"),
    "sidecar/profiles/profile.py": ("values plain", "denial"),
    "sidecar/profiles/__init__.py": ("plain", ""),
    "sidecar/answers.py": ("answers", "values"),
    "sidecar/policy/rules.py": ("policy_rules", "values policy_file cases"),
    "sidecar/policy/file.py": ("policy_file", "policy_salvage values policy_rules policy_files cases"),
    "sidecar/policy/salvage.py": ("policy_salvage", "values policy_file policy_files"),
    "sidecar/policy/routes.py": ("policy_routes", "values policy_files cases"),
    "sidecar/policy/files.py": ("policy_files", "policy_files_opaque values policy_file"),
    "sidecar/policy/served.py": ("policy_files", "policy_files_opaque values policy_file"),
    "sidecar/policy/glob.py": ("policy_glob", "policy_rules policy_evaluate"),
    "sidecar/policy/names.py": ("policy_names", "policy_file policy_rules"),
    "sidecar/policy/compiled.py": ("values policy_file", "policy_rules policy_evaluate policy_files"),
    "sidecar/policy/cases.py": ("policy_cases", "cases values"),
    "sidecar/policy/trace.py": ("policy_evaluate", "values"),
    "sidecar/credentials/jws.py": ("jws", "values jwt"),
    "sidecar/credentials/opaque.py": ("opaque", "values"),
    "sidecar/credentials/token_row.py": ("token_row", "opaque values"),
    "sidecar/credentials/pepper.py": ("pepper", "opaque"),
    "sidecar/document.py": ("document", "yaml_tree policy_rules values config"),
    "sidecar/measures.py": ("measures", "document quotas"),
    "sidecar/yaml_tree.py": ("yaml_tree", "document values"),
    "sidecar/sigv4.py": ("sigv4", "sigv4_verify s3_query values"),
    "sidecar/sigv4_verify.py": ("sigv4_verify", "values"),
    "sidecar/aws_chunked.py": ("aws_chunked", "s3_body values"),
    "sidecar/checksums.py": ("checksums", "aws_chunked s3_body values"),
    "sidecar/s3/body.py": ("s3_body", "s3_operations values"),
    "sidecar/s3/query.py": ("s3_query", "s3_request"),
    "sidecar/s3/headers.py": ("s3_operations", "s3_request"),
    "sidecar/s3/operations.py": ("s3_operations", "s3_request values"),
    "sidecar/s3/copy_source.py": ("s3_copy_source", "s3_request values"),
    "sidecar/s3/multi_delete.py": ("s3_multi_delete", "s3_request values"),
    "sidecar/s3/request.py": ("s3_request", "gate_s3_keys values"),
    "sidecar/profiles/s3_errors.py": ("s3_errors", ""),
    "sidecar/bucket.py": ("bucket", "policy_buckets buckets"),
    "sidecar/networks.py": ("networks", "entrance"),
    "sidecar/provenance.py": ("provenance", ""),
    "sidecar/proxy_header.py": ("proxy_header", "entrance"),
    "sidecar/quotas.py": ("quotas", "allowances"),
    "sidecar/policy/advice.py": ("policy_advice", "values"),
    "sidecar/policy/bucket_file.py": ("policy_bucket_file", "policy_files"),
    "sidecar/policy/buckets.py": ("policy_buckets", "buckets gate_s3_keys"),
    "sidecar/profiles/s3.py": ("s3_profile", ""),
    "sidecar/s3/answer.py": ("s3_answer", "bucketed values"),
    "sidecar/s3/buckets.py": ("s3_buckets", ""),
    "sidecar/s3/copying.py": ("s3_copying", "s3_answer gate_s3_keys values"),
    "sidecar/s3/parts.py": ("s3_parts", "s3_answer gate_s3_keys values"),
    "sidecar/s3/reading.py": ("s3_reading", "s3_answer gate_s3_keys values"),
    "sidecar/s3/place.py": ("s3_place", "s3_sending s3_answer bucketed values"),
    "sidecar/s3/sending.py": ("s3_sending", "bucketed values"),
    "sidecar/s3/wrapping.py": ("s3_wrapping", "bucketed values"),
    "sidecar/credentials/access_key.py": ("access_key", "gate_signed series values"),
    "sidecar/credentials/series.py": ("series", "values"),
    "sidecar/credentials/failures.py": ("failures", "gate"),
    "sidecar/credentials/found.py": ("found", "leak_judge values"),
    "sidecar/credentials/identities.py": ("identities", "values"),
    "sidecar/credentials/jwk.py": ("jwk", "jwt values"),
    "sidecar/credentials/jwt.py": ("jwt", "revocation_names values"),
    "sidecar/credentials/legacy.py": ("legacy", "gate"),
    "sidecar/credentials/master_key.py": ("master_key", "values access_key master_files"),
    "sidecar/credentials/pasted.py": ("pasted", "values"),
    "sidecar/credentials/patterns.py": ("patterns", "values"),
    "sidecar/credentials/revocation_names.py": ("revocation_names", "biscuit"),
    "sidecar/credentials/revocation_row.py": ("revocation_row", "values"),
    "sidecar/credentials/biscuit/conditions.py": (
        "biscuit_profile",
        "biscuit_narrowing biscuit_samples biscuit values",
    ),
    "sidecar/credentials/biscuit/facts.py": ("biscuit_profile", "biscuit_samples biscuit"),
    "sidecar/credentials/biscuit/key_row.py": ("key_row", "values"),
    "sidecar/credentials/biscuit/library.py": ("biscuit", "biscuit_samples cli_biscuit"),
    "sidecar/credentials/biscuit/meaning.py": ("biscuit_profile", "biscuit_narrowing biscuit_samples biscuit values"),
    "sidecar/credentials/biscuit/minting.py": ("biscuit", "cli_biscuit values"),
    "sidecar/credentials/biscuit/narrowing.py": ("biscuit_narrowing", "biscuit_profile biscuit values"),
    "sidecar/credentials/biscuit/profile.py": ("biscuit_profile", "biscuit_narrowing biscuit_samples biscuit values"),
    "sidecar/credentials/biscuit/spelling.py": ("biscuit_narrowing", "biscuit_profile biscuit"),
    "sidecar/credentials/biscuit/verifier.py": ("biscuit", "biscuit_gate biscuit_samples values"),
    "sidecar/credentials/biscuit/wire.py": ("biscuit_profile", "biscuit_narrowing biscuit_samples biscuit values"),
    "sidecar/background.py": ("background", ""),
    "sidecar/biscuits.py": ("contract/root_keys", "biscuit cli_biscuit"),
    "sidecar/buckets.py": ("buckets", "gate_s3_keys gate_doors bucketed values"),
    "sidecar/callers.py": ("callers", "gate_doors gate gate_signed"),
    "sidecar/decision.py": ("gate", "values gate_signed biscuit_gate errands callers"),
    "sidecar/gate.py": ("gate_doors gate", "gate_signed gate_s3_keys biscuit_gate errands"),
    "sidecar/revoking.py": ("contract/revoking", ""),
    "sidecar/root_keys.py": ("contract/root_keys", "cli_biscuit"),
    "sidecar/settled.py": ("settled", "policy_files policy_files_opaque"),
    "sidecar/token_requests.py": ("token_requests", "contract/token_store cli_token"),
    "sidecar/tokens.py": ("contract/token_store contract/token_rotation", "contract/access_keys contract/revoking"),
    "sidecar/trial.py": ("trial", ""),
    "sidecar/upstream/conditions.py": ("upstream_conditions", "values"),
}
"""Module -> its first tests, and its second ones: names of files among the unit tests, or of a folder beside them; with a slash, of a file in another folder."""
GOAL = 0.9


class _Outcome(msgspec.Struct):
    failed: str = ""
    """The test that killed the mutant; empty if none did."""
    imported: list[str] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="paths from the repository's root; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th mutant")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers and the survivors there, too")
    options = parser.parse_args()
    if unknown := set(options.modules) - TESTS_OF.keys():
        parser.error(f"not among the pure modules: {', '.join(sorted(unknown))}")
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder))
        for module in options.modules or TESTS_OF:
            report[module] = _try(copy, module, options.every)
    killed, total = (sum(row[name] for row in report.values()) for name in ("killed", "total"))
    print(f"all: {killed} of {total} killed ({killed / max(total, 1):.1%})")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    raise SystemExit(any(row["killed"] < GOAL * row["total"] for row in report.values()))


def _try(copy: Path, module: str, every: int) -> dict[str, Any]:
    """All mutants of a module; what survives is printed at once."""
    began = time.monotonic()
    suites = [_Suite(copy, [_path(name) for name in names.split()]) for names in TESTS_OF[module] if names]
    source = copy / module
    original = source.read_text()
    # A mutant may be as old and as long as what it replaces, and then Python would take what was compiled.
    Path(cache_from_source(str(source))).unlink(missing_ok=True)
    survivors = []
    chosen = list(mutants(original))[::every]
    for mutant in chosen:
        source.write_text(mutant.source)
        if not any(suite.kills() for suite in suites):
            survivors.append({"line": mutant.line, "what": mutant.what})
            print(f"survived  {module}:{mutant.line}  {mutant.what}", flush=True)
    source.write_text(original)
    killed = len(chosen) - len(survivors)
    print(f"{module}: {killed} of {len(chosen)} killed, {time.monotonic() - began:.0f} s", flush=True)
    return {"killed": killed, "total": len(chosen), "survivors": survivors}


def _path(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"tests/{name}" if (ROOT / "tests" / name).is_dir() else f"tests/{folder or 'unit'}/test_{last}.py"


def _copy(folder: Path) -> Path:
    """The package and the tests, compiled once."""
    copy = folder / "copy"
    for name in ("sidecar", "tests", "config"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    compileall.compile_dir(copy, quiet=1)
    return copy


class _Suite:
    """Some test files, run again for each mutant: whichever tests have killed most so far go first."""

    def __init__(self, copy: Path, tests: Sequence[str]) -> None:
        self._copy, self._tests = copy, tests
        self._killers: Counter[str] = Counter()
        began = time.monotonic()
        status, outcome = self._run(until=began + 120)
        if status != 0:
            raise SystemExit(f"{' '.join(tests)}: {outcome.failed or status} fails without any mutation")
        self._seconds = 3 + 4 * (time.monotonic() - began)
        with warnings.catch_warnings(action="ignore"):
            for name in outcome.imported:  # once here instead of in every fork
                with suppress(ImportError):
                    importlib.import_module(name)

    def kills(self) -> bool:
        status, outcome = self._run(until=time.monotonic() + self._seconds)
        if outcome.failed:
            self._killers[outcome.failed] += 1
        return status != 0

    def _run(self, until: float) -> tuple[int, _Outcome]:
        """The tests' exit code over the copy, in a fork: this process has imported what is slow and nothing that is tested.
        A mutant that loops is killed in the end, and counts as noticed."""
        told = self._copy / "outcome.json"
        told.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            os._exit(self._in_fork(told))
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                outcome = msgspec.json.decode(told.read_bytes(), type=_Outcome) if told.exists() else _Outcome()
                return os.waitstatus_to_exitcode(status), outcome
            time.sleep(0.002)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return 1, _Outcome()

    def _in_fork(self, told: Path) -> int:
        gc.freeze()
        os.setsid()
        os.chdir(self._copy)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(self._copy))
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        hypothesis.settings.register_profile(
            "mutation",
            max_examples=50,
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),  # nobody reads the smallest example
        )
        hypothesis.settings.load_profile("mutation")
        plugin = _Plugin(self._killers)
        options = ["-x", "-q", "--tb=no", "--assert=plain", "--rootdir", str(self._copy)]
        options += [f"-pno:{name}" for name in ("cacheprovider", "unraisableexception", "threadexception", "doctest")]
        status = int(pytest.main([*options, *self._tests], plugins=[plugin]))
        imported = [name for name in sys.modules if not _is_ours(name)]
        told.write_bytes(msgspec.json.encode(_Outcome(plugin.failed, imported)))
        return status


class _Plugin:
    def __init__(self, killers: Counter[str]) -> None:
        self._killers = killers
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: -self._killers[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in {"tests", "sidecar"}


if __name__ == "__main__":
    main()
