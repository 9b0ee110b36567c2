"""Signs tokens the way an issuer, or whoever attacks one, would: no check of ours or of a library stands in between."""

import hashlib
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | bytes
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@cache
def private_key(algorithm: str, name: str = "", bits: int = 2048) -> Any:
    """A key for the algorithm; another `name` is another key. Kept for the whole run: RSA keys take a while to make."""
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(65537, bits)
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    if algorithm == "HS256":
        return hashlib.sha256(b"secret " + name.encode()).hexdigest().encode()
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str | None = "k1", **members: Any) -> dict[str, Any]:
    """The public half as a JWK. A member given as `None` is left out."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        made = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        made = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(public, as_dict=True)
    made = {**made, "kid": kid, "key_ops": None, "use": "sig", **members}
    return {name: value for name, value in made.items() if value is not None}


def key_set(*jwks: dict[str, Any]) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def part(content: object) -> str:
    """One part of a token: bytes as they are, all else as JSON."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64url_encode(data).decode()


def signature(algorithm: str, key: Any, message: bytes) -> bytes:
    """By the algorithm named; the key decides nothing."""
    if isinstance(key, bytes):
        return hmac.digest(key, message, "sha" + algorithm[2:])
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    hashing = _HASHES[algorithm[2:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashing)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm.startswith("PS"):
        return bytes(key.sign(message, padding.PSS(padding.MGF1(hashing), hashing.digest_size), hashing))
    return bytes(key.sign(message, padding.PKCS1v15(), hashing))


def sign(header: object, payload: object, key: Any, algorithm: str) -> str:
    """A token. `header` and `payload`: an object, or its bytes; `algorithm` is what is done, whatever the header says."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{base64url_encode(signature(algorithm, key, text.encode())).decode()}"
