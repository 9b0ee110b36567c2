"""Biscuits that npm's `@biscuit-auth/biscuit-wasm` has narrowed, sent to the sidecar.

What is believed: what the package prints, and the sidecar's answers.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess
from tests.programs import require_node_package

PACKAGE = "@biscuit-auth/biscuit-wasm"
VERSION = "0.6.0"
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
settings: {channel: stable}
"""

WITHIN = [
    ('check if operations($ops), !$ops.contains("store:write")', True, False),
    ('check if operations($ops), {"store:read", "store:write"}.contains($ops)', True, True),
    ('check if path($p), $p.starts_with("releases/")', False, False),
    ('check if path($p), $p == "a"', True, True),
    ('check if workspace("web")', True, True),
    ('check if method("PUT")', False, True),
    ('check if setting("channel", "stable")', True, True),
    ("check if time($t), $t < 2099-01-01T00:00:00Z", True, True),
]
"""A check of the published subset, and whether it lets GET and PUT of the key `a` through."""

BEYOND = [
    ('check if operations($ops), !($ops.contains(["account:write"]))', '!$ops.contains("account:write")'),
    ('check all path($p), $p == "a"', "check if"),
    ('reject if path($p), $p == "a"', "check if"),
    ('check if path($p), $p == "a" || $p == "b"', "'or'"),
    ('check if operations($ops), $ops.any($o -> $o == "store:read")', "instead of &&"),
    ('check if resource("a")', "no fact"),
    ('operations({"store:write"})', "holds checks alone"),
    ('path("b") <- path($p)', "holds checks alone"),
]


@pytest.fixture(scope="module")
def package() -> Path:
    return require_node_package(PACKAGE, VERSION)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    process = SidecarProcess(
        tmp_path_factory.mktemp("wasm"), upstreams='  local: {url: "file://./data"}\n', policies={"web.yaml": POLICY}
    )
    try:
        yield process.start()
    finally:
        process.kill()


@pytest.fixture(scope="module")
def token(sidecar: SidecarProcess) -> str:
    words = ("--kind", "biscuit", "--subject", "ci", "--workspace", "web", "-p", "store:read", "-p", "store:write")
    return sidecar.cli("token", "create", *words, "--ttl-seconds", "3600").strip()


def narrow(package: Path, sidecar: SidecarProcess, token: str, *blocks: str, **how: bool) -> list[str]:
    key = json.loads(sidecar.cli("key", "list", "--json"))[0]["public_key"]
    script = Path(__file__).with_name("biscuit_narrow.mjs")
    done = subprocess.run(
        ["node", "--experimental-wasm-modules", "--no-warnings", str(script), str(package / "module" / "biscuit.js")],
        input=json.dumps({"token": token, "key": key, "blocks": blocks, **how}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_what_is_within_the_published_subset_works(package: Path, sidecar: SidecarProcess, token: str) -> None:
    narrowed = narrow(package, sidecar, token, *(check for check, _, _ in WITHIN))
    for (check, get, put), text in zip(WITHIN, narrowed, strict=True):
        for method, body, through in (("GET", None, get), ("PUT", b"x", put), ("DELETE", None, False)):
            answer = ask(sidecar.port, method, "/web/a", bearer(text), body)
            assert (answer.status, answer.reason) == (403, "token_limit") or through, (check, method)
            assert answer.reason is None or not through, (check, method)


@pytest.mark.slow
def test_a_sealed_one_works(package: Path, sidecar: SidecarProcess, token: str) -> None:
    [sealed] = narrow(package, sidecar, token, 'check if method("GET")', seal=True)
    assert ask(sidecar.port, "GET", "/web/none", bearer(sealed)).status == 404
    assert ask(sidecar.port, "PUT", "/web/a", bearer(sealed), b"x").reason == "token_limit"


def inspected(sidecar: SidecarProcess, token: str) -> dict[str, object]:
    command = [sys.executable, "-m", "sidecar", "token", "inspect", "--json", "--config", str(sidecar.config)]
    done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_what_is_beyond_it_is_refused_with_a_reason(package: Path, sidecar: SidecarProcess, token: str) -> None:
    narrowed = narrow(package, sidecar, token, *(check for check, _ in BEYOND))
    for (check, reason), text in zip(BEYOND, narrowed, strict=True):
        answer = ask(sidecar.port, "GET", "/web/none", bearer(text))
        assert (answer.status, answer.reason) == (401, "bad_token"), check
        shown = inspected(sidecar, text)
        assert (shown["verified"], shown["accepted"]) == (True, False), check
        assert reason in str(shown["problem"]), check
    [signed] = narrow(package, sidecar, token, 'check if method("GET")', thirdParty=True)
    assert ask(sidecar.port, "GET", "/web/none", bearer(signed)).reason == "bad_token"
    assert "somebody else has signed" in str(inspected(sidecar, signed)["problem"])
