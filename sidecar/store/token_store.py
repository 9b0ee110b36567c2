"""Tokens and their changes in the database. One implementation for every engine; it believes nothing and judges nothing:
MACs are made and checked by `credentials/opaque.py`.

A change to a token and the row in `changes` that announces it are one transaction.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, convert, to_builtins
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from sidecar.credentials import revocation_names
from sidecar.credentials.revocation_row import RevocationRow
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind
from sidecar.store.engine import Database
from sidecar.store.tables import changes, marks, revocations, tokens
from sidecar.tokens import ChangeKind, TokenFilter

PAGE = 500
NEVER = 2**53
_AUDITED = "audited"
_UNDER_PEPPER = (PrincipalKind.PERSONAL, PrincipalKind.CI)
"""Kinds whose tokens are verified by their row's digest; of a Biscuit the row's seal alone is under the pepper."""
_COLUMNS = [tokens.c[name] for name in TokenRow.__struct_fields__]
_FIELDS = RevocationRow.__struct_fields__
_REVOCATION = [revocations.c[name] for name in _FIELDS]


class Change(Struct, frozen=True):
    """One row of `changes`. Their order is that of their commits."""

    seq: int
    kind: str
    token_id: str
    at: int
    actor: str
    expires_at: int
    """The token's expiry: after it a revocation says nothing more."""


class TokenEvent(Struct, frozen=True):
    """A change with the token that it is about, for the audit log."""

    change: Change
    token: TokenRow | None
    """As it is now; `None` where its row is gone, or holds what no row of ours does."""


class TokenStore:
    """Every method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)` where the database can't answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reopen(self) -> None:
        """The next statement opens the file that is there now."""
        await self._database.reopen()

    async def close(self) -> None:
        await self._database.close()

    # Tokens

    async def create(self, row: TokenRow, actor: str) -> None:
        def statements(connection: Connection) -> None:
            connection.execute(insert(tokens).values(_values(row)))
            connection.execute(_announcement(row.id, ChangeKind.CREATED, row.created_at, actor, row.expires_at))

        await self._database.write(statements)

    async def get(self, token_id: str) -> TokenRow | None:
        """By primary key."""

        def statements(connection: Connection) -> TokenRow | None:
            found = connection.execute(_GET, {"wanted": token_id}).one_or_none()
            return None if found is None else TokenRow(*found)

        return await self._database.read(statements)

    async def list(self, wanted: TokenFilter, now: int) -> Sequence[TokenRow]:
        """A page, newest first; the next one starts `after` this one's last id."""
        query = _listing(wanted, now)
        return await self._database.read(lambda connection: [TokenRow(*found) for found in connection.execute(query)])

    async def family(self, first: str) -> Sequence[TokenRow]:
        """A token and all that replaced it, and one another, oldest first."""

        def statements(connection: Connection) -> Sequence[TokenRow]:
            return [TokenRow(*found) for found in connection.execute(_FAMILY, {"first": first})]

        return await self._database.read(statements)

    async def replace(self, old: TokenRow, new: TokenRow, kind: ChangeKind, at: int, actor: str) -> bool:
        """Writes `new` over `old` and announces it; false, and nothing happened, if the row isn't `old` any more."""

        def statements(connection: Connection) -> bool:
            if not _written_over(connection, old, new):
                return False
            connection.execute(_announcement(new.id, kind, at, actor, new.expires_at))
            return True

        return await self._database.write(statements)

    async def move(self, rows: Sequence[tuple[TokenRow, TokenRow]]) -> None:
        """Writes each second one over the first, unless that has changed meanwhile or its pepper was revoked. Nothing is
        announced: the second says the same under another pepper, or with its owner's id."""

        def statements(connection: Connection) -> None:
            for old, new in rows:
                name = revocation_names.pepper(old.pepper_id)
                still_good = ~select(revocations.c.name).where(revocations.c.name == name).exists()
                _written_over(connection, old, new, still_good)

        await self._database.write(statements)

    async def overwrite(self, rows: Sequence[tuple[TokenRow, TokenRow]]) -> int:
        """Writes each second one over the first, unless that has changed meanwhile: how many. Nothing is announced: what took
        them along is."""

        def statements(connection: Connection) -> int:
            return sum(_written_over(connection, old, new) for old, new in rows)

        return await self._database.write(statements)

    async def under_pepper(self, pepper_id: str, after: str) -> Sequence[TokenRow]:
        """A page of those that aren't revoked, by id."""
        under = and_(tokens.c.kind.in_(_UNDER_PEPPER), tokens.c.pepper_id == pepper_id)
        return await self._not_revoked(under, after)

    async def under_root_key(self, key_id: int, after: str) -> Sequence[TokenRow]:
        """A page of the Biscuits that aren't revoked, by id."""
        return await self._not_revoked(tokens.c.root_key == key_id, after)

    async def _not_revoked(self, which: ColumnElement[bool], after: str) -> Sequence[TokenRow]:
        query = (
            select(*_COLUMNS)
            .where(which, tokens.c.revoked_at.is_(None), tokens.c.id > after)
            .order_by(tokens.c.id)
            .limit(PAGE)
        )
        return await self._database.read(lambda connection: [TokenRow(*found) for found in connection.execute(query)])

    # Revocations of what has no row

    async def bar(self, row: RevocationRow) -> None:
        """In place of what was there under the same name, unless that reaches further. Announced."""

        def statements(connection: Connection) -> None:
            same = revocations.c.name == row.name
            if row.before is None:
                connection.execute(delete(revocations).where(same))
            else:
                connection.execute(delete(revocations).where(same, revocations.c.before <= row.before))
            values = [
                literal(getattr(row, name), column.type) for name, column in zip(_FIELDS, _REVOCATION, strict=True)
            ]
            there = select(revocations.c.name).where(same).exists()
            connection.execute(insert(revocations).from_select(_FIELDS, select(*values).where(~there)))
            connection.execute(_announcement(row.name, ChangeKind.REVOKED, row.at, row.actor, row.expires_at))

        await self._database.write(statements)

    async def revocation(self, name: str) -> RevocationRow | None:
        query = select(*_REVOCATION).where(revocations.c.name == name)

        def statements(connection: Connection) -> RevocationRow | None:
            found = connection.execute(query).one_or_none()
            return None if found is None else RevocationRow(*found)

        return await self._database.read(statements)

    async def every_revocation(self) -> AsyncIterator[RevocationRow]:
        """Those included whose time has passed."""
        after = ""
        while page := await self._revocations_after(after):
            for row in page:
                yield row
            after = page[-1].name

    async def _revocations_after(self, name: str) -> Sequence[RevocationRow]:
        query = select(*_REVOCATION).where(revocations.c.name > name).order_by(revocations.c.name).limit(PAGE)
        return await self._database.read(
            lambda connection: [RevocationRow(*found) for found in connection.execute(query)]
        )

    async def announce(self, token_id: str, kind: ChangeKind, at: int, actor: str, expires_at: int) -> None:
        """A change alone, for a token whose row must be left as it is."""
        await self._database.write(
            lambda connection: connection.execute(_announcement(token_id, kind, at, actor, expires_at))
        )

    async def touch_last_used(self, used: Mapping[str, int]) -> None:
        """Token id -> when, in one transaction. Never moves a time backwards."""
        if used:
            rows = [{"wanted": token_id, "used": at} for token_id, at in sorted(used.items())]
            await self._database.write(lambda connection: connection.execute(_TOUCH, rows))

    # Changes

    async def last_change(self) -> int:
        query = select(func.max(changes.c.seq))
        return await self._database.read(lambda connection: connection.execute(query).scalar() or 0)

    async def revocations(self, now: float) -> AsyncIterator[Change]:
        """All that still matter: those of tokens that would be alive otherwise."""
        after = 0
        while page := await self._changes(after, changes.c.kind == ChangeKind.REVOKED, changes.c.expires_at > int(now)):
            for change in page:
                yield change
            after = page[-1].seq

    async def changes_after(self, seq: int) -> Sequence[Change]:
        """At most `PAGE`, in order."""
        return await self._changes(seq)

    async def _changes(self, after: int, *conditions: ColumnElement[bool]) -> Sequence[Change]:
        query = select(changes).where(changes.c.seq > after, *conditions).order_by(changes.c.seq).limit(PAGE)
        return await self._database.read(lambda connection: [_change(found) for found in connection.execute(query)])

    async def unaudited(self) -> Sequence[TokenEvent]:
        """The next page of events, in order, that no audit log has confirmed."""
        return await self._database.read(lambda connection: [_event(found) for found in connection.execute(_UNAUDITED)])

    async def mark_audited(self, seq: int) -> None:
        """Every event up to this one is in the audit log."""

        def statements(connection: Connection) -> None:
            moved = update(marks).where(marks.c.name == _AUDITED).values(value=seq)
            if connection.execute(moved).rowcount == 0:
                connection.execute(insert(marks).values(name=_AUDITED, value=seq))

        await self._database.write(statements)


_GET = select(*_COLUMNS).where(tokens.c.id == bindparam("wanted"))
_FAMILY = (
    select(*_COLUMNS)
    .where(or_(tokens.c.id == bindparam("first"), tokens.c.family == bindparam("first")))
    .order_by(tokens.c.created_at, tokens.c.id)
)
_TOUCH = (
    update(tokens)
    .where(
        tokens.c.id == bindparam("wanted"),
        or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < bindparam("used")),
    )
    .values(last_used_at=bindparam("used"))
)
_UNAUDITED = (
    select(changes, *_COLUMNS)
    .outerjoin_from(changes, tokens, tokens.c.id == changes.c.token_id)
    .where(changes.c.seq > func.coalesce(select(marks.c.value).where(marks.c.name == _AUDITED).scalar_subquery(), 0))
    .order_by(changes.c.seq)
    .limit(PAGE)
)


def _listing(wanted: TokenFilter, now: int) -> Select[Any]:
    query = select(*_COLUMNS).order_by(tokens.c.created_at.desc(), tokens.c.id.desc()).limit(wanted.limit)
    if wanted.kind is not None:
        query = query.where(tokens.c.kind == str(wanted.kind))
    if wanted.subject is not None:
        query = query.where(tokens.c.subject == wanted.subject)
    if wanted.workspace is not None:
        # LIKE ignores case on SQLite and not on PostgreSQL; replace() minds it on both.
        names = literal(" ") + tokens.c.workspaces + literal(" ")
        query = query.where(func.replace(names, f" {wanted.workspace} ", "") != names)
    if not wanted.ended:
        query = query.where(tokens.c.revoked_at.is_(None), tokens.c.expires_at > now)
    if wanted.created_by is not None:
        query = query.where(tokens.c.created_by == wanted.created_by)
    if wanted.expiring_by is not None:
        query = query.where(tokens.c.expires_at <= wanted.expiring_by)
    if wanted.unused_since is not None:
        query = query.where(func.coalesce(tokens.c.last_used_at, tokens.c.created_at) <= wanted.unused_since)
    if wanted.after is not None:
        last = select(tokens.c.created_at).where(tokens.c.id == wanted.after).scalar_subquery()
        query = query.where(tuple_(tokens.c.created_at, tokens.c.id) < tuple_(last, literal(wanted.after)))
    return query


def _written_over(connection: Connection, old: TokenRow, new: TokenRow, *conditions: ColumnElement[bool]) -> bool:
    unchanged = (tokens.c.id == old.id, tokens.c.mac == old.mac, *conditions)
    return connection.execute(update(tokens).where(*unchanged).values(_values(new))).rowcount == 1


def _values(row: TokenRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in TokenRow.__struct_fields__ if name != "last_used_at"}


def _announcement(token_id: str, kind: ChangeKind, at: int, actor: str, expires_at: int) -> Insert:
    return insert(changes).values(token_id=token_id, kind=str(kind), at=at, actor=actor, expires_at=expires_at)


_YEAR_10000 = 253402300800
"""Unix seconds: from then on no formatter of dates can write them, and the event would never reach the audit log."""


def _change(found: Row[Any]) -> Change:
    # SQLite's columns hold any type, and nothing signs these rows. What is unsound in one must neither stop the followers
    # nor end a revocation early.
    at, expires_at = found.at, found.expires_at
    return Change(
        seq=found.seq,
        kind=str(found.kind),
        token_id=str(found.token_id),
        at=at if isinstance(at, int) and 0 <= at < _YEAR_10000 else 0,
        actor=str(found.actor),
        expires_at=expires_at if isinstance(expires_at, int) else NEVER,
    )


def _event(found: Row[Any]) -> TokenEvent:
    return TokenEvent(_change(found), _sound(TokenRow(*found[len(changes.c) :])))


def _sound(row: TokenRow) -> TokenRow | None:
    try:
        PrincipalKind(row.kind)
        return convert(to_builtins(row), TokenRow)
    except (ValueError, TypeError):
        return None
