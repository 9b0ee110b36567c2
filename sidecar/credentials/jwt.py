"""JWTs of trusted issuers. Law: everything about how a token is judged comes from its issuer's configuration.

From the token itself come two dictionary keys, `iss` and `kid`, and a claim of an algorithm that must be among those
of the issuer and of the key. The checks are those of RFC 7519, 8725 and 9068; each is one line below, and each "no"
is a `CredentialRefused` whose detail tells the operator which. Identity is issuer and subject together (rule 5).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from sidecar.credentials import jws
from sidecar.credentials.carriers import MAX_TOKEN
from sidecar.credentials.jwk import Key, algorithms_of
from sidecar.errors import CredentialRefused
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IssuerSettings

MAX_TEXT = 1024
"""Characters of a subject, a group or a `jti`."""
MAX_TIME = 253402300800
"""Unix seconds: the year 10000, which no formatter of dates can write."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters and line separators: an identity goes into logs, and is one line there."""


class KeySource(Protocol):
    """The keys of one issuer, kept current by somebody else."""

    generation: int
    """Grows with every change of the set. A plain attribute: it is read at every request."""

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """From memory: the key, or `None` if it isn't there or the set is too old. The fast way."""

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        """The same with a look at the issuer, where one is due. `None`: the issuer has no such key.
        Raises `Unavailable(VERIFIER_UNAVAILABLE)` where that can't be known."""


class _Issuer(Struct, frozen=True):
    settings: IssuerSettings
    keys: KeySource
    algorithms: frozenset[str]
    types: frozenset[str]


class JwtVerifier:
    """Verifies the tokens of all configured issuers."""

    def __init__(self, issuers: Iterable[tuple[IssuerSettings, KeySource]]) -> None:
        """Raises `ValueError` where two issuers have the same `issuer` text: a token could not tell them apart."""
        self._issuers: dict[str, _Issuer] = {}
        digest = hashlib.sha256()
        for settings, keys in issuers:
            if settings.issuer in self._issuers:
                raise ValueError(f"two issuers are {settings.issuer!r}")
            types = frozenset(_media_type(name) for name in settings.types)
            self._issuers[settings.issuer] = _Issuer(settings, keys, algorithms_of(settings), types)
            digest.update(msgspec.json.encode(settings, enc_hook=str) + b"\n")
        self._settings_digest = digest.hexdigest()[:16]
        self._sources = tuple(issuer.keys for issuer in self._issuers.values())
        self._generation = ""
        self._key_changes = -1

    @property
    def generation(self) -> str:
        """Of the settings and of every issuer's keys: a key that was rotated out takes its identities along."""
        changes = 0
        for source in self._sources:
            changes += source.generation
        if changes != self._key_changes:
            self._key_changes = changes
            self._generation = f"{self._settings_digest}.{changes}"
        return self._generation

    async def verify(self, token: Secret, now: float) -> Principal | None:
        """`None` where the text isn't shaped like a JWT. Raises `CredentialRefused(BAD_TOKEN | EXPIRED)`, `Unavailable`."""
        text = token.reveal()
        if not text.startswith("ey") and text.count(".") != 2:
            return None
        if len(text) > MAX_TOKEN:
            raise _bad("token too long")
        try:
            parsed = jws.parse(text)
            claims = jws.strict_json(parsed.payload)
        except jws.Malformed as problem:
            raise _bad(str(problem)) from None
        if not isinstance(claims, dict):
            raise _bad("payload is not an object")
        named = claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise _bad(f"untrusted issuer {_shown(named)}")
        media_type = _type(parsed.header, issuer)
        await _check_signature(parsed, issuer)
        _check_audience(claims, issuer.settings)
        if media_type == "at+jwt":
            _check_access_token(claims, issuer.settings)
        principal = principal_of(claims, issuer.settings)
        _check_times(claims, issuer.settings, now, principal)
        return principal


def revocation_id(issuer: str, token_id: str) -> str:
    """What the revoked set holds for a JWT. `issuer` is the configured name, `token_id` the `jti`.

    Never a digest of the token: an ECDSA signature has two valid forms, so one token has two texts.
    """
    return f"jwt:{issuer}:{token_id}"


async def _check_signature(parsed: jws.Jws, issuer: _Issuer) -> None:
    if parsed.algorithm not in issuer.algorithms:
        allowed = ", ".join(sorted(issuer.algorithms))
        raise _bad(f"issuer {issuer.settings.name}: alg is {_shown(parsed.algorithm)}, allowed is {allowed}")
    key = issuer.keys.find(parsed.kid, parsed.algorithm)
    if key is None:
        key = await issuer.keys.key(parsed.kid, parsed.algorithm)
    if key is None:
        raise _bad(f"issuer {issuer.settings.name}: it has no one key for kid {_shown(parsed.kid)}")
    if not key.verifies(parsed):
        raise _bad(f"issuer {issuer.settings.name}: the signature is not by its key")


def _type(header: Mapping[str, Any], issuer: _Issuer) -> str | None:
    # RFC 8725 §3.11: other kinds of token (logout, security event, ID) are told apart by their type.
    if "typ" not in header:
        return None
    name = header["typ"]
    if not isinstance(name, str) or _media_type(name) not in issuer.types:
        allowed = ", ".join(issuer.settings.types)
        raise _bad(f"issuer {issuer.settings.name}: typ is {_shown(name)}, allowed is {allowed}")
    return _media_type(name)


def _media_type(name: str) -> str:
    # RFC 7515 §4.1.9: compared without regard to case, and `application/` may be left out.
    return name.lower().removeprefix("application/")


def _check_times(claims: Mapping[str, Any], settings: IssuerSettings, now: float, principal: Principal) -> None:
    expires, issued, who = _time(claims, "exp"), _time(claims, "iat"), f"issuer {settings.name}"
    if expires <= now - settings.leeway:
        raise CredentialRefused(Reason.EXPIRED, f"{who}: expired {now - expires:.0f} s ago", principal)
    if issued > now + settings.leeway:
        raise _bad(f"{who}: iat is {issued - now:.0f} s in the future, more than leeway ({settings.leeway:g} s)")
    if "nbf" in claims and (begins := _time(claims, "nbf")) > now + settings.leeway:
        raise _bad(f"{who}: valid only in {begins - now:.0f} s (nbf), more than leeway ({settings.leeway:g} s)")
    if not 0 <= expires - issued <= settings.max_lifetime:
        lifetime = f"exp - iat is {expires - issued:.0f} s"
        raise _bad(f"{who}: {lifetime}, max_lifetime is {settings.max_lifetime:.0f} s")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
        raise _bad(f"{name} is missing or not a time")
    return value


def _check_audience(claims: Mapping[str, Any], settings: IssuerSettings) -> None:
    audience = claims.get("aud")
    who = f"issuer {settings.name}"
    audiences = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(one, str) for one in audiences) or settings.audience not in audiences:
        raise _bad(f"{who}: aud is {_shown(audience)}, this audience is {_shown(settings.audience)}")
    if settings.authorized_parties:
        party = claims["azp"] if "azp" in claims else claims.get("client_id")
        if party not in settings.authorized_parties:
            raise _bad(f"{who}: azp (or client_id) is {_shown(party)}, which is not in authorized_parties")
    elif len(audiences) > 1:
        # Any of the others could use the token here; OpenID Connect Core §3.1.3.7 asks who it was issued to.
        raise _bad(f"{who}: aud names several ({_shown(audience)}), and it has no authorized_parties")


def _check_access_token(claims: Mapping[str, Any], settings: IssuerSettings) -> None:
    for name in ("client_id", "jti", "sub"):
        if not isinstance(claims.get(name), str):
            raise _bad(f"issuer {settings.name}: at+jwt without {name} (RFC 9068)")


def principal_of(claims: Mapping[str, Any], settings: IssuerSettings) -> Principal:
    """Whom verified claims name. Raises `CredentialRefused` where they name nobody, or no expiry."""
    token_id = _text(claims["jti"], "jti") if "jti" in claims else ""
    issued = claims.get("iat")
    return Principal(
        kind=PrincipalKind.JWT,
        subject=_text(claims.get(settings.subject_claim), settings.subject_claim),
        issuer=settings.name,
        groups=_groups(claims, settings.groups_claim),
        claims=claims,
        token_id=token_id,
        expires_at=float(_time(claims, "exp")),
        revocation_ids=(revocation_id(settings.name, token_id),) if token_id else (),
        issued_at=float(issued) if isinstance(issued, int | float) and abs(issued) < MAX_TIME else None,
        owned=settings.people,
    )


def _groups(claims: Mapping[str, Any], name: str | None) -> frozenset[str]:
    # No groups would slip past a rule that denies one, so groups that can't be read refuse the token.
    if name is None:
        return frozenset()
    elsewhere = claims.get("_claim_names")
    if (isinstance(elsewhere, dict) and name in elsewhere) or claims.get("hasgroups"):
        # Entra's form for a person with too many groups: they are to be asked for at another service.
        raise _bad(f"{name} has too many members to be in the token (group overage)")
    if name not in claims:
        return frozenset()
    value = claims[name]
    return frozenset(_text(member, name) for member in (value if isinstance(value, list) else [value]))


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or _UNWRITABLE.search(value):
        raise _bad(f"{name} is missing or not a short line of text")
    return value


def _bad(detail: str) -> CredentialRefused:
    return CredentialRefused(Reason.BAD_TOKEN, detail)


def _shown(value: object) -> str:
    """A part of the token that may be logged: escaped, and cut to 80 characters."""
    return "absent" if value is None else ascii(value)[:80]
