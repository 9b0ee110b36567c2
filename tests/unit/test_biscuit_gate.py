"""A Biscuit's checks on the one road to a decision: asked anew at each request, of what that request is."""

import time

import pytest

from sidecar.credentials.biscuit.verifier import BiscuitVerifier
from sidecar.credentials.identities import Identities, NothingRevoked
from sidecar.decision import Decision, LastRead
from sidecar.gate import Gate
from sidecar.model import LEVELS, Permission
from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.routes import Routes, Snapshot
from sidecar.policy.trace import Trace
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings
from tests.biscuits import KEYS, made, narrowed

AT = int(time.time())
ROUTE = Route("web", "/web", ("web",), "webdav", "local", "")
WEB = Workspace(
    "web",
    "web.yaml",
    "",
    routes=(ROUTE,),
    ci_tokens=LEVELS["read-write"] | {Permission.DELETE},
    settings={"channel": "stable"},
)


async def exists(route: Route, path: str) -> bool:
    return False


@pytest.fixture
def gate() -> Gate:
    snapshot = Snapshot(Routes().adding(WEB.routes), {"web": WEB})
    identities = Identities([BiscuitVerifier(KEYS)], NothingRevoked(), IdentityCacheSettings())
    return Gate(snapshot=lambda: snapshot, profiles=PROFILES, identities=identities, directory=None, existence=exists)


def token(*checks: str) -> str:
    return narrowed(made(permissions=None, expires_at=AT + 1000), *checks)


async def decided(
    gate: Gate,
    sent: str,
    method: str = "GET",
    path: str = "/web/a",
    *more: tuple[bytes, bytes],
    now: float = AT,
    last: LastRead | None = None,
    vouched: bool = False,
) -> Decision:
    headers = [(b"host", b"h"), (b"authorization", f"Bearer {sent}".encode()), *more]
    return await gate.decide(method, path, headers, "203.0.113.7", now, last=last, vouched=vouched, trace=Trace())


async def test_every_request_of_a_connection_is_asked_about_by_itself(gate: Gate) -> None:
    sent, last = token('check if path($p), $p.starts_with("a/"); check if method("GET") or method("HEAD")'), LastRead()
    seen = [
        (await decided(gate, sent, *request, last=last)).reason
        for request in (("GET", "/web/a/1"), ("GET", "/web/b"), ("HEAD", "/web/a/2"), ("PUT", "/web/a/1"))
    ]
    assert seen == [Reason.GRANTED, Reason.TOKEN_LIMIT, Reason.GRANTED, Reason.TOKEN_LIMIT]


async def test_its_end_comes_on_an_open_connection(gate: Gate) -> None:
    sent, last = token(), LastRead()
    for now, reason in ((AT, Reason.GRANTED), (AT + 999, Reason.GRANTED), (AT + 1000, Reason.EXPIRED)):
        assert (await decided(gate, sent, now=now, last=last)).reason is reason


async def test_the_workspace_s_settings_are_asked(gate: Gate) -> None:
    assert (await decided(gate, token('check if setting("channel", "stable")'))).allowed
    assert not (await decided(gate, token('check if setting("channel", "beta")'))).allowed


async def test_an_address_counts_where_it_is_vouched_for(gate: Gate) -> None:
    sent = token('check if client_ip("203.0.113.7")')
    assert (await decided(gate, sent, vouched=True)).allowed
    assert (await decided(gate, sent)).reason is Reason.TOKEN_LIMIT


async def test_each_of_several_actions_is_asked_with_its_own_path_and_operations(gate: Gate) -> None:
    destination = (b"destination", b"/web/b/1")
    for check, reason in (
        ('check if path($p), $p.starts_with("a/") or path($p), $p.starts_with("b/")', Reason.GRANTED),
        ('check if path($p), $p.starts_with("a/")', Reason.TOKEN_LIMIT),
        ('check if operations($o), !$o.contains("store:delete")', Reason.TOKEN_LIMIT),
        ('check if path($p), $p.starts_with("a/") or operations({"store:write"})', Reason.GRANTED),
    ):
        assert (await decided(gate, token(check), "MOVE", "/web/a/1", destination)).reason is reason, check


async def test_a_listing_shows_what_the_checks_let_through(gate: Gate) -> None:
    decision = await decided(gate, token('check if path($p), $p.starts_with("a")'))
    assert gate.grants(decision, ["a", "ab", "b"]) == ["a", "ab"]
