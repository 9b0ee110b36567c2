"""What a credential is that somebody hands in to be revoked, and by which name it is known in the revoked set.

Law: nothing is verified here. Whoever revokes what a text names has to mean it; whoever revokes what was merely found has to
verify it first.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from sidecar.credentials import jws, master_key, revocation_names
from sidecar.credentials.biscuit import spelling, wire
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
    root_id: str = ""
    """Of a Biscuit that nobody has narrowed: the id of its row, as it says itself."""


def recognise(given: Secret, ours: TokenFormat, issuers: Mapping[str, IssuerSettings]) -> Pasted | None:
    """A whole token, the id of one issued here or of its access key, or the revocation id of a Biscuit's block. `None` for anything
    else.

    Raises `CredentialRefused(BAD_TOKEN)` for what is spelled as one of ours and is none.
    """
    text = given.reveal()
    if _ID.fullmatch(text):
        return Pasted(None, text)
    if (access_key := master_key.parse(text)) is not None:
        return Pasted(None, access_key.token_id)
    if _BLOCK.fullmatch(text):
        return Pasted(PrincipalKind.BISCUIT, text, revocation_names.block(text))
    if len(text) > MAX_TOKEN:
        return None
    opaque = ours.parse(given)
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
    try:
        content = spelling.decoded(text)
    except spelling.TooLong:
        return None
    if content is None:
        return None
    from sidecar.credentials.biscuit.library import LibraryError, unverified_ids  # few have Biscuits

    try:
        ids = unverified_ids(content)
        first = wire.blocks(content)[0] if len(ids) == 1 else None
    except (LibraryError, wire.Malformed):
        return None
    named = [] if first is None else [fact.terms for fact in first.facts if fact.name == "token_id"]
    root_id = named[0][0] if len(named) == 1 and len(named[0]) == 1 else None
    return Pasted(
        PrincipalKind.BISCUIT,
        ids[-1],
        revocation_names.block(ids[-1]),
        root_id=root_id if isinstance(root_id, str) else "",
    )
