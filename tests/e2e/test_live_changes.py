"""What changes beside a running sidecar counts without a restart: revocations, policies, the directory of people.

A mistake in an edit never takes away what worked, and is seen at every place where an operator looks.
"""

import asyncio
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import config
from sidecar.model import PrincipalKind, Secret
from sidecar.store.open import open_token_store
from tests.e2e.asking import ask, bearer
from tests.e2e.process import SidecarProcess, until
from tests.waiting import Stopwatch

pytestmark = pytest.mark.slow

REVOKED_WITHIN = 0.5
"""Seconds, as a process counts them that is let run."""
LIVE_WITHIN = 3.0
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
personal_tokens: read
members: {users: [ada@example.com], groups: [web-team]}
"""
PEOPLE = "users:\n  ada@example.com: {}\n  bob@example.com: {groups: [web-team]}\n"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    folder: Path = tmp_path_factory.mktemp("live")
    (folder / "people.yaml").write_text(PEOPLE)
    process = SidecarProcess(
        folder,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY},
        more="directory: {file: ./people.yaml}\nidentity_cache: {ttl: 60s}\nlimits: {drain_delay: 0s}",
    )
    try:
        process.start()
        writer = process.token()
        assert ask(process.port, "PUT", "/web/stored", bearer(writer), b"content").status == 201
        yield process
        assert process.stop() == 0
    finally:
        process.kill()


@pytest.fixture(autouse=True)
def as_it_was(sidecar: SidecarProcess) -> Iterator[None]:
    yield
    policies = {path.name: path.read_text() for path in sidecar.folder.glob("policies/*")}
    people = sidecar.folder / "people.yaml"
    if policies == {"web.yaml": POLICY} and people.read_text() == PEOPLE:
        return
    for name in policies:
        (sidecar.folder / "policies" / name).unlink()
    sidecar.policy("web.yaml", POLICY)
    people.write_text(PEOPLE)
    owner = sidecar.token()
    until(lambda: said(sidecar, owner) == (200, None) and said(sidecar, None) == (401, "no_token"))
    until(lambda: "[~]" not in readiness(sidecar)[1])


def said(sidecar: SidecarProcess, token: str | None) -> tuple[int, str | None]:
    answer = ask(sidecar.port, "GET", "/web/stored", bearer(token) if token else None)
    return answer.status, answer.reason


def readiness(sidecar: SidecarProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/readyz?verbose", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def records(sidecar: SidecarProcess, kind: str, action: str) -> list[dict[str, object]]:
    return [record for record in sidecar.audit() if (record["kind"], record["action"]) == (kind, action)]


# --- revocation -----------------------------------------------------------------------------------------------------------------


class Caller:
    """Asks over one kept connection, so that a try costs a millisecond."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._headers = bearer(token)

    def status(self) -> int:
        self._connection.request("GET", "/web/stored", headers=self._headers)
        response = self._connection.getresponse()
        response.read()
        return response.status

    def seconds_until(self, status: int, watch: Stopwatch) -> float:
        """From the watch's start to the first answer with this status, asked every 20 ms."""
        while self.status() != status:
            assert watch.look() < 20, f"still not {status}"
            time.sleep(0.02)
        return watch.look()


def revoke_at_once(sidecar: SidecarProcess, token: str) -> Stopwatch:
    """By the library; a watch that was started before the revocation was even begun."""

    async def revoke() -> Stopwatch:
        settings = config.load(sidecar.config).tokens
        assert settings is not None
        opened = await open_token_store(settings)
        try:
            began = Stopwatch(0.05)
            await opened.tokens.revoke(opened.tokens.id_of(Secret(token)), actor="test", now=int(time.time()))
        finally:
            await opened.store.close()
        return began

    return asyncio.run(revoke())


def test_a_revoked_token_is_refused_within_half_a_second_though_the_cache_knows_it(sidecar: SidecarProcess) -> None:
    took = []
    for token in [sidecar.token() for _ in range(10)]:
        caller = Caller(sidecar.port, token)
        assert caller.status() == 200
        hits = sidecar.metric("sidecar_identity_cache_hits_total")
        assert caller.status() == 200
        assert sidecar.metric("sidecar_identity_cache_hits_total") == hits + 1, "it isn't in the cache"
        took.append(caller.seconds_until(401, revoke_at_once(sidecar, token)))
        assert said(sidecar, token) == (401, "revoked")
    assert max(took) < REVOKED_WITHIN, took


def test_revoking_by_the_command_line_takes_effect_before_a_person_could_look(sidecar: SidecarProcess) -> None:
    created = sidecar.cli("token", "create", "--kind", "ci", "--subject", "ci", "--workspace", "web")
    token = created.strip()
    assert created == f"{token}\n", "the token stands alone on standard output"
    caller = Caller(sidecar.port, token)
    assert caller.status() == 200
    sidecar.revoke(token)
    assert caller.seconds_until(401, Stopwatch(0.05)) < REVOKED_WITHIN
    token_id = token.split("_")[2]
    for action in ("created", "revoked"):
        changed = until(
            lambda action=action: [each for each in records(sidecar, "token", action) if token_id in str(each)]
        )
        assert len(changed) == 1
        assert changed[0]["changes"]["token_id"] == token_id


def test_revoking_one_token_leaves_the_others_alone(sidecar: SidecarProcess) -> None:
    revoked, other = sidecar.token(), sidecar.token()
    assert said(sidecar, revoked) == said(sidecar, other) == (200, None)
    revoke_at_once(sidecar, revoked)
    until(lambda: said(sidecar, revoked) == (401, "revoked"))
    assert said(sidecar, other) == (200, None)


# --- policies ---------------------------------------------------------------------------------------------------------------------


def test_an_edit_of_the_policy_is_live_within_three_seconds_both_ways(sidecar: SidecarProcess) -> None:
    assert said(sidecar, None) == (401, "no_token")
    sidecar.policy("web.yaml", POLICY + "anonymous: read\n")
    until(lambda: said(sidecar, None) == (200, None), LIVE_WITHIN)
    sidecar.policy("web.yaml", POLICY)
    until(lambda: said(sidecar, None) == (401, "no_token"), LIVE_WITHIN)


def test_a_new_workspace_is_served_and_one_that_is_taken_away_is_not(sidecar: SidecarProcess) -> None:
    more = POLICY.replace("workspace: web", "workspace: more").replace("/web", "/more") + "anonymous: read\n"
    sidecar.policy("more.yaml", more)
    until(lambda: unknown_key(sidecar) == (404, None), LIVE_WITHIN)
    (sidecar.folder / "policies" / "more.yaml").unlink()
    until(lambda: unknown_key(sidecar) == (404, "no_route"), LIVE_WITHIN)


def unknown_key(sidecar: SidecarProcess) -> tuple[int, str | None]:
    answer = ask(sidecar.port, "GET", "/more/key")
    return answer.status, answer.reason


def test_removing_the_file_ends_the_access_of_tokens_that_the_cache_knows(sidecar: SidecarProcess) -> None:
    token = sidecar.token()
    assert said(sidecar, token) == (200, None)
    (sidecar.folder / "policies" / "web.yaml").unlink()
    until(lambda: said(sidecar, token) == (404, "no_route"), LIVE_WITHIN)


def test_a_broken_edit_changes_nothing_and_is_seen_everywhere(sidecar: SidecarProcess) -> None:
    token = sidecar.token()
    rejected = len(records(sidecar, "policy", "rejected"))
    errors = sidecar.metric('sidecar_policy_reloads_total{result="error"}')
    sidecar.policy("web.yaml", POLICY.replace("read-write", "read-wirte"))

    until(lambda: sidecar.metric('sidecar_policy_workspaces{state="bad"}') == 1, LIVE_WITHIN)
    assert said(sidecar, token) == (200, None), "the last good version has to go on"
    assert ask(sidecar.port, "PUT", "/web/another", bearer(token), b"x").status in (201, 204)

    status, text = readiness(sidecar)
    assert status == 200, "a mistake in a file must not take the fleet away"
    assert "[~]policy files: not as they are on disk: policies/web.yaml" in text.splitlines()
    assert sidecar.metric('sidecar_policy_reloads_total{result="error"}') == errors + 1
    assert sidecar.metric("sidecar_policy_last_reload_successful") == 0
    record = until(lambda: records(sidecar, "policy", "rejected")[rejected:])[0]
    assert (record["outcome"], record["severity"]) == ("error", "error")
    assert "web.yaml:4 $.ci_tokens" in str(record["changes"])
    assert "did you mean 'read-write'?" in str(record["changes"])
    assert "web.yaml:4 $.ci_tokens" in sidecar.log

    sidecar.policy("web.yaml", POLICY)
    until(lambda: sidecar.metric('sidecar_policy_workspaces{state="bad"}') == 0, LIVE_WITHIN)
    assert sidecar.metric("sidecar_policy_last_reload_successful") == 1
    assert "web.yaml" not in readiness(sidecar)[1]


def test_a_broken_file_does_not_hold_up_another_ones_edit(sidecar: SidecarProcess) -> None:
    sidecar.policy("broken.yaml", "workspace: [")
    sidecar.policy("web.yaml", POLICY + "anonymous: read\n")
    until(lambda: said(sidecar, None) == (200, None), LIVE_WITHIN)


def test_a_workspace_whose_file_was_broken_from_the_start_is_an_outage_and_the_others_are_served(
    tmp_path: Path,
) -> None:
    other = POLICY.replace("workspace: web", "workspace: other").replace("/web", "/other")
    sidecar = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY + "anonymus: read\n", "other.yaml": other + "anonymous: read\n"},
        more="limits: {drain_delay: 0s}",
    )
    try:
        sidecar.start()
        assert said(sidecar, None) == (503, "policy_missing")
        assert said(sidecar, sidecar.token()) == (503, "policy_missing")
        assert ask(sidecar.port, "GET", "/other/missing").reason is None
        assert "web.yaml:7 $.anonymus" in sidecar.log
        sidecar.policy("web.yaml", POLICY + "anonymous: read\n")
        until(lambda: said(sidecar, None) == (404, None), LIVE_WITHIN)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()


# --- people --------------------------------------------------------------------------------------------------------------------------


def personal(sidecar: SidecarProcess, subject: str) -> str:
    return sidecar.token(kind=PrincipalKind.PERSONAL, subject=subject, workspaces=())


@pytest.mark.parametrize(
    ("subject", "edited", "reason"),
    [
        (
            "ada@example.com",
            PEOPLE.replace("ada@example.com: {}", "ada@example.com: {active: false}"),
            "inactive_person",
        ),
        ("ada@example.com", PEOPLE.replace("  ada@example.com: {}\n", ""), "inactive_person"),
        ("bob@example.com", PEOPLE.replace("web-team", "another-team"), "no_rule"),
    ],
    ids=["inactive", "no longer known", "out of the group"],
)
def test_whoever_leaves_the_directory_loses_access_with_the_token_in_the_cache(
    sidecar: SidecarProcess, subject: str, edited: str, reason: str
) -> None:
    token = personal(sidecar, subject)
    assert said(sidecar, token) == (200, None)
    (sidecar.folder / "people.yaml").write_text(edited)
    until(lambda: said(sidecar, token) == (403, reason), LIVE_WITHIN)
    (sidecar.folder / "people.yaml").write_text(PEOPLE)
    until(lambda: said(sidecar, token) == (200, None), LIVE_WITHIN)


def test_a_broken_directory_changes_nobodys_standing_and_is_seen(sidecar: SidecarProcess) -> None:
    ada, stranger = personal(sidecar, "ada@example.com"), personal(sidecar, "eve@example.com")
    (sidecar.folder / "people.yaml").write_text("users:\n  eve@example.com: {groups: web-team}\n")
    until(lambda: "people.yaml" in readiness(sidecar)[1], LIVE_WITHIN)
    status, text = readiness(sidecar)
    assert status == 200
    assert any(line.startswith("[~]directory: people.yaml:2") for line in text.splitlines()), text
    assert "people.yaml:2" in sidecar.log
    assert said(sidecar, ada) == (200, None)
    assert said(sidecar, stranger)[0] == 403
