"""A token leaked: who wrote what with it, and away with that, through the running sidecar."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import ask, bearer
from tests.e2e.issuer import AUDIENCE, key_set
from tests.e2e.issuer import token as jwt
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

CORP = "https://idp.example.com"
POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: local}
  - {path: /nx, client: nx, upstream: local}
ci_tokens: read-write
personal_tokens: read-write
members: {users: [ada@example.com]}
rules:
  - {name: builds write, allow: [read, write], issuer: corp}
  - {name: ada deletes, allow: [delete], users: [ada@example.com]}
  - {name: releases stay, deny: [delete], path: releases/**}
"""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    (tmp_path / "corp.jwks.json").write_bytes(key_set("k1"))
    process = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY},
        more=f"issuers:\n  corp: {{issuer: '{CORP}', audience: {AUDIENCE}, jwks_file: ./corp.jwks.json}}\nlimits: {{drain_delay: 0s}}",
    )
    yield process.start()
    process.kill()


def run(sidecar: SidecarProcess, *arguments: str, stdin: str = "", token: str = "") -> tuple[int, str, str]:
    command = [sys.executable, "-m", "sidecar", *arguments, "--config", str(sidecar.config)]
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={"SIDECAR_TOKEN": token, "PATH": "/usr/bin"},
    )
    return done.returncode, done.stdout, done.stderr


def put(sidecar: SidecarProcess, path: str, token: str, body: bytes = b"x") -> None:
    assert ask(sidecar.port, "PUT", path, bearer(token), body).status in (200, 201, 204)


def recorded(sidecar: SidecarProcess, count: int) -> None:
    def all_there() -> bool:
        return sum(each["kind"] == "access" and each["stage"] == "complete" for each in sidecar.audit()) >= count

    until(all_there)


def test_from_a_leaked_token_to_a_clean_store(sidecar: SidecarProcess, tmp_path: Path) -> None:
    leaked = sidecar.token()
    leaked_id = leaked.split("_")[2]
    ada = sidecar.token(kind="personal", subject="ada@example.com", workspaces=())
    build = jwt(CORP, sub="repo:acme/web", jti="j-1", repository="acme/web", ref="refs/heads/main", run_id="77")
    put(sidecar, "/web/a%20b.tgz", leaked, b"bad")
    put(sidecar, "/nx/v1/cache/123", leaked, b"bad")
    put(sidecar, "/web/rebuilt.tgz", leaked, b"bad")
    put(sidecar, "/web/rebuilt.tgz", build, b"good")
    put(sidecar, "/web/releases/1.tgz", leaked, b"bad")
    put(sidecar, "/web/good.tgz", build, b"good")
    recorded(sidecar, 6)

    code, out, _ = run(sidecar, "audit", "who-wrote", "rebuilt.tgz", "--workspace", "web", "--json")
    first, second = json.loads(out)["writes"]
    assert code == 0
    assert (first["token_id"], first["current"], second["current"]) == (leaked_id, False, True)
    assert second["digest"] == f"sha256:{hashlib.sha256(b'good').hexdigest()}"
    assert second["claims"] == {"repository": "acme/web", "ref": "refs/heads/main", "run_id": "77"}
    assert second["subject"] == "repo:acme/web"
    code, out, _ = run(sidecar, "audit", "who-wrote", "a b.tgz")
    assert f"sha256:{hashlib.sha256(b'bad').hexdigest()}  current  ci ci" in out

    code, told, _ = run(sidecar, "audit", "written-by", leaked_id, "--since", "7d")
    assert [line.split("  ")[2] for line in told.splitlines()] == [
        "/web/a%20b.tgz", "/nx/v1/cache/123", "/web/rebuilt.tgz", "/web/releases/1.tgz",
    ]  # fmt: skip
    assert run(sidecar, "audit", "written-by", "-", "--since", "7d", stdin=leaked)[1] == told
    code, document, _ = run(sidecar, "audit", "written-by", "repo:acme/web", "--since", "7d", "--json")
    assert [each["key"] for each in json.loads(document)["writes"]] == ["rebuilt.tgz", "good.tgz"]
    code, document, _ = run(sidecar, "audit", "written-by", leaked_id, "--since", "7d", "--json")

    for listed in (told, document):
        code, plan, _ = run(sidecar, "purge", "--from", "-", stdin=listed)
        assert code == 0
        assert plan.splitlines()[-1] == "dry run: 3 would be deleted, 1 kept; --yes deletes"
        assert "keep    /web/rebuilt.tgz  (changed since)" in plan
    assert ask(sidecar.port, "GET", "/web/a%20b.tgz", bearer(ada)).body == b"bad", "a dry run deletes nothing"

    state = str(tmp_path / "purged")
    code, out, err = run(sidecar, "purge", "--from", "-", "--yes", "--state", state, stdin=told, token=ada)
    assert (code, out) == (1, "2 deleted, 0 gone before, 1 kept, 1 failed\n")
    assert "failed: /web/releases/1.tgz: 403" in err, "the policy has its say"
    assert ask(sidecar.port, "GET", "/web/rebuilt.tgz", bearer(ada)).body == b"good"
    for path in ("/web/a%20b.tgz", "/nx/v1/cache/123"):
        assert ask(sidecar.port, "GET", path, bearer(ada)).status == 404

    put(sidecar, "/web/a%20b.tgz", build, b"good")
    code, out, _ = run(sidecar, "purge", "--from", "-", "--yes", "--state", state, "--json", stdin=told, token=ada)
    again: dict[str, Any] = json.loads(out)
    assert (again["done_before"], again["deleted"], again["failed"]) == (2, 0, 1)
    assert ask(sidecar.port, "GET", "/web/a%20b.tgz", bearer(ada)).body == b"good", "what was done is not done again"

    deletions = [each for each in sidecar.audit() if each["action"] == "object.delete" and each["stage"] == "intent"]
    assert [each["resource"]["name"] for each in deletions] == ["a b.tgz", "v1/cache/123"]
    assert {each["actor"]["principal"] for each in deletions} == {"ada@example.com"}
    assert all(each["request"]["user_agent"].startswith("sidecar-purge/") for each in deletions)


def test_one_key_that_can_not_be_purged_keeps_no_other(sidecar: SidecarProcess) -> None:
    leaked = sidecar.token()
    ada = sidecar.token(kind="personal", subject="ada@example.com", workspaces=())
    put(sidecar, "/web/before", leaked)
    put(sidecar, "/web/" + "/".join(["%61" * 140] * 5), leaked)
    put(sidecar, "/web/after", leaked)
    recorded(sidecar, 3)
    for form in ((), ("--json",)):
        code, told, _ = run(sidecar, "audit", "written-by", leaked.split("_")[2], *form)
        code, plan, _ = run(sidecar, "purge", "--from", "-", stdin=told)
        assert (code, plan.splitlines()[-1]) == (1, "dry run: 2 would be deleted, 0 kept, 1 cannot be; --yes deletes")
    code, out, err = run(sidecar, "purge", "--from", "-", "--yes", stdin=told, token=ada)
    assert (code, out) == (1, "2 deleted, 0 gone before, 0 kept, 1 failed\n")
    assert "failed: key aaa" in err
    assert "give its path" in err


def test_what_can_not_be_done_is_told(sidecar: SidecarProcess) -> None:
    code, _, err = run(sidecar, "purge", "--from", "-", "--yes", stdin="/web/a\n")
    assert (code, "SIDECAR_TOKEN" in err) == (1, True)
    code, _, err = run(sidecar, "purge", "--from", "-", "--yes", stdin="/web/a\n", token="asc_ci_nobody")
    assert (code, "doesn't accept the token" in err) == (1, True)
    assert "asc_ci_nobody" not in err
    ada = sidecar.token(kind="personal", subject="ada@example.com", workspaces=())
    code, out, err = run(sidecar, "purge", "--from", "-", "--yes", stdin="/elsewhere/a\n/web/none\n", token=ada)
    assert (code, out) == (1, "0 deleted, 1 gone before, 0 kept, 1 failed\n")
    assert "no_route" in err, "a wrong address is not a key that is gone"
    sidecar.kill()
    code, _, err = run(sidecar, "purge", "--from", "-", "--yes", stdin="/web/a\n/web/b\n", token=ada)
    assert (code, "can't be reached" in err) == (1, True)
