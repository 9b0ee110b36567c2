"""The keys of one issuer, and what each may verify. Law: a key's algorithms are fixed before any token is seen.

They are what the issuer's configuration lists, less what the key's type, curve, `alg`, `use` and `key_ops` exclude
(RFC 7517 §4, RFC 8725 §3.1). A key that fits nothing isn't kept; which key fits a token is decided by `kid` and
`alg` together, and where two fit, none does.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    RSAPSSAlgorithm,
)
from jwt.exceptions import InvalidKeyError
from msgspec import Struct

from sidecar.credentials.jws import Jws, Malformed, decode, strict_json
from sidecar.settings import IssuerSettings, KiB

MAX_KEYS = 64
MAX_DOCUMENT = 256 * KiB
"""Bytes of a key set, a key file, or the discovery document that says where the keys are."""
MIN_SECRET = 32
"""Bytes. RFC 7518 §3.2: at least the size of the hash."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""RFC 7518 §3.3; above, one verification costs more than a request should."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_ALGORITHMS: dict[str, tuple[str, Algorithm]] = {
    "RS256": ("RSA", RSAAlgorithm(RSAAlgorithm.SHA256)),
    "RS384": ("RSA", RSAAlgorithm(RSAAlgorithm.SHA384)),
    "RS512": ("RSA", RSAAlgorithm(RSAAlgorithm.SHA512)),
    "PS256": ("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256)),
    "PS384": ("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384)),
    "PS512": ("RSA", RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512)),
    "ES256": ("secp256r1", ECAlgorithm(ECAlgorithm.SHA256)),
    "ES384": ("secp384r1", ECAlgorithm(ECAlgorithm.SHA384)),
    "ES512": ("secp521r1", ECAlgorithm(ECAlgorithm.SHA512)),
    "EdDSA": ("Ed25519", OKPAlgorithm()),
    "HS256": ("secret", HMACAlgorithm(HMACAlgorithm.SHA256)),
}
"""Name -> what kind of key it takes (RSA, a curve, a secret), and the library's implementation."""

ASYMMETRIC = frozenset(_ALGORITHMS) - {"HS256"}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class BadKeys(ValueError):
    """A source of keys that can't be used; the text is for the operator and names no secret."""


class Key(Struct, frozen=True):
    kid: str | None
    algorithms: frozenset[str]
    material: Any
    """An object of `cryptography`, or the bytes of a secret: ready for use, so that no request parses a key."""
    fingerprint: bytes

    def verifies(self, jws: Jws) -> bool:
        """Whether the signature is this key's, by an algorithm that the key is bound to."""
        if jws.algorithm not in self.algorithms:
            return False
        return _ALGORITHMS[jws.algorithm][1].verify(jws.signing_input, self.material, jws.signature)


class KeySet:
    """Immutable; swapped whole. `ignored` says why keys of the source were left out."""

    def __init__(self, keys: Iterable[Key], ignored: tuple[str, ...] = ()) -> None:
        self.keys = tuple(keys)
        self.ignored = ignored
        self._by_kid: dict[str | None, list[Key]] = {}
        for key in self.keys:
            self._by_kid.setdefault(key.kid, []).append(key)
        digest = hashlib.sha256()
        for line in sorted(repr((key.kid, sorted(key.algorithms), key.fingerprint)) for key in self.keys):
            digest.update(line.encode())
        self.digest = digest.hexdigest()[:16]

    def knows(self, kid: str | None) -> bool:
        return kid in self._by_kid

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The one key that fits. A key without `kid` serves any token that names no other key, if it alone fits."""
        candidates: Iterable[Key] = self.keys
        if kid is not None:
            candidates = self._by_kid.get(kid) or self._by_kid.get(None) or ()
        fitting = [key for key in candidates if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


def algorithms_of(settings: IssuerSettings) -> frozenset[str]:
    """What an issuer's tokens may be signed with: HS256 alone with a secret, else asymmetric ones alone."""
    if settings.secret_file is not None:
        return frozenset({"HS256"})
    return ASYMMETRIC.intersection(settings.algorithms)


def from_jwks(document: bytes, allowed: frozenset[str]) -> KeySet:
    """A JWK Set (RFC 7517 §5). Single keys that don't fit are left out; raises `BadKeys` if the whole can't be read."""
    try:
        parsed = strict_json(document)
    except Malformed as problem:
        raise BadKeys(f"key set: {problem}") from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise BadKeys("key set: no list of keys")
    if len(listed) > MAX_KEYS:
        raise BadKeys(f"key set: more than {MAX_KEYS} keys")
    keys: dict[tuple[str | None, bytes], Key] = {}
    ignored = []
    for position, jwk in enumerate(listed):
        try:
            key = from_jwk(jwk, allowed)
        except BadKeys as problem:
            ignored.append(f"key {position}: {problem}")
        else:
            keys[key.kid, key.fingerprint] = key
    return KeySet(keys.values(), tuple(ignored))


def from_jwk(jwk: object, allowed: frozenset[str]) -> Key:
    """One public key. Raises `BadKeys`."""
    if not isinstance(jwk, dict):
        raise BadKeys("not an object")
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise BadKeys("a private or symmetric key in a public set")
    kid, use, operations, algorithm = jwk.get("kid"), jwk.get("use"), jwk.get("key_ops"), jwk.get("alg")
    if kid is not None and not isinstance(kid, str):
        raise BadKeys("kid is not a text")
    if use is not None and use != "sig":
        raise BadKeys("not for signatures (use)")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise BadKeys("not for verifying (key_ops)")
    if algorithm is not None:
        allowed = allowed.intersection([algorithm] if isinstance(algorithm, str) else [])
    return public_key(_load(jwk), allowed, kid)


def from_pem(document: bytes, allowed: frozenset[str]) -> KeySet:
    """One PEM public key, without a `kid`. Raises `BadKeys`."""
    if b"PRIVATE KEY" in document:
        raise BadKeys("PEM file: it holds a private key; give the public one")
    try:
        material = load_pem_public_key(document)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKeys("PEM file: not a public key") from None
    return KeySet([public_key(material, allowed, None)])


def from_secret(document: bytes) -> KeySet:
    """A secret for HS256; surrounding white space is not part of it. Raises `BadKeys`."""
    secret = document.strip()
    if len(secret) < MIN_SECRET:
        raise BadKeys(f"secret file: shorter than {MIN_SECRET} bytes")
    try:
        # Refuses public keys in every spelling: whoever put one here would let everybody sign (CVE-2022-29217).
        material = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise BadKeys("secret file: it holds a public key") from None
    # A digest of a digest: the fingerprint ends up in a cache's key, where nothing may be tried against the secret.
    fingerprint = hashlib.sha256(b"fingerprint:" + hashlib.sha256(secret).digest()).digest()
    return KeySet([Key(None, frozenset({"HS256"}), material, fingerprint)])


def public_key(material: object, allowed: frozenset[str], kid: str | None) -> Key:
    """Binds a key to those allowed algorithms that its type and curve can do. Raises `BadKeys` if there is none."""
    match material:
        case RSAPublicKey():
            if not MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
                raise BadKeys(f"RSA key of {material.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
            needs = "RSA"
        case EllipticCurvePublicKey():
            needs = material.curve.name
        case Ed25519PublicKey():
            needs = "Ed25519"
        case _:
            raise BadKeys("a type of key that isn't supported")
    algorithms = frozenset(name for name in allowed if _ALGORITHMS[name][0] == needs)
    if not algorithms:
        raise BadKeys("no algorithm of this key is allowed for the issuer")
    encoded = material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, algorithms, material, hashlib.sha256(encoded).digest())


_LOADERS: dict[str, type[RSAAlgorithm | ECAlgorithm | OKPAlgorithm]] = {
    "RSA": RSAAlgorithm,
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
}


def _load(jwk: dict[str, Any]) -> object:
    kty = jwk.get("kty")
    loader = _LOADERS.get(kty) if isinstance(kty, str) else None
    if loader is None:
        raise BadKeys("a type of key that isn't supported")
    for member in ("n", "e", "x", "y"):
        if member in jwk:
            _check_base64url(jwk[member])
    try:
        return loader.from_jwk(jwk)
    except (InvalidKeyError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise BadKeys("malformed key") from None


def _check_base64url(value: object) -> None:
    if not isinstance(value, str) or not value.isascii():
        raise BadKeys("malformed key")
    try:
        decode(value.encode())
    except Malformed:
        raise BadKeys("malformed key") from None
