"""A restart with a file that can't be read: its keys stay closed, though another workspace lies around them (rules 1 and 23)."""

import urllib.request
from pathlib import Path

import pytest

from sidecar.model import PrincipalKind
from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess, until

LIVE_WITHIN = 3.0
OUTER = """
workspace: outer
routes: [{path: /, client: plain, upstream: local}]
anonymous: read
ci_tokens: read-write
shares: [inner]
"""
INNER = """workspace: inner
routes: [{path: /private, client: plain, upstream: local}]
ci_tokens: read-write
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad", ["", "<<<<<<< HEAD\n" + INNER, INNER.replace("/private", "/private/")], ids=["empty", "conflict", "slash"]
)
def test_a_restart_with_a_file_that_cannot_be_read_opens_nothing_and_mending_it_is_enough(
    tmp_path: Path, bad: str
) -> None:
    sidecar = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"outer.yaml": OUTER, "inner.yaml": INNER},
        more="limits: {drain_delay: 0s}",
    )

    def said(path: str, token: str | None = None) -> tuple[int, str | None]:
        answer = ask(sidecar.port, "GET", path, bearer(token) if token else None)
        return answer.status, answer.reason

    try:
        sidecar.start()
        token = {
            name: sidecar.token(kind=PrincipalKind.CI, subject=name, workspaces=(name,)) for name in ("inner", "outer")
        }
        assert ask(sidecar.port, "PUT", "/private/s", bearer(token["inner"]), b"secret").status == 201
        assert ask(sidecar.port, "PUT", "/public", bearer(token["outer"]), b"public").status == 201
        assert (said("/public"), said("/private/s")) == ((200, None), (401, "no_token"))
        assert sidecar.stop() == 0

        sidecar.policy("inner.yaml", bad)
        sidecar.start()
        for asked in (None, token["inner"], token["outer"]):
            assert said("/private/s", asked) == (503, "policy_missing")
        whole = bad.startswith("<<<")
        assert said("/public") == ((200, None) if whole else (503, "policy_missing"))
        assert "inner.yaml:1" in sidecar.log or "inner.yaml:2" in sidecar.log
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/readyz?verbose", timeout=20) as answer:
            told = answer.read().decode()
        assert "[~]policy files: " in told
        if not whole:
            assert "outer.yaml:1 $.shares: the workspace 'inner' isn't there and may be in a file whose" in sidecar.log
            assert "policies/outer.yaml" in told

        sidecar.policy("inner.yaml", INNER)
        until(lambda: said("/private/s") == (401, "no_token"), LIVE_WITHIN)
        assert (said("/public"), said("/private/s", token["inner"])) == ((200, None), (200, None))
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
