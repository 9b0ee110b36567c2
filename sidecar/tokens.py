"""The life of a token that is issued here: create, list, show, revoke. The command line, and what comes after it, call this.

What is asked for is checked here and nowhere else; a row leaves here sealed or not at all.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials.opaque import TokenFormat, TokenRow, intact, sealed
from sidecar.credentials.pepper import Pepper
from sidecar.document import suggestion
from sidecar.errors import SidecarError
from sidecar.model import Permission, PrincipalKind, Secret
from sidecar.policy import glob
from sidecar.settings import DAY

LONGEST_SUBJECT, LONGEST_NAME, MOST_WORKSPACES = 256, 100, 100
SHORTEST_TTL = 1.0


class TokenRequestError(SidecarError):
    """What was asked for can't be. All that is wrong with it, one sentence each; it begins with the name of what is wrong
    (`kind`, `subject`, `workspace`, `permission`, `path`, `ttl`, `name`) where that is one thing."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UnknownToken(SidecarError):
    """No token has this id."""


class ChangeKind(StrEnum):
    CREATED = "created"
    REVOKED = "revoked"


class Status(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ALTERED = "altered"
    """Its row isn't as it was written here, or was written under another pepper: it is refused."""


class NewToken(Struct, frozen=True):
    """What is asked for. `None` and an empty tuple don't narrow (rules 6 and 13)."""

    kind: PrincipalKind
    subject: str
    workspaces: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    """Names of `Permission`, or `read-write`."""
    path: str | None = None
    ttl: float | None = None
    """Seconds; the configuration's default if `None`."""
    name: str = ""


class TokenFilter(Struct, frozen=True):
    """All that is set must hold."""

    kind: PrincipalKind | None = None
    subject: str | None = None
    workspace: str | None = None
    """Bound or narrowed to it."""
    ended: bool = False
    """Expired and revoked ones too."""
    after: str | None = None
    """The last id of the page before."""
    limit: int = 100


class TokenStore(Protocol):
    """Where rows live. Each method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`; each change is announced with it."""

    async def create(self, row: TokenRow, actor: str) -> None: ...

    async def get(self, token_id: str) -> TokenRow | None: ...

    async def list(self, wanted: TokenFilter, now: int) -> Sequence[TokenRow]: ...

    async def replace(self, old: TokenRow, new: TokenRow, kind: ChangeKind, at: int, actor: str) -> bool: ...

    async def announce(self, token_id: str, kind: ChangeKind, at: int, actor: str, expires_at: int) -> None: ...


class Tokens:
    """`actor` is who asks, as the audit log will name them; `now` whole Unix seconds."""

    def __init__(
        self, store: TokenStore, spelling: TokenFormat, pepper: Pepper, *, default_ttl: float, max_ttl: float
    ) -> None:
        self._store = store
        self._spelling = spelling
        self._pepper = pepper
        self._default_ttl = default_ttl
        self._max_ttl = max_ttl

    async def create(self, wanted: NewToken, *, actor: str, now: int) -> tuple[Secret, TokenRow]:
        """The token, which nobody can read again, and its row. Raises `TokenRequestError`."""
        ttl = self._default_ttl if wanted.ttl is None else wanted.ttl
        problems = [*_identity_problems(wanted), *_narrowing_problems(wanted), *_ttl_problems(ttl, self._max_ttl)]
        if problems:
            raise TokenRequestError(problems)
        token_id, token = self._spelling.mint(wanted.kind)
        permissions = {part for name in wanted.permissions for part in _PERMISSIONS[name]}
        row = sealed(
            TokenRow(
                id=token_id,
                kind=str(wanted.kind),
                subject=wanted.subject,
                name=wanted.name,
                workspaces=_joined(wanted.workspaces),
                permissions=_joined(permissions),
                path=wanted.path,
                created_at=now,
                created_by=actor,
                expires_at=now + int(ttl),
                revoked_at=None,
                revoked_by=None,
                pepper_id=self._pepper.id,
                digest=self._pepper.digest(token.reveal()),
                mac="",
            ),
            self._pepper,
        )
        await self._store.create(row, actor)
        return token, row

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

    async def revoke(self, token_id: str, *, actor: str, now: int) -> tuple[TokenRow, bool]:
        """The row, and whether this call revoked it: a second one changes nothing. Raises `UnknownToken`.

        An altered row is announced as revoked and left as it is: a MAC over it would make the alteration ours.
        """
        while True:
            row = await self.show(token_id)
            if not intact(row, self._pepper):
                await self._store.announce(row.id, ChangeKind.REVOKED, now, actor, now + int(self._max_ttl))
                return row, True
            if row.revoked_at is not None:
                return row, False
            revoked = sealed(replace(row, revoked_at=now, revoked_by=actor), self._pepper)
            if await self._store.replace(row, revoked, ChangeKind.REVOKED, now, actor):
                return revoked, True

    def status(self, row: TokenRow, now: int) -> Status:
        if not intact(row, self._pepper):
            return Status.ALTERED
        if row.revoked_at is not None:
            return Status.REVOKED
        return Status.EXPIRED if now >= row.expires_at else Status.ACTIVE


_PERMISSIONS: dict[str, tuple[Permission, ...]] = {
    **{permission.value: (permission,) for permission in Permission},
    "read-write": (Permission.READ, Permission.WRITE),
}
PERMISSION_NAMES = tuple(_PERMISSIONS)
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _joined(names: Sequence[str] | set[Permission]) -> str | None:
    return " ".join(sorted({str(name) for name in names})) or None


def _identity_problems(wanted: NewToken) -> list[str]:
    problems = []
    if wanted.kind not in (PrincipalKind.PERSONAL, PrincipalKind.CI):
        problems.append("kind: personal or ci")
    if not wanted.subject:
        problems.append("subject: who the token belongs to is needed")
    problems += _text_problems("subject", wanted.subject, LONGEST_SUBJECT)
    problems += _text_problems("name", wanted.name, LONGEST_NAME)
    return problems


def _narrowing_problems(wanted: NewToken) -> list[str]:
    problems = []
    if wanted.kind is PrincipalKind.CI and len(wanted.workspaces) != 1:
        problems.append("workspace: a CI token belongs to exactly one")
    if len(wanted.workspaces) > MOST_WORKSPACES:
        problems.append(f"workspace: at most {MOST_WORKSPACES}")
    problems += [
        f"workspace {name!r}: letters, digits, '.', '_' and '-', at most 64"
        for name in wanted.workspaces
        if _WORKSPACE.fullmatch(name) is None
    ]
    problems += [
        f"permission {name!r} is unknown{suggestion(name, PERMISSION_NAMES)}"
        for name in wanted.permissions
        if name not in _PERMISSIONS
    ]
    if wanted.path is not None and (wrong := glob.problem(wanted.path) if wanted.path else "it is empty"):
        problems.append(f"path {wanted.path!r}: {wrong}")
    return problems


def _ttl_problems(ttl: float, longest: float) -> list[str]:
    if not ttl >= SHORTEST_TTL:
        return ["ttl: at least 1s"]
    if ttl > longest:
        return [f"ttl: at most {longest / DAY:g}d here (tokens.max_ttl)"]
    return []


def _text_problems(what: str, text: str, longest: int) -> list[str]:
    problems = []
    if len(text) > longest:
        problems.append(f"{what}: at most {longest} characters")
    if not text.isprintable() or text != text.strip():
        problems.append(f"{what}: printable characters, no space at either end")
    return problems
