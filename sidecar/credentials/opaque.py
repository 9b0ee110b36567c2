"""Tokens that we issue: how one is written, what is stored of it, and how one that comes back is judged.

This file alone knows the spelling. A token is `<brand>_pat_` or `<brand>_ci_`, a public id of 12 base62 characters, `_`,
a secret of 43 (256 bits), and 6 of CRC32 over all that stands before. The checksum isn't security: it refuses typos and
noise without touching the store. What is stored is a keyed digest, in a row under a keyed MAC (`token_row.py`, `pepper.py`).
"""

import datetime
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials import revocation_names
from sidecar.credentials.pepper import Peppers, nobody, same
from sidecar.credentials.token_row import TokenRow, intact, sealed
from sidecar.errors import CredentialRefused
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.reasons import Reason

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 12, 43, 6

KINDS = {"pat": PrincipalKind.PERSONAL, "ci": PrincipalKind.CI}
_WORDS = {kind: word for word, kind in KINDS.items()}
_NOBODY = nobody()
SOON = 7 * 86400
"""Seconds before a token's end from which on its holder is told so with every answer."""


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
        self._ours = tuple(f"{brand}_{word}_" for word in KINDS)
        self._shape = re.compile(
            rf"({brand}_(pat|ci)_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECK_LENGTH}}})"
        )

    def mint(self, kind: PrincipalKind) -> tuple[str, Secret]:
        """A fresh public id and its token."""
        token_id = fresh_id()
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


def fresh_id() -> str:
    """A public id that no token has."""
    return _random(ID_LENGTH)


def checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def revocation_id(token_id: str) -> str:
    """How the change feed names an opaque token among other kinds' ids."""
    return f"opaque:{token_id}"


class TokenLookup(Protocol):
    async def get(self, token_id: str) -> TokenRow | None:
        """`None`: no such id. Raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`."""


Moved = Callable[[TokenRow, TokenRow], None]
"""Hears of a row and of what is to be written in its place: the same under the current pepper, and with its owner's id. It must
not wait."""
PersonId = Callable[[str], str]
"""A subject's immutable id in the directory (rule 9); empty where it has none, or nobody can tell."""
Reused = Callable[[TokenRow, int], Awaitable[None]]
"""Hears of a token that was used after its replacement had taken over. Raises `Unavailable` if it can't be reported."""


def _not_moved(old: TokenRow, new: TokenRow) -> None:
    return None


def _nobody_known(subject: str) -> str:
    return ""


async def _not_reported(row: TokenRow, now: int) -> None:
    return None


class StoredVerifier:
    """What verifiers of stored rows have in common."""

    def __init__(self, kind: str, peppers: Peppers, lookup: TokenLookup) -> None:
        """`kind`: what the verifier's generation begins with."""
        self._peppers = peppers
        self._lookup = lookup
        self._from = f"{kind}/{'+'.join(peppers.ids)}"
        self._rereads = 0
        self.generation = f"{self._from}/0"

    def reread(self) -> None:
        """What was said of tokens until now must be looked up again: a life has been made shorter."""
        self._rereads += 1
        self.generation = f"{self._from}/{self._rereads}"


class OpaqueVerifier(StoredVerifier):
    """`ports.Verifier` of personal and CI tokens. Only the secret's holder learns that a token has expired or was revoked;
    everybody else reads `BAD_TOKEN`, and the audit reads why in `detail`."""

    def __init__(
        self,
        spelling: TokenFormat,
        peppers: Peppers,
        lookup: TokenLookup,
        *,
        moved: Moved = _not_moved,
        reused: Reused = _not_reported,
    ) -> None:
        super().__init__(f"opaque/{spelling.brand}", peppers, lookup)
        self._spelling = spelling
        self._moved = moved
        self._reused = reused
        self.person_id: PersonId = _nobody_known
        """Binds a token that was made before its owner had an id to whoever has the name at its next use."""

    async def verify(self, token: Secret, now: float) -> Principal | None:
        parsed = self._spelling.parse(token)
        if parsed is None:
            return None
        row = await self._lookup.get(parsed.id)
        pepper = None if row is None else self._peppers.named(row.pepper_id)
        # Computed and compared in any case, so that no answer comes sooner than another.
        digest = (pepper or self._peppers.current).digest(token.reveal())
        known = same(_NOBODY if row is None else row.digest, digest)
        if row is None:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: unknown id")
        if pepper is None:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: made under another pepper")
        if not known:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: wrong secret")
        if not intact(row, self._peppers):
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: row MAC")
        if row.kind != parsed.kind:
            raise CredentialRefused(Reason.BAD_TOKEN, f"{parsed.id}: kind of another row")
        bound = row
        if row.owner_id is None and parsed.kind is PrincipalKind.PERSONAL and (owner := self.person_id(row.subject)):
            bound = replace(row, owner_id=owner)
        principal = principal_of(bound, parsed.kind, now)
        refusal = ended(row, principal, now)
        if refusal is not None:
            if refusal.reason is Reason.EXPIRED and row.rotated_at is not None:
                await self._reused(row, int(now))
            raise refusal
        current = self._peppers.current
        if pepper is not current or bound is not row:
            under_current = replace(bound, pepper_id=current.id, digest=current.digest(token.reveal()))
            self._moved(row, sealed(under_current, current))
        return principal


def _utc(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ended(row: TokenRow, principal: Principal, now: float) -> CredentialRefused | None:
    """Why an intact row's principal is refused although the caller has its secret; `None` where it isn't."""
    if row.revoked_at is not None:
        detail = f"{row.id}: revoked at {_utc(row.revoked_at)} by {row.revoked_by}"
        return CredentialRefused(Reason.REVOKED, detail, principal)
    if now < row.expires_at:
        return None
    detail = f"{row.id}: expired at {_utc(row.expires_at)}"
    if row.rotated_at is not None:
        detail = f"{row.id}: replaced, and used after its overlap ended at {_utc(row.expires_at)}"
    return CredentialRefused(Reason.EXPIRED, detail, principal)


def principal_of(row: TokenRow, kind: PrincipalKind, now: float) -> Principal:
    """Of a row that is intact. Raises `CredentialRefused(BAD_TOKEN)` for one with limits that nobody here understands."""
    try:
        limits = row.limits
    except ValueError as error:
        raise CredentialRefused(Reason.BAD_TOKEN, f"{row.id}: a limit that this version doesn't know") from error
    return Principal(
        kind=kind,
        subject=row.subject,
        token_id=row.id,
        token_name=row.name,
        workspace=(row.workspaces or "") if kind is PrincipalKind.CI else "",
        limits=limits,
        expires_at=float(row.expires_at),
        revocation_ids=(revocation_id(row.id), revocation_names.pepper(row.pepper_id)),
        owner_id=row.owner_id or "",
        expiry_notice=_utc(row.expires_at).encode() if row.expires_at - now < SOON else b"",
        issued_at=float(row.created_at),
        parent=row.parent or "",
        family=row.family or row.id,
    )
