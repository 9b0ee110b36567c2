"""Tokens that we issue: how one is written, what is stored of it, and how one that comes back is judged.

This file alone knows the spelling. A token is `<brand>_pat_` or `<brand>_ci_`, a public id of 12 base62 characters, `_`,
a secret of 43 (256 bits), and 6 of CRC32 over all that stands before. The checksum isn't security: it refuses typos and
noise without touching the store. What is stored is a keyed digest, in a row under a keyed MAC (`pepper.py`).
"""

import datetime
import re
import secrets
import zlib
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, nobody, same
from sidecar.errors import CredentialRefused
from sidecar.model import Limits, Permission, Principal, PrincipalKind, Secret
from sidecar.reasons import Reason

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 12, 43, 6

KINDS = {"pat": PrincipalKind.PERSONAL, "ci": PrincipalKind.CI}
_WORDS = {kind: word for word, kind in KINDS.items()}
_NOBODY = nobody()


class Parsed(Struct, frozen=True):
    kind: PrincipalKind
    id: str


class TokenFormat:
    """The spelling under one brand (the file's law)."""

    def __init__(self, brand: str) -> None:
        """`brand`: 2 to 16 lower-case letters and digits, starting with a letter. Raises `ValueError`."""
        if re.fullmatch(r"[a-z][a-z0-9]{1,15}", brand) is None:
            raise ValueError(f"brand {brand!r}: 2 to 16 lower-case letters and digits, starting with a letter")
        self.brand = brand
        self.pattern = (
            rf"\b{brand}_(?:pat|ci)_[0-9A-Za-z]{{{ID_LENGTH}}}_[0-9A-Za-z]{{{SECRET_LENGTH + CHECK_LENGTH}}}\b"
        )
        """For secret scanners and for the redaction of logs."""
        self._ours = tuple(f"{brand}_{word}_" for word in KINDS)
        self._shape = re.compile(
            rf"({brand}_(pat|ci)_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECK_LENGTH}}})"
        )

    def mint(self, kind: PrincipalKind) -> tuple[str, Secret]:
        """A fresh public id and its token."""
        token_id = _random(ID_LENGTH)
        body = f"{self.brand}_{_WORDS[kind]}_{token_id}_{_random(SECRET_LENGTH)}"
        return token_id, Secret(body + checksum(body))

    def parse(self, token: Secret) -> Parsed | None:
        """`None` for what isn't spelled as ours. Raises `CredentialRefused(BAD_TOKEN)` for ours, if malformed."""
        text = token.reveal()
        if not text.startswith(self._ours):
            return None
        found = self._shape.fullmatch(text)
        if found is None:
            raise CredentialRefused(Reason.BAD_TOKEN, "malformed")
        body, word, token_id, check = found.groups()
        if checksum(body) != check:
            raise CredentialRefused(Reason.BAD_TOKEN, "checksum")
        return Parsed(KINDS[word], token_id)


def checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class TokenRow(Struct, frozen=True):
    """What is stored of a token, as stored: nothing in it is believed before `intact` has said so.

    Times are whole Unix seconds. `last_used_at` grants nothing and is written often, so the MAC leaves it out.
    """

    id: str
    kind: str
    """A `PrincipalKind`: `personal` or `ci`."""
    subject: str
    name: str
    workspaces: str | None
    """Names, sorted, a space between; `None` doesn't narrow. A CI token has exactly one."""
    permissions: str | None
    """Likewise, of `Permission`."""
    path: str | None
    created_at: int
    created_by: str
    expires_at: int
    revoked_at: int | None
    revoked_by: str | None
    pepper_id: str
    digest: str
    mac: str
    last_used_at: int | None = None

    @property
    def limits(self) -> Limits:
        """What the token narrows to (rules 6 and 13). Raises `ValueError` for a permission that nobody knows."""
        return Limits(
            workspaces=None if self.workspaces is None else frozenset(self.workspaces.split()),
            permissions=None if self.permissions is None else frozenset(map(Permission, self.permissions.split())),
            path=self.path,
        )


SEALED = tuple(name for name in TokenRow.__struct_fields__ if name not in ("mac", "last_used_at"))


def sealed(row: TokenRow, pepper: Pepper) -> TokenRow:
    """The row under its MAC. It binds a row to itself, not to time: whoever can write to the database and kept a row's whole
    old state can put that back. A process that has heard of the revocation goes on refusing the token; one that starts later
    refuses it only if the change is still recorded in the same database, where it can be deleted as well."""
    return replace(row, mac=pepper.mac(getattr(row, name) for name in SEALED))


def intact(row: TokenRow, pepper: Pepper) -> bool:
    """Whether the row is as this pepper's holder wrote it: no column edited, none taken from another row."""
    return same(row.mac, pepper.mac(getattr(row, name) for name in SEALED))


def revocation_id(token_id: str) -> str:
    """How the change feed names an opaque token among other kinds' ids."""
    return f"opaque:{token_id}"


class TokenLookup(Protocol):
    async def get(self, token_id: str) -> TokenRow | None:
        """`None`: no such id. Raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`."""


class OpaqueVerifier:
    """`ports.Verifier` of personal and CI tokens. Only the secret's holder learns that a token has expired or was revoked;
    everybody else reads `BAD_TOKEN`, and the audit reads why in `detail`."""

    def __init__(self, spelling: TokenFormat, pepper: Pepper, lookup: TokenLookup) -> None:
        self._spelling = spelling
        self._pepper = pepper
        self._lookup = lookup

    @property
    def generation(self) -> str:
        return f"opaque/{self._spelling.brand}/{self._pepper.id}"

    async def verify(self, token: Secret, now: float) -> Principal | None:
        parsed = self._spelling.parse(token)
        if parsed is None:
            return None
        row = await self._lookup.get(parsed.id)
        known = same(_NOBODY if row is None else row.digest, self._pepper.digest(token.reveal()))
        if row is None:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: unknown id")
        if row.pepper_id != self._pepper.id:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: made under another pepper")
        if not known:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: wrong secret")
        if not intact(row, self._pepper):
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: row MAC")
        if row.kind != parsed.kind:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: kind of another row")
        principal = _principal(row, parsed.kind)
        if row.revoked_at is not None:
            detail = f"{parsed.id}: revoked at {_utc(row.revoked_at)} by {row.revoked_by}"
            raise CredentialRefused(Reason.REVOKED, detail, principal)
        if now >= row.expires_at:
            raise CredentialRefused(Reason.EXPIRED, f"{parsed.id}: expired at {_utc(row.expires_at)}", principal)
        return principal


def _utc(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _principal(row: TokenRow, kind: PrincipalKind) -> Principal:
    try:
        limits = row.limits
    except ValueError as error:
        raise CredentialRefused(Reason.BAD_TOKEN, f"{row.id}: a permission that this version doesn't know") from error
    return Principal(
        kind=kind,
        subject=row.subject,
        token_id=row.id,
        token_name=row.name,
        workspace=(row.workspaces or "") if kind is PrincipalKind.CI else "",
        limits=limits,
        expires_at=float(row.expires_at),
        revocation_ids=(revocation_id(row.id),),
    )
