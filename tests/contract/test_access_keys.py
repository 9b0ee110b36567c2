"""What a token made for S3 tools must do on every engine: one access key, as long as the token lives, and a new one in its line."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar import sigv4, sigv4_verify, target
from sidecar.credentials import master_key
from sidecar.credentials.access_key import AccessKeys
from sidecar.credentials.identities import Identities
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow, intact
from sidecar.errors import CredentialRefused
from sidecar.model import Head, Headers, Principal, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings
from sidecar.store.open import OpenStore, open_token_store
from sidecar.tokens import NewToken, TokenFilter, TokenRequestError
from tests.contract.stores import ENGINES, sqlite_settings

NOW, HOUR, DAY = 1_800_000_000, 3600, 86_400
MASTER = "3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718"
OTHER = "a1b2c3d4e5f607183f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765"
HOST, REGION = "s3.test", "eu-central-1"
assert list(ENGINES) == ["sqlite"], "give the others a master key here, too"


class Nothing:
    epoch = 0

    def revoked(self, principal: Principal) -> bool:
        return False

    def is_fresh(self, now: float) -> bool:
        return True


async def opened_with(folder: Path, master: str, *previous: str) -> OpenStore:
    files = [folder / f"master-{index}" for index in range(1 + len(previous))]
    for file, text in zip(files, (master, *previous), strict=True):
        file.write_text(text)
    return await open_token_store(
        replace(
            sqlite_settings(folder), access_key_master_file=files[0], previous_access_key_master_files=tuple(files[1:])
        )
    )


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[OpenStore]:
    opened = await opened_with(tmp_path, MASTER)
    yield opened
    await opened.store.close()


async def create(opened: OpenStore, **wanted: object) -> tuple[TokenRow, AccessKey]:
    asked = NewToken(**{"kind": PrincipalKind.PERSONAL, "subject": "ada", "ttl": 30 * DAY, "s3": True, **wanted})  # type: ignore[arg-type]
    _, row = await opened.tokens.create(asked, actor="root", now=NOW)
    pair = opened.tokens.access_key(row)
    assert pair is not None
    return row, pair


async def signed_by(opened: OpenStore, pair: AccessKey, now: int = NOW) -> Principal:
    """Who a request is by that the pair signs."""
    assert opened.masters is not None
    keys = AccessKeys(
        Identities([opened.access_key_verifier], Nothing(), IdentityCacheSettings()),
        opened.masters.day_key,
        opened.store,
        reused=opened.tokens.reused,
        used=lambda principal, now: None,
        size=10,
    )
    added = sigv4.Signer(pair.id, pair.secret, REGION).sign("GET", "/b/k", "", [], now, host=HOST)
    headers = Headers({"host": HOST, **{name.decode(): value.decode() for name, value in added}}, ())
    presented = sigv4_verify.read(Head("GET", target.parse("/b/k"), headers), {}, now)
    assert presented is not None
    return (await keys.identify(presented, now)).principal


async def refused(opened: OpenStore, pair: AccessKey, now: int = NOW) -> Reason:
    with pytest.raises(CredentialRefused) as refusal:
        await signed_by(opened, pair, now)
    return refusal.value.reason


async def test_a_token_for_s3_has_an_access_key_that_stands_for_it(opened: OpenStore) -> None:
    row, pair = await create(opened)
    assert pair.id == row.access_key
    principal = await signed_by(opened, pair)
    assert (principal.kind, principal.token_id, principal.subject) == (PrincipalKind.ACCESS_KEY, row.id, "ada")


async def test_a_token_that_was_not_made_for_s3_has_none(opened: OpenStore) -> None:
    _, row = await opened.tokens.create(
        NewToken(kind=PrincipalKind.PERSONAL, subject="ada", ttl=DAY), actor="root", now=NOW
    )
    assert (row.access_key, opened.tokens.access_key(row)) == (None, None)
    assert opened.masters is not None
    reckoned = opened.masters.current().id_for(row.id)
    pair = AccessKey(reckoned, opened.masters.current().secret(reckoned))
    assert await refused(opened, pair) is Reason.UNKNOWN_ACCESS_KEY


async def test_no_secret_is_stored(opened: OpenStore, tmp_path: Path) -> None:
    _, pair = await create(opened)
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("tokens.db*"))
    assert pair.id.encode() in stored
    assert pair.secret.reveal().encode() not in stored


async def test_it_dies_with_its_token(opened: OpenStore) -> None:
    row, pair = await create(opened)
    assert await refused(opened, pair, row.expires_at) is Reason.EXPIRED
    await opened.tokens.revoke(row.id, actor="root", now=NOW)
    assert await refused(opened, pair) is Reason.REVOKED


async def test_a_replacement_has_an_access_key_of_its_own_and_the_old_one_ends(opened: OpenStore) -> None:
    row, pair = await create(opened)
    _, new, ending = await opened.tokens.rotate(row.id, overlap=HOUR, actor="root", now=NOW)
    replacement = opened.tokens.access_key(new)
    assert replacement is not None
    assert replacement.id != pair.id
    assert (await signed_by(opened, replacement)).token_id == new.id
    assert (await signed_by(opened, pair, NOW + HOUR - 1)).token_id == row.id
    assert await refused(opened, pair, ending.expires_at) is Reason.EXPIRED
    assert (await opened.tokens.show(row.id)).reused_at == ending.expires_at


async def test_nobody_gives_a_token_an_access_key_behind_our_back(opened: OpenStore) -> None:
    _, row = await opened.tokens.create(
        NewToken(kind=PrincipalKind.PERSONAL, subject="ada", ttl=DAY), actor="root", now=NOW
    )
    assert opened.masters is not None
    forged = replace(row, access_key=opened.masters.current().id_for(row.id))
    assert intact(row, opened.peppers)
    assert not intact(forged, opened.peppers)


async def test_a_change_of_master_key_ends_no_access_key_while_the_previous_is_named(tmp_path: Path) -> None:
    first = await opened_with(tmp_path, MASTER)
    row, pair = await create(first)
    await first.store.close()
    both = await opened_with(tmp_path, OTHER, MASTER)
    assert (await signed_by(both, pair)).token_id == row.id
    _, newer = await create(both)
    old, new = master_key.parse(pair.id), master_key.parse(newer.id)
    assert old is not None
    assert new is not None
    assert old.version != new.version
    await both.store.close()
    other = await opened_with(tmp_path, OTHER)
    assert await refused(other, pair) is Reason.UNKNOWN_ACCESS_KEY
    assert (await signed_by(other, newer)).subject == "ada"
    await other.store.close()


async def test_without_a_master_key_it_is_said_what_to_set_and_nothing_is_made(tmp_path: Path) -> None:
    opened = await open_token_store(sqlite_settings(tmp_path))
    with pytest.raises(TokenRequestError, match="access_key_master_file"):
        await create(opened)
    assert await opened.tokens.list(TokenFilter(ended=True), now=NOW) == []
    await opened.store.close()


async def test_a_pair_of_another_secret_is_nobodys(opened: OpenStore) -> None:
    _, pair = await create(opened)
    assert await refused(opened, AccessKey(pair.id, Secret("x" * 40))) is Reason.BAD_SIGNATURE
