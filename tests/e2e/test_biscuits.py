"""Biscuits on the real process: made, narrowed, sent, ended; and what the audit log says of them."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess, free_port, until

pytestmark = pytest.mark.slow
RETIRED_WITHIN = 0.5
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
settings: {channel: stable}
rules:
  - {name: biscuits delete old ones, allow: [delete], kinds: [biscuit], path: old/**}
"""
DOCS = """
workspace: docs
routes: [{path: /docs, client: plain, upstream: local}]
rules:
  - {name: biscuits read, allow: [read], kinds: [biscuit]}
"""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    process = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY, "docs.yaml": DOCS},
        more="directory: {file: ./people.yaml}\nlimits: {drain_delay: 0s}",
    )
    (tmp_path / "people.yaml").write_text("users:\n  ada@example.com: {id: u-1}\n")
    try:
        yield process.start()
    finally:
        process.kill()


def made(sidecar: SidecarProcess, *words: str, subject: str = "ci", workspace: str = "web") -> str:
    names = ("--kind", "biscuit", "--subject", subject, *(("--workspace", workspace) if workspace else ()))
    return sidecar.cli(
        "token", "create", *names, *(words or ("-p", "store:read", "-p", "store:write")), "--ttl", "1h"
    ).strip()


def narrowed(sidecar: SidecarProcess, token: str, *words: str) -> str:
    """By the command alone: no configuration, and in another folder."""
    key = json.loads(sidecar.cli("key", "list", "--json"))[-1]["public_key"]
    command = [sys.executable, "-m", "sidecar", "token", "attenuate", "--public-key", key, *words]
    done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def said(sidecar: SidecarProcess, token: str, method: str = "GET", path: str = "/web/none") -> tuple[int, str | None]:
    answer = ask(sidecar.port, method, path, bearer(token), b"x" if method == "PUT" else None)
    return answer.status, answer.reason


LIMITED = (403, "token_limit")


def test_a_step_of_ci_narrows_its_token_and_runs_what_it_doesn_t_trust(sidecar: SidecarProcess) -> None:
    token = made(sidecar, "-p", "store:read", "-p", "store:write", "-p", "store:delete")
    assert said(sidecar, token, "PUT", "/web/releases/1") == (201, None)
    assert said(sidecar, token, "PUT", "/web/old/1") == (201, None)
    untrusted = narrowed(sidecar, token, "--permission", "read", "--path", "releases/**", "--ttl", "10m")
    assert said(sidecar, untrusted, "GET", "/web/releases/1") == (200, None)
    assert said(sidecar, untrusted, "PUT", "/web/releases/2") == LIMITED
    assert said(sidecar, untrusted, "GET", "/web/old/1") == LIMITED
    assert said(sidecar, untrusted, "DELETE", "/web/old/1") == LIMITED
    assert said(sidecar, token, "DELETE", "/web/old/1") == (204, None)
    assert said(sidecar, token, "DELETE", "/web/releases/1") == (403, "no_rule")
    short = narrowed(sidecar, token, "--ttl-seconds", "1")
    until(lambda: said(sidecar, short) == (401, "expired"))
    assert said(sidecar, token) == (404, None)


def test_what_it_is_bound_to_and_what_rules_grant(sidecar: SidecarProcess) -> None:
    web, free = made(sidecar), made(sidecar, "--all-permissions", workspace="")
    assert said(sidecar, web, path="/docs/none") == (403, "wrong_workspace")
    assert said(sidecar, free, path="/docs/none") == (404, None)
    assert said(sidecar, free) == (403, "no_rule")
    only_web = narrowed(sidecar, free, "--workspace", "web")
    assert said(sidecar, only_web) == (403, "no_rule")
    assert said(sidecar, only_web, path="/docs/none") == (403, "wrong_workspace")


def test_a_retired_key_ends_its_tokens_within_half_a_second(sidecar: SidecarProcess) -> None:
    first = made(sidecar)
    sidecar.cli("key", "create")
    second = made(sidecar)
    until(lambda: said(sidecar, second) == (404, None))
    assert said(sidecar, first) == (404, None)
    sidecar.cli("key", "retire", "1")
    until(lambda: said(sidecar, first) == (401, "bad_token"), RETIRED_WITHIN)
    assert said(sidecar, second) == (404, None)
    sidecar.stop()
    sidecar.start()
    assert (said(sidecar, first)[0], said(sidecar, second)[0]) == (401, 404)


def test_revoking_its_id_ends_it_and_all_that_was_derived(sidecar: SidecarProcess) -> None:
    token = made(sidecar)
    child = narrowed(sidecar, token, "--permission", "read")
    assert said(sidecar, child) == (404, None)
    token_id = json.loads(sidecar.cli("token", "list", "--json"))[0]["id"]
    sidecar.cli("token", "revoke", token_id)
    for each in (token, child):
        until(lambda each=each: said(sidecar, each) == (401, "revoked"))


def test_a_person_s_token_goes_with_the_person(sidecar: SidecarProcess) -> None:
    token = made(sidecar, subject="ada@example.com")
    assert said(sidecar, token) == (404, None)
    (sidecar.folder / "people.yaml").write_text("users:\n  ada@example.com: {id: u-1, active: false}\n")
    until(lambda: said(sidecar, token) == (403, "inactive_person"))


def test_the_audit_log_names_the_token_and_the_keys(sidecar: SidecarProcess) -> None:
    token = made(sidecar)
    said(sidecar, token, "PUT", "/web/a")
    token_id = json.loads(sidecar.cli("token", "list", "--json"))[0]["id"]
    sidecar.cli("key", "retire", "1")

    def keys() -> list[tuple[str, str]]:
        events = [record for record in sidecar.audit() if record["kind"] == "token"]
        return [(event["action"], event["changes"]["token_id"]) for event in events]

    until(lambda: ("key_retired", "key:biscuit:1") in keys())
    assert keys()[:2] == [("key_created", "key:biscuit:1"), ("created", token_id)]
    [write] = [
        record for record in sidecar.audit() if record["action"] == "object.write" and record["stage"] == "complete"
    ]
    assert (write["actor"]["type"], write["actor"]["token_id"], write["actor"]["principal"]) == (
        "biscuit",
        token_id,
        "ci",
    )
    text = (sidecar.folder / "audit.jsonl").read_text() + sidecar.log
    assert token not in text


def test_explain_judges_one_as_the_sidecar_does(sidecar: SidecarProcess, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text(made(sidecar, "-p", "store:read"))
    words = ("policy", "explain", "--json", "--token-file", str(tmp_path / "token.txt"))
    shown = json.loads(sidecar.cli(*words, "GET", "/web/a"))
    assert shown["reason"] == "granted"
    assert "checks the token's own: sidecar token inspect shows them" in shown["limits"]
    command = [sys.executable, "-m", "sidecar", *words, "PUT", "/web/a", "--config", str(sidecar.config)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert json.loads(refused.stdout)["reason"] == "token_limit"


def test_a_client_s_address_counts_where_a_trusted_peer_vouches_for_it(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path, upstreams='  local: {url: "file://./data"}\n', policies={"web.yaml": POLICY})
    balanced, text = free_port(), process.config.read_text()
    listeners = (
        f'[127.0.0.1:{process.port}, {{address: "127.0.0.1:{balanced}", proxy_protocol: {{trusted: [127.0.0.1]}}}}]'
    )
    process.config.write_text(text.replace(f"listen: 127.0.0.1:{process.port}\n", f"listen: {listeners}\n"))
    try:
        process.start()
        token = narrowed(process, made(process), "--check", 'check if client_ip($ip), $ip.starts_with("203.0.113.")')
        assert said(process, token) == LIMITED
        assert behind_balancer(balanced, token, "203.0.113.7") == 404
        assert behind_balancer(balanced, token, "192.0.2.1") == 403
        assert behind_balancer(balanced, token, None) == 403
    finally:
        process.kill()


def behind_balancer(port: int, token: str, client: str | None) -> int:
    """The status of a request after a PROXY header, version 2; without a client it is the balancer's own."""
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    if client is None:
        header = signature + b"\x20\x00\x00\x00"
    else:
        addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 40000, 80)
        header = signature + b"\x21\x11" + struct.pack("!H", len(addresses)) + addresses
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = f"GET /web/none HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        connection.sendall(header + request.encode())
        return int(connection.makefile("rb").readline().split()[1])
