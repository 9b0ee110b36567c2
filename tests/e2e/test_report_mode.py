"""Before a policy is enforced: report mode lets through what only lacks a grant and leaves evidence of it (rule 21), and the old
shared password goes on working, narrowly, until its day."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

UPSTREAMS = '  local: {url: "file://./data"}\n'


def policy(name: str, more: str) -> str:
    return f"workspace: {name}\nroutes: [{{path: /{name}, client: plain, upstream: local}}]\n{more}\n"


TRIAL = policy(
    "trial",
    "mode: {report: {until: 2999-12-31}}\nwrite_once: true\nci_tokens: read-write\n"
    "rules: [{name: secrets stay, deny: [read], path: secret/**}]",
)
OLD = policy("old", "ci_tokens: read-write\nlegacy: {basic_file: ../secrets/old, level: read, until: 2999-12-31}")
OPEN = policy("open", "anonymous: read")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    folder: Path = tmp_path_factory.mktemp("report")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "old").write_text("cache:the old: pass word\n")
    process = SidecarProcess(
        folder,
        upstreams=UPSTREAMS,
        policies={"trial.yaml": TRIAL, "old.yaml": OLD, "open.yaml": OPEN},
        more="limits: {drain_delay: 0s}\ncarriers: {headers: [X-Cache-Token]}\nfailed_credentials: {enabled: false}",
    )
    try:
        process.start()
        yield process
        assert process.stop() == 0
    finally:
        process.kill()


def records(sidecar: SidecarProcess, path: str) -> list[dict[str, Any]]:
    """Of ended requests for a path."""
    return [
        record
        for record in sidecar.audit()
        if record["kind"] == "access" and record["stage"] == "complete" and record["request"]["path"] == path
    ]


def recorded(sidecar: SidecarProcess, path: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = until(lambda: records(sidecar, path))
    return found[-1]


def would_deny(sidecar: SidecarProcess, reason: str) -> float:
    return sidecar.metric(f'sidecar_would_deny_total{{reason="{reason}"}}')


def report(sidecar: SidecarProcess, *arguments: str) -> dict[str, Any]:
    printed = sidecar.cli("policy", "report", "--audit", str(sidecar.folder / "audit.jsonl"), "--json", *arguments)
    found: dict[str, Any] = json.loads(printed)
    return found


# --- report mode ----------------------------------------------------------------------------------------------------------------


def test_what_only_lacks_a_grant_gets_through_and_leaves_evidence(sidecar: SidecarProcess) -> None:
    stranger = sidecar.token(kind="personal", subject="eve@example.com", workspaces=())
    before = would_deny(sidecar, "no_token"), would_deny(sidecar, "no_rule")
    put = ask(sidecar.port, "PUT", "/trial/a/new", bearer(stranger), b"content")
    assert (put.status, put.reason) == (201, None)
    got = ask(sidecar.port, "GET", "/trial/a/new")
    assert (got.status, got.body) == (200, b"content")
    assert (got.header("cache-control") or "").startswith("private")
    assert (would_deny(sidecar, "no_token"), would_deny(sidecar, "no_rule")) == (before[0] + 1, before[1] + 1)
    until(lambda: sidecar.metric('sidecar_decisions_total{decision="allow",reason="would_deny"}') >= 2)

    until(lambda: len(records(sidecar, "/trial/a/new")) == 2)
    write, read = records(sidecar, "/trial/a/new")
    assert (write["outcome"], write["reason"], write["decision"]["would_deny"]) == ("allow", "would_deny", "no_rule")
    assert (write["actor"]["type"], write["actor"]["principal"]) == ("personal", "eve@example.com")
    assert (read["outcome"], read["reason"], read["decision"]["would_deny"]) == ("allow", "would_deny", "no_token")
    [intent] = [
        record
        for record in sidecar.audit()
        if record["stage"] == "intent" and record["request"]["path"] == "/trial/a/new"
    ]
    assert (intent["reason"], intent["decision"]["would_deny"]) == ("would_deny", "no_rule")


def test_a_connection_s_further_requests_are_told_of_as_well(sidecar: SidecarProcess) -> None:
    """Records that are like the last one are written by a shorter way."""
    with sidecar.connect() as client:
        for number in range(3):
            client.sendall(f"GET /trial/missing/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert b" 404 " in client.recv(65536)
    for number in range(3):
        record = recorded(sidecar, f"/trial/missing/{number}")
        assert (record["reason"], record["decision"]["would_deny"]) == ("would_deny", "no_token")


def test_what_stands_in_report_mode(sidecar: SidecarProcess) -> None:
    writer = sidecar.token(workspaces=("trial",))
    reader = sidecar.token(workspaces=("trial",), permissions=("read",))
    elsewhere = sidecar.token(workspaces=("open",))
    assert ask(sidecar.port, "PUT", "/trial/there", bearer(writer), b"first").status == 201
    before = would_deny(sidecar, "no_token") + would_deny(sidecar, "no_rule")

    def refused(method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str | None]:
        answer = ask(sidecar.port, method, path, headers, b"second" if method == "PUT" else None)
        return answer.status, answer.reason

    assert refused("GET", "/trial/secret/a") == (401, "rule_deny")
    assert refused("GET", "/trial/secret/a", bearer(writer)) == (403, "rule_deny")
    assert refused("PUT", "/trial/a", bearer(reader)) == (403, "token_limit")
    assert refused("GET", "/trial/a", bearer(elsewhere)) == (403, "wrong_workspace")
    assert refused("PUT", "/trial/there") == (401, "no_token")
    assert refused("PUT", "/trial/there", bearer(writer)) == (409, "exists")
    assert refused("DELETE", "/trial/there") == (401, "no_token")
    assert refused("DELETE", "/trial/there", bearer(writer)) == (403, "no_rule")
    assert refused("GET", "/trial/a", bearer("nonsense")) == (401, "bad_token")
    assert refused("GET", "/trial/a", {"Authorization": "Bearer"}) == (401, "bad_token")
    assert refused("GET", "/trial/%2e%2e/a") == (400, "bad_target")
    assert refused("GET", "/nowhere") == (404, "no_route")
    assert ask(sidecar.port, "GET", "/trial/there").body == b"first"
    assert would_deny(sidecar, "no_token") + would_deny(sidecar, "no_rule") == before + 1


def test_the_mode_ends_by_its_date_and_is_told_by_explain(sidecar: SidecarProcess) -> None:
    explained = json.loads(sidecar.cli("policy", "explain", "--anonymous", "GET", "/trial/a", "--json"))
    assert (explained["allowed"], explained["reason"]) == (True, "would_deny")
    assert (explained["would_deny"], explained["report_until"]) == ("no_token", "2999-12-31")
    printed = sidecar.cli("policy", "explain", "--anonymous", "GET", "/trial/a")
    assert "mode       report until 2999-12-31, UTC\n" in printed
    assert "After 2999-12-31 it is refused: no_token.\n" in printed

    assert ask(sidecar.port, "GET", "/trial/missing").status == 404
    try:
        sidecar.policy("trial.yaml", TRIAL.replace("2999-12-31", "2020-01-31"))
        until(lambda: ask(sidecar.port, "GET", "/trial/missing").reason == "no_token")
    finally:
        sidecar.policy("trial.yaml", TRIAL)
        until(lambda: ask(sidecar.port, "GET", "/trial/missing").status == 404)


def test_the_report_says_who_would_have_been_refused_and_what_would_fit(sidecar: SidecarProcess) -> None:
    stranger = sidecar.token(kind="personal", subject="bob@example.com", workspaces=())
    for name in ("x", "y"):
        assert ask(sidecar.port, "GET", f"/trial/docs/{name}", bearer(stranger)).status == 404
    recorded(sidecar, "/trial/docs/y")
    [row] = [row for row in report(sidecar)["would_deny"] if row["principal"] == "bob@example.com"]
    assert (row["workspace"], row["kind"], row["reason"], row["count"]) == ("trial", "personal", "no_rule", 2)
    assert (row["permissions"], row["below"], row["peers"]) == (["read"], "docs", {"127.0.0.1": 2})
    assert row["first"] <= row["last"]
    [rule] = [fit["yaml"] for fit in row["fits"] if fit["kind"] == "rule"]
    lines = "".join(f"  {line}\n" for line in rule.splitlines())
    try:
        sidecar.policy(
            "trial.yaml",
            TRIAL.replace("rules: [{name: secrets stay, deny: [read], path: secret/**}]", "rules:\n") + lines,
        )
        before = would_deny(sidecar, "no_rule")

        def granted() -> bool:
            ask(sidecar.port, "GET", "/trial/docs/x", bearer(stranger))
            return recorded(sidecar, "/trial/docs/x")["reason"] == "granted"

        until(granted)
        settled = would_deny(sidecar, "no_rule")
        ask(sidecar.port, "GET", "/trial/docs/y", bearer(stranger))
        assert would_deny(sidecar, "no_rule") == settled >= before
        [row] = [row for row in report(sidecar)["would_deny"] if row["principal"] == "bob@example.com"]
        assert [fit["kind"] for fit in row["fits"]] == ["granted"]
    finally:
        sidecar.policy("trial.yaml", TRIAL)
        until(lambda: ask(sidecar.port, "GET", "/trial/secret/a").reason == "rule_deny")


# --- the old shared password ----------------------------------------------------------------------------------------------------

RIGHT = basic("cache", "the old: pass word")


def old(sidecar: SidecarProcess, headers: dict[str, str], method: str = "GET", path: str = "/old/a") -> Answer:
    return ask(sidecar.port, method, path, headers, b"new" if method == "PUT" else None)


def test_the_old_password_reads_and_does_nothing_else(sidecar: SidecarProcess) -> None:
    writer = sidecar.token(workspaces=("old",))
    assert ask(sidecar.port, "PUT", "/old/stored", bearer(writer), b"content").status == 201
    accepted = sidecar.metric('sidecar_legacy_requests_total{result="accepted"}')
    assert old(sidecar, RIGHT, path="/old/stored").body == b"content"
    assert (old(sidecar, RIGHT, "PUT").status, old(sidecar, RIGHT, "PUT").reason) == (403, "token_limit")
    assert old(sidecar, RIGHT, "DELETE", "/old/stored").status == 403
    assert sidecar.metric('sidecar_legacy_requests_total{result="accepted"}') == accepted + 4
    assert sidecar.metric("sidecar_legacy_peers") == 1
    record = until(lambda: [r for r in records(sidecar, "/old/stored") if r["actor"]["type"] == "legacy"])[0]
    assert (record["outcome"], record["actor"]["principal"], record["actor"]["owner"]) == (
        "allow",
        "shared password",
        "old",
    )
    assert (record["actor"]["auth_method"], record["actor"]["scopes"]) == ("basic", ["read"])
    assert record["client"]["peer_ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "path", "status", "reason"),
    [
        (basic("cache", "wrong"), "/old/a", 401, "bad_token"),
        (basic("", "the old: pass word"), "/old/a", 401, "bad_token"),
        (basic("cache", ""), "/old/a", 401, "bad_token"),
        ({"Authorization": "Bearer cache:the"}, "/old/a", 401, "bad_token"),
        (RIGHT, "/open/a", 401, "bad_token"),
        (RIGHT, "/trial/a", 401, "bad_token"),
        ({**RIGHT, "X-Cache-Token": "x"}, "/old/a", 400, "two_credentials"),
        ({**RIGHT, "Origin": "https://evil.example"}, "/old/a", 403, "cross_site"),
    ],
)
def test_what_the_old_password_does_not_open(
    sidecar: SidecarProcess, headers: dict[str, str], path: str, status: int, reason: str
) -> None:
    """A wrong one is refused where anonymous may read, and in report mode, too."""
    answer = old(sidecar, headers, path=path)
    assert (answer.status, answer.reason) == (status, reason)


def test_its_file_is_followed_and_without_one_nobody_is_let_in(sidecar: SidecarProcess) -> None:
    file = sidecar.folder / "secrets" / "old"
    content = file.read_bytes()
    with sidecar.connect() as kept:
        request = f"GET /old/missing HTTP/1.1\r\nHost: a\r\nAuthorization: {RIGHT['Authorization']}\r\n\r\n".encode()
        kept.sendall(request)
        assert b" 404 " in kept.recv(65536)
        try:
            file.write_text("cache:another")
            until(lambda: old(sidecar, basic("cache", "another")).status == 404)
            kept.sendall(request)
            assert b"bad_token" in kept.recv(65536)
            for unusable in ("", "two\nlines:x", "no pair"):
                file.write_text(unusable)
                until(lambda: old(sidecar, basic("cache", "another")).reason == "bad_token")
                assert old(sidecar, basic("", "")).reason == "bad_token"
                file.write_text("cache:another")
                until(lambda: old(sidecar, basic("cache", "another")).status == 404)
            file.unlink()
            until(lambda: old(sidecar, basic("cache", "another")).reason == "bad_token")
            until(
                lambda: "the shared password lets nobody in: workspace old: ../secrets/old: No such file" in sidecar.log
            )
        finally:
            file.write_bytes(content)
            until(lambda: old(sidecar, RIGHT).status == 404)
    assert "another" not in sidecar.log


def test_after_its_last_day_whoever_sends_it_is_refused_and_still_seen(sidecar: SidecarProcess) -> None:
    assert old(sidecar, RIGHT).status == 404
    try:
        sidecar.policy("old.yaml", OLD.replace("2999-12-31", "2020-01-31"))
        until(lambda: old(sidecar, RIGHT).reason == "expired")
        answer = old(sidecar, {**RIGHT, "User-Agent": "an old build"}, path="/old/late")
        assert answer.status == 401
        assert len(answer.all("www-authenticate")) == 2
        record = recorded(sidecar, "/old/late")
        assert (record["actor"]["type"], record["outcome"]) == ("legacy", "unauthenticated")
        assert sidecar.metric('sidecar_legacy_requests_total{result="ended"}') >= 2
        [use] = report(sidecar, "--workspace", "old")["legacy"]
        assert (use["workspace"], use["peer"], use["user_agent"]) == ("old", "127.0.0.1", "an old build")
        assert use["count"] > use["refused"] >= 2
    finally:
        sidecar.policy("old.yaml", OLD)
        until(lambda: old(sidecar, RIGHT).status == 404)


def test_the_old_password_is_written_nowhere(sidecar: SidecarProcess) -> None:
    old(sidecar, RIGHT, path="/old/last")
    old(sidecar, RIGHT, path="/open/last")
    recorded(sidecar, "/old/last")
    encoded = RIGHT["Authorization"].removeprefix("Basic ")
    told = (sidecar.folder / "audit.jsonl").read_text() + sidecar.log
    assert "pass word" not in told
    assert encoded not in told
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "policy", "report", "--audit", str(sidecar.folder / "audit.jsonl")],
        capture_output=True,
        text=True,
        cwd=sidecar.folder,
        check=True,
    )
    assert "Who still uses an old shared password:" in done.stdout
    assert "old  127.0.0.1  " in done.stdout
