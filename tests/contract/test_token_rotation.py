"""What a token's line of replacements, and a change of pepper, must do on every engine."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.opaque import checksum
from sidecar.credentials.token_row import TokenRow
from sidecar.errors import CredentialRefused, SidecarError
from sidecar.model import Limits, Permission, PrincipalKind, Scope, Secret
from sidecar.news import token_record
from sidecar.reasons import Reason
from sidecar.settings import TokenSettings
from sidecar.store.changes import ChangeFeed
from sidecar.store.engine import Database, create_file
from sidecar.store.migrations.run import upgrade_to
from sidecar.store.open import OpenStore, open_token_store
from sidecar.store.tables import VERSION
from sidecar.tokens import CannotRotate, NewToken, Status, TokenFilter, TokenRequestError, UnknownToken, WantedScope
from tests.contract.stores import ENGINES, sqlite_settings
from tests.unit.test_token_row import FIRST

NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
PERSONAL, CI = PrincipalKind.PERSONAL, PrincipalKind.CI


@pytest.fixture(params=sorted(ENGINES))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


async def create(opened: OpenStore, now: int = NOW, **wanted: object) -> tuple[Secret, TokenRow]:
    asked = NewToken(**{"kind": PERSONAL, "subject": "ada", "ttl": 30 * DAY, **wanted})  # type: ignore[arg-type]
    return await opened.tokens.create(asked, actor="root", now=now)


async def rotate(
    opened: OpenStore, row: TokenRow, now: int = NOW, overlap: float = HOUR, **more: object
) -> tuple[Secret, TokenRow, TokenRow]:
    return await opened.tokens.rotate(row.id, overlap=overlap, actor="eve", now=now, **more)  # type: ignore[arg-type]


async def refusal(opened: OpenStore, token: Secret, now: float) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as refused:
        await opened.verifier.verify(token, now)
    return refused.value


async def works(opened: OpenStore, token: Secret, now: float = NOW) -> bool:
    try:
        return await opened.verifier.verify(token, now) is not None
    except CredentialRefused:
        return False


async def kinds(opened: OpenStore) -> list[tuple[str, str]]:
    return [(change.kind, change.token_id) for change in await opened.store.changes_after(0)]


# --- a line of replacements -----------------------------------------------------------------------------------------------------


async def test_both_work_until_the_overlap_ends_and_both_are_listed(opened: OpenStore) -> None:
    old_token, old = await create(opened)
    new_token, new, ending = await rotate(opened, old, NOW + DAY, HOUR)
    assert (new.parent, new.family, ending.rotated_at, ending.expires_at) == (
        old.id,
        old.id,
        NOW + DAY,
        NOW + DAY + HOUR,
    )
    assert {row.id for row in await opened.tokens.list(TokenFilter(), now=NOW + DAY + 1)} == {old.id, new.id}
    end = NOW + DAY + HOUR
    assert await works(opened, old_token, end - 1)
    assert await works(opened, new_token, end - 1)
    assert not await works(opened, old_token, end)
    assert await works(opened, new_token, end)
    assert (await kinds(opened))[:3] == [("created", old.id), ("created", new.id), ("rotated", old.id)]


async def test_the_new_one_may_what_the_old_one_may_for_as_long(opened: OpenStore) -> None:
    scopes = (WantedScope("web", "a/**", ("read",)), WantedScope("web", "b/**"))
    _, old = await create(opened, kind=CI, scopes=scopes, name="nightly", owner_id="u-1")
    token, new, _ = await rotate(opened, old, NOW + DAY)
    principal = await opened.verifier.verify(token, NOW + DAY)
    assert principal is not None
    assert (principal.kind, principal.subject, principal.workspace, principal.owner_id) == (CI, "ada", "web", "u-1")
    assert principal.limits == old.limits
    assert principal.limits == Limits(
        frozenset({"web"}), scopes=(Scope("web", frozenset({Permission.READ}), "a/**"), Scope("web", None, "b/**"))
    )
    assert (new.name, new.created_by, new.expires_at) == ("nightly", "eve", NOW + DAY + 30 * DAY)


async def test_an_old_one_that_ends_before_the_overlap_does_is_not_prolonged(opened: OpenStore) -> None:
    _, old = await create(opened)
    _, _, ending = await rotate(opened, old, old.expires_at - 10, 24 * HOUR)
    assert ending.expires_at == old.expires_at


async def test_a_line_is_one_family_however_long(opened: OpenStore) -> None:
    _, first = await create(opened)
    _, second, _ = await rotate(opened, first, NOW + 1)
    _, third, _ = await rotate(opened, second, NOW + 2)
    _, stranger = await create(opened)
    assert third.parent == second.id
    assert third.family == first.id
    assert [row.id for row in await opened.tokens.family(third)] == [first.id, second.id, third.id]
    assert [row.id for row in await opened.tokens.family(first)] == [first.id, second.id, third.id]
    assert [row.id for row in await opened.tokens.family(stranger)] == [stranger.id]


async def test_what_has_ended_or_was_replaced_cannot_be_rotated(opened: OpenStore) -> None:
    _, replaced = await create(opened)
    await rotate(opened, replaced)
    _, revoked = await create(opened)
    await opened.tokens.revoke(revoked.id, actor="a", now=NOW)
    _, altered = await create(opened)
    with sqlite3.connect(opened.path) as connection:
        connection.execute("UPDATE tokens SET permissions = 'admin' WHERE id = ?", [altered.id])
    connection.close()
    before = await kinds(opened)
    for row, said, now in (
        (replaced, "replaced already", NOW),
        (revoked, "is revoked", NOW),
        (altered, "is altered", NOW),
        ((await create(opened))[1], "is expired", NOW + 40 * DAY),
    ):
        with pytest.raises(CannotRotate, match=said):
            await rotate(opened, row, now)
    assert [kind for kind, _ in (await kinds(opened))[len(before) :]] == ["created"], "nothing is left of the attempts"
    with pytest.raises(UnknownToken):
        await opened.tokens.rotate("0" * 12, overlap=1, actor="a", now=NOW)


@pytest.mark.parametrize("wrong", [{"overlap": -1.0}, {"overlap": float("nan")}, {"ttl": 400 * DAY}, {"ttl": 0.0}])
async def test_an_impossible_overlap_or_life_leaves_the_old_one_alone(
    opened: OpenStore, wrong: dict[str, float]
) -> None:
    _, old = await create(opened)
    with pytest.raises(TokenRequestError):
        await opened.tokens.rotate(old.id, **{"overlap": 1.0, **wrong}, actor="a", now=NOW)
    assert await opened.tokens.show(old.id) == old


async def test_of_several_rotations_at_once_one_succeeds_and_the_others_leave_no_token_behind(
    opened: OpenStore,
) -> None:
    _, old = await create(opened)
    results = await asyncio.gather(*(rotate(opened, old) for _ in range(8)), return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    assert len(done) == 1
    assert all(isinstance(result, CannotRotate) for result in results if isinstance(result, BaseException))
    active = {row.id for row in await opened.tokens.list(TokenFilter(), now=NOW)}
    assert active == {old.id, done[0][1].id}


async def test_a_token_that_could_not_be_delivered_is_revoked_and_the_old_one_stays(opened: OpenStore) -> None:
    class Lost(SidecarError): ...

    seen: list[Secret] = []

    def deliver(token: Secret, row: TokenRow, pair: AccessKey | None) -> None:
        seen.append(token)
        raise Lost

    _, old = await create(opened)
    with pytest.raises(Lost):
        await rotate(opened, old, deliver=deliver)
    with pytest.raises(Lost):
        await opened.tokens.create(NewToken(PERSONAL, "ada"), actor="a", now=NOW, deliver=deliver)
    assert await opened.tokens.show(old.id) == old
    assert [(await refusal(opened, token, NOW)).reason for token in seen] == [Reason.REVOKED] * 2


async def test_whose_it_is_was_recorded_once_and_rotation_does_not_rewrite_it(opened: OpenStore) -> None:
    _, bound = await create(opened, owner_id="u-1")
    _, unbound = await create(opened)
    assert (await rotate(opened, bound, owner_id="u-2"))[1].owner_id == "u-1"
    assert (await rotate(opened, unbound, owner_id="u-2"))[1].owner_id == "u-2"


# --- use after the overlap ------------------------------------------------------------------------------------------------------


async def test_a_replaced_token_that_is_used_after_its_overlap_leaves_one_event_an_hour(opened: OpenStore) -> None:
    old_token, old = await create(opened)
    new_token, _, _ = await rotate(opened, old, NOW, 60)
    await works(opened, old_token, NOW + 59)
    assert ("reused", old.id) not in await kinds(opened)
    for at in (60, 61, 60 + HOUR - 1, 60 + HOUR):
        refused = await refusal(opened, old_token, NOW + at)
        assert (refused.reason, refused.principal and refused.principal.token_id) == (Reason.EXPIRED, old.id)
        assert "used after its overlap" in refused.detail
    assert [entry for entry in await kinds(opened) if entry[0] == "reused"] == [("reused", old.id)] * 2
    assert (await opened.tokens.show(old.id)).reused_at == NOW + 60 + HOUR
    assert await works(opened, new_token, NOW + 60), "an event alone revokes nothing"


async def test_the_event_reaches_the_audit_log_with_the_token_that_it_is_about(opened: OpenStore) -> None:
    old_token, old = await create(opened, name="laptop")
    await rotate(opened, old, NOW, 0)
    await refusal(opened, old_token, NOW)
    *_, event = await opened.store.unaudited()
    record = token_record(Records(Instance(), b"k" * 32), event).decode()
    for part in ('"action":"reused"', f'"token_id":"{old.id}"', '"token_name":"laptop"', '"severity":"warning"'):
        assert part in record, record


async def test_whoever_only_asks_what_would_be_leaves_no_event(opened: OpenStore) -> None:
    """As `sidecar policy explain` does."""
    old_token, old = await create(opened)
    await rotate(opened, old, NOW, 0)
    with pytest.raises(CredentialRefused, match="expired"):
        await opened.onlooker().verify(old_token, NOW)
    assert "reused" not in dict(await kinds(opened))


async def test_an_expired_token_that_nobody_replaced_leaves_none(opened: OpenStore) -> None:
    token, row = await create(opened)
    await refusal(opened, token, row.expires_at)
    assert await kinds(opened) == [("created", row.id)]


async def test_only_the_secrets_holder_can_raise_the_event(opened: OpenStore) -> None:
    old_token, old = await create(opened)
    await rotate(opened, old, NOW, 0)
    body = old_token.reveal()[:21] + "0" * 43
    assert (await refusal(opened, Secret(body + checksum(body)), NOW + 1)).reason is Reason.BAD_TOKEN
    assert "reused" not in dict(await kinds(opened))


async def test_where_configured_a_reused_token_takes_its_family_along_and_nobody_else(tmp_path: Path) -> None:
    settings = replace(sqlite_settings(tmp_path), reuse="revoke_family")
    opened = await open_token_store(settings)
    try:
        first_token, first = await create(opened)
        second_token, second, _ = await rotate(opened, first, NOW, 60)
        third_token, third, _ = await rotate(opened, second, NOW + 10, HOUR)
        stranger, _ = await create(opened)
        assert await works(opened, first_token, NOW + 20)
        await refusal(opened, first_token, NOW + 60)
        for token in (second_token, third_token):
            assert (await refusal(opened, token, NOW + 61)).reason is Reason.REVOKED
        assert await works(opened, stranger, NOW + 61)
        revoked = await opened.tokens.show(third.id)
        assert first.id in str(revoked.revoked_by)
    finally:
        await opened.store.close()


# --- what running processes make of it -----------------------------------------------------------------------------------------


async def test_a_short_overlap_is_noticed_by_whoever_remembers_the_old_one(opened: OpenStore) -> None:
    feed = ChangeFeed(opened.store, opened.watch(), on_shortened=opened.verifier.reread, clock=lambda: NOW)
    await feed.poll()
    before, epoch = opened.verifier.generation, feed.epoch
    _, long = await create(opened)
    await rotate(opened, long, NOW, HOUR)
    await feed.poll()
    assert (opened.verifier.generation, feed.epoch) == (before, epoch), "every memory is shorter than this overlap"
    _, short = await create(opened)
    await rotate(opened, short, NOW, 5)
    await feed.poll()
    assert opened.verifier.generation != before
    assert feed.epoch > epoch
    await feed.stop()


# --- lists ----------------------------------------------------------------------------------------------------------------------


async def test_tokens_that_end_soon_that_nobody_uses_and_that_somebody_made(opened: OpenStore) -> None:
    async def ids(**wanted: object) -> set[str]:
        return {row.id for row in await opened.tokens.list(TokenFilter(**wanted), now=NOW)}  # type: ignore[arg-type]

    _, soon = await create(opened, ttl=7 * DAY)
    _, later = await create(opened, ttl=7 * DAY + 1)
    _, old = await create(opened, NOW - 100 * DAY, ttl=300 * DAY)
    _, used = await create(opened, NOW - 100 * DAY, ttl=300 * DAY)
    await opened.store.touch_last_used({used.id: NOW - 10 * DAY})
    replacement = (await rotate(opened, used))[1]
    assert await ids(expiring_by=NOW + 7 * DAY) == {soon.id, used.id}
    assert await ids(unused_since=NOW - 90 * DAY) == {old.id}
    assert await ids(unused_since=NOW - 10 * DAY) == {old.id, used.id}
    assert await ids(created_by="eve") == {replacement.id}
    assert await ids(created_by="root", expiring_by=NOW + 7 * DAY) == {soon.id, used.id}
    assert await ids(created_by="nobody") == set()
    assert later.id in await ids()


# --- another pepper -------------------------------------------------------------------------------------------------------------

NEW_PEPPER = "aa62c19e0f7b4d53b8e1c2a3f4958d6c5b7a8091e2f3d4c5b6a7980817263549"


def exchanged(folder: Path) -> TokenSettings:
    """The settings after a change of pepper, the old one still believed."""
    before = sqlite_settings(folder)
    (folder / "new").write_text(NEW_PEPPER)
    return replace(before, pepper_file=folder / "new", previous_pepper_files=(before.pepper_file,))


async def test_old_tokens_move_to_the_new_pepper_at_their_next_use_and_new_ones_are_under_it(tmp_path: Path) -> None:
    async with ENGINES["sqlite"](tmp_path) as before:
        token, row = await create(before, permissions=("read",), owner_id="u-1")
        idle, _ = await create(before)
        await before.store.touch_last_used({row.id: NOW})
    settings = exchanged(tmp_path)
    both = await open_token_store(settings)
    try:
        assert both.tokens.status(await both.tokens.show(row.id), NOW) is Status.ACTIVE
        principal = await both.verifier.verify(token, NOW)
        assert principal is not None
        assert principal.owner_id == "u-1"
        fresh, made = await create(both)
        assert made.pepper_id != row.pepper_id
        await both.moves.flush()
        moved = await both.tokens.show(row.id)
        assert (moved.pepper_id, moved.last_used_at) == (made.pepper_id, NOW)
        assert replace(moved, pepper_id="", digest="", mac="", last_used_at=None) == replace(
            row, pepper_id="", digest="", mac="", last_used_at=None
        )
        assert "pepper" not in str(await kinds(both)), "it isn't news"
    finally:
        await both.store.close()
    after = await open_token_store(replace(settings, previous_pepper_files=()))
    try:
        assert await works(after, token)
        assert await works(after, fresh)
        assert (await refusal(after, idle, NOW)).detail.endswith("made under another pepper")
    finally:
        await after.store.close()


async def test_what_happens_to_a_token_under_the_old_pepper_stays_under_it_and_works(tmp_path: Path) -> None:
    async with ENGINES["sqlite"](tmp_path) as before:
        _, revoked = await create(before)
        old_token, old = await create(before)
    both = await open_token_store(exchanged(tmp_path))
    try:
        row, done = await both.tokens.revoke(revoked.id, actor="a", now=NOW)
        assert done
        assert (row.pepper_id, both.tokens.status(row, NOW)) == (revoked.pepper_id, Status.REVOKED)
        new_token, new, ending = await rotate(both, old)
        assert (ending.pepper_id == old.pepper_id, new.pepper_id == old.pepper_id) == (True, False)
        assert await works(both, old_token)
        assert await works(both, new_token)
    finally:
        await both.store.close()


async def test_a_row_that_changed_before_it_could_move_stays_as_it_was_changed(tmp_path: Path) -> None:
    async with ENGINES["sqlite"](tmp_path) as before:
        token, row = await create(before)
    both = await open_token_store(exchanged(tmp_path))
    try:
        assert await works(both, token)
        await both.tokens.revoke(row.id, actor="a", now=NOW)
        await both.moves.flush()
        assert (await refusal(both, token, NOW)).reason is Reason.REVOKED
    finally:
        await both.store.close()


async def test_moves_are_written_by_themselves_and_at_the_end(tmp_path: Path) -> None:
    async with ENGINES["sqlite"](tmp_path) as before:
        first, row = await create(before)
        second, other = await create(before)
    both = await open_token_store(exchanged(tmp_path))
    try:
        both.moves.start()
        assert await works(both, first)
        async with asyncio.timeout(20):
            while (await both.tokens.show(row.id)).pepper_id == row.pepper_id:
                await asyncio.sleep(0.02)
        assert await works(both, second)
        await both.moves.stop()
        assert (await both.tokens.show(other.id)).pepper_id != other.pepper_id
    finally:
        await both.store.close()


# --- the tables of the first version -----------------------------------------------------------------------------------------


async def test_a_store_of_the_first_version_is_upgraded_and_its_tokens_go_on(tmp_path: Path) -> None:
    settings = sqlite_settings(tmp_path)
    path = tmp_path / "tokens.db"
    create_file(path)
    upgrade_to(Database(path), "0001")
    columns = list(TokenRow.__struct_fields__[:16])
    with sqlite3.connect(path) as connection:
        connection.execute(
            f"INSERT INTO tokens ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [getattr(FIRST, name) for name in columns],
        )
    connection.close()
    upgrade_to(Database(path), VERSION)
    opened = await open_token_store(settings)
    try:
        token = Secret("asc_pat_0123456789ab_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v155llp")
        principal = await opened.verifier.verify(token, NOW)
        assert principal is not None
        assert principal.subject == "ada"
        _, new, ending = await rotate(opened, FIRST)
        assert (new.parent, opened.tokens.status(ending, NOW)) == (FIRST.id, Status.ACTIVE)
        assert await works(opened, token)
    finally:
        await opened.store.close()
