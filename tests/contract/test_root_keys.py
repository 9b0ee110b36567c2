"""Root keys of Biscuits: made, believed, retired; and followed by whoever serves."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.credentials.biscuit import key_row
from sidecar.credentials.biscuit.library import PrivateKey
from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Limits, PrincipalKind, Secret
from sidecar.root_keys import RootKeyError, RootKeyring
from sidecar.store.changes import ChangeFeed
from sidecar.store.open import OpenStore, open_token_store
from sidecar.store.root_keys import RootKeyStore
from sidecar.tokens import ChangeKind, NewToken
from tests.contract.stores import sqlite_settings
from tests.waiting import until_in_loop as until

LIVE_WITHIN = 0.5
HOUR = 3600.0


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[OpenStore]:
    found = await open_token_store(sqlite_settings(tmp_path))
    yield found
    await found.store.close()


async def token(opened: OpenStore) -> Secret:
    wanted = NewToken(PrincipalKind.BISCUIT, "build", ("web",), ("read",), ttl=HOUR)
    return (await opened.biscuits.create(wanted, actor="test", now=int(time.time())))[0]


async def test_a_running_follower_learns_of_keys_within_half_a_second(opened: OpenStore, tmp_path: Path) -> None:
    feed = ChangeFeed(opened.store, opened.watch(), on_keys=opened.read_root_keys)
    other = await open_token_store(sqlite_settings(tmp_path))
    await feed.start()
    try:
        assert not opened.biscuit_verifier.keys
        made = await token(other)
        await until(lambda: bool(opened.biscuit_verifier.keys), LIVE_WITHIN)
        who = await opened.biscuit_verifier.verify(made, time.time())
        assert who is not None
        assert who.limits != Limits()
        before = opened.biscuit_verifier.generation
        await other.root_keys.create(actor="test", now=1)
        await until(lambda: len(opened.biscuit_verifier.keys) == 2, LIVE_WITHIN)
        assert await opened.biscuit_verifier.verify(made, time.time())  # an old key verifies until it is retired
        await other.root_keys.retire(1, actor="test", now=2)
        await until(lambda: len(opened.biscuit_verifier.keys) == 1, LIVE_WITHIN)
        assert opened.biscuit_verifier.generation != before
        with pytest.raises(CredentialRefused, match="unknown, or retired"):
            await opened.biscuit_verifier.verify(made, time.time())
    finally:
        await feed.stop()
        await other.store.close()


async def test_keys_that_could_not_be_read_are_read_at_the_next_look(opened: OpenStore) -> None:
    failures = [Unavailable(opened.biscuit_verifier.generation), None]  # type: ignore[arg-type]

    async def on_keys() -> None:
        if (failure := failures.pop(0)) is not None:
            raise failure

    feed = ChangeFeed(opened.store, opened.watch(), on_keys=on_keys)
    with pytest.raises(Unavailable):
        await feed.poll()
    assert feed.heard == 0.0
    await feed.poll()
    assert failures == []
    assert feed.heard > 0
    await feed.stop()


async def test_each_change_of_a_key_is_announced(opened: OpenStore) -> None:
    await opened.root_keys.create(actor="ada", now=10)
    await opened.root_keys.retire(1, actor="bob", now=20)
    await opened.root_keys.retire(1, actor="eve", now=30)
    changes = await opened.store.changes_after(0)
    assert [(each.kind, each.token_id, each.actor, each.at) for each in changes] == [
        (ChangeKind.KEY_CREATED, "key:biscuit:1", "ada", 10),
        (ChangeKind.KEY_RETIRED, "key:biscuit:1", "bob", 20),
    ]


async def test_ids_are_never_given_again(opened: OpenStore) -> None:
    for expected in (1, 2):
        assert (await opened.root_keys.create(actor="test", now=1)).id == expected
        await opened.root_keys.retire(expected, actor="test", now=2)
    opened.root_keys.file(3).write_text("of a creation that was broken off")
    assert (await opened.root_keys.create(actor="test", now=1)).id == 4


async def test_a_key_whose_private_half_lies_elsewhere_is_retired_as_any_other(opened: OpenStore) -> None:
    made = await opened.root_keys.create(actor="test", now=1)
    opened.root_keys.file(made.id).unlink()
    assert (await opened.root_keys.retire(made.id, actor="test", now=2))[1]
    assert await opened.root_keys.believed() == {}


async def test_many_who_create_at_once_get_a_key_each(opened: OpenStore) -> None:
    made = await asyncio.gather(*(opened.root_keys.create(actor="test", now=1) for _ in range(5)))
    assert len({row.id for row in made}) == 5
    believed = await opened.root_keys.believed()
    for row in made:
        assert (
            believed[row.id] == row.public_key == PrivateKey.of_pem(opened.root_keys.file(row.id).read_bytes()).public
        )


async def test_keys_move_to_the_current_pepper(tmp_path: Path) -> None:
    settings = sqlite_settings(tmp_path)
    first = await open_token_store(settings)
    await first.root_keys.create(actor="test", now=1)
    store, old = first.root_keys._store, first.peppers.current
    new = Pepper(b"another pepper with enough of different bytes 0123456789")
    assert isinstance(store, RootKeyStore)
    assert set(await RootKeyring(store, Peppers(new), tmp_path).believed()) == set()
    assert set(await RootKeyring(store, Peppers(new, old), tmp_path).believed()) == {1}
    assert set(await RootKeyring(store, Peppers(new), tmp_path).believed()) == {1}
    assert key_row.intact((await store.all())[0], Peppers(new))
    await first.store.close()


async def test_a_folder_that_can_not_be_written_is_told(opened: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keyring = RootKeyring(opened.root_keys._store, opened.peppers, tmp_path / "file")
    with pytest.raises(RootKeyError, match="biscuit_keys"):
        await keyring.create(actor="test", now=1)
    assert await opened.root_keys.all() == []
