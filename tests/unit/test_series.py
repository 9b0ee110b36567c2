"""Requests of one connection that are signed alike: what is remembered of them saves time, and decides nothing.

The property: whatever a connection's requests are, each is decided as if it were the connection's first.
"""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from sidecar import sigv4
from sidecar.credentials import series as serial
from sidecar.credentials.access_key import DAY_KEY_LIFE
from sidecar.credentials.series import PATIENCE, VARYING
from sidecar.decision import Decision, LastRead
from sidecar.gate import Gate
from sidecar.model import Secret
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Routes, Snapshot
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.s3.headers import goes_on
from sidecar.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD
from tests.unit.test_gate_signed import HOST, KEY_ID, MASTER, NOW, REGION, ROW, Rig, workspace

DAY = 86_400.0
Raw = tuple[tuple[bytes, bytes], ...]
ROUTES = (
    Route("bkt", "/bkt", ("bkt",), "s3", "store", "/bkt"),
    Route("web", "/web", ("web",), "plain", "store", "/web"),
    Route("part", "/whole/part", ("whole", "part"), "s3", "store", "/other/place"),
)


class House(Rig):
    """Signed requests before S3 routes, under the real profile."""

    def __init__(self) -> None:
        super().__init__(row=replace(ROW))
        workspaces = {route.workspace: workspace(route) for route in ROUTES}
        snapshot = Snapshot(Routes().adding(ROUTES), workspaces, 1)
        keys = self.gate._callers._access_keys
        self.gate = Gate(
            snapshot=lambda: snapshot,
            profiles=PROFILES,
            identities=self.identities,
            directory=None,
            existence=self.existence,
            brand="asc",
            access_keys=keys,
        )

    async def decide(self, method: str, target: str, raw: Raw, now: float, last: LastRead | None) -> Decision:
        return await self.gate.decide(method, target, raw, "10.0.0.1", now, last=last)


class Asked(Struct, frozen=True):
    method: str = "GET"
    path: str = "/bkt/a"
    query: str = ""
    at: float = NOW
    payload: str = EMPTY_SHA256
    others: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that are not signed, unless they are `x-amz-*`."""
    numbered: bytes = b""
    """The SDK's own name of the request, signed as some SDKs do."""
    secret: str = ""
    tamper: str = ""
    day: str = ""
    """What the credential names, where that isn't the date's."""


def raw_of(asked: Asked) -> tuple[str, Raw]:
    """The request-target and the headers, signed by a signer of this test's own: it knows nothing of the one that is tested."""
    day = asked.day or stamp(asked)[:8]
    key = sigv4.signing_key(sigv4.day_key(asked.secret or MASTER.secret(KEY_ID).reveal(), day), REGION)
    headers = [(b"Host", HOST.encode()), *asked.others]
    if asked.numbered:
        headers += [(b"amz-sdk-invocation-id", asked.numbered), (b"amz-sdk-request", b"attempt=1; max=3")]
    headers += [(b"X-Amz-Date", stamp(asked).encode()), (b"x-amz-content-sha256", asked.payload.encode())]
    signed = [
        (name.decode().lower(), value.decode())
        for name, value in headers
        if name.lower().startswith((b"x-amz-", b"host", b"amz-sdk"))
    ]
    names, lines = sigv4.canonical_headers(signed)
    query = sigv4.canonical_query(asked.query)
    canonical = sigv4.canonical_request(asked.method, asked.path, query, names, lines, asked.payload)
    scope = sigv4.Scope(day, REGION)
    signature = sigv4.signature(key, sigv4.string_to_sign(canonical, stamp(asked), scope))
    said = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={signature}"
    headers.append((b"Authorization", said.encode()))
    path = asked.path
    if asked.tamper == "path":
        path += "x"
    elif asked.tamper == "signature":
        headers[-1] = (b"Authorization", headers[-1][1][:-1] + (b"0" if not said.endswith("0") else b"1"))
    elif asked.tamper == "not hex":
        headers[-1] = (b"Authorization", headers[-1][1][:-1] + b"\xe9")
    elif asked.tamper == "longer":
        headers[-1] = (b"Authorization", headers[-1][1] + b"0")
    elif asked.tamper == "another key":
        headers[-1] = (
            b"Authorization",
            said.replace(KEY_ID, f"{KEY_ID[:-1]}{'A' if KEY_ID[-1] != 'A' else 'B'}").encode(),
        )
    elif asked.tamper == "padded":
        headers[-1] = (b"Authorization", said.replace("Signature=", "Signature=0").encode())
    elif asked.tamper == "another list":
        headers[-1] = (b"Authorization", said.replace("SignedHeaders=host", "SignedHeaders=hosu").encode())
    elif asked.tamper == "order":
        headers.reverse()
    elif asked.tamper == "date twice":
        headers.append((b"x-amz-date", stamp(asked).encode()))
    elif asked.tamper == "a header more":
        headers.append((b"x-amz-meta-a", b"1"))
    elif asked.tamper == "date":
        headers = [(name, b"20261122T0845%02dZ" % 59 if name == b"X-Amz-Date" else value) for name, value in headers]
    elif asked.tamper == "no date":
        headers = [(name, b"never" if name == b"X-Amz-Date" else value) for name, value in headers]
    elif asked.tamper == "another name":
        headers = [(b"x-amz-datf" if name == b"X-Amz-Date" else name, value) for name, value in headers]
    elif asked.tamper == "method":
        return f"{path}?{asked.query}" if asked.query else path, tuple(headers)
    return f"{path}?{asked.query}" if asked.query else path, tuple(headers)


def stamp(asked: Asked) -> str:
    return sigv4.timestamp(int(asked.at))


TAMPERED = (
    "path", "signature", "not hex", "longer", "padded", "another key", "another list", "order", "date twice", "a header more", "date", "no date", "another name", "method",
)  # fmt: skip
REQUESTS = st.builds(
    Asked,
    method=st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT", "DELETE"]),
    path=st.sampled_from(
        ["/bkt/a", "/bkt/b/c", "/bkt/a%20b", "/bkt/a//b", "/bkt/a/", "/bkt", "/", "/web/a", "/whole/part/k", "/whole/x", "/none/a"]
    ),
    query=st.sampled_from(["", "", "", "x-id=GetObject", "versionId=7", "list-type=2&prefix=a", "x-amz-checksum-mode=ENABLED", "tagging", "X-Amz-Date=1"]),
    at=st.sampled_from([NOW, NOW + 1, NOW - 7, NOW - 800, NOW - 1200, NOW - DAY]),
    payload=st.sampled_from([EMPTY_SHA256, EMPTY_SHA256, UNSIGNED_PAYLOAD, "a" * 64, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"]),
    others=st.sampled_from([(), (), ((b"User-Agent", b"u%s"),), ((b"Range", b"bytes=0-1"),), ((b"Connection", b"keep-alive"),), ((b"x-amz-acl", b"public-read"),), ((b"x-amz-checksum-mode", b"ENABLED"),), ((b"Via", b"a"), (b"Via", b"b"))]),
    numbered=st.sampled_from([b"", b"", b"8f3c-1", b"8f3c-2", b"a_b", b"a  b"]),
    secret=st.sampled_from(["", "", "", "another"]),
    tamper=st.sampled_from(["", "", "", "", *TAMPERED]),
)  # fmt: skip


def gist(decision: Decision) -> tuple[object, ...]:
    """All that is done by a decision."""
    sending = decision.sending
    sent = (sending.path, list(sending.headers)) if sending is not None else None
    return (
        decision.reason,
        decision.detail,
        decision.principal,
        decision.holder,
        decision.carrier,
        decision.actions,
        decision.route,
        decision.rule,
        None if decision.token is None else decision.token.reveal(),
        decision.answer,
        sent,
    )


@example([Asked(), Asked(tamper="not hex")])
@given(st.lists(REQUESTS, min_size=2, max_size=6))
def test_each_request_is_decided_as_if_it_were_the_first_of_its_connection(requests: Sequence[Asked]) -> None:
    async def run() -> None:
        house, last = House(), LastRead()
        for asked in requests:
            for each in (asked, replace(asked, at=asked.at + 1, tamper="", secret="")):
                target, raw = raw_of(each)
                method = "HEAD" if each.tamper == "method" else each.method
                alone = await house.decide(method, target, raw, NOW, None)
                assert gist(await house.decide(method, target, raw, NOW, last)) == gist(alone)

    asyncio.run(run())


async def continued(house: House, *requests: Asked, now: float = NOW) -> tuple[LastRead, list[Decision]]:
    last = LastRead()
    return last, [await house.decide(each.method, *raw_of(each), now, last) for each in requests]


@pytest.mark.parametrize("numbers", [(b"", b"", b""), (b"f-1", b"f-2", b"f-3")])
async def test_a_series_goes_on_over_other_keys_and_seconds(
    numbers: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    holds = serial.Series.holds
    monkeypatch.setattr(serial.Series, "holds", lambda *of: held.append(holds(*of)) or held[-1])
    requests = [Asked(path=f"/bkt/{at}", at=NOW + at, numbered=number) for at, number in enumerate(numbers)]
    _, decisions = await continued(House(), *requests)
    assert [decision.reason for decision in decisions] == [Reason.GRANTED] * 3
    assert held == [True, True]


@pytest.mark.parametrize("tamper", TAMPERED)
async def test_what_was_tampered_with_is_refused_in_the_middle_of_a_series(tamper: str) -> None:
    house, last = House(), LastRead()
    for _ in range(2):
        assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    target, raw = raw_of(Asked(tamper=tamper))
    decision = await house.decide("HEAD" if tamper == "method" else "GET", target, raw, NOW, last)
    assert decision.allowed is (tamper == "order")
    assert (await house.decide("GET", *raw_of(Asked(path="/bkt/b")), NOW, last)).allowed


@pytest.mark.parametrize("ago", [901.0, -901.0])
async def test_the_date_of_each_request_of_a_series_is_looked_at(ago: float) -> None:
    house, last = House(), LastRead()
    for at in (NOW, NOW - 899):
        assert (await house.decide("GET", *raw_of(Asked(at=at)), NOW, last)).allowed
    assert (await house.decide("GET", *raw_of(Asked(at=NOW - ago)), NOW, last)).reason is Reason.CLOCK_SKEW


async def test_a_series_ends_with_its_day() -> None:
    house, last = House(), LastRead()
    midnight = NOW - NOW % DAY + DAY
    evening = Asked(at=midnight - 5)
    for _ in range(2):
        assert (await house.decide("GET", *raw_of(evening), midnight, last)).allowed
    late = Asked(at=midnight + 5, day=stamp(evening)[:8])
    assert (await house.decide("GET", *raw_of(late), midnight, last)).reason is Reason.MALFORMED_SIGNATURE
    assert (await house.decide("GET", *raw_of(Asked(at=midnight + 5)), midnight, last)).allowed


async def test_a_signature_in_the_url_beside_a_series_is_a_second_credential() -> None:
    house, last = House(), LastRead()
    for _ in range(2):
        assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    both = raw_of(Asked(query="X-Amz-Date=20261122T084500Z"))
    assert (await house.decide("GET", *both, NOW, last)).reason is Reason.TWO_CREDENTIALS


async def test_an_sdk_s_number_is_no_place_for_a_token_in_a_series_either() -> None:
    house, last = House(), LastRead()
    for number in (b"f-1", b"f-2"):
        assert (await house.decide("GET", *raw_of(Asked(numbered=number)), NOW, last)).allowed
    asked = raw_of(Asked(numbered=b"asc_pat_123"))
    assert (await house.decide("GET", *asked, NOW, last)).reason is Reason.MISPLACED_TOKEN


async def test_what_may_have_a_body_goes_the_long_way() -> None:
    """There its signature is kept, which the signatures of its chunks hang on."""
    house, last = House(), LastRead()
    for _ in range(2):
        assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    decision = await house.decide("PUT", *raw_of(Asked(method="PUT")), NOW, last)
    assert decision.allowed
    assert decision.signed is not None


async def test_a_revoked_key_ends_its_series_at_once_and_its_holder_alone_is_told() -> None:
    house, last = House(), LastRead()
    principal = (await house.decide("GET", *raw_of(Asked()), NOW, last)).principal
    assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    assert principal is not None
    house.revocations.names = frozenset(principal.revocation_ids)
    assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).reason is Reason.REVOKED
    assert (await house.decide("GET", *raw_of(Asked(secret="guess")), NOW, last)).reason is Reason.BAD_SIGNATURE


async def test_a_series_lives_no_longer_than_its_day_key() -> None:
    house, last = House(), LastRead()
    assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    series = last.series
    assert series is not None
    assert series.until == NOW + DAY_KEY_LIFE
    later = NOW + DAY_KEY_LIFE
    for _ in range(2):
        assert (await house.decide("GET", *raw_of(Asked(at=later)), later, last)).allowed
    assert last.series is not series


async def test_a_series_that_nothing_goes_on_from_makes_room_for_another() -> None:
    house, last = House(), LastRead()
    assert (await house.decide("GET", *raw_of(Asked(others=((b"Range", b"bytes=0-1"),))), NOW, last)).allowed
    first = last.series
    for number in range(PATIENCE):
        assert last.series is first, number
        assert (await house.decide("GET", *raw_of(Asked()), NOW, last)).allowed
    assert last.series is not first


async def test_no_series_begins_with_a_url_an_upload_or_a_body_that_is_hashed() -> None:
    house = House()
    url = f"/bkt/a?{sigv4.Signer(KEY_ID, Secret(MASTER.secret(KEY_ID).reveal()), REGION).presign('GET', '/bkt/a', '', NOW, host=HOST, expires=60)}"
    last = LastRead()
    assert (await house.decide("GET", url, ((b"Host", HOST.encode()),), NOW, last)).allowed
    assert last.series is None
    for asked in (Asked(method="PUT"), Asked(payload="a" * 64)):
        last, decisions = await continued(house, asked)
        assert decisions[0].allowed
        assert last.series is None


async def test_what_a_series_remembers_holds_no_signature() -> None:
    last, _ = await continued(House(), Asked(numbered=b"f-1"))
    series = last.series
    assert series is not None
    assert series.headers.values["authorization"].endswith("Signature=")
    assert not {name.decode() for name in VARYING - {b"authorization"}} & series.headers.values.keys()
    assert ROW.id in repr(series)
    assert not any(goes_on(name.decode()) for name in VARYING)


async def test_each_request_of_a_series_is_told_as_a_use_of_its_token() -> None:
    house = House()
    await continued(house, *(Asked(path=f"/bkt/{at}", at=NOW + at) for at in range(3)))
    assert house.used == [ROW.id] * 3
