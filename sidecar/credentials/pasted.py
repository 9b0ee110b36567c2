"""What a credential is that somebody hands in to be revoked, and by which name it is known in the revoked set.

Law: nothing is verified here. Whoever revokes what a text names has to mean it; whoever revokes what was merely found has to
verify it first.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from sidecar.credentials import jws, revocation_names
from sidecar.credentials.carriers import MAX_TOKEN
from sidecar.credentials.jwt import principal_of
from sidecar.credentials.jwt import revocation_id as jwt_name
from sidecar.credentials.opaque import ID_LENGTH, TokenFormat
from sidecar.errors import CredentialRefused
from sidecar.model import PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IssuerSettings

_ID = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}")
_BLOCK = re.compile(r"[0-9a-f]{64,256}")
"""A block's revocation id is its signature: 64 bytes where the key is Ed25519."""


class Pasted(Struct, frozen=True):
    kind: PrincipalKind | None
    """`None` where an id alone was given, of a token issued here."""
    token_id: str = ""
    """Of a token issued here: its public id; of a JWT its `jti`, of a Biscuit its last block's revocation id."""
    name: str = ""
    """In the revoked set; empty for a JWT without `jti`, which goes with its identity, and for what has a row of its own."""
    issuer: str = ""
    subject: str = ""
    issued_at: int | None = None
    expires_at: float | None = None


def recognise(given: Secret, spelling: TokenFormat, issuers: Mapping[str, IssuerSettings]) -> Pasted | None:
    """A whole token, the id of one issued here, or the revocation id of a Biscuit's block. `None` for anything else.

    Raises `CredentialRefused(BAD_TOKEN)` for what is spelled as one of ours and is none.
    """
    text = given.reveal()
    if _ID.fullmatch(text):
        return Pasted(None, text)
    if _BLOCK.fullmatch(text):
        return Pasted(PrincipalKind.BISCUIT, text, revocation_names.block(text))
    if len(text) > MAX_TOKEN:
        return None
    opaque = spelling.parse(given)
    if opaque is not None:
        return Pasted(opaque.kind, opaque.id)
    if text.count(".") == 2:
        return _jwt(text, issuers)
    return _biscuit(text)


def _jwt(text: str, issuers: Mapping[str, IssuerSettings]) -> Pasted | None:
    try:
        claims = jws.strict_json(jws.parse(text).payload)
    except jws.Malformed:
        return None
    if not isinstance(claims, dict):
        return None
    settings = next((each for each in issuers.values() if each.issuer == claims.get("iss")), None)
    if settings is None:
        raise CredentialRefused(Reason.BAD_TOKEN, "of an issuer that is not configured")
    principal = principal_of(claims, settings)
    return Pasted(
        PrincipalKind.JWT,
        principal.token_id,
        jwt_name(settings.name, principal.token_id) if principal.token_id else "",
        settings.name,
        principal.subject,
        None if principal.issued_at is None else int(principal.issued_at),
        principal.expires_at,
    )


def _biscuit(text: str) -> Pasted | None:
    from biscuit_auth import UnverifiedBiscuit  # most commands, and a sidecar without Biscuits, don't need it

    try:
        blocks = UnverifiedBiscuit.from_base64(text + "=" * (-len(text) % 4)).revocation_ids
    except BaseException as error:  # its panics are no `Exception`
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return None
    return Pasted(PrincipalKind.BISCUIT, blocks[-1], revocation_names.block(blocks[-1])) if blocks else None
