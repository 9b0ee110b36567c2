"""Revocation on real processes: every kind of token, what is under way, a power cut at any moment, and what a leak has touched."""

import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from biscuit_auth import UnverifiedBiscuit

from sidecar.model import PrincipalKind
from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.issuer import AUDIENCE, key_set
from tests.e2e.issuer import token as jwt_of
from tests.e2e.process import SidecarProcess, until
from tests.e2e.scripted_store import Asked, ScriptedStore, read_body

pytestmark = pytest.mark.slow

CORP = "https://idp.example.com"
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}, {path: /slow, client: plain, upstream: slow}]
ci_tokens: read-write
personal_tokens: read-write
members: {users: [ada@example.com, zoe@example.com]}
rules:
  - {name: builds, allow: [read, write], issuer: corp, users: [job, other, ada@example.com]}
  - {name: biscuits, allow: [read, write], kinds: [biscuit]}
"""
PEOPLE = "users:\n  ada@example.com: {id: u-17}\n  zoe@example.com: {id: u-18}\n"
SIZE = 8 * 1024 * 1024

SOON = 20.0
"""Half a second is promised, and measured in `test_live_changes`; a busy machine takes its time to ask."""

Start = Callable[..., SidecarProcess]


def halting(connection: socket.socket, asked: Asked) -> None:
    """Answers a GET with half of what it announces and then waits; takes a PUT for as long as it comes."""
    if asked.line.startswith(b"GET"):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(65536))
        with contextlib.suppress(OSError):
            connection.recv(1)  # until it is broken off
        asked.cut = True
        asked.done.set()
        return
    read_body(connection, asked)
    if not asked.cut:
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def store() -> Iterator[ScriptedStore]:
    store = ScriptedStore(halting)
    yield store
    store.close()


@pytest.fixture
def start(tmp_path: Path, store: ScriptedStore) -> Iterator[Start]:
    process = None

    def start(more: str = "", workers: int = 1, people: str = "") -> SidecarProcess:
        nonlocal process
        (tmp_path / "people.yaml").write_text(PEOPLE)
        (tmp_path / "corp.jwks.json").write_bytes(key_set("k1"))
        process = SidecarProcess(
            tmp_path,
            upstreams=f'  local: {{url: "file://./data"}}\n  slow: {{url: "http://127.0.0.1:{store.port}"}}\n',
            policies={"web.yaml": POLICY},
            more=f"""
directory: {{file: ./people.yaml}}
workers: {workers}
issuers:
  corp: {{issuer: "{CORP}", audience: {AUDIENCE}, jwks_file: ./corp.jwks.json, leeway: 60s{people}}}
limits: {{drain_delay: 0s, grace: 1s}}
failed_credentials: {{enabled: false}}
{more}
""",
        )
        return process.start()

    yield start
    if process is not None:
        process.kill()


def jwt(**claims: object) -> str:
    return jwt_of(CORP, **{"sub": "job", **claims})


def biscuit(sidecar: SidecarProcess, subject: str = "nightly") -> str:
    words = (
        "--kind",
        "biscuit",
        "--subject",
        subject,
        "--workspace",
        "web",
        "-p",
        "read",
        "-p",
        "write",
        "--ttl",
        "1h",
    )
    return sidecar.cli("token", "create", *words).strip()


def narrowed(sidecar: SidecarProcess, token: str) -> str:
    command = [sys.executable, "-m", "sidecar", "token", "attenuate", "--permission", "read"]
    done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=120, cwd=sidecar.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def said(sidecar: SidecarProcess, token: str, path: str = "/web/none") -> tuple[int, str | None]:
    answer: Answer = ask(sidecar.port, "GET", path, bearer(token))
    return answer.status, answer.reason


HERE, REVOKED = (404, None), (401, "revoked")
"""`HERE`: the sidecar lets it through, and the store has no such thing."""


# --- every kind -----------------------------------------------------------------------------------------------------------------


def test_a_jwt_is_revoked_alone_by_its_jti_and_with_its_like_by_subject_and_time(start: Start) -> None:
    sidecar = start()
    one, two, no_id = jwt(jti="j-1"), jwt(jti="j-2"), jwt()
    later, other = jwt(jti="j-3", iat=int(time.time()) + 55), jwt(jti="j-4", sub="other")
    everyone = [one, two, no_id, later, other]
    assert [said(sidecar, each) for each in everyone] == [HERE] * 5
    sidecar.revoke(one)
    until(lambda: said(sidecar, one) == REVOKED, SOON)
    assert [said(sidecar, each) for each in everyone] == [REVOKED, *[HERE] * 4]
    sidecar.cli("token", "revoke", "--subject", "job", "--issuer", "corp")
    until(lambda: said(sidecar, two) == REVOKED, SOON)
    assert [said(sidecar, each) for each in everyone] == [REVOKED, REVOKED, REVOKED, HERE, HERE]


def test_a_biscuit_takes_along_what_was_narrowed_from_it_and_never_its_parent(start: Start) -> None:
    sidecar = start()
    root = biscuit(sidecar)
    child, sibling = narrowed(sidecar, root), narrowed(sidecar, root)
    grandchild = narrowed(sidecar, child)
    family = [root, child, grandchild, sibling]
    until(lambda: said(sidecar, root) == HERE)
    assert [said(sidecar, each) for each in family] == [HERE] * 4
    sidecar.revoke(child)
    until(lambda: said(sidecar, child) == REVOKED, SOON)
    assert [said(sidecar, each) for each in family] == [HERE, REVOKED, REVOKED, HERE]
    sidecar.revoke(root)
    until(lambda: said(sidecar, root) == REVOKED, SOON)
    assert [said(sidecar, each) for each in family] == [REVOKED] * 4


def test_everything_of_a_person_and_everything_under_a_key(start: Start) -> None:
    sidecar = start()
    ada, zoe = (
        sidecar.token(kind=PrincipalKind.PERSONAL, subject=f"{name}@example.com", workspaces=(), owner_id=person)
        for name, person in (("ada", "u-17"), ("zoe", "u-18"))
    )
    hers, build = biscuit(sidecar, "ada@example.com"), biscuit(sidecar, "nightly")
    at_corp = jwt(sub="ada@example.com", jti="j-9")
    until(lambda: said(sidecar, build) == HERE)
    assert [said(sidecar, each) for each in (ada, zoe, hers, build, at_corp)] == [HERE] * 5
    sidecar.cli("token", "revoke", "--subject", "ada@example.com")
    until(lambda: said(sidecar, ada) == REVOKED, SOON)
    assert [said(sidecar, each) for each in (ada, zoe, hers, build, at_corp)] == [REVOKED, HERE, REVOKED, HERE, REVOKED]
    sidecar.cli("token", "revoke", "--key", "1")
    until(
        lambda: said(sidecar, build) == (401, "bad_token"), SOON
    )  # the key is retired with it, and nobody's from then on
    assert said(sidecar, zoe) == HERE
    pepper = json.loads(sidecar.cli("token", "list", "--subject", "zoe@example.com", "--json"))[0]["pepper"]
    sidecar.cli("token", "revoke", "--key", pepper)
    until(lambda: said(sidecar, zoe) == REVOKED, SOON)


def test_an_owner_s_standing_is_asked_of_every_kind_that_has_one(start: Start) -> None:
    sidecar = start(people=", people: true")
    tokens = {
        "personal": sidecar.token(
            kind=PrincipalKind.PERSONAL, subject="ada@example.com", workspaces=(), owner_id="u-17"
        ),
        "biscuit": biscuit(sidecar, "ada@example.com"),
        "jwt": jwt(sub="ada@example.com"),
    }
    until(lambda: said(sidecar, tokens["biscuit"]) == HERE)
    assert {kind: said(sidecar, each) for kind, each in tokens.items()} == dict.fromkeys(tokens, HERE)
    (sidecar.folder / "people.yaml").write_text(PEOPLE.replace("id: u-17", "id: u-17, active: false"))
    gone = (403, "inactive_person")
    until(lambda: said(sidecar, tokens["personal"]) == gone)
    assert {kind: said(sidecar, each) for kind, each in tokens.items()} == dict.fromkeys(tokens, gone)
    (sidecar.folder / "people.yaml").write_text(PEOPLE)
    until(lambda: said(sidecar, tokens["personal"]) == HERE)
    assert {kind: said(sidecar, each) for kind, each in tokens.items()} == dict.fromkeys(tokens, HERE)


# --- what is under way ------------------------------------------------------------------------------------------------------------


class Download:
    """Has the answer's head and its first bytes, and waits for the rest."""

    def __init__(self, sidecar: SidecarProcess, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20)
        self.connection.request("GET", "/slow/big", headers=bearer(token))
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.read(1) == b"\0"

    def ended(self, within: float) -> bool:
        self.connection.sock.settimeout(within)  # type: ignore[union-attr]
        try:
            while self.answer.read1(1 << 16):
                pass
        except TimeoutError:
            return False
        except (http.client.IncompleteRead, ConnectionError):
            return True
        return not self.answer.isclosed() or self.answer.length != 0


class Upload:
    """Has sent half of what it announces."""

    def __init__(self, sidecar: SidecarProcess, token: str) -> None:
        self.connection = sidecar.connect()
        head = f"PUT /slow/up HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {SIZE}\r\n\r\n"
        self.connection.sendall(head.encode() + bytes(65536))

    def ended(self, within: float) -> bool:
        self.connection.settimeout(within)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@pytest.mark.parametrize("kind", ["ci", "jwt", "biscuit"])
def test_what_runs_is_cut_within_moments_where_that_is_asked_for(start: Start, store: ScriptedStore, kind: str) -> None:
    sidecar = start("revocation: {running: cut}")
    token = {"ci": sidecar.token, "jwt": lambda: jwt(jti="j-1"), "biscuit": lambda: biscuit(sidecar)}[kind]()
    until(lambda: said(sidecar, token) == HERE)
    other = sidecar.token()
    download, upload, others = Download(sidecar, token), Upload(sidecar, token), Download(sidecar, other)
    until(lambda: len(store.asked) == 3)
    sidecar.revoke(token)
    assert download.ended(5.0)
    assert upload.ended(5.0)
    assert not others.ended(0.3)
    put = next(asked for asked in store.asked if asked.line.startswith(b"PUT"))
    assert put.done.wait(20)
    assert put.cut
    ends = until(
        lambda: (
            [
                record
                for record in sidecar.audit()
                if record["reason"] == "revoked"
                and record["stage"] == "complete"
                and record["request"]["path"] != "/web/none"
            ][1:]
            and sidecar.audit()
        )
    )
    cut = [
        each for each in ends if each["reason"] == "revoked" and each["request"]["path"] in ("/slow/big", "/slow/up")
    ]
    assert {(each["response"]["aborted"], each["decision"]["detail"]) for each in cut} == {
        (True, "cut off: the token was revoked while it ran")
    }
    assert said(sidecar, token) == REVOKED


def test_what_runs_goes_on_by_default_and_the_next_request_is_refused(start: Start, store: ScriptedStore) -> None:
    sidecar = start()
    token = sidecar.token()
    upload = Upload(sidecar, token)
    until(lambda: store.asked)
    sidecar.revoke(token)
    until(lambda: said(sidecar, token) == REVOKED, SOON)
    upload.connection.sendall(bytes(SIZE - 65536))
    upload.connection.settimeout(20)
    assert upload.connection.recv(64).startswith(b"HTTP/1.1 201")


def test_each_of_several_workers_cuts_what_it_has(start: Start, store: ScriptedStore) -> None:
    sidecar = start("revocation: {running: cut}", workers=2)
    token = sidecar.token()
    downloads = [Download(sidecar, token) for _ in range(8)]
    sidecar.revoke(token)
    assert all(download.ended(5.0) for download in downloads)


# --- a power cut ------------------------------------------------------------------------------------------------------------------

REVOKER = """
import asyncio, sys, time
from pathlib import Path
from sidecar import config
from sidecar.store.open import open_token_store
async def main():
    opened = await open_token_store(config.load(Path(sys.argv[1])).tokens)
    for line in sys.stdin:
        kind, name = line.split()
        if kind == "token":
            await opened.tokens.revoke(name, actor="cli", now=int(time.time()))
        else:
            await opened.revoking.name(name, actor="cli", now=int(time.time()))
        print(line.strip(), flush=True)
asyncio.run(main())
"""


def test_a_kill_at_any_moment_loses_no_revocation_that_was_confirmed(start: Start) -> None:
    """Whoever revokes is killed, and the sidecar is; what was confirmed is refused by the one that starts after them."""
    sidecar = start()
    chance = random.Random(7)
    confirmed: list[str] = []
    tokens: dict[str, str] = {}
    for round_ in range(4):
        made = [sidecar.token() for _ in range(10)]
        jwts = {f"jwt:corp:{round_}-{at}": jwt(jti=f"{round_}-{at}") for at in range(10)}
        lines = [f"token {each.split('_')[2]}" for each in made] + [f"name {name}" for name in jwts]
        tokens |= {f"token {each.split('_')[2]}": each for each in made} | {f"name {n}": t for n, t in jwts.items()}
        chance.shuffle(lines)
        revoker = subprocess.Popen(
            [sys.executable, "-c", REVOKER, str(sidecar.config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert revoker.stdin is not None
        assert revoker.stdout is not None
        revoker.stdin.write("\n".join(lines) + "\n")
        revoker.stdin.flush()
        first = revoker.stdout.readline()  # it is under way
        time.sleep(chance.uniform(0, 0.03))  # the moment of the kill is what is tried
        for victim in chance.sample([revoker.kill, sidecar.kill], 2):
            victim()
        confirmed += [line.strip() for line in (first, *revoker.stdout) if line.strip() in tokens]
        revoker.wait()
        sidecar.start()
        assert {said(sidecar, tokens[line]) for line in confirmed} == {REVOKED}
    assert len(confirmed) >= 4
    untouched = [each for line, each in tokens.items() if line not in confirmed]
    assert HERE in {said(sidecar, each) for each in untouched}


# --- a leak -----------------------------------------------------------------------------------------------------------------------


def test_a_leaked_token_is_dead_and_all_that_it_wrote_is_known(start: Start) -> None:
    sidecar = start()
    root = biscuit(sidecar)
    until(lambda: said(sidecar, root) == HERE)
    token, other = sidecar.token(), sidecar.token()
    for who, key in ((token, "a"), (token, "b"), (other, "c"), (root, "d")):
        assert ask(sidecar.port, "PUT", f"/web/{key}", bearer(who), b"x").status == 201
    project = sidecar.folder / "project"
    project.mkdir()
    (project / ".npmrc").write_text(f"//x/:_authToken={token}\n")
    (project / "ci.log").write_text(f"+ curl -H 'Authorization: Bearer {root}'\n")
    found = json.loads(sidecar.cli("token", "leaked", str(project), "--json"))
    until(lambda: said(sidecar, token) == REVOKED and said(sidecar, root) == REVOKED, SOON)
    assert said(sidecar, other) == HERE
    assert {leak["kind"]: sorted(leak["wrote"]) for leak in found["leaks"]} == {
        "ci": ["local web:a", "local web:b"],
        "biscuit": ["local web:d"],
    }
    for kind, secret in (("ci", token), ("biscuit", root)):
        (leak,) = [each for each in found["leaks"] if each["kind"] == kind]
        assert (leak["revoked"], leak["last_uses"][-1]["client"]) == (True, "127.0.0.1")
        assert secret not in json.dumps(found)


def test_the_audit_log_names_the_chain_and_answers_who_did_what(start: Start) -> None:
    sidecar = start()
    root = biscuit(sidecar)
    child = narrowed(sidecar, root)
    until(lambda: said(sidecar, root) == HERE)
    old = sidecar.token()
    new = sidecar.cli("token", "rotate", "-", "--overlap", "1h", stdin=old).strip()
    for token in (root, child, old, new, jwt(jti="j-1")):
        assert said(sidecar, token) == HERE
    assert ask(sidecar.port, "PUT", "/web/x", bearer(child), b"x").status == 403
    ids = UnverifiedBiscuit.from_base64(child).revocation_ids
    until(lambda: sum(record["stage"] == "complete" for record in sidecar.audit()) >= 6)
    actors = [record["actor"] for record in sidecar.audit() if record["kind"] == "access"]
    assert ids in [actor["blocks"] for actor in actors]
    assert {actor["root_id"] for actor in actors if actor["blocks"]} == {actors[0]["token_id"]}
    old_id, new_id = old.split("_")[2], new.split("_")[2]
    assert (old_id, old_id) in {(actor["parent"], actor["root_id"]) for actor in actors if actor["token_id"] == new_id}
    assert "j-1" in {actor["jti"] for actor in actors}

    def uses(token: str, *words: str) -> list[tuple[str, bool]]:
        told = json.loads(sidecar.cli("audit", "query", "--token", token, "--since", "1h", "--json", *words))["uses"]
        return [(use["outcome"], use["derived"]) for use in told if use["kind"] == "access"]

    assert uses(old_id) == [("allow", False), ("allow", True)]
    assert uses(new_id) == [("allow", False)]
    assert uses("j-1") == [("allow", False)]
    assert uses(ids[1], "--denied") == [("deny", False)]
    assert {derived for _, derived in uses(ids[0])} == {False, True}


def test_the_process_ends_cleanly_after_a_cut(start: Start) -> None:
    sidecar = start("revocation: {running: cut}")
    token = sidecar.token()
    download = Download(sidecar, token)
    sidecar.revoke(token)
    assert download.ended(5.0)
    assert sidecar.stop(signal.SIGTERM) == 0
    assert "Traceback" not in sidecar.log
