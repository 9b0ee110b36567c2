"""Who asks is told by the connection's last request only where nothing else could be said of this one."""

import pytest
from msgspec.structs import replace

from sidecar.callers import Callers
from sidecar.decision import Asking, Decision, LastRead
from sidecar.errors import CredentialRefused
from sidecar.model import ANONYMOUS, Head, Headers
from sidecar.policy.compiled import Workspace
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.target import parse
from tests.unit.test_gate import CI, NOW, WEB, Rig

RAW = ((b"Host", b"cache"), (b"Authorization", b"Bearer ci-token"))


def head(token: str | None = "ci-token") -> Head:
    values = {"host": "cache"} if token is None else {"host": "cache", "authorization": f"Bearer {token}"}
    return Head("GET", parse("/web/a"), Headers(values, ()))


def callers(rig: Rig, signed: frozenset[str] = frozenset()) -> Callers:
    return Callers(rig.identities, token_headers=(), signed=signed, failures=None, old_passwords=None, access_keys=None)


def asked(workspace: Workspace = WEB) -> Decision:
    return Decision(Reason.INTERNAL_ERROR, workspace=workspace, profile=PROFILES["plain"])


async def test_a_repeated_credential_is_known_without_waiting_until_it_is_revoked() -> None:
    rig, last = Rig(), LastRead()
    who = callers(rig)
    asking = Asking("GET", "/web/a", RAW, "10.0.0.1", NOW, last)
    assert who.at_hand(asked(), asking) is None
    first = asked()
    assert await who.who(first, asking, head()) is CI
    assert (first.carrier, first.cache) == ("bearer", "miss")
    asking.repeated, again = True, asked()
    assert who.at_hand(again, asking) is CI
    assert (again.carrier, again.cache, again.token) == ("bearer", "hit", first.token)
    rig.revocations.revoked_ids = frozenset(CI.revocation_ids)
    with pytest.raises(CredentialRefused):
        who.at_hand(asked(), asking)


async def test_it_is_not_taken_for_another_where_the_workspace_or_the_profile_may_read_the_request_otherwise() -> None:
    rig, last = Rig(), LastRead()
    asking = Asking("GET", "/web/a", RAW, "10.0.0.1", NOW, last)
    await callers(rig).who(asked(), asking, head())
    asking.repeated = True
    assert callers(rig, frozenset({"plain"})).at_hand(asked(), asking) is None
    old = replace(WEB, legacy=object())
    assert callers(rig).at_hand(asked(old), asking) is None
    assert callers(rig).at_hand(asked(), asking) is CI


async def test_who_sends_nothing_is_anonymous_again() -> None:
    rig, last = Rig(), LastRead()
    asking = Asking("GET", "/web/a", RAW[:1], "10.0.0.1", NOW, last)
    assert await callers(rig).who(asked(), asking, head(None)) is ANONYMOUS
    asking.repeated = True
    assert callers(rig).at_hand(asked(), asking) is ANONYMOUS
