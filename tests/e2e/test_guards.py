"""Guards on the real process: an edit that breaks a case doesn't go live, and is seen wherever an operator looks (rule 26)."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asking import ask
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: local}]\nanonymous: read\n"
OWN = "guard: true\ncases: [{name: everybody reads, who: anonymous, ask: GET /web/a, expect: allow}]\n"
BESIDE = "workspace: web\nguard: true\ncases: [{name: nobody writes, who: anonymous, ask: PUT /web/a, exists: false, expect: no_token}]\n"


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    process = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": HEAD + OWN},
        more="limits: {drain_delay: 0s}",
    )
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "web.yaml").write_text(BESIDE)
    try:
        process.start()
        yield process
    finally:
        process.kill()


def said(sidecar: SidecarProcess, method: str = "GET") -> tuple[int, str | None]:
    answer = ask(sidecar.port, method, "/web/a")
    return answer.status, answer.reason


def rejected(sidecar: SidecarProcess) -> list[str]:
    return [
        str(record["changes"])
        for record in sidecar.audit()
        if (record["kind"], record["action"]) == ("policy", "rejected")
    ]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("anonymous: read", "anonymous: none"), "the guard everybody reads: expected allow, got no_token"),
        (("anonymous: read", "anonymous: read-write"), "the guard nobody writes: expected no_token, got allow"),
    ],
    ids=["its own case", "a case beside it"],
)
def test_an_edit_that_breaks_a_guard_does_not_go_live(
    sidecar: SidecarProcess, edit: tuple[str, str], told: str
) -> None:
    assert (said(sidecar), said(sidecar, "PUT")) == ((404, None), (401, "no_token"))
    sidecar.policy("web.yaml", HEAD.replace(*edit) + OWN)
    until(lambda: told in sidecar.log)
    assert (said(sidecar), said(sidecar, "PUT")) == ((404, None), (401, "no_token"))
    until(lambda: any(told in changes for changes in rejected(sidecar)))
    with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/readyz?verbose", timeout=20) as answer:
        assert "[~]policy files" in answer.read().decode()

    sidecar.policy("web.yaml", HEAD + "rules: [{name: shut, deny: [read], path: b}]\n" + OWN)
    until(lambda: ask(sidecar.port, "GET", "/web/b").reason == "rule_deny")


def test_a_guard_that_does_not_hold_at_the_start_leaves_its_workspace_refused(sidecar: SidecarProcess) -> None:
    assert sidecar.stop() == 0
    sidecar.policy("web.yaml", HEAD.replace("anonymous: read", "anonymous: none") + OWN)
    sidecar.start()
    assert said(sidecar) == (503, "policy_missing")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", "policy", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_commands_exit_as_they_say(tmp_path: Path) -> None:
    for name, level in (("policies", "read"), ("edited", "none")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web.yaml").write_text(HEAD.replace("read", level) + OWN.removeprefix("guard: true\n"))
    assert run(tmp_path, "test", "policies", "--junit", "results.xml").returncode == 0
    assert (tmp_path / "results.xml").read_bytes().startswith(b"<?xml")
    broken = run(tmp_path, "test", "edited")
    assert (broken.returncode, "+ expect: no_token" in broken.stdout) == (1, True)
    changed = run(tmp_path, "diff", "policies", "edited", "--cases", "policies")
    assert (changed.returncode, "- anonymous: GET /web/a" in changed.stdout) == (1, True)
    assert run(tmp_path, "diff", "policies", "policies", "--cases", "policies").returncode == 0
    (tmp_path / "edited" / "web.yaml").write_text(HEAD + "guard: maybe\n")
    bad = run(tmp_path, "test", "edited")
    assert (bad.returncode, bad.stderr.startswith("edited/web.yaml:4 $.guard: expected true or false")) == (2, True)
    schema = run(tmp_path, "schema", "--for", "cases")
    assert (schema.returncode, json.loads(schema.stdout)["title"]) == (0, "Cases of policies")
