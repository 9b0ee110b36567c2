"""The life of a token that is issued here: create, list, show, rotate, revoke. The command line, and what comes after it,
call this.

A row leaves here sealed or not at all. A token's line: rotating makes a new token that stands for the same, and the old one
ends after an overlap. Whoever uses it later has kept what everybody else has given up, which is worth an event.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Protocol

from msgspec.structs import replace

from sidecar.credentials.master_key import AccessKey, MasterKey
from sidecar.credentials.opaque import TokenFormat
from sidecar.credentials.pepper import Peppers
from sidecar.credentials.token_row import TokenRow, intact, scopes_text, sealed
from sidecar.errors import SidecarError
from sidecar.model import PrincipalKind, Secret
from sidecar.token_requests import (
    NewToken,
    TokenFilter,
    TokenRequestError,
    WantedScope,
    check,
    permissions_of,
    scopes_of,
    ttl_problems,
)

__all__ = [
    "CannotRotate",
    "ChangeKind",
    "NewToken",
    "Status",
    "TokenFilter",
    "TokenRequestError",
    "TokenStore",
    "Tokens",
    "UnknownToken",
    "WantedScope",
]

REPORT_AGAIN = 3600
"""Seconds for which one event stands for every further use of a replaced token."""

log = logging.getLogger(__name__)


class UnknownToken(SidecarError):
    """No token has this id."""


class CannotRotate(SidecarError):
    """The token has ended, or was replaced already. The text says which."""


class ChangeKind(StrEnum):
    CREATED = "created"
    REVOKED = "revoked"
    ROTATED = "rotated"
    """Another was made to replace it: its `expires_at` has come nearer."""
    REUSED = "reused"
    """It was used after its replacement had taken over."""
    KEY_CREATED = "key_created"
    KEY_RETIRED = "key_retired"
    """A root key of Biscuits: what is named is the key."""


class Status(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ALTERED = "altered"
    """Its row isn't as it was written here, or was written under another pepper: it is refused."""


class TokenStore(Protocol):
    """Where rows live. Each method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`; each change is announced with it."""

    async def create(self, row: TokenRow, actor: str) -> None: ...

    async def get(self, token_id: str) -> TokenRow | None: ...

    async def list(self, wanted: TokenFilter, now: int) -> Sequence[TokenRow]: ...

    async def family(self, first: str) -> Sequence[TokenRow]: ...

    async def replace(self, old: TokenRow, new: TokenRow, kind: ChangeKind, at: int, actor: str) -> bool: ...

    async def announce(self, token_id: str, kind: ChangeKind, at: int, actor: str, expires_at: int) -> None: ...


Deliver = Callable[[Secret, TokenRow, AccessKey | None], None]
"""Brings a new token, and its access key, to where they are kept. Raises a `SidecarError` where that failed: the token is then
revoked."""


class Tokens:
    """`actor` is who asks, as the audit log will name them; `now` whole Unix seconds."""

    def __init__(
        self,
        store: TokenStore,
        spelling: TokenFormat,
        peppers: Peppers,
        *,
        default_ttl: float,
        max_ttl: float,
        revoke_reused: bool = False,
        master_key: Callable[[], MasterKey] | None = None,
    ) -> None:
        """`revoke_reused`: a replaced token that is used takes its whole family along. `master_key`: reads what access keys are
        made of, where they are; it raises `MasterKeyUnusable`."""
        self._store = store
        self._spelling = spelling
        self._peppers = peppers
        self._default_ttl = default_ttl
        self._max_ttl = max_ttl
        self._revoke_reused = revoke_reused
        self._master_key = master_key

    async def create(
        self, wanted: NewToken, *, actor: str, now: int, deliver: Deliver | None = None
    ) -> tuple[Secret, TokenRow]:
        """The token, which nobody can read again, and its row. Raises `TokenRequestError`, `MasterKeyUnusable`, and what
        `deliver` raises."""
        ttl = self._default_ttl if wanted.ttl is None else wanted.ttl
        check(wanted, ttl, self._max_ttl)
        scopes = scopes_of(wanted)
        token, row = self._mint(
            TokenRow(
                id="",
                kind=str(wanted.kind),
                subject=wanted.subject,
                name=wanted.name,
                workspaces=_joined([scope.workspace for scope in scopes] or wanted.workspaces),
                permissions=_joined(permissions_of(wanted.permissions) or ()),
                path=wanted.path,
                created_at=now,
                created_by=actor,
                expires_at=now + int(ttl),
                revoked_at=None,
                revoked_by=None,
                pepper_id="",
                digest="",
                mac="",
                owner_id=wanted.owner_id or None,
                scopes=scopes_text(scopes) if scopes else None,
            ),
            wanted.s3,
        )
        pair = self.access_key(row)
        async with self.written(row, actor=actor, now=now):
            if deliver is not None:
                deliver(token, row, pair)
        return token, row

    @asynccontextmanager
    async def written(self, row: TokenRow, *, actor: str, now: int) -> AsyncIterator[None]:
        """The row of a new token is in the store; where what is done inside fails, the token is revoked."""
        await self._store.create(row, actor)
        try:
            yield
        except SidecarError:
            await self.revoke(row.id, actor=actor, now=now)
            raise

    def _mint(self, like: TokenRow, s3: bool) -> tuple[Secret, TokenRow]:
        """A fresh id, secret and seal for a row that says everything else."""
        token_id, token = self._spelling.mint(PrincipalKind(like.kind))
        access_key = self._master().id_for(token_id) if s3 else None
        pepper = self._peppers.current
        digest = pepper.digest(token.reveal())
        return token, sealed(
            replace(like, id=token_id, pepper_id=pepper.id, digest=digest, access_key=access_key), pepper
        )

    def access_key(self, row: TokenRow) -> AccessKey | None:
        """Of a row that was made just now; `None` where it has none. Raises as `create` does."""
        return None if row.access_key is None else AccessKey(row.access_key, self._master().secret(row.access_key))

    def _master(self) -> MasterKey:
        if self._master_key is None:
            raise TokenRequestError(
                [
                    "s3: no access keys are made here; name a file as tokens.access_key_master_file: "
                    "`sidecar init` wrote secrets/access-key-master, `openssl rand -hex 32` fills another"
                ]
            )
        return self._master_key()

    def _sealed(self, row: TokenRow) -> TokenRow:
        """Under the pepper that its digest is under."""
        return sealed(row, self._peppers.named(row.pepper_id) or self._peppers.current)

    async def list(self, wanted: TokenFilter, *, now: int) -> Sequence[TokenRow]:
        return await self._store.list(wanted, now)

    async def show(self, token_id: str) -> TokenRow:
        """Raises `UnknownToken`."""
        row = await self._store.get(token_id)
        if row is None:
            raise UnknownToken(f"no token has the id {token_id}")
        return row

    def id_of(self, token: Secret) -> str:
        """The public id of a whole token, as somebody pastes it. Raises `CredentialRefused`, or `TokenRequestError`
        for what isn't spelled as a token of this brand."""
        parsed = self._spelling.parse(token)
        if parsed is None:
            raise TokenRequestError([f"that is not a token of this sidecar: they start with {self._spelling.brand}_"])
        return parsed.id

    async def rotate(
        self,
        token_id: str,
        *,
        overlap: float,
        actor: str,
        now: int,
        ttl: float | None = None,
        owner_id: str = "",
        deliver: Deliver | None = None,
    ) -> tuple[Secret, TokenRow, TokenRow]:
        """The new token, its row, and the old one's, which ends after `overlap` seconds. The new one may what the old one may,
        and lives as long as that was made for, or `ttl` seconds. It belongs to whom the old one belongs to; `owner_id` counts
        where that was never recorded. The old one isn't touched before the new one has been delivered.

        Raises `UnknownToken`, `CannotRotate`, `TokenRequestError`, `MasterKeyUnusable`, and what `deliver` raises.
        """
        old = await self.show(token_id)
        self._check_can_rotate(old, now)
        life = min(float(old.expires_at - old.created_at), self._max_ttl) if ttl is None else ttl
        problems = ttl_problems(life, self._max_ttl)
        if not 0 <= overlap <= self._max_ttl:
            problems.append("overlap: 0s or longer, and no longer than a token may live (tokens.max_ttl)")
        if problems:
            raise TokenRequestError(problems)
        token, new = self._mint(
            replace(
                old,
                created_at=now,
                created_by=actor,
                expires_at=now + int(life),
                last_used_at=None,
                owner_id=old.owner_id or owner_id or None,
                parent=old.id,
                family=old.family or old.id,
            ),
            old.access_key is not None,
        )
        pair = self.access_key(new)
        async with self.written(new, actor=actor, now=now):
            if deliver is not None:
                deliver(token, new, pair)
            ending = await self._retire(token_id, overlap, actor, now)
        return token, new, ending

    async def _retire(self, token_id: str, overlap: float, actor: str, now: int) -> TokenRow:
        """Raises `CannotRotate` where somebody else was first."""
        while True:
            row = await self.show(token_id)
            self._check_can_rotate(row, now)
            ending = self._sealed(replace(row, expires_at=min(row.expires_at, now + int(overlap)), rotated_at=now))
            if await self._store.replace(row, ending, ChangeKind.ROTATED, now, actor):
                return ending

    def _check_can_rotate(self, row: TokenRow, now: int) -> None:
        status = self.status(row, now)
        if row.kind == PrincipalKind.BISCUIT:
            raise CannotRotate(f"{row.id} is a Biscuit: create another one, exchange them, and revoke this one")
        if row.rotated_at is not None and status is not Status.ALTERED:
            raise CannotRotate(f"{row.id} was replaced already; rotate the one that replaced it")
        if status is not Status.ACTIVE:
            raise CannotRotate(f"{row.id} is {status}, so there is nothing to rotate; create a new one")

    async def family(self, row: TokenRow) -> Sequence[TokenRow]:
        """The whole line of replacements that it belongs to, oldest first."""
        return await self._store.family(row.family or row.id)

    async def revoke(self, token_id: str, *, actor: str, now: int) -> tuple[TokenRow, bool]:
        """The row, and whether this call revoked it: a second one changes nothing. Raises `UnknownToken`.

        An altered row is announced as revoked and left as it is: a MAC over it would make the alteration ours.
        """
        while True:
            row = await self.show(token_id)
            if not intact(row, self._peppers):
                await self._store.announce(row.id, ChangeKind.REVOKED, now, actor, now + int(self._max_ttl))
                return row, True
            if row.revoked_at is not None:
                return row, False
            revoked = self._sealed(replace(row, revoked_at=now, revoked_by=actor))
            if await self._store.replace(row, revoked, ChangeKind.REVOKED, now, actor):
                return revoked, True

    async def reused(self, row: TokenRow, now: int) -> None:
        """A replaced token was used after its overlap; `row` is intact. Raises `Unavailable`."""
        if row.reused_at is None or now - row.reused_at >= REPORT_AGAIN:
            marked = self._sealed(replace(row, reused_at=now))
            if await self._store.replace(row, marked, ChangeKind.REUSED, now, "sidecar"):
                log.warning("the token %s was replaced and is used after its overlap", row.id)
        if self._revoke_reused:
            for relative in await self.family(row):
                if self.status(relative, now) is Status.ACTIVE:
                    await self.revoke(relative.id, actor=f"sidecar, as {row.id} was reused", now=now)

    def status(self, row: TokenRow, now: int) -> Status:
        if not intact(row, self._peppers):
            return Status.ALTERED
        if row.revoked_at is not None:
            return Status.REVOKED
        return Status.EXPIRED if now >= row.expires_at else Status.ACTIVE


def _joined(names: Sequence[str] | frozenset[str]) -> str | None:
    return " ".join(sorted({str(name) for name in names})) or None
