"""Who asks, where clients may sign: a signature, a session token or any other credential, one of them, and never none for one."""

import base64
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar import sigv4
from sidecar.credentials.access_key import AccessKeys, AccessKeyVerifier
from sidecar.credentials.failures import Failures
from sidecar.credentials.identities import Identities
from sidecar.credentials.master_key import MasterKey
from sidecar.credentials.opaque import OpaqueVerifier, TokenFormat
from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.credentials.token_row import TokenRow, sealed
from sidecar.decision import Decision, LastRead
from sidecar.gate import Gate
from sidecar.model import Permission, Principal, PrincipalKind, Rate, Secret
from sidecar.policy.compiled import Legacy, Route, Workspace
from sidecar.policy.routes import Routes, Snapshot
from sidecar.profiles.plain import Plain
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings

NOW = 1_795_321_745.0
HOST, REGION = "s3.test:9000", "eu-central-1"
PEPPER = Pepper(b"0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef")
MASTER = MasterKey(b"3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718")
SPELLING = TokenFormat("asc")
Lines = list[tuple[str, str]]


class SignedPlain(Plain):
    signed = True


class Revocations:
    epoch = 0
    names: frozenset[str] = frozenset()

    def revoked(self, principal: Principal) -> bool:
        return not self.names.isdisjoint(principal.revocation_ids)

    def is_fresh(self, now: float) -> bool:
        return True


def mint() -> tuple[str, TokenRow]:
    token_id, token = SPELLING.mint(PrincipalKind.CI)
    row = TokenRow(
        id=token_id,
        kind="ci",
        subject="build",
        name="",
        workspaces="bkt",
        permissions=None,
        path=None,
        created_at=int(NOW) - 60,
        created_by="root",
        expires_at=int(NOW) + 86_400,
        revoked_at=None,
        revoked_by=None,
        pepper_id=PEPPER.id,
        digest=PEPPER.digest(token.reveal()),
        mac="",
        access_key=MASTER.id_for(token_id),
    )
    return token.reveal(), sealed(row, PEPPER)


TOKEN, ROW = mint()
KEY_ID = MASTER.id_for(ROW.id)
AMZ_TOKEN = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQD" * 3
ROUTES = tuple(
    Route(name, f"/{name}", (name,), client, "store", f"/{name}")
    for name, client in (("bkt", "signed"), ("web", "plain"))
)


def workspace(route: Route, **more: object) -> Workspace:
    grants = frozenset({Permission.READ, Permission.WRITE})
    return replace(
        Workspace(route.workspace, "f.yaml", "0" * 64, routes=(route,), ci_tokens=grants),
        anonymous=frozenset({Permission.READ}),
        **more,
    )


class Rig:
    def __init__(
        self,
        *,
        access_keys: bool = True,
        token_headers: Sequence[str] = (),
        failures: Failures | None = None,
        region: str | None = None,
        legacy: Legacy | None = None,
        row: TokenRow | None = None,
    ) -> None:
        self.row = row or ROW
        workspaces = {route.workspace: workspace(route, legacy=legacy) for route in ROUTES}
        routes = Routes()
        for each in workspaces.values():
            routes = routes.adding(each.routes)
        snapshot = Snapshot(routes, workspaces, 1)
        self.revocations, self.used = Revocations(), list[str]()
        self.identities = Identities(
            [OpaqueVerifier(SPELLING, Peppers(PEPPER), self)], self.revocations, IdentityCacheSettings()
        )
        keys = AccessKeys(
            Identities([AccessKeyVerifier(Peppers(PEPPER), self)], self.revocations, IdentityCacheSettings()),
            self.day_key,
            self,
            reused=self.reused,
            used=lambda principal, now: self.used.append(principal.token_id),
            size=10,
            region=region,
        )
        self.gate = Gate(
            snapshot=lambda: snapshot,
            profiles={"signed": _named(SignedPlain(), "signed"), "plain": Plain()},
            identities=self.identities,
            directory=None,
            existence=self.existence,
            token_headers=token_headers,
            brand="asc",
            failures=failures,
            access_keys=keys if access_keys else None,
        )

    async def get(self, token_id: str) -> TokenRow | None:
        return self.row if token_id == self.row.id else None

    async def day_key(self, access_key_id: str, day: str) -> bytes | None:
        return MASTER.day_key(access_key_id, day)

    async def reused(self, row: TokenRow, now: int) -> None:
        return None

    async def existence(self, route: Route, path: str) -> bool:
        return False

    async def ask(
        self,
        lines: Lines,
        method: str = "GET",
        target: str = "/bkt/a",
        *,
        now: float = NOW,
        last: LastRead | None = None,
    ) -> Decision:
        raw = tuple((name.encode(), value.encode()) for name, value in [("Host", HOST), *lines])
        return await self.gate.decide(method, target, raw, "10.0.0.1", now, last=last)


def _named(profile: SignedPlain, name: str) -> SignedPlain:
    profile.name = name
    return profile


def signer(secret: str | None = None, region: str = REGION, key_id: str = KEY_ID) -> sigv4.Signer:
    return sigv4.Signer(key_id, Secret(secret) if secret is not None else MASTER.secret(KEY_ID), region)


def sign(
    method: str = "GET",
    path: str = "/bkt/a",
    headers: Lines | None = None,
    *,
    by: sigv4.Signer | None = None,
    now: float = NOW,
    payload: str = "UNSIGNED-PAYLOAD",
) -> Lines:
    sent = [(name.encode(), value.encode()) for name, value in headers or []]
    added = (by or signer()).sign(method, path, "", sent, now, host=HOST, payload=payload)
    return [*(headers or []), *((name.decode(), value.decode()) for name, value in added)]


def presigned(path: str = "/bkt/a", *, by: sigv4.Signer | None = None, now: float = NOW, expires: int = 600) -> str:
    return f"{path}?{(by or signer()).presign('GET', path, '', now, host=HOST, expires=expires)}"


def session(token: str, key_id: str = "AKIAIOSFODNN7EXAMPLE") -> Lines:
    """As an SDK sends what it knows as AWS_SESSION_TOKEN, signed with a pair that nobody here knows."""
    by = sigv4.Signer(key_id, Secret("nobody's"), REGION, session_token=Secret(token))
    return [(name.decode(), value.decode()) for name, value in by.sign("GET", "/bkt/a", "", [], NOW, host=HOST)]


BEARER = ("Authorization", f"Bearer {TOKEN}")
BASIC = ("Authorization", "Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode())


# Each way


async def test_a_signature_in_the_header() -> None:
    rig = Rig()
    decision = await rig.ask(sign("PUT"), "PUT")
    assert decision.allowed
    assert decision.principal is not None
    assert (decision.principal.kind, decision.principal.token_id) == (PrincipalKind.ACCESS_KEY, ROW.id)
    assert (decision.carrier, decision.cache) == ("sigv4_header", "miss")
    assert decision.signed is not None
    assert decision.signed.access_key_id == KEY_ID
    assert decision.chunks is None
    assert (await rig.ask(sign("PUT", path="/bkt/b"), "PUT", "/bkt/b")).cache == "hit"
    assert rig.used == [ROW.id, ROW.id]


async def test_a_signature_in_the_url() -> None:
    decision = await Rig().ask([], target=presigned())
    assert decision.allowed
    assert (decision.known, decision.carrier) == (True, "sigv4_query")
    assert decision.signed is not None
    assert decision.signed.in_url


@pytest.mark.parametrize("line", [BEARER, BASIC])
async def test_tools_that_speak_bearer_or_basic(line: tuple[str, str]) -> None:
    decision = await Rig().ask([line], "PUT")
    assert (decision.allowed, decision.carrier) == (True, line[1].partition(" ")[0].lower())
    assert decision.principal is not None
    assert decision.principal.kind is PrincipalKind.CI
    assert decision.signed is None


async def test_a_session_token_and_the_signature_beside_it_are_one_credential() -> None:
    rig = Rig()
    for cache in ("miss", "hit"):
        decision = await rig.ask(session(TOKEN))
        assert (decision.allowed, decision.carrier, decision.cache) == (True, "session_token", cache)
        assert decision.principal is not None
        assert decision.principal.kind is PrincipalKind.CI
        assert decision.signed is None
    assert (await rig.ask([("X-Amz-Security-Token", TOKEN)])).known


async def test_chunks_are_held_to_the_requests_signature() -> None:
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    decision = await Rig().ask(sign("PUT", payload=payload), "PUT")
    assert decision.chunks is not None
    assert decision.signed is not None
    assert decision.chunks.seed == decision.signed.signature
    beside_a_token = await Rig().ask([BEARER, ("x-amz-content-sha256", payload)], "PUT")
    assert (beside_a_token.allowed, beside_a_token.chunks) == (True, None)


async def test_nobody_is_still_nobody() -> None:
    decision = await Rig().ask([])
    assert (decision.allowed, decision.known) == (True, False)


# Refusals; anonymous may read here, so that each would pass if it were taken for nobody

OTHERS_SIGNATURE = sign()[-1][1]
REFUSALS: dict[str, tuple[Reason, Lines, str]] = {
    "another secret": (Reason.BAD_SIGNATURE, sign(by=signer("x" * 40)), "/bkt/a"),
    "another path": (Reason.BAD_SIGNATURE, sign(path="/bkt/b"), "/bkt/a"),
    "another secret in a URL": (Reason.BAD_SIGNATURE, [], presigned(by=signer("x" * 40))),
    "a URL for another path": (Reason.BAD_SIGNATURE, [], presigned("/bkt/b").replace("/bkt/b", "/bkt/a")),
    "an AWS key": (Reason.UNKNOWN_ACCESS_KEY, sign(by=signer(key_id="AKIAIOSFODNN7EXAMPLE")), "/bkt/a"),
    "a token as the key's id": (Reason.UNKNOWN_ACCESS_KEY, sign(by=signer(key_id=TOKEN)), "/bkt/a"),
    "a header that was added": (Reason.UNSIGNED_HEADER, [*sign(), ("x-amz-acl", "public-read")], "/bkt/a"),
    "an old signature": (Reason.CLOCK_SKEW, sign(now=NOW - 901), "/bkt/a"),
    "one from the future": (Reason.CLOCK_SKEW, sign(now=NOW + 901), "/bkt/a"),
    "a URL that has expired": (Reason.URL_EXPIRED, [], presigned(now=NOW - 601)),
    "half an Authorization": (Reason.MALFORMED_SIGNATURE, [("Authorization", "AWS4-HMAC-SHA256 x")], "/bkt/a"),
    "half a signed URL": (Reason.MALFORMED_SIGNATURE, [], "/bkt/a?X-Amz-Signature=" + "0" * 64),
    "the same, its name encoded": (Reason.MALFORMED_SIGNATURE, [], "/bkt/a?X%2dAmz-Signature=" + "0" * 64),
    "version 2": (Reason.SIGNATURE_V2, [("Authorization", f"AWS {KEY_ID}:frJIUN8DYpKDtOLCwo//yllqDzg=")], "/bkt/a"),
    "version 2 in a URL": (Reason.SIGNATURE_V2, [], f"/bkt/a?AWSAccessKeyId={KEY_ID}&Signature=x&Expires=1"),
    "version 2 with a session token": (
        Reason.SIGNATURE_V2,
        [("Authorization", f"AWS {KEY_ID}:x="), ("X-Amz-Security-Token", TOKEN)],
        "/bkt/a",
    ),
    "a session token of AWS": (Reason.BAD_TOKEN, session(AMZ_TOKEN), "/bkt/a"),
    "an empty session token": (Reason.BAD_TOKEN, [*sign(), ("X-Amz-Security-Token", "")], "/bkt/a"),
    "one with a typo": (Reason.BAD_TOKEN, session(TOKEN[:-1] + "_"), "/bkt/a"),
    "a token in the query": (Reason.MISPLACED_TOKEN, [], f"/bkt/a?X-Amz-Security-Token={TOKEN}"),
    "one of AWS there": (Reason.MISPLACED_TOKEN, [], f"/bkt/a?X-Amz-Security-Token={quote(AMZ_TOKEN, safe='')}"),
    "a signed URL beside a Bearer": (Reason.TWO_CREDENTIALS, [BEARER], presigned()),
    "a signed URL beside a signature": (Reason.TWO_CREDENTIALS, sign(), presigned()),
    "a signed URL beside a session token": (
        Reason.TWO_CREDENTIALS,
        [("X-Amz-Security-Token", TOKEN)],
        presigned(),
    ),
    "a session token beside a Bearer": (Reason.TWO_CREDENTIALS, [BEARER, ("X-Amz-Security-Token", TOKEN)], "/bkt/a"),
    "a session token beside a Basic": (Reason.TWO_CREDENTIALS, [BASIC, ("X-Amz-Security-Token", TOKEN)], "/bkt/a"),
    "two signatures": (Reason.BAD_HEADER, [*sign(), ("Authorization", OTHERS_SIGNATURE)], "/bkt/a"),
    "two session tokens": (Reason.BAD_HEADER, [*session(TOKEN), ("X-Amz-Security-Token", TOKEN)], "/bkt/a"),
    "a session token in two spellings": (Reason.BAD_HEADER, [*session(TOKEN), ("X_Amz_Security_Token", "x")], "/bkt/a"),
    "a repeated parameter": (Reason.BAD_TARGET, [], f"{presigned()}&X-Amz-Expires=9"),
    "a scheme in lower case": (Reason.BAD_TOKEN, [("Authorization", OTHERS_SIGNATURE.lower())], "/bkt/a"),
}


@pytest.mark.parametrize(("reason", "lines", "target"), REFUSALS.values(), ids=REFUSALS)
async def test_what_is_no_good_credential_is_refused_and_never_nobody(
    reason: Reason, lines: Lines, target: str
) -> None:
    rig = Rig()
    decision = await rig.ask(lines, target=target)
    assert decision.reason is reason
    assert decision.principal is None
    assert decision.signed is None
    assert rig.used == []


async def test_a_configured_header_beside_a_signature_makes_two_credentials() -> None:
    rig = Rig(token_headers=["X-Store-Token"])
    extra = ("X-Store-Token", TOKEN)
    for lines, target in (([*sign(), extra], "/bkt/a"), ([extra], presigned()), ([*session(TOKEN), extra], "/bkt/a")):
        assert (await rig.ask(lines, target=target)).reason is Reason.TWO_CREDENTIALS
    assert (await rig.ask([extra])).known


async def test_the_old_shared_password_hides_no_signature() -> None:
    rig = Rig(legacy=Legacy("basic", "password", frozenset({Permission.READ}), NOW + 86_400))
    assert (await rig.ask([BASIC], target=presigned())).reason is Reason.TWO_CREDENTIALS


async def test_without_a_master_key_no_access_key_is_known() -> None:
    rig = Rig(access_keys=False)
    decision = await rig.ask(sign())
    assert decision.reason is Reason.UNKNOWN_ACCESS_KEY
    assert "access_key_master_file" in decision.detail
    assert (await rig.ask(session(TOKEN))).allowed, "a session token is a token"


async def test_another_region_than_the_configured_one_is_refused() -> None:
    rig = Rig(region=REGION)
    assert (await rig.ask(sign())).allowed
    assert (await rig.ask(sign(by=signer(region="us-east-1")))).reason is Reason.MALFORMED_SIGNATURE
    assert (await Rig().ask(sign(by=signer(region="us-east-1")))).allowed


async def test_a_revoked_token_ends_its_signatures_signed_urls_and_sessions() -> None:
    rig = Rig()
    for lines, target in ((sign(), "/bkt/a"), ([], presigned()), (session(TOKEN), "/bkt/a")):
        assert (await rig.ask(lines, target=target)).allowed
    rig.revocations.names = frozenset({f"opaque:{ROW.id}"})
    for lines, target in ((sign(), "/bkt/a"), ([], presigned()), (session(TOKEN), "/bkt/a")):
        decision = await rig.ask(lines, target=target)
        assert decision.reason is Reason.REVOKED
        assert decision.holder is not None
        assert decision.holder.token_id == ROW.id


async def test_an_id_is_no_token_though_its_identity_is_known() -> None:
    """The cache of tokens must not know what the cache of ids does (law 3)."""
    rig = Rig()
    await rig.ask(sign())
    for line in (("Authorization", f"Bearer {KEY_ID}"), ("X-Amz-Security-Token", KEY_ID)):
        assert (await rig.ask([line])).reason is Reason.BAD_TOKEN


# A connection repeats itself; what it said before says nothing of a signed URL


async def test_a_connections_last_headers_hide_no_signed_url() -> None:
    rig, last = Rig(), LastRead()
    assert not (await rig.ask([], last=last)).known
    assert (await rig.ask([], target=presigned(), last=last)).known
    assert not (await rig.ask([], last=last)).known
    forged = await rig.ask([], target=presigned(by=signer("x" * 40)), last=last)
    assert forged.reason is Reason.BAD_SIGNATURE
    assert (await rig.ask([BEARER], last=last)).known
    assert (await rig.ask([BEARER], target=presigned(), last=last)).reason is Reason.TWO_CREDENTIALS


async def test_a_connection_that_came_from_a_plain_route_is_read_anew() -> None:
    rig, last, lines = Rig(), LastRead(), [("X-Amz-Security-Token", TOKEN)]
    assert not (await rig.ask(lines, target="/web/a", last=last)).known
    assert (await rig.ask(lines, last=last)).known
    assert not (await rig.ask(lines, target="/web/a", last=last)).known


async def test_a_plain_route_knows_no_signatures() -> None:
    rig = Rig()
    assert (await rig.ask(sign(path="/web/a"), target="/web/a")).reason is Reason.BAD_TOKEN
    assert not (await rig.ask([], target=presigned("/web/a"))).known


# Failures are counted; good signatures are never held back


async def test_bad_signatures_are_throttled_and_good_ones_are_not() -> None:
    rig = Rig(failures=Failures(Rate(0.01, 2)))
    bad = [(await rig.ask(sign(by=signer("x" * 40)))).reason for _ in range(4)]
    assert bad == [Reason.BAD_SIGNATURE] * 2 + [Reason.THROTTLED] * 2
    assert (await rig.ask(sign())).allowed


# Every byte that is signed


@given(st.data())
async def test_every_changed_byte_of_what_is_signed_is_refused(data: st.DataObject) -> None:
    rig = Rig()
    lines = sign("PUT", headers=[("x-amz-meta-note", "some words"), ("x-amz-storage-class", "STANDARD")])
    where = data.draw(st.integers(0, len(lines) - 1))
    name, value = lines[where]
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E).filter(lambda each: each != value[at]))
    lines[where] = name, value[:at] + other + value[at + 1 :]
    decision = await rig.ask(lines, "PUT")
    assert not decision.known
    assert not decision.allowed


@given(st.data())
async def test_every_changed_byte_of_a_signed_url_is_refused(data: st.DataObject) -> None:
    url = presigned()
    at = data.draw(st.integers(len("/bkt/"), len(url) - 1))
    other = data.draw(st.sampled_from("abcxyzABCXYZ0189-_.~").filter(lambda each: each != url[at]))
    decision = await Rig().ask([], target=url[:at] + other + url[at + 1 :])
    assert not decision.known


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE"])
async def test_a_signed_url_is_for_one_method(method: str) -> None:
    assert (await Rig().ask([], method, presigned())).reason is Reason.BAD_SIGNATURE
