"""A request's two parties in its record: who asked, and from where.

A record holds no credential in any form but one: an unknown credential's HMAC under the install's key, so that a
leaked token can be searched for (plain hashes would give away the passwords that people paste into the wrong box).
Both are said again and again in the same words, so they are encoded once.
"""

import hmac

from msgspec import Raw

from sidecar import provenance
from sidecar.audit.access import Access
from sidecar.audit.schema import ENCODER, NO_TLS, STRING_LIMIT, Actor, Client, rfc3339
from sidecar.credentials.revocation_names import blocks
from sidecar.model import Principal, PrincipalKind, Secret

_KEPT = 1024

_NOBODY, _ANONYMOUS = Actor(), Actor(PrincipalKind.ANONYMOUS)


class Parties:
    def __init__(self, install_key: bytes) -> None:
        """`install_key` is derived from the pepper. Raises `ValueError` for one under 32 bytes: an empty one would make every HMAC
        a plain hash."""
        if len(install_key) < 32:
            raise ValueError("the audit log's install key must have at least 32 bytes")
        self._key = install_key
        self._actors: dict[tuple[int, str], tuple[Principal, Raw]] = {}
        self._clients: dict[str, Raw] = {}

    def client(self, access: Access) -> Client | Raw:
        peer = access.peer
        if access.client_ip or access.forwarded or access.tls is not NO_TLS:
            return Client(access.client_ip or peer or None, peer or None, access.forwarded or None, access.tls)
        known = self._clients.get(peer)
        if known is None:
            if len(self._clients) >= _KEPT:
                self._clients.clear()
            self._clients[peer] = known = Raw(ENCODER.encode(Client(peer or None, peer or None)))
        return known

    def actor(self, access: Access) -> Actor | Raw:
        principal, carrier = access.principal, access.carrier
        if principal is None:
            if access.unknown_token is None:
                return _NOBODY
            return Actor("unknown", auth_method=carrier or None, unknown_token_hmac=self._hmac(access.unknown_token))
        if principal.kind is PrincipalKind.ANONYMOUS:
            return _ANONYMOUS
        # The identity cache hands out the same object for each request of a token. The entry holds the principal too,
        # so that its `id` can't be taken by another one while the entry lives.
        key = id(principal), carrier
        known = self._actors.get(key)
        if known is not None:
            return known[1]
        described = _describe(principal, carrier)
        try:
            line = ENCODER.encode(described)
        except UnicodeEncodeError:
            return described
        if len(line) > STRING_LIMIT // 2:  # left to whoever encodes the record, and can shorten it
            return described
        actor = Raw(line)
        if len(self._actors) >= _KEPT:
            self._actors.clear()
        self._actors[key] = principal, actor
        return actor

    def _hmac(self, token: Secret) -> str:
        """How an unknown credential is written down: HMAC-SHA256 under the install's key, in hex."""
        return hmac.digest(self._key, token.reveal().encode("utf-8", "surrogatepass"), "sha256").hex()


def _describe(principal: Principal, carrier: str) -> Actor:
    limits, expires = principal.limits, principal.expires_at
    chain = blocks(principal.revocation_ids)
    scopes = limits.permissions if limits.scopes is None else map(str, limits.scopes)
    return Actor(
        principal.kind,
        principal.token_id or None,
        principal.token_name or None,
        principal.issuer or principal.workspace or principal.subject,
        principal.subject,
        sorted(principal.groups),
        carrier or None,
        None if scopes is None else sorted(scopes),
        None if expires is None else rfc3339(expires),
        root_id=principal.family or (principal.token_id if chain else None),
        parent=principal.parent or None,
        blocks=chain or None,
        jti=principal.token_id or None if principal.kind is PrincipalKind.JWT else None,
        claims=provenance.claims_of(principal.claims) if principal.claims else None,
    )
