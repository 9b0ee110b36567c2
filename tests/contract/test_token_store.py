"""What every token store must do, whatever database it runs on; and what SQLite's file must be."""

import asyncio
import logging
import sqlite3
import stat
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.credentials.token_row import TokenRow
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Permission, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.store.engine import Database, StoreUnusable, create_file, sqlite_path
from sidecar.store.last_used import LastUsed
from sidecar.store.migrations.run import migrate
from sidecar.store.open import OpenStore, open_token_store
from sidecar.store.tables import VERSION, metadata
from sidecar.tokens import ChangeKind, NewToken, Status, TokenFilter, TokenRequestError, UnknownToken
from tests.contract.stores import DAY, ENGINES, sqlite_settings

NOW = 1_800_000_000
PERSONAL, CI = PrincipalKind.PERSONAL, PrincipalKind.CI


@pytest.fixture(params=sorted(ENGINES))
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    async with ENGINES[request.param](tmp_path) as opened:
        yield opened


async def create(
    opened: OpenStore, subject: str = "alice", now: int = NOW, **wanted: object
) -> tuple[Secret, TokenRow]:
    return await opened.tokens.create(
        NewToken(**{"kind": PERSONAL, "subject": subject, **wanted}),
        actor="root",
        now=now,  # type: ignore[arg-type]
    )


async def ids(opened: OpenStore, now: int = NOW, **wanted: object) -> list[str]:
    return [row.id for row in await opened.tokens.list(TokenFilter(**wanted), now=now)]  # type: ignore[arg-type]


# A token's life


async def test_what_is_created_verifies_and_reads_back_as_it_was_written(opened: OpenStore) -> None:
    token, row = await create(
        opened,
        kind=CI,
        workspaces=("web",),
        permissions=("read-write", "delete", "read"),
        path="releases/**",
        name="gâteau № 1",
        ttl=3600.0,
    )
    assert await opened.store.get(row.id) == row
    principal = await opened.verifier.verify(token, NOW)
    assert principal is not None
    assert (principal.kind, principal.subject, principal.workspace) == (CI, "alice", "web")
    assert principal.limits.permissions == {Permission.READ, Permission.WRITE, Permission.DELETE}
    assert (principal.limits.path, principal.token_name, principal.expires_at) == (
        "releases/**",
        "gâteau № 1",
        NOW + 3600,
    )


async def test_without_a_ttl_the_configurations_default_holds(opened: OpenStore) -> None:
    _, row = await create(opened)
    assert row.expires_at == NOW + 90 * DAY


async def test_an_unknown_id_is_none(opened: OpenStore) -> None:
    assert await opened.store.get("0" * 12) is None


async def test_a_revoked_token_is_refused_and_stays_listed(opened: OpenStore) -> None:
    token, row = await create(opened)
    revoked, did = await opened.tokens.revoke(row.id, actor="mallory", now=NOW + 5)
    assert (did, revoked.revoked_at, revoked.revoked_by) == (True, NOW + 5, "mallory")
    with pytest.raises(CredentialRefused) as refused:
        await opened.verifier.verify(token, NOW + 6)
    assert refused.value.reason is Reason.REVOKED
    assert opened.tokens.status(revoked, NOW) is Status.REVOKED
    assert await ids(opened, ended=True) == [row.id]


async def test_revoking_twice_changes_and_announces_nothing_more(opened: OpenStore) -> None:
    _, row = await create(opened)
    first, _ = await opened.tokens.revoke(row.id, actor="a", now=NOW + 1)
    second, did = await opened.tokens.revoke(row.id, actor="b", now=NOW + 2)
    assert (second, did) == (first, False)
    assert [change.kind for change in await opened.store.changes_after(0)] == ["created", "revoked"]


async def test_many_revocations_of_one_token_at_once_are_one(opened: OpenStore) -> None:
    _, row = await create(opened)
    results = await asyncio.gather(*(opened.tokens.revoke(row.id, actor=str(n), now=NOW) for n in range(20)))
    assert [did for _, did in results].count(True) == 1
    assert [change.kind for change in await opened.store.changes_after(0)] == ["created", "revoked"]


async def test_revoking_what_does_not_exist_says_so(opened: OpenStore) -> None:
    with pytest.raises(UnknownToken):
        await opened.tokens.revoke("0" * 12, actor="a", now=NOW)


async def test_a_whole_token_names_its_id(opened: OpenStore) -> None:
    token, row = await create(opened)
    assert opened.tokens.id_of(token) == row.id
    with pytest.raises(TokenRequestError, match="asc_"):
        opened.tokens.id_of(Secret("ghp_123"))
    with pytest.raises(CredentialRefused):
        opened.tokens.id_of(Secret(token.reveal()[:-1]))


# What may be asked for


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"subject": ""}, "subject"),
        ({"subject": " alice"}, "subject"),
        ({"subject": "ali\nce"}, "subject"),
        ({"subject": "\x1b[31m"}, "subject"),
        ({"subject": "a" * 257}, "subject"),
        ({"name": "a" * 101}, "name"),
        ({"name": "\u202e"}, "name"),
        ({"kind": CI}, "exactly one"),
        ({"kind": CI, "workspaces": ("a", "b")}, "exactly one"),
        ({"kind": PrincipalKind.JWT}, "kind"),
        ({"kind": PrincipalKind.ANONYMOUS}, "kind"),
        ({"workspaces": ("a b",)}, "workspace"),
        ({"workspaces": ("",)}, "workspace"),
        ({"workspaces": ("../x",)}, "workspace"),
        ({"workspaces": tuple(f"w{n}" for n in range(101))}, "workspace"),
        ({"permissions": ("wirte",)}, "permission 'wirte' is unknown; did you mean 'write'"),
        ({"permissions": ("",)}, "permission"),
        ({"path": "a**b"}, "path"),
        ({"path": ""}, "path"),
        ({"path": "a" * 2000}, "path"),
        ({"ttl": 0.0}, "ttl"),
        ({"ttl": -1.0}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": float("inf")}, "at most 366d"),
        ({"ttl": 366 * DAY + 1}, "at most 366d"),
    ],
)
async def test_what_cannot_be_asked_for(opened: OpenStore, wanted: dict[str, object], problem: str) -> None:
    with pytest.raises(TokenRequestError, match=problem):
        await create(opened, **wanted)
    assert await ids(opened, ended=True) == []
    assert await opened.store.changes_after(0) == []


async def test_all_that_is_wrong_is_said_at_once(opened: OpenStore) -> None:
    with pytest.raises(TokenRequestError) as refused:
        await create(opened, subject="", permissions=("wirte",), ttl=0.0)
    assert len(refused.value.problems) == 3


# Lists


async def test_a_list_is_newest_first_and_comes_in_pages(opened: OpenStore) -> None:
    made = [(await create(opened, now=NOW + n // 3))[1] for n in range(10)]
    expected = [row.id for row in sorted(made, key=lambda row: (row.created_at, row.id), reverse=True)]
    seen: list[str] = []
    while page := await ids(opened, now=NOW + 10, limit=3, after=seen[-1] if seen else None):
        assert len(page) <= 3
        seen += page
    assert seen == expected


async def test_a_list_can_be_narrowed(opened: OpenStore) -> None:
    _, everything = await create(opened)
    _, web = await create(opened, workspaces=("api", "web"))
    _, webx = await create(opened, subject="bob", workspaces=("webx",))
    _, upper = await create(opened, subject="bob", workspaces=("Web",))
    _, ci = await create(opened, kind=CI, workspaces=("web",))
    assert set(await ids(opened)) == {everything.id, web.id, webx.id, upper.id, ci.id}
    assert set(await ids(opened, workspace="web")) == {web.id, ci.id}
    assert set(await ids(opened, subject="bob")) == {webx.id, upper.id}
    assert await ids(opened, kind=CI) == [ci.id]
    assert await ids(opened, workspace="%") == []


async def test_a_list_leaves_out_what_has_ended_unless_asked(opened: OpenStore) -> None:
    _, alive = await create(opened)
    _, expired = await create(opened, ttl=10.0)
    _, revoked = await create(opened)
    await opened.tokens.revoke(revoked.id, actor="a", now=NOW)
    assert await ids(opened, now=NOW + 10) == [alive.id]
    assert set(await ids(opened, now=NOW + 10, ended=True)) == {alive.id, expired.id, revoked.id}


# Last use


async def test_last_use_is_written_in_batches_by_the_minute_and_never_backwards(opened: OpenStore) -> None:
    token, row = await create(opened)
    last_used = LastUsed(opened.store)
    for second in range(5):
        last_used.mark(row.id, NOW + 30 + second)
    last_used.mark("0" * 12, NOW)
    assert (await opened.tokens.show(row.id)).last_used_at is None
    await last_used.flush()
    minute = (NOW + 30) // 60 * 60
    assert (await opened.tokens.show(row.id)).last_used_at == minute
    last_used.mark(row.id, NOW - 600)
    await last_used.stop()
    assert (await opened.tokens.show(row.id)).last_used_at == minute
    assert await opened.verifier.verify(token, NOW) is not None


async def test_a_revocation_keeps_the_time_of_last_use(opened: OpenStore) -> None:
    _, row = await create(opened)
    await opened.store.touch_last_used({row.id: NOW})
    await opened.tokens.revoke(row.id, actor="a", now=NOW)
    assert (await opened.tokens.show(row.id)).last_used_at == NOW


async def test_last_use_that_the_store_cannot_take_is_kept_for_later(opened: OpenStore) -> None:
    _, row = await create(opened)
    last_used = LastUsed(opened.store)
    last_used.mark(row.id, NOW)
    hidden = opened.path.with_suffix(".away")
    await opened.store.reopen()
    opened.path.rename(hidden)
    await last_used.flush()
    hidden.rename(opened.path)
    await last_used.stop()
    assert (await opened.tokens.show(row.id)).last_used_at == NOW


# Events for the audit


async def test_each_change_carries_its_actor_until_it_is_marked_as_audited(opened: OpenStore) -> None:
    _, row = await create(opened)
    await opened.tokens.revoke(row.id, actor="mallory", now=NOW + 5)
    created, revoked = await opened.store.unaudited()
    assert (created.change.kind, created.change.actor, created.change.at) == (ChangeKind.CREATED, "root", NOW)
    assert (revoked.change.kind, revoked.change.actor, revoked.change.at) == (ChangeKind.REVOKED, "mallory", NOW + 5)
    assert created.token is not None
    assert created.token.subject == "alice"
    await opened.store.mark_audited(created.change.seq)
    assert [event.change.seq for event in await opened.store.unaudited()] == [revoked.change.seq]
    await opened.store.mark_audited(revoked.change.seq)
    assert await opened.store.unaudited() == []


# A database in other hands (SQLite's file, edited with its own tools)


def edit(opened: OpenStore, statement: str, *values: object) -> None:
    with sqlite3.connect(opened.path) as connection:
        connection.execute(statement, values)
    connection.close()


GRANTING = [column.name for column in metadata.tables["tokens"].columns if column.name != "last_used_at"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    column=st.sampled_from(GRANTING),
    value=st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.binary(),
        st.floats(allow_nan=False),
        st.sampled_from([None, "admin", "ci", "personal", NOW * 2, str(NOW + 3600)]),
    ),
)
async def test_no_column_that_grants_anything_can_be_edited(opened: OpenStore, column: str, value: object) -> None:
    edit(opened, "DELETE FROM tokens")
    token, row = await create(opened, permissions=("read",), ttl=3600.0)
    try:
        edit(opened, f"UPDATE tokens SET {column} = ?", value)
    except sqlite3.IntegrityError:
        return  # NULL where the table has none
    if await opened.store.list(TokenFilter(ended=True), NOW) == [row]:
        return  # the same value again
    with pytest.raises((CredentialRefused, Unavailable)):
        await opened.verifier.verify(token, NOW)


async def test_an_edited_row_says_so_to_the_audit_and_in_lists(opened: OpenStore) -> None:
    token, row = await create(opened, permissions=("read",))
    edit(opened, "UPDATE tokens SET permissions = 'admin'")
    with pytest.raises(CredentialRefused) as refused:
        await opened.verifier.verify(token, NOW)
    assert (refused.value.reason, refused.value.detail) == (Reason.BAD_TOKEN, f"{row.id}: row MAC")
    assert opened.tokens.status(await opened.tokens.show(row.id), NOW) is Status.ALTERED


async def test_taking_a_revocation_back_in_the_database_does_not_help(opened: OpenStore) -> None:
    token, row = await create(opened)
    await opened.tokens.revoke(row.id, actor="a", now=NOW)
    edit(opened, "DELETE FROM changes")
    edit(opened, "UPDATE tokens SET revoked_at = NULL, revoked_by = NULL")
    with pytest.raises(CredentialRefused):
        await opened.verifier.verify(token, NOW)


async def test_an_older_state_of_a_row_put_back_is_accepted_by_whoever_has_not_heard_of_its_revocation(
    opened: OpenStore,
) -> None:
    """Not a promise: `docs/security.md` says what write access to the database can do, and this is that."""
    token, row = await create(opened)
    await opened.tokens.revoke(row.id, actor="a", now=NOW)
    edit(opened, "DELETE FROM changes")
    edit(opened, "UPDATE tokens SET revoked_at = NULL, revoked_by = NULL, mac = ?", row.mac)
    assert await opened.verifier.verify(token, NOW) is not None


async def test_revoking_an_edited_row_does_not_put_our_seal_under_the_edit(opened: OpenStore) -> None:
    _, row = await create(opened, permissions=("read",))
    edit(opened, "UPDATE tokens SET permissions = 'admin'")
    _, revoked = await opened.tokens.revoke(row.id, actor="a", now=NOW)
    assert revoked
    assert opened.tokens.status(await opened.tokens.show(row.id), NOW) is Status.ALTERED
    assert [change.kind for change in await opened.store.changes_after(0)] == ["created", "revoked"]


async def test_neither_the_database_nor_the_log_ever_holds_a_token_or_the_pepper(
    opened: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, row = await create(opened)
    await opened.verifier.verify(token, NOW)
    with pytest.raises(Unavailable) as refused:
        await opened.store.create(row, "twice")
    await opened.tokens.revoke(row.id, actor="a", now=NOW)
    error = "".join(traceback.format_exception(refused.value))
    assert "UNIQUE constraint failed" in error
    secret = token.reveal().split("_")[-1]
    pepper = sqlite_settings(opened.path.parent).pepper_file.read_text().strip()
    written = b"".join(file.read_bytes() for file in opened.path.parent.glob("tokens.db*"))
    assert row.id.encode() in written
    told = caplog.text + repr(row) + error
    for hidden in (secret, secret[:43], pepper):
        assert hidden.encode() not in written
        assert hidden not in told
    assert row.digest not in caplog.text + error


# The file and its schema


async def test_the_files_are_their_owners_alone(opened: OpenStore) -> None:
    await create(opened)
    files = list(opened.path.parent.glob("tokens.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_lookup_and_a_page_use_an_index(opened: OpenStore) -> None:
    connection = sqlite3.connect(opened.path)
    for query in (
        "SELECT * FROM tokens WHERE id = 'x'",
        "SELECT * FROM tokens ORDER BY created_at DESC, id DESC LIMIT 10",
        "SELECT * FROM tokens WHERE (created_at, id) < (5, 'x') ORDER BY created_at DESC, id DESC LIMIT 10",
        "SELECT * FROM tokens WHERE subject = 'x' ORDER BY created_at DESC, id DESC LIMIT 10",
        "SELECT * FROM changes WHERE seq > 5 ORDER BY seq LIMIT 10",
        "SELECT * FROM changes WHERE seq > 5 AND kind = 'revoked' AND expires_at > 9 ORDER BY seq LIMIT 10",
        "SELECT * FROM changes LEFT JOIN tokens ON tokens.id = changes.token_id WHERE changes.seq > 5 ORDER BY changes.seq",
    ):
        plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query))
        assert "INDEX" in plan or "INTEGER PRIMARY KEY" in plan, (query, plan)
        assert "TEMP B-TREE" not in plan, (query, plan)
    connection.close()


async def test_a_store_made_at_first_use_and_a_migrated_one_are_the_same(tmp_path: Path) -> None:
    fresh, migrated = tmp_path / "fresh.db", tmp_path / "migrated.db"
    for path in (fresh, migrated):
        create_file(path)
    Database(fresh).prepare_schema()
    migrate(Database(migrated))
    migrate(Database(fresh))
    for path in (fresh, migrated):
        Database(path).prepare_schema()
        with create_engine(f"sqlite:///{path}").connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == VERSION


@pytest.mark.parametrize(("found", "said"), [("0000", "sidecar token migrate"), ("9999", "newer version")])
async def test_another_schema_is_refused_with_what_to_do(tmp_path: Path, found: str, said: str) -> None:
    async with ENGINES["sqlite"](tmp_path) as opened:
        edit(opened, "UPDATE alembic_version SET version_num = ?", found)
    with pytest.raises(StoreUnusable, match=said):
        await open_token_store(sqlite_settings(tmp_path))


@pytest.mark.slow
async def test_several_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys; from tests.contract.stores import ENGINES\n"
        "async def main():\n"
        "    async with ENGINES['sqlite'](pathlib.Path(sys.argv[1])) as opened: print(await opened.store.last_change())\n"
        "asyncio.run(main())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=120)[0] for process in running] == ["0\n"] * 4


def test_serving_does_not_load_alembic_nor_the_orm() -> None:
    script = (
        "import sys, sidecar.store.open, sidecar.store.changes, sidecar.store.token_events, sidecar.store.last_used\n"
        "print([name for name in ('alembic', 'sqlalchemy.orm', 'typer', 'rich') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"


async def test_a_missing_file_is_an_outage_and_is_not_made_anew(opened: OpenStore) -> None:
    await opened.store.reopen()
    opened.path.unlink()
    with pytest.raises(Unavailable):
        await opened.store.get("0" * 12)
    assert not opened.path.exists()


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    store = sqlite_settings(tmp_path)
    sqlite_path(store.store).write_text("certainly not a database, but long enough to be one" * 100)
    with pytest.raises(StoreUnusable, match="not a database"):
        await open_token_store(store)


async def test_a_folder_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="No such file"):
        create_file(tmp_path / "nowhere" / "tokens.db")


@pytest.mark.parametrize("name", ["a b", "a?b", "a#b", "a%20b", "ä"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    async with ENGINES["sqlite"](folder) as opened:
        await create(opened)
        assert opened.path == folder / "tokens.db"
        assert opened.path.stat().st_size > 0


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "sqlite:///", "sqlite://x", "tokens.db", "mysql:///x"])
def test_another_databases_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable):
        sqlite_path(url)


async def test_last_use_goes_on_after_a_flush_that_failed(monkeypatch: pytest.MonkeyPatch, opened: OpenStore) -> None:
    last_used, calls = LastUsed(opened.store, interval=0.01), 0
    succeeded = asyncio.Event()

    async def flush() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not an outage that was foreseen")
        succeeded.set()

    monkeypatch.setattr(last_used, "flush", flush)
    last_used.start()
    async with asyncio.timeout(20):
        await succeeded.wait()
    await last_used.stop()


@pytest.mark.parametrize("at", [2**60, -1, 253402300800, "yesterday"])
async def test_an_event_with_an_impossible_time_is_still_one_that_can_be_recorded(
    opened: OpenStore, at: object
) -> None:
    await create(opened)
    edit(opened, "UPDATE changes SET at = ?", at)
    (event,) = await opened.store.unaudited()
    record = Records(Instance(), b"k" * 32).token_event(
        event.change.kind, event.change.at, token_id=event.change.token_id
    )
    assert b'"time":"1970-01-01T' in record
