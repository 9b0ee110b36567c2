"""Who signed: nobody, until the signature has matched; then whoever has the token that the access key belongs to."""

from collections.abc import Sequence
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from sidecar import sigv4, sigv4_verify, target
from sidecar.credentials.access_key import DAY_KEY_LIFE, AccessKeys, AccessKeyVerifier, Verified, chunk_signing
from sidecar.credentials.identities import Identities
from sidecar.credentials.master_key import MasterKey
from sidecar.credentials.opaque import TokenFormat
from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.credentials.token_row import TokenRow, sealed
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Head, Headers, Permission, Principal, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings
from sidecar.sigv4_verify import STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER, Presented

NOW = 1_795_321_745
DAY = 86_400
HOST, REGION = "s3.test:9000", "eu-central-1"
SPELLING = TokenFormat("asc")
PEPPER = Pepper(b"0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef")
OTHER_PEPPER = Pepper(b"ffeeddccbbaa99887766554433221100fedcba9876543210")
MASTER = MasterKey(b"3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718")
OTHER_MASTER = MasterKey(b"a1b2c3d4e5f607183f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765")


class Revocations:
    epoch = 0
    names: frozenset[str] = frozenset()

    def revoked(self, principal: Principal) -> bool:
        return not self.names.isdisjoint(principal.revocation_ids)

    def is_fresh(self, now: float) -> bool:
        return True


class House:
    """Access keys over rows in memory, and what they were told and asked."""

    def __init__(self, rows: Sequence[TokenRow], *masters: MasterKey, region: str | None = None) -> None:
        self.rows = {row.id: row for row in rows}
        self.masters = masters or (MASTER,)
        self.revocations = Revocations()
        self.asked = 0
        self.made: list[str] = []
        self.used: list[str] = []
        self.reused: list[str] = []
        self.verifier = AccessKeyVerifier(Peppers(PEPPER), self)
        self.keys = AccessKeys(
            Identities([self.verifier], self.revocations, IdentityCacheSettings()),
            self.day_key,
            self,
            reused=self.reuse,
            used=lambda principal, now: self.used.append(principal.token_id),
            size=100,
            region=region,
        )

    async def get(self, token_id: str) -> TokenRow | None:
        self.asked += 1
        return self.rows.get(token_id)

    async def day_key(self, access_key_id: str, day: str) -> bytes | None:
        self.made.append(day)
        for master in self.masters:
            if access_key_id == master.id_for(next(iter(self.rows))):
                return master.day_key(access_key_id, day)
        return None

    async def reuse(self, row: TokenRow, now: int) -> None:
        self.reused.append(row.id)

    async def identify(self, presented: Presented, now: float = NOW) -> Verified:
        return await self.keys.identify(presented, now)

    async def refusal(self, presented: Presented, now: float = NOW) -> CredentialRefused:
        with pytest.raises(CredentialRefused) as refused:
            await self.identify(presented, now)
        return refused.value


def issue(
    kind: PrincipalKind = PrincipalKind.CI, pepper: Pepper = PEPPER, master: MasterKey = MASTER, **columns: object
) -> tuple[TokenRow, sigv4.Signer]:
    """A token's row, and what signs with its access key."""
    token_id, token = SPELLING.mint(kind)
    access_key = master.id_for(token_id)
    row = TokenRow(
        id=token_id,
        kind=str(kind),
        subject="ada",
        name="laptop",
        workspaces="web" if kind is PrincipalKind.CI else None,
        permissions=None,
        path=None,
        created_at=NOW - DAY,
        created_by="root",
        expires_at=NOW + DAY,
        revoked_at=None,
        revoked_by=None,
        pepper_id=pepper.id,
        digest=pepper.digest(token.reveal()),
        mac="",
        access_key=access_key,
    )
    return sealed(replace(row, **columns), pepper), sigv4.Signer(access_key, master.secret(access_key), REGION)


def sign(
    signer: sigv4.Signer, method: str = "GET", path: str = "/b/k", now: float = NOW, payload: str = "UNSIGNED-PAYLOAD"
) -> Presented:
    """What such a request presents when it arrives."""
    added = signer.sign(method, path, "", [], now, host=HOST, payload=payload)
    headers = {"host": HOST, **{name.decode(): value.decode() for name, value in added}}
    presented = sigv4_verify.read(Head(method, target.parse(path), Headers(headers, ())), {}, now)
    assert presented is not None
    return presented


def presign(signer: sigv4.Signer, now: float = NOW, expires: int = 3600, read_at: float = NOW) -> Presented:
    query = signer.presign("GET", "/b/k", "", now, host=HOST, expires=expires)
    parameters = {unquote(name): unquote(value) for name, value in (part.split("=") for part in query.split("&"))}
    head = Head("GET", target.parse(f"/b/k?{query}"), Headers({"host": HOST}, ()))
    presented = sigv4_verify.read(head, parameters, read_at)
    assert presented is not None
    return presented


def wrong(presented: Presented) -> Presented:
    """The same claim, with a signature that whoever has the id alone might send."""
    return replace(presented, signature="0" * 64)


# Who it is


@pytest.mark.parametrize("kind", [PrincipalKind.CI, PrincipalKind.PERSONAL])
async def test_a_signature_stands_for_the_access_keys_token(kind: PrincipalKind) -> None:
    row, signer = issue(kind, permissions="read", path="releases/**")
    house = House([row])
    principal = (await house.identify(sign(signer))).principal
    assert (principal.kind, principal.token_kind) == (PrincipalKind.ACCESS_KEY, kind)
    assert (principal.subject, principal.token_id, principal.token_name) == ("ada", row.id, "laptop")
    assert principal.workspace == ("web" if kind is PrincipalKind.CI else "")
    assert principal.owned is (kind is PrincipalKind.PERSONAL)
    assert principal.limits.permissions == {Permission.READ}
    assert principal.limits.path == "releases/**"
    assert principal.revocation_ids == (f"opaque:{row.id}", f"key:pepper:{PEPPER.id}")
    assert house.used == [row.id]


async def test_the_id_is_looked_up_once_and_every_signature_is_verified() -> None:
    row, signer = issue()
    house = House([row])
    assert [(await house.identify(sign(signer, path=path))).cache for path in ("/b/1", "/b/2", "/b/3")] == [
        "miss",
        "hit",
        "hit",
    ]
    assert (house.asked, house.made) == (1, [sigv4.timestamp(NOW)[:8]])
    assert (await house.refusal(wrong(sign(signer)))).reason is Reason.BAD_SIGNATURE
    assert house.used == [row.id] * 3


async def test_what_was_signed_with_the_secret_of_another_key_is_refused() -> None:
    row, _ = issue()
    stranger = sigv4.Signer(MASTER.id_for(row.id), Secret("x" * 40), REGION)
    refusal = await House([row]).refusal(sign(stranger))
    assert (refusal.reason, refusal.principal) == (Reason.BAD_SIGNATURE, None)


async def test_a_signature_is_for_the_request_that_it_was_made_for() -> None:
    row, signer = issue()
    house = House([row])
    other = sign(signer, path="/b/other")
    assert (await house.refusal(replace(sign(signer), signature=other.signature))).reason is Reason.BAD_SIGNATURE


# Ids that are nobody's


async def test_what_is_no_id_of_ours_costs_no_look_at_the_store() -> None:
    house = House([])
    refusal = await house.refusal(sign(sigv4.Signer("AKIAIOSFODNN7EXAMPLE", Secret("x" * 40), REGION)))
    assert (refusal.reason, house.asked, house.made) == (Reason.UNKNOWN_ACCESS_KEY, 0, [])
    assert "AKIA" not in refusal.detail, "what is sent there may be a secret that was mixed up"


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ({"access_key": None}, "has another access key, or none"),
        ({"access_key": "SCKAAAAAAAAAAAAAAAAA"}, "has another access key, or none"),
        ({"kind": "jwt"}, "has another access key, or none"),
    ],
)
async def test_a_token_that_was_made_without_this_access_key_has_none(stored: dict[str, str | None], why: str) -> None:
    row, signer = issue()
    house = House([sealed(replace(row, **stored), PEPPER)])
    refusal = await house.refusal(sign(signer))
    assert (refusal.reason, refusal.principal) == (Reason.UNKNOWN_ACCESS_KEY, None)
    assert why in refusal.detail
    assert house.used == []


async def test_an_id_without_a_row_or_with_an_edited_one_is_nobodys() -> None:
    row, signer = issue()
    for rows in ([], [replace(row, expires_at=row.expires_at + 1)], [sealed(row, OTHER_PEPPER)]):
        assert (await House(rows).refusal(sign(signer))).reason is Reason.UNKNOWN_ACCESS_KEY


async def test_an_access_key_of_a_master_key_that_is_gone_is_refused_and_one_of_a_previous_is_not() -> None:
    row, signer = issue()
    assert (await House([row], OTHER_MASTER).refusal(sign(signer))).reason is Reason.UNKNOWN_ACCESS_KEY
    assert (await House([row], OTHER_MASTER, MASTER).identify(sign(signer))).principal.token_id == row.id


# It dies with its token; whoever has the id alone learns nothing


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"revoked_at": NOW - 5, "revoked_by": "root"}, Reason.REVOKED),
        ({"expires_at": NOW - 5}, Reason.EXPIRED),
        ({"expires_at": NOW}, Reason.EXPIRED),
    ],
)
async def test_an_ended_token_ends_its_access_key(columns: dict[str, object], reason: Reason) -> None:
    row, signer = issue(**columns)
    house = House([row])
    for _ in range(2):  # the second time from the cache
        refusal = await house.refusal(sign(signer))
        assert refusal.reason is reason
        assert refusal.principal is not None
        assert refusal.principal.token_id == row.id
    refusal = await house.refusal(wrong(sign(signer)))
    assert (refusal.reason, refusal.principal) == (Reason.BAD_SIGNATURE, None)
    assert house.used == []


async def test_a_revocation_that_arrives_ends_an_identity_that_is_known() -> None:
    row, signer = issue()
    house = House([row])
    await house.identify(sign(signer))
    house.revocations.names = frozenset({f"opaque:{row.id}"})
    assert (await house.refusal(sign(signer))).reason is Reason.REVOKED
    assert (await house.refusal(wrong(sign(signer)))).reason is Reason.BAD_SIGNATURE


async def test_a_life_that_was_made_shorter_is_looked_up_again() -> None:
    row, signer = issue()
    house = House([row])
    await house.identify(sign(signer))
    house.rows[row.id] = sealed(replace(row, expires_at=NOW + 1, rotated_at=NOW), PEPPER)
    house.verifier.reread()
    assert (await house.identify(sign(signer))).principal.expires_at == NOW + 1


async def test_a_replaced_access_key_is_reported_by_its_holder_alone() -> None:
    row, signer = issue(expires_at=NOW - 5, rotated_at=NOW - 100)
    house = House([row])
    assert (await house.refusal(wrong(sign(signer)))).reason is Reason.BAD_SIGNATURE
    assert house.reused == []
    assert (await house.refusal(sign(signer))).reason is Reason.EXPIRED
    assert house.reused == [row.id]


async def test_an_access_key_that_merely_expired_is_reported_to_nobody() -> None:
    row, signer = issue(expires_at=NOW - 5)
    house = House([row])
    await house.refusal(sign(signer))
    assert house.reused == []


# Day keys


async def test_each_day_has_a_key_of_its_own() -> None:
    row, signer = issue(created_at=NOW - 9 * DAY)
    house = House([row])
    for days in (6, 1, 0):
        presented = presign(signer, NOW - days * DAY, 7 * DAY)
        assert presented.in_url
        assert (await house.identify(presented)).principal.token_id == row.id
    assert house.made == [sigv4.timestamp(NOW - days * DAY)[:8] for days in (6, 1, 0)]


async def test_a_day_key_is_made_anew_after_a_while() -> None:
    """So that a master key that was taken away soon makes nothing valid any more."""
    row, signer = issue()
    house = House([row])
    await house.identify(sign(signer))
    house.masters = (OTHER_MASTER,)
    await house.identify(sign(signer), NOW + DAY_KEY_LIFE - 1)
    assert (await house.refusal(sign(signer), NOW + DAY_KEY_LIFE)).reason is Reason.UNKNOWN_ACCESS_KEY


async def test_one_day_key_serves_every_region() -> None:
    row, _ = issue()
    house = House([row])
    for region in (REGION, "us-east-1", REGION):
        signer = sigv4.Signer(MASTER.id_for(row.id), MASTER.secret(MASTER.id_for(row.id)), region)
        assert (await house.identify(sign(signer))).key == sigv4.signing_key(
            MASTER.day_key(MASTER.id_for(row.id), sigv4.timestamp(NOW)[:8]), region
        )
    assert len(house.made) == 1


async def test_no_day_key_is_an_outage_and_no_verdict() -> None:
    row, signer = issue()
    house = House([row])

    async def unreadable(access_key_id: str, day: str) -> bytes | None:
        raise Unavailable(Reason.VERIFIER_UNAVAILABLE)

    house.keys._day_key_of = unreadable
    with pytest.raises(Unavailable):
        await house.identify(sign(signer))
    house.keys._day_key_of = house.day_key
    assert (await house.identify(sign(signer))).principal.token_id == row.id


async def test_nothing_that_signs_is_printed() -> None:
    row, signer = issue()
    house = House([row])
    verified = await house.identify(sign(signer))
    assert repr(house.keys) == "<access keys, 1 day keys>"
    assert repr(verified) == f"Verified({row.id})"
    assert set(map(repr, house.keys._day_keys.values())) == {"<day key>"}
    assert sign(signer).signature not in repr(sign(signer))


# Chunks


async def test_signed_chunks_are_held_to_the_key_and_signature_of_their_request() -> None:
    row, signer = issue()
    presented = sign(signer, "PUT", payload=STREAMING_SIGNED)
    key = (await House([row]).identify(presented)).key
    signing = chunk_signing(presented, key)
    assert signing is not None
    assert (signing.seed, signing.date) == (presented.signature, sigv4.timestamp(NOW))
    assert signing.scope == f"{sigv4.timestamp(NOW)[:8]}/{REGION}/s3/aws4_request"
    assert signing.key == sigv4.signing_key(MASTER.day_key(MASTER.id_for(row.id), presented.scope.day), REGION)


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", sigv4.EMPTY_SHA256, STREAMING_UNSIGNED_TRAILER])
def test_other_bodies_have_no_signed_chunks(payload: str) -> None:
    _, signer = issue()
    assert chunk_signing(sign(signer, "PUT", payload=payload), b"k" * 32) is None
