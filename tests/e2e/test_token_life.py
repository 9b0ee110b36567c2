"""Tokens over their whole life, on the real process: replaced, used too late, moved to another pepper; and the people behind them."""

import datetime
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.model import PrincipalKind
from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.echo_store import EchoStore
from tests.e2e.process import SidecarProcess, until
from tests.e2e.test_workers import WORKERS, Client, workers_of

pytestmark = pytest.mark.slow

LIVE_WITHIN = 3.0
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
personal_tokens: read
members: {users: [ada@example.com, zoe@example.com]}
"""
DOCS = POLICY.replace("web", "docs")
PEOPLE = {"ada@example.com": "{id: u-17}", "zoe@example.com": "{id: u-18}"}

Start = Callable[..., SidecarProcess]


def people(**changed: str | None) -> str:
    """`None` takes somebody out."""
    rows = {**PEOPLE, **{f"{name}@example.com": row for name, row in changed.items()}}
    return "users:\n" + "".join(f"  {name}: {row}\n" for name, row in rows.items() if row is not None)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    process = None

    def start(tokens: str = "", workers: int = 1) -> SidecarProcess:
        nonlocal process
        (tmp_path / "people.yaml").write_text(people())
        process = SidecarProcess(
            tmp_path,
            upstreams='  local: {url: "file://./data"}\n',
            policies={"web.yaml": POLICY, "docs.yaml": DOCS},
            more=f"directory: {{file: ./people.yaml}}\nworkers: {workers}\nlimits: {{drain_delay: 0s}}",
        )
        if tokens:
            configured(process, tokens)
        return process.start()

    yield start
    if process is not None:
        process.kill()


def configured(sidecar: SidecarProcess, tokens: str) -> None:
    text = sidecar.config.read_text()
    before = text[text.index("tokens: {") : text.index("}", text.index("tokens: {")) + 1]
    sidecar.config.write_text(text.replace(before, f'tokens: {{store: "sqlite:///./sidecar.db", {tokens}}}'))


def said(sidecar: SidecarProcess, token: str, path: str = "/web/none") -> tuple[int, str | None]:
    answer = ask(sidecar.port, "GET", path, bearer(token))
    return answer.status, answer.reason


HERE = (404, None)
"""The sidecar lets it through, and the store has no such thing."""


def rotated(sidecar: SidecarProcess, token: str, overlap: str) -> str:
    return sidecar.cli("token", "rotate", "-", "--overlap", overlap, stdin=token).strip()


def token_events(sidecar: SidecarProcess, token: str) -> list[str]:
    token_id = token.split("_")[2]
    records = [record for record in sidecar.audit() if record["kind"] == "token"]
    return [str(record["action"]) for record in records if record["changes"]["token_id"] == token_id]


# --- the end in sight ---------------------------------------------------------------------------------------------------------


def test_whose_token_ends_within_a_week_is_told_so_by_every_store(tmp_path: Path) -> None:
    echo = EchoStore()
    open_to_all = POLICY.replace("workspace: web", "workspace: web\nanonymous: read")
    sidecar = SidecarProcess(
        tmp_path,
        upstreams=f'  local: {{url: "file://./data"}}\n  echo: {{url: "http://127.0.0.1:{echo.port}"}}\n',
        policies={"web.yaml": open_to_all, "echo.yaml": POLICY.replace("local", "echo").replace("web", "echo")},
    )
    name = "sidecar-token-expires"
    try:
        sidecar.start()
        soon, later, other = (
            sidecar.token(ttl=ttl, workspaces=(workspace,))
            for ttl, workspace in ((7 * 86400.0 - 60, "web"), (7 * 86400.0 + 600, "web"), (3600.0, "echo"))
        )
        shown = json.loads(sidecar.cli("token", "show", soon.split("_")[2], "--json"))

        def told(answer: Answer) -> bool:
            return answer.header(name) == shown["expires_at"] and answer.header("cache-control") == "private"

        assert ask(sidecar.port, "PUT", "/web/a", bearer(soon), b"x").status == 201
        for _ in ("verified", "remembered"):
            for method in ("GET", "HEAD"):
                assert told(ask(sidecar.port, method, "/web/a", bearer(soon)))
        assert told(ask(sidecar.port, "GET", "/web/none", bearer(soon)))
        assert ask(sidecar.port, "OPTIONS", "/web/a", bearer(soon)).header(name) == shown["expires_at"]
        refused = ask(sidecar.port, "DELETE", "/web/a", bearer(soon))
        assert (refused.status, refused.header(name)) == (403, shown["expires_at"]), "who is refused is told as well"
        assert ask(sidecar.port, "GET", "/echo/a", bearer(other)).header(name) is not None
        assert ask(sidecar.port, "GET", "/web/a", bearer(later)).header(name) is None
        anonymous = ask(sidecar.port, "GET", "/web/a")
        assert (anonymous.status, anonymous.header(name)) == (200, None)
    finally:
        sidecar.kill()
        echo.close()


# --- rotation -----------------------------------------------------------------------------------------------------------------


def test_a_replaced_token_ends_with_its_overlap_though_the_cache_knows_it_and_then_leaves_an_event(
    start: Start,
) -> None:
    sidecar = start()
    old = sidecar.token()
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20)

    asked: list[tuple[float, int, float]] = []

    def status() -> int:
        began = time.time()
        connection.request("GET", "/web/none", headers=bearer(old))
        answer = connection.getresponse()
        answer.read()
        asked.append((began, answer.status, time.time()))
        return answer.status

    assert status() == 404
    rotation = time.time()
    new = rotated(sidecar, old, "6s")
    assert said(sidecar, new) == HERE
    until(lambda: status() == 401)
    shown = json.loads(sidecar.cli("token", "show", old.split("_")[2], "--json"))
    ends = datetime.datetime.fromisoformat(shown["expires_at"]).timestamp()
    assert rotation + 6 - 1 <= ends <= asked[-1][2], "an overlap of whole seconds"
    assert len(asked) > 2, "they overlap"
    for began, answered, done in asked:
        assert answered == 404 or done >= ends
        assert answered == 401 or began < ends
    assert said(sidecar, new) == HERE, "an event revokes nothing"
    until(lambda: token_events(sidecar, old) == ["created", "rotated", "reused"])
    assert token_events(sidecar, new) == ["created"]
    assert sidecar.metric("sidecar_token_reuses_total") == 1
    until(lambda: "was replaced and is used after its overlap" in sidecar.log)
    shown = json.loads(sidecar.cli("token", "show", old.split("_")[2], "--json"))
    assert shown["reused_at"] is not None
    assert old not in sidecar.log
    connection.close()


def test_where_it_is_configured_the_whole_family_is_revoked_and_nobody_else(start: Start) -> None:
    sidecar = start("pepper_file: ./pepper, reuse: revoke_family")
    first, stranger = sidecar.token(), sidecar.token()
    second = rotated(sidecar, first, "0s")
    third = rotated(sidecar, second, "1h")
    assert [said(sidecar, token) for token in (second, third, stranger)] == [HERE] * 3
    assert said(sidecar, first) == (401, "expired")
    until(lambda: said(sidecar, second) == said(sidecar, third) == (401, "revoked"), 0.5)
    assert said(sidecar, stranger) == HERE


# --- the pepper ---------------------------------------------------------------------------------------------------------------


def test_a_change_of_pepper_leaves_every_token_that_is_used_and_moves_it(start: Start, tmp_path: Path) -> None:
    sidecar = start()
    used, idle = sidecar.token(), sidecar.token()
    assert said(sidecar, used) == HERE
    assert sidecar.stop() == 0
    new_pepper = tmp_path / "pepper.new"
    new_pepper.write_text(secrets.token_hex(32))
    new_pepper.chmod(0o600)
    configured(sidecar, "pepper_file: ./pepper.new, previous_pepper_files: [./pepper]")
    sidecar.start()
    made = sidecar.token()
    assert said(sidecar, used) == said(sidecar, made) == HERE
    now = pepper_of(sidecar, made)
    until(lambda: pepper_of(sidecar, used) == now)
    assert pepper_of(sidecar, idle) != now
    assert sidecar.stop() == 0
    (tmp_path / "pepper").unlink()
    configured(sidecar, "pepper_file: ./pepper.new")
    sidecar.start()
    assert said(sidecar, used) == said(sidecar, made) == HERE
    assert said(sidecar, idle) == (401, "bad_token")


def pepper_of(sidecar: SidecarProcess, token: str) -> str:
    return str(json.loads(sidecar.cli("token", "show", token.split("_")[2], "--json"))["pepper"])


# --- scopes -------------------------------------------------------------------------------------------------------------------


def test_one_token_may_different_things_in_different_places(start: Start) -> None:
    sidecar = start()
    words = ["--kind", "ci", "--subject", "build", "--scope", "workspace=web,path=releases/**,permissions=read"]
    token = sidecar.cli("token", "create", *words, "--scope", "workspace=web,path=nightly/**,permissions=write").strip()

    def asked(method: str, key: str) -> int:
        return ask(sidecar.port, method, key, bearer(token), b"x" if method == "PUT" else None).status

    assert (asked("PUT", "/web/nightly/1"), asked("GET", "/web/nightly/1")) == (201, 403)
    assert (asked("PUT", "/web/releases/1"), asked("GET", "/web/releases/1")) == (403, 404)
    assert said(sidecar, token, "/docs/releases/1") == (403, "wrong_workspace")


# --- the people behind them ---------------------------------------------------------------------------------------------------


def test_whoever_leaves_loses_access_everywhere_within_seconds_and_nobody_else_does(
    start: Start, tmp_path: Path
) -> None:
    """In each worker and in each workspace; and a name that was given to somebody else inherits nothing."""
    sidecar = start(workers=WORKERS)
    ada, zoe = (
        sidecar.cli("token", "create", "--kind", "personal", "--subject", f"{name}@example.com").strip()
        for name in ("ada", "zoe")
    )
    clients = {token: [Client(sidecar, pid, token) for pid in workers_of(sidecar)] for token in (ada, zoe)}
    paths = ("/web/none", "/docs/none")

    def answers(token: str) -> set[tuple[int, str | None]]:
        return {client.ask("GET", path) for client in clients[token] for path in paths}

    gone = (403, "inactive_person")
    for row, expected in (
        ("{id: u-17, active: false}", gone),
        (PEOPLE["ada@example.com"], HERE),
        (None, gone),
        ("{id: u-99}", gone),
        ("{}", gone),
        ("{id: u-17, groups: [more]}", HERE),
    ):
        (tmp_path / "people.yaml").write_text(people(ada=row))
        until(lambda expected=expected: answers(ada) == {expected}, LIVE_WITHIN)
        assert answers(zoe) == {HERE}
    for client in (*clients[ada], *clients[zoe]):
        client.close()
    fresh = sidecar.token(kind=PrincipalKind.PERSONAL, subject="ada@example.com", workspaces=(), owner_id="u-17")
    assert said(sidecar, fresh) == HERE
    assert sidecar.stop() == 0


def test_a_token_from_before_its_owner_had_an_id_belongs_to_who_uses_it_first(start: Start, tmp_path: Path) -> None:
    sidecar = start()
    token = sidecar.token(kind=PrincipalKind.PERSONAL, subject="ada@example.com", workspaces=())
    assert said(sidecar, token) == HERE

    def owner() -> str | None:
        rows = json.loads(sidecar.cli("token", "list", "--json"))
        return next(row["owner_id"] for row in rows if row["subject"] == "ada@example.com")

    until(lambda: owner() == "u-17", LIVE_WITHIN)
    (tmp_path / "people.yaml").write_text(people(ada="{id: u-99}"))
    until(lambda: said(sidecar, token) == (403, "inactive_person"), LIVE_WITHIN)
    assert sidecar.stop() == 0
