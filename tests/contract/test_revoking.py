"""Revocations of what has no row of its own: written by one process, in force in another, through whatever becomes of the table."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.credentials import jwk, revocation_names
from sidecar.credentials.identities import Identities
from sidecar.credentials.jwt import JwtVerifier
from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.credentials.token_row import TokenRow
from sidecar.errors import CredentialRefused
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.ports import Verifier
from sidecar.reasons import Reason
from sidecar.revoking import LEEWAY, LONGEST_LIFE, Revoking
from sidecar.settings import IdentityCacheSettings, IssuerSettings
from sidecar.store.changes import ChangeFeed
from sidecar.store.open import OpenStore
from sidecar.store.token_store import PAGE
from sidecar.tokens import NewToken, Status, TokenFilter
from tests import jose
from tests.contract.stores import ENGINES
from tests.unit.test_jwt import Keys
from tests.waiting import until_in_loop as until

NOW = int(time.time())
LIFE = 6 * 3600
"""Seconds: longer than any run of the tests, which ask the real clock."""
DAY = 86400


@pytest.fixture(params=sorted(ENGINES))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


@contextlib.asynccontextmanager
async def following(opened: OpenStore, clock: Callable[[], float] = time.time) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(opened.store, opened.watch(), clock=clock, intact=opened.intact)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


@contextlib.contextmanager
def database(opened: OpenStore) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(opened.path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def jwt(jti: str = "j-1", issuer: str = "ci", subject: str = "job", issued_at: float | None = NOW) -> Principal:
    names = (f"jwt:{issuer}:{jti}",) if jti else ()
    return Principal(PrincipalKind.JWT, subject, issuer=issuer, token_id=jti, revocation_ids=names, issued_at=issued_at)


async def token(opened: OpenStore, subject: str = "ada", now: int = NOW, **wanted: object) -> tuple[Secret, TokenRow]:
    asked = NewToken(PrincipalKind.PERSONAL, subject, ttl=float(DAY), **wanted)  # type: ignore[arg-type]
    return await opened.tokens.create(asked, actor="root", now=now)


# --- by name ------------------------------------------------------------------------------------------------------------------


async def test_a_jwt_is_refused_within_half_a_second_and_its_neighbours_are_not(opened: OpenStore) -> None:
    async with following(opened) as feed:
        epoch = feed.epoch
        done = await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
        assert done.changed
        assert await until(lambda: feed.revoked(jwt())) < 0.5
        assert feed.epoch > epoch
        assert not any(feed.revoked(other) for other in (jwt("j-2"), jwt(issuer="other"), jwt("")))


async def test_a_second_time_changes_nothing(opened: OpenStore) -> None:
    for changed in (True, False):
        done = await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
        assert done.changed is changed
    assert (await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW + 9)).changed is False


async def test_it_is_kept_until_its_token_has_expired_with_all_leeway_and_no_longer(opened: OpenStore) -> None:
    await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
    for later, revoked in ((LIFE + LEEWAY, True), (LIFE + LEEWAY + 2, False)):
        async with following(opened, clock=lambda later=later: NOW + later) as feed:  # type: ignore[misc]
            assert feed.revoked(jwt()) is revoked
    clock = NOW
    async with following(opened, clock=lambda: clock) as feed:
        assert feed.revoked(jwt())
        clock = NOW + LIFE + LEEWAY + 2
        await until(lambda: not feed.revoked(jwt()))


async def test_what_is_revoked_for_longer_is_kept_for_longer_by_who_knew_of_it(opened: OpenStore) -> None:
    clock = NOW
    async with following(opened, clock=lambda: clock) as feed:
        for seconds in (60, LIFE):
            await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + seconds)
            seq = await opened.store.last_change()
            await until(lambda seq=seq: feed.seq >= seq)  # type: ignore[misc]
        clock, looked = NOW + LIFE // 2, feed.heard
        await until(lambda: feed.heard > looked)
        assert feed.revoked(jwt())


async def test_without_a_known_expiry_it_is_kept_for_the_longest_life_that_there_is(opened: OpenStore) -> None:
    await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW)
    async with following(opened, clock=lambda: NOW + LONGEST_LIFE) as feed:
        assert feed.revoked(jwt())


async def test_a_start_takes_in_more_than_a_page(opened: OpenStore) -> None:
    for number in range(PAGE + 3):
        await opened.revoking.name(f"jwt:ci:{number}", actor="root", now=NOW)
    async with following(opened) as feed:
        assert all(feed.revoked(jwt(str(number))) for number in range(PAGE + 3))


# --- by identity --------------------------------------------------------------------------------------------------------------


async def test_an_identity_loses_what_it_was_issued_by_then_and_may_be_issued_more(opened: OpenStore) -> None:
    await opened.revoking.identity("job", actor="root", now=NOW, issuer="ci", before=NOW - 60)
    async with following(opened) as feed:
        for issued, revoked in (
            (NOW - 61, True),
            (NOW - 60, True),
            (NOW - 59.1, True),
            (NOW - 59, False),
            (None, True),
        ):
            assert feed.revoked(jwt(issued_at=issued)) is revoked
        assert not feed.revoked(jwt(issuer="other", issued_at=NOW - 61))
        assert not feed.revoked(jwt(subject="another", issued_at=NOW - 61))


async def test_an_earlier_time_takes_nothing_back_and_a_later_one_reaches_further(opened: OpenStore) -> None:
    async with following(opened) as feed:
        for before, changed in ((NOW - 60, True), (NOW - 90, False), (NOW - 30, True)):
            done = await opened.revoking.identity("job", actor="root", now=NOW, issuer="ci", before=before)
            assert done.changed is changed
        await until(lambda: feed.revoked(jwt(issued_at=NOW - 30)))
    async with following(opened) as feed:
        assert feed.revoked(jwt(issued_at=NOW - 30))
        assert not feed.revoked(jwt(issued_at=NOW - 29))


async def test_everything_of_a_person_is_of_every_kind_and_issuer(opened: OpenStore) -> None:
    secret, row = await token(opened)
    _, other = await token(opened, "zoe")
    verified = await opened.verifier.verify(secret, NOW)
    assert verified is not None
    done = await opened.revoking.identity("ada", actor="root", now=NOW)
    assert (done.changed, done.tokens, done.count) == (True, (row.id,), 1)
    assert opened.tokens.status(await opened.tokens.show(other.id), NOW) is Status.ACTIVE
    async with following(opened) as feed:
        for kind in (PrincipalKind.BISCUIT, PrincipalKind.ACCESS_KEY):
            assert feed.revoked(Principal(kind, "ada", issued_at=NOW))
            assert not feed.revoked(Principal(kind, "ada", issued_at=NOW + 1))
            assert not feed.revoked(Principal(kind, "zoe", issued_at=NOW))
        assert feed.revoked(jwt(subject="ada"))
        assert feed.revoked(verified)


async def test_what_was_made_here_alone_leaves_an_issuer_s_tokens(opened: OpenStore) -> None:
    _, row = await token(opened)
    done = await opened.revoking.identity("ada", actor="root", now=NOW, issuer="")
    assert done.tokens == (row.id,)
    async with following(opened) as feed:
        assert not feed.revoked(jwt(subject="ada"))
        assert feed.revoked(Principal(PrincipalKind.BISCUIT, "ada", issued_at=NOW))


async def test_an_issuer_s_alone_leaves_what_was_made_here(opened: OpenStore) -> None:
    _, row = await token(opened)
    assert (await opened.revoking.identity("ada", actor="root", now=NOW, issuer="ci")).tokens == ()
    assert opened.tokens.status(await opened.tokens.show(row.id), NOW) is Status.ACTIVE


async def test_more_tokens_of_one_person_than_a_page_holds_all_end(opened: OpenStore) -> None:
    made = {(await token(opened))[1].id for _ in range(7)}
    revoking = opened.revoking
    from sidecar import revoking as module

    page, module._PAGE = module._PAGE, 3
    try:
        assert set((await revoking.identity("ada", actor="root", now=NOW)).tokens) == made
    finally:
        module._PAGE = page
    assert await opened.tokens.list(TokenFilter(subject="ada"), now=NOW) == []


# --- by key -------------------------------------------------------------------------------------------------------------------

NEW = Pepper(b"a9e8d7c6b5f403122334455667788990")


async def test_everything_under_a_pepper_ends_and_moves_to_no_other(opened: OpenStore) -> None:
    secret, row = await token(opened)
    old = opened.peppers.current
    both = Peppers(NEW, old)
    done = await Revoking(opened.store, opened.tokens, both, max_ttl=DAY).pepper(old.id, actor="root", now=NOW)
    assert (done.changed, done.count) == (True, 1)
    assert (await opened.tokens.show(row.id)).revoked_at == NOW
    marked = await opened.tokens.show(row.id)
    await opened.store.move([(marked, replace(marked, pepper_id=NEW.id))])  # as a sidecar was about to
    assert (await opened.tokens.show(row.id)).pepper_id == old.id
    async with following(opened) as feed:
        assert feed.revoked(Principal(PrincipalKind.CI, "x", revocation_ids=("opaque:x", f"key:pepper:{old.id}")))
        assert not feed.revoked(Principal(PrincipalKind.CI, "x", revocation_ids=("opaque:x", f"key:pepper:{NEW.id}")))
    assert secret is not None


async def test_a_row_moves_where_nothing_was_revoked(opened: OpenStore) -> None:
    _, row = await token(opened)
    await opened.store.move([(row, replace(row, pepper_id=NEW.id))])
    assert (await opened.tokens.show(row.id)).pepper_id == NEW.id


async def test_everything_under_a_root_key_ends(opened: OpenStore) -> None:
    assert (await opened.revoking.root_key(3, actor="root", now=NOW)).changed
    assert not (await opened.revoking.root_key(3, actor="root", now=NOW)).changed
    async with following(opened) as feed:
        for key, revoked in ((3, True), (30, False)):
            names = (revocation_names.block("aa"), revocation_names.root_key(key))
            assert feed.revoked(Principal(PrincipalKind.BISCUIT, "x", revocation_ids=names)) is revoked


@pytest.mark.parametrize("kind", ["root_key", "pepper"])
async def test_a_key_that_was_revoked_stays_so(opened: OpenStore, kind: str) -> None:
    """Whoever has a leaked key says themselves how long the tokens live that they make."""
    if kind == "root_key":
        await opened.revoking.root_key(3, actor="root", now=NOW)
        name = revocation_names.root_key(3)
    else:
        await opened.revoking.pepper("01234567", actor="root", now=NOW)
        name = revocation_names.pepper("01234567")
    async with following(opened, clock=lambda: NOW + 10 * LONGEST_LIFE) as feed:
        assert feed.revoked(Principal(PrincipalKind.BISCUIT, "x", revocation_ids=(name,)))


# --- whoever can write to the table -------------------------------------------------------------------------------------------

EDITS = {
    "an end in the past": f"UPDATE revocations SET expires_at = {NOW - 9}",
    "an end of no number": "UPDATE revocations SET expires_at = 'x'",
    "no seal": "UPDATE revocations SET mac = ''",
    "another time": "UPDATE revocations SET at = 1",
    "a pepper that nobody has": "UPDATE revocations SET pepper_id = '00000000'",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_an_edited_revocation_counts_and_does_not_end(opened: OpenStore, edit: str) -> None:
    await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
    with database(opened) as connection:
        connection.execute(edit)
    async with following(opened, clock=lambda: NOW + 2 * LONGEST_LIFE) as feed:
        assert feed.revoked(jwt())


async def test_a_row_that_was_taken_away_counts_as_long_as_its_change_is_there(opened: OpenStore) -> None:
    await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
    await opened.revoking.identity("ada", actor="root", now=NOW)
    with database(opened) as connection:
        connection.execute("DELETE FROM revocations")
    async with following(opened) as feed:
        assert feed.revoked(jwt())
        assert feed.revoked(jwt("", subject="ada"))


async def test_a_change_that_was_taken_away_does_not_hide_its_row(opened: OpenStore) -> None:
    await opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW, expires_at=NOW + LIFE)
    with database(opened) as connection:
        connection.execute("DELETE FROM changes")
    async with following(opened) as feed:
        assert feed.revoked(jwt())


async def test_an_edited_revocation_is_written_anew_by_the_next_one(opened: OpenStore) -> None:
    await opened.revoking.identity("ada", actor="root", now=NOW, before=NOW)
    with database(opened) as connection:
        connection.execute("UPDATE revocations SET before = 5")
    assert (await opened.revoking.identity("ada", actor="root", now=NOW, before=NOW)).changed
    row = await opened.store.revocation("subject:*:ada")
    assert row is not None
    assert opened.intact(row)


# --- in the middle of a verification ------------------------------------------------------------------------------------------


class Paused:
    """A verifier that has judged, and hasn't said so yet."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.judged, self.go = asyncio.Event(), asyncio.Event()

    @property
    def generation(self) -> str:
        return self._verifier.generation

    async def verify(self, token: Secret, now: float) -> Principal | None:
        try:
            return await self._verifier.verify(token, now)
        finally:
            self.judged.set()
            await self.go.wait()


async def presented(opened: OpenStore, kind: str) -> tuple[Verifier, Secret, Callable[[], Awaitable[object]]]:
    """A verifier, a token of its kind, and what revokes that."""
    if kind == "jwt":
        key = jose.private_key("ES256")
        claims = {
            "iss": "https://ci.example",
            "aud": "cache",
            "sub": "job",
            "jti": "j-1",
            "iat": NOW,
            "exp": NOW + LIFE,
        }
        secret = Secret(jose.sign({"alg": "ES256", "kid": "k1"}, claims, key, "ES256"))
        settings = IssuerSettings("ci", "https://ci.example", "cache", algorithms=("ES256",))
        keys = Keys(jwk.from_jwks(jose.key_set(jose.jwk(key)), frozenset({"ES256"})))
        verifier = JwtVerifier([(settings, keys)])
        return verifier, secret, lambda: opened.revoking.name("jwt:ci:j-1", actor="root", now=NOW)
    if kind == "biscuit":
        wanted = NewToken(PrincipalKind.BISCUIT, "b", ttl=600.0, permissions=("read",))
        secret, row = await opened.biscuits.create(wanted, actor="root", now=NOW)
        await opened.read_root_keys()
        return opened.biscuit_verifier, secret, lambda: opened.revoking.root_key(1, actor="root", now=NOW)
    secret, row = await token(opened)
    if kind == "subject":
        return opened.verifier, secret, lambda: opened.revoking.identity("ada", actor="root", now=NOW)
    return opened.verifier, secret, lambda: opened.tokens.revoke(row.id, actor="root", now=NOW)


@pytest.mark.parametrize("kind", ["opaque", "subject", "jwt", "biscuit"])
async def test_a_revocation_in_the_middle_of_a_verification_wins(opened: OpenStore, kind: str) -> None:
    verifier, secret, revoke = await presented(opened, kind)
    paused = Paused(verifier)
    async with following(opened) as feed:
        identities = Identities([paused], feed, IdentityCacheSettings())
        asking = asyncio.create_task(identities.identify(secret, NOW + 1))
        await paused.judged.wait()
        epoch = feed.epoch
        await revoke()
        await until(lambda: feed.epoch > epoch)
        paused.go.set()
        with pytest.raises(CredentialRefused) as refused:
            await asking
        assert refused.value.reason is Reason.REVOKED
        assert len(identities) == 0


# --- trees --------------------------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 6), others=st.integers(0, 3), data=st.data())
def test_revoking_a_rotated_token_and_what_derives_from_it_kills_exactly_its_subtree(
    length: int, others: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each token is replaced once, so the trees are lines; the others stand beside."""
    node = data.draw(st.integers(0, length - 1))
    derived = data.draw(st.booleans())

    async def run() -> None:
        async with ENGINES["sqlite"](tmp_path_factory.mktemp("tree")) as opened:
            line = [(await token(opened))[1].id]
            for age in range(1, length):
                _, new, _ = await opened.tokens.rotate(line[-1], overlap=DAY / 2, actor="root", now=NOW + age)
                line.append(new.id)
            beside = [(await token(opened))[1].id for _ in range(others)]
            named = [line[node], *([row.id for row in await opened.revoking.derived(line[node])] if derived else [])]
            for token_id in named:
                await opened.tokens.revoke(token_id, actor="root", now=NOW)
            dead = {
                each
                for each in (*line, *beside)
                if opened.tokens.status(await opened.tokens.show(each), NOW) is Status.REVOKED
            }
            assert dead == (set(line[node:]) if derived else {line[node]})

    asyncio.run(run())


@hypothesis_settings(max_examples=60, deadline=None)
@given(parents=st.lists(st.integers(0, 1000), max_size=12), data=st.data())
def test_revoking_a_biscuit_kills_exactly_its_subtree(parents: list[int], data: st.DataObject) -> None:
    from biscuit_auth import BiscuitBuilder, BlockBuilder, KeyPair

    tree = [BiscuitBuilder('token_id("t")').build(KeyPair().private_key)]
    above: list[set[int]] = [{0}]
    for number, parent in enumerate(parents, 1):
        over = parent % len(tree)
        tree.append(tree[over].append(BlockBuilder("check if true")))
        above.append({*above[over], number})
    node = data.draw(st.integers(0, len(tree) - 1))
    feed = ChangeFeed(None, None)  # type: ignore[arg-type]
    feed._revoke(revocation_names.block(tree[node].revocation_ids[-1]), NOW + DAY)
    principals = [
        Principal(PrincipalKind.BISCUIT, "x", revocation_ids=tuple(map(revocation_names.block, each.revocation_ids)))
        for each in tree
    ]
    assert {at for at, each in enumerate(principals) if feed.revoked(each)} == {
        at for at, line in enumerate(above) if node in line
    }
