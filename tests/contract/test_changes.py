"""A running sidecar learns of revocations that another process makes, through whatever happens to the database."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.errors import SidecarError, Unavailable
from sidecar.model import Principal, PrincipalKind
from sidecar.reasons import Reason
from sidecar.store.changes import STALENESS, ChangeFeed
from sidecar.store.open import OpenStore
from sidecar.store.token_events import TokenEvents
from sidecar.store.token_store import NEVER, PAGE, TokenEvent
from sidecar.store.watch import Sight, SqliteWatch
from sidecar.tokens import ChangeKind, NewToken
from tests.contract.stores import ENGINES
from tests.waiting import until_in_loop as until

NOW = int(time.time())


@pytest.fixture(params=sorted(ENGINES))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


@contextlib.asynccontextmanager
async def following(opened: OpenStore, clock: Callable[[], float] = time.time) -> AsyncIterator[ChangeFeed]:
    feed = ChangeFeed(opened.store, opened.watch(), clock=clock)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def create(opened: OpenStore, ttl: float = 3600.0, now: int = NOW) -> Principal:
    """The token as it would sit in an identity cache."""
    token, _ = await opened.tokens.create(NewToken(PrincipalKind.PERSONAL, "alice", ttl=ttl), actor="root", now=now)
    principal = await opened.verifier.verify(token, now)
    assert principal is not None
    return principal


PROCESS = """
import asyncio, pathlib, sys, time
from tests.contract.stores import ENGINES
async def main():
    folder, token_id = pathlib.Path(sys.argv[1]), sys.argv[2]
    async with ENGINES["sqlite"](folder) as opened:
        await opened.tokens.revoke(token_id, actor="cli", now=int(time.time()))
        print("revoked", flush=True)
asyncio.run(main())
"""


async def test_a_revocation_by_another_process_counts_within_half_a_second(opened: OpenStore) -> None:
    principal = await create(opened)
    async with following(opened) as feed:
        assert not feed.revoked(principal)
        epoch = feed.epoch
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, str(opened.path.parent), principal.token_id, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"revoked\n"
        assert await until(lambda: feed.revoked(principal)) < 0.5
        await process.communicate()
        assert feed.epoch > epoch


async def test_a_revocation_within_the_process_counts_too(opened: OpenStore) -> None:
    principal = await create(opened)
    async with following(opened) as feed:
        await opened.tokens.revoke(principal.token_id, actor="page", now=NOW)
        assert await until(lambda: feed.revoked(principal)) < 0.5


async def test_a_start_takes_in_what_was_revoked_before_and_still_matters(opened: OpenStore) -> None:
    alive, ended, untouched = await create(opened), await create(opened, ttl=5.0), await create(opened)
    for principal in (alive, ended):
        await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
    async with following(opened, clock=lambda: NOW + 10.0) as feed:
        assert feed.revoked(alive)
        assert not feed.revoked(ended)
        assert not feed.revoked(untouched)


async def test_more_revocations_than_a_page_holds_all_arrive(opened: OpenStore) -> None:
    names = [f"{n:012}" for n in range(PAGE + 7)]

    def announce(some: list[str]) -> None:
        with sqlite3.connect(opened.path) as connection:
            connection.executemany(
                "INSERT INTO changes (kind, token_id, at, actor, expires_at) VALUES ('revoked', ?, 0, 'a', ?)",
                [(name, NOW + 3600) for name in some],
            )
        connection.close()

    def revoked(feed: ChangeFeed, name: str) -> bool:
        return feed.revoked(Principal(PrincipalKind.PERSONAL, "a", revocation_ids=(f"opaque:{name}",)))

    announce(names)
    async with following(opened) as feed:
        assert all(revoked(feed, name) for name in names)
        later = [f"x{name}" for name in names]
        announce(later)
        await until(lambda: all(revoked(feed, name) for name in later))


async def test_what_has_expired_drops_out_of_memory_and_nothing_else(opened: OpenStore) -> None:
    now = float(NOW)
    short, long = await create(opened, ttl=100.0), await create(opened, ttl=1000.0)
    async with following(opened, clock=lambda: now) as feed:
        for principal in (short, long):
            await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(short) and feed.revoked(long))
        epoch = feed.epoch
        now += 101
        await until(lambda: not feed.revoked(short))
        assert feed.revoked(long)
        assert feed.epoch == epoch


async def test_a_deleted_change_does_not_bring_a_revoked_token_back(opened: OpenStore) -> None:
    principal = await create(opened)
    async with following(opened) as feed:
        await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(principal))
        with sqlite3.connect(opened.path) as connection:
            connection.execute("DELETE FROM changes")
            connection.execute("UPDATE tokens SET revoked_at = NULL")
        connection.close()
        other = await create(opened)
        await opened.tokens.revoke(other.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(other))
        assert feed.revoked(principal)


async def test_nonsense_in_the_table_does_not_stop_the_feed(opened: OpenStore) -> None:
    principal = await create(opened)
    async with following(opened) as feed:
        with sqlite3.connect(opened.path) as connection:
            connection.execute(
                "INSERT INTO changes (kind, token_id, at, actor, expires_at) VALUES ('revoked', ?, 'x', X'00', 'soon')",
                (principal.token_id,),
            )
        connection.close()
        await until(lambda: feed.revoked(principal))
        other = await create(opened)
        await opened.tokens.revoke(other.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(other))


async def test_a_look_tells_a_commit_by_anybody_else_once_and_a_replaced_file(
    opened: OpenStore, tmp_path: Path
) -> None:
    watch = SqliteWatch(opened.path)
    assert await watch.look() is Sight.COMMIT
    assert await watch.look() is Sight.STILL
    await create(opened)
    assert await watch.look() is Sight.COMMIT
    assert await watch.look() is Sight.STILL
    other = tmp_path / "other.db"
    sqlite3.connect(other).close()
    opened.path.rename(tmp_path / "away.db")
    with pytest.raises(Unavailable):
        await watch.look()
    other.rename(opened.path)
    assert await watch.look() is Sight.REPLACED
    assert await watch.look() is Sight.STILL
    await watch.close()


# What may befall the database

KILLED = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute(
    "INSERT INTO changes (kind, token_id, at, actor, expires_at) VALUES ('revoked', ?, 0, 'a', 9999999999)", (sys.argv[2],)
)
print("in the middle", flush=True)
time.sleep(600)
"""


async def test_a_writer_killed_in_its_transaction_leaves_nothing_and_blocks_nobody(opened: OpenStore) -> None:
    half, whole = await create(opened), await create(opened)
    async with following(opened) as feed:
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(opened.path), half.token_id, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        await writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        await writer.wait()
        await opened.tokens.revoke(whole.token_id, actor="a", now=NOW)
        assert await until(lambda: feed.revoked(whole)) < 0.5
        assert not feed.revoked(half)


async def test_a_database_that_another_process_writes_to_is_still_followed_and_read(opened: OpenStore) -> None:
    principal = await create(opened)
    busy = sqlite3.connect(opened.path, isolation_level=None)
    async with following(opened) as feed:
        busy.execute("BEGIN IMMEDIATE")
        busy.execute("UPDATE tokens SET name = 'half done'")
        heard = time.time()
        await until(lambda: feed.is_fresh(heard + STALENESS))
        assert await opened.store.get(principal.token_id) is not None
        revoking = asyncio.create_task(opened.tokens.revoke(principal.token_id, actor="a", now=NOW))
        await until(lambda: feed.is_fresh(heard + STALENESS + 0.3))
        assert not revoking.done()
        busy.execute("ROLLBACK")
        await revoking
        await until(lambda: feed.revoked(principal))
    busy.close()


async def test_a_feed_that_hears_nothing_is_stale_after_its_bound_and_recovers(opened: OpenStore) -> None:
    now = float(NOW)
    principal = await create(opened)
    away = opened.path.with_suffix(".away")
    feed = ChangeFeed(opened.store, opened.watch(), clock=lambda: now)
    await feed.poll()
    opened.path.rename(away)
    now += STALENESS
    with pytest.raises(Unavailable):
        await feed.poll()
    assert feed.is_fresh(now)
    now += 0.001
    assert not feed.is_fresh(now)
    away.rename(opened.path)
    await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
    await feed.poll()
    assert feed.is_fresh(now)
    assert feed.revoked(principal)
    await feed.stop()


async def test_a_change_that_was_noticed_but_not_read_is_read_at_the_next_look(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(seq: int) -> None:
        raise Unavailable(Reason.TOKEN_STORE_UNAVAILABLE)

    principal = await create(opened)
    feed = ChangeFeed(opened.store, opened.watch())
    await feed.poll()
    await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr(opened.store, "changes_after", fail)
        with pytest.raises(Unavailable):
            await feed.poll()
    await feed.poll()
    assert feed.revoked(principal)
    await feed.stop()


async def test_a_feed_that_never_started_is_not_fresh(opened: OpenStore) -> None:
    feed = ChangeFeed(opened.store, opened.watch())
    assert not feed.is_fresh(time.time())
    await feed.stop()


async def test_a_start_without_a_database_fails(opened: OpenStore) -> None:
    await opened.store.reopen()
    opened.path.unlink()
    feed = ChangeFeed(opened.store, opened.watch())
    with pytest.raises(Unavailable):
        await feed.start()
    await feed.stop()


async def test_a_replaced_file_is_read_from_its_beginning_and_nothing_revoked_comes_back(
    opened: OpenStore, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    kept = await create(opened)
    source, target = sqlite3.connect(opened.path), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    async with following(opened) as feed:
        for _ in range(3):
            await create(opened)
        await opened.tokens.revoke(kept.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(kept))
        before = feed.seq
        for side in ("-wal", "-shm"):
            Path(f"{opened.path}{side}").unlink(missing_ok=True)
        os.replace(backup, opened.path)
        await until(lambda: feed.seq < before)
        fresh = await create(opened)
        await opened.tokens.revoke(fresh.token_id, actor="a", now=NOW)
        await until(lambda: feed.revoked(fresh))
        assert feed.revoked(kept)


async def test_a_replaced_file_is_not_forgotten_while_the_old_one_can_not_be_let_go_of(
    opened: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, now = True, float(NOW)
    let_go = opened.store.reopen

    async def reopen() -> None:
        if held:
            raise Unavailable(Reason.TOKEN_STORE_UNAVAILABLE, "token store: TimeoutError")
        await let_go()

    revoked = await create(opened)
    backup = tmp_path / "backup.db"
    with (
        contextlib.closing(sqlite3.connect(opened.path)) as source,
        contextlib.closing(sqlite3.connect(backup)) as copy,
    ):
        source.backup(copy)
    feed = ChangeFeed(opened.store, opened.watch(), clock=lambda: now)
    await feed.poll()
    for side in ("-wal", "-shm"):
        Path(f"{opened.path}{side}").unlink(missing_ok=True)
    os.replace(backup, opened.path)
    async with ENGINES["sqlite"](tmp_path) as other:
        await other.tokens.revoke(revoked.token_id, actor="cli", now=NOW)
    monkeypatch.setattr(opened.store, "reopen", reopen)
    for _ in range(3):
        now += STALENESS / 2
        with pytest.raises(Unavailable):
            await feed.poll()
    assert not feed.is_fresh(now)
    held = False
    await feed.poll()
    assert feed.is_fresh(now)
    assert feed.revoked(revoked)
    await feed.stop()


async def test_a_stopped_feed_leaves_no_thread_and_no_task(opened: OpenStore) -> None:
    async with following(opened):
        pass
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "change-feed"]


async def test_a_look_costs_the_loop_next_to_nothing(opened: OpenStore) -> None:
    """CPU time of all threads: 10 looks a second must stay below 1 % of a core."""
    watch = opened.watch()
    await watch.look()
    began = time.process_time()
    for _ in range(200):
        await watch.look()
    assert (time.process_time() - began) / 200 < 0.001
    await watch.close()


# Events for the audit log


class Log:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.failing = False
        self.asked = 0

    async def record(self, event: TokenEvent) -> None:
        self.asked += 1
        if self.failing:
            raise SidecarError("the disk is full")
        self.taken.append((event.change.kind, event.change.token_id))


@contextlib.asynccontextmanager
async def auditing(opened: OpenStore, record: Callable[[TokenEvent], Awaitable[None]]) -> AsyncIterator[None]:
    events = TokenEvents(opened.store, record, retry=0.01)
    feed = ChangeFeed(opened.store, opened.watch(), on_change=events.wake)
    await feed.start()
    events.start()
    try:
        yield
    finally:
        await events.stop()
        await feed.stop()


async def marked(opened: OpenStore) -> None:
    while await opened.store.unaudited():
        await asyncio.sleep(0.005)


async def test_each_event_is_audited_once_in_order_across_restarts(opened: OpenStore) -> None:
    log = Log()
    before = await create(opened)
    async with auditing(opened, log.record):
        await until(lambda: len(log.taken) == 1)
        during = await create(opened)
        await until(lambda: len(log.taken) == 2)
        await asyncio.wait_for(marked(opened), 20)
    await opened.tokens.revoke(before.token_id, actor="a", now=NOW)
    async with auditing(opened, log.record):
        await until(lambda: len(log.taken) == 3)
        await asyncio.wait_for(marked(opened), 20)
    assert log.taken == [
        (ChangeKind.CREATED, before.token_id),
        (ChangeKind.CREATED, during.token_id),
        (ChangeKind.REVOKED, before.token_id),
    ]


async def test_an_event_that_the_log_does_not_take_is_offered_again(opened: OpenStore) -> None:
    log = Log()
    log.failing = True
    principal = await create(opened)
    async with auditing(opened, log.record):
        await until(lambda: log.asked >= 3)
        assert await opened.store.unaudited()
        log.failing = False
        await until(lambda: log.taken == [(ChangeKind.CREATED, principal.token_id)])
        await asyncio.wait_for(marked(opened), 20)
    assert len(log.taken) == 1


async def test_what_was_audited_before_a_stop_is_not_audited_again(opened: OpenStore) -> None:
    taken: list[int] = []

    async def record(event: TokenEvent) -> None:
        if len(taken) == 1:
            await asyncio.Event().wait()
        taken.append(event.change.seq)

    await create(opened)
    await create(opened)
    async with auditing(opened, record):
        await until(lambda: len(taken) == 1)
    assert [event.change.seq for event in await opened.store.unaudited()] == [taken[0] + 1]


async def test_nonsense_in_the_tables_reaches_the_log_as_sound_values(opened: OpenStore) -> None:
    events: list[TokenEvent] = []

    async def record(event: TokenEvent) -> None:
        events.append(event)

    principal = await create(opened)
    with sqlite3.connect(opened.path) as connection:
        connection.execute("UPDATE tokens SET kind = 'root', subject = X'00'")
        connection.execute("UPDATE changes SET at = 'x', actor = X'00', expires_at = 'soon'")
    connection.close()
    async with auditing(opened, record):
        await until(lambda: len(events) == 1)
    change = events[0].change
    assert (change.token_id, change.at, change.expires_at) == (principal.token_id, 0, NEVER)
    assert isinstance(change.actor, str)
    assert events[0].token is None


@pytest.mark.parametrize("error", [SidecarError("the disk is full"), ValueError("a defect")])
async def test_a_log_that_fails_in_any_way_is_told_the_next_time(opened: OpenStore, error: Exception) -> None:
    asked: list[int] = []

    async def record(event: TokenEvent) -> None:
        asked.append(event.change.seq)
        if len(asked) == 1:
            raise error

    await create(opened)
    async with auditing(opened, record):
        await until(lambda: len(asked) == 2)
        await asyncio.wait_for(marked(opened), 20)


async def test_a_log_that_hangs_does_not_hold_revocations_up(opened: OpenStore) -> None:
    async def hang(event: TokenEvent) -> None:
        await asyncio.Event().wait()

    principal = await create(opened)
    events = TokenEvents(opened.store, hang)
    feed = ChangeFeed(opened.store, opened.watch(), on_change=events.wake)
    await feed.start()
    events.start()
    await opened.tokens.revoke(principal.token_id, actor="a", now=NOW)
    assert await until(lambda: feed.revoked(principal)) < 0.5
    await events.stop()
    await feed.stop()
