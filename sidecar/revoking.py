"""Revoking what has no row of its own among the tokens: JWTs, blocks of Biscuits, all of somebody's, all of a key's.

Law: the revocation itself comes first, in one transaction with its announcement; marking the rows that it reaches is for whoever
lists them later. What is revoked stays so until nothing that it is about could be alive.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials import revocation_names
from sidecar.credentials.pepper import Peppers
from sidecar.credentials.revocation_row import RevocationRow, intact, sealed
from sidecar.credentials.token_row import TokenRow
from sidecar.credentials.token_row import sealed as sealed_row
from sidecar.settings import DAY
from sidecar.tokens import ChangeKind, Status, TokenFilter, Tokens

LONGEST_LIFE = int(366 * DAY)
"""Seconds: no issuer's tokens may live longer."""
LEEWAY = 60
"""Seconds for which a JWT may be accepted after its expiry."""
FOREVER = 2**53
"""As an end. Of keys: whoever has one that leaked makes tokens with it that live as long as they please."""
_PAGE = 500


class RevocationStore(Protocol):
    """Each method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`."""

    async def bar(self, row: RevocationRow) -> None: ...

    async def revocation(self, name: str) -> RevocationRow | None: ...

    async def announce(self, token_id: str, kind: ChangeKind, at: int, actor: str, expires_at: int) -> None: ...

    async def under_pepper(self, pepper_id: str, after: str) -> Sequence[TokenRow]: ...

    async def under_root_key(self, key_id: int, after: str) -> Sequence[TokenRow]: ...

    async def overwrite(self, rows: Sequence[tuple[TokenRow, TokenRow]]) -> int: ...


class Revoked(Struct, frozen=True):
    """What came of it."""

    name: str
    changed: bool
    """False: it was revoked as far before."""
    tokens: tuple[str, ...] = ()
    """Ids of tokens issued here that were alive, and of which it was written down."""
    count: int = 0
    """How many they are, where they aren't named one by one."""


class Revoking:
    """`actor` is who asks, `now` whole Unix seconds, as in `Tokens`."""

    def __init__(self, store: RevocationStore, tokens: Tokens, peppers: Peppers, *, max_ttl: float) -> None:
        self._store = store
        self._tokens = tokens
        self._peppers = peppers
        self._longest = max(int(max_ttl), LONGEST_LIFE) + LEEWAY

    async def name(self, name: str, *, actor: str, now: int, expires_at: float | None = None) -> Revoked:
        """One JWT, or one block of a Biscuit and all that derives from it. `expires_at`: when it expires, if that is known."""
        ends = now + self._longest if expires_at is None else int(expires_at) + LEEWAY + 1
        enough = now + 1 if expires_at is None else ends
        return Revoked(name, await self._bar(RevocationRow(name, None, now, actor, ends, "", ""), enough))

    async def identity(
        self, subject: str, *, actor: str, now: int, issuer: str | None = None, before: int | None = None
    ) -> Revoked:
        """Everything that was issued to `subject` at `before` (now, if left out) or earlier: by whoever, or by `issuer` alone,
        where the empty one is this sidecar itself."""
        last = now if before is None else before
        name = revocation_names.identity(revocation_names.ANY_ISSUER if issuer is None else issuer, subject)
        row = RevocationRow(name, last, now, actor, max(last, now) + self._longest, "", "")
        changed = await self._bar(row, last + self._longest)
        revoked = await self._rows_of(subject, last, actor, now) if not issuer else ()
        return Revoked(name, changed or bool(revoked), revoked, len(revoked))

    async def pepper(self, pepper_id: str, *, actor: str, now: int) -> Revoked:
        """Every token whose row is under this pepper. A row that is still to move from under it doesn't any more."""
        name = revocation_names.pepper(pepper_id)
        changed = await self._key(name, actor, now)
        count = await self._mark(partial(self._store.under_pepper, pepper_id), actor, now)
        return Revoked(name, changed or bool(count), (), count)

    async def root_key(self, key_id: int, *, actor: str, now: int) -> Revoked:
        """Every Biscuit under this root key, also where the key is another's than this store's."""
        name = revocation_names.root_key(key_id)
        changed = await self._key(name, actor, now)
        count = await self._mark(partial(self._store.under_root_key, key_id), actor, now)
        return Revoked(name, changed or bool(count), (), count)

    async def derived(self, token_id: str) -> Sequence[TokenRow]:
        """Of a token issued here, those that replaced it, directly or not."""
        family = await self._tokens.family(await self._tokens.show(token_id))
        reached, found = {token_id}, list[TokenRow]()
        for row in family:  # the oldest first
            if row.parent in reached and row.id not in reached:
                reached.add(row.id)
                found.append(row)
        return found

    async def _key(self, name: str, actor: str, now: int) -> bool:
        return await self._bar(RevocationRow(name, None, now, actor, FOREVER, "", ""), FOREVER)

    async def _bar(self, row: RevocationRow, enough: int) -> bool:
        """Whether that says more than what is known already, up to when it would be `enough`."""
        known = await self._store.revocation(row.name)
        if known is None or not intact(known, self._peppers) or known.expires_at < enough or _reaches_less(known, row):
            await self._store.bar(sealed(row, self._peppers.current))
            return True
        # Said again, for a follower that lost it.
        await self._store.announce(known.name, ChangeKind.REVOKED, known.at, known.actor, known.expires_at)
        return False

    async def _rows_of(self, subject: str, last: int, actor: str, now: int) -> tuple[str, ...]:
        revoked: list[str] = []
        after = None
        while page := await self._tokens.list(TokenFilter(subject=subject, after=after, limit=_PAGE), now=now):
            after = page[-1].id
            revoked += [row.id for row in page if row.created_at <= last and await self._revoke(row, actor, now)]
        return tuple(revoked)

    async def _revoke(self, row: TokenRow, actor: str, now: int) -> bool:
        return (await self._tokens.revoke(row.id, actor=actor, now=now))[1]

    async def _mark(self, page_after: Callable[[str], Awaitable[Sequence[TokenRow]]], actor: str, now: int) -> int:
        """Writes down of rows what a revocation has done already. How many of them were alive."""
        count, after = 0, ""
        while page := await page_after(after):
            after = page[-1].id
            count += await self._store.overwrite(
                [(row, self._marked(row, actor, now)) for row in page if self._alive(row, now)]
            )
        return count

    def _alive(self, row: TokenRow, now: int) -> bool:
        return self._tokens.status(row, now) is Status.ACTIVE

    def _marked(self, row: TokenRow, actor: str, now: int) -> TokenRow:
        pepper = self._peppers.named(row.pepper_id) or self._peppers.current
        return sealed_row(replace(row, revoked_at=now, revoked_by=actor), pepper)


def _reaches_less(known: RevocationRow, wanted: RevocationRow) -> bool:
    return known.before is not None and (wanted.before is None or known.before < wanted.before)
