"""What a key may verify is settled when the key is read: by the issuer's configuration and the key, never by a token."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from sidecar.credentials import jwk, jws
from sidecar.settings import IssuerSettings
from tests import jose

RSA, P256, P384, ED25519 = (jose.private_key(name) for name in ("RS256", "ES256", "ES384", "EdDSA"))
ALL = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
COMMON = frozenset({"RS256", "ES256"})


def algorithms(members: dict[str, Any], allowed: frozenset[str] = ALL) -> set[str]:
    return set(jwk.from_jwk(members, allowed).algorithms)


@pytest.mark.parametrize(
    ("members", "allowed", "expected"),
    [
        (jose.jwk(RSA), ALL, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (jose.jwk(RSA), COMMON, {"RS256"}),
        (jose.jwk(RSA, alg="RS256"), ALL, {"RS256"}),
        (jose.jwk(RSA, alg="PS384"), ALL, {"PS384"}),
        (jose.jwk(P256), ALL, {"ES256"}),
        (jose.jwk(P384), ALL, {"ES384"}),
        (jose.jwk(ED25519), ALL, {"EdDSA"}),
        (jose.jwk(RSA, use=None), COMMON, {"RS256"}),
        (jose.jwk(RSA, use=None, key_ops=["verify"]), COMMON, {"RS256"}),
        (jose.jwk(RSA, x5c=["junk"], x5t="junk", n2="junk"), COMMON, {"RS256"}),
    ],
)
def test_a_key_is_bound_to_what_it_and_the_issuer_allow(
    members: dict[str, Any], allowed: frozenset[str], expected: set[str]
) -> None:
    assert algorithms(members, allowed) == expected


REFUSED: dict[str, Any] = {
    "a text": "xyz",
    "a number": 7,
    "null": None,
    "a list": ["kty"],
    "no type": {"kid": "k1"},
    "another type": {"kty": "AKP"},
    "type of another kind": {"kty": ["RSA"]},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC0"},
    "private": jose.jwk(RSA, d="AQAB"),
    "for encryption": jose.jwk(RSA, use="enc"),
    "use of another kind": jose.jwk(RSA, use=["sig"]),
    "for wrapping": jose.jwk(RSA, key_ops=["wrapKey"]),
    "key_ops as a text": jose.jwk(RSA, key_ops="verify"),
    "alg of another type of key": jose.jwk(RSA, alg="ES256"),
    "alg HS256": jose.jwk(RSA, alg="HS256"),
    "alg none": jose.jwk(RSA, alg="none"),
    "alg not allowed": jose.jwk(RSA, alg="RSA-OAEP"),
    "alg of another kind": jose.jwk(RSA, alg=["RS256"]),
    "kid a number": jose.jwk(RSA, kid=1),
    "1024 bits": jose.jwk(jose.private_key("RS256", "short", 1024)),
    "n with padding": jose.jwk(RSA, n=jose.jwk(RSA)["n"] + "=="),
    "n not a text": jose.jwk(RSA, n=5),
    "n beyond ASCII": jose.jwk(RSA, n="é"),
    "no n": jose.jwk(RSA, n=None),
    "e is 1": jose.jwk(RSA, e="AQ"),
    "a curve of another kind": jose.jwk(P256, crv="secp256k1"),
    "not on the curve": jose.jwk(P256, x=jose.jwk(P256)["y"]),
    "a point of another size": jose.jwk(P256, x="AAAA"),
    "no y": jose.jwk(P256, y=None),
    "Ed25519 of another size": jose.jwk(ED25519, x="AAAA"),
    "X25519": {
        "kty": "OKP",
        "crv": "X25519",
        "x": jose.part(x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()),
    },
    "Ed448": jose.jwk(ed448.Ed448PrivateKey.generate()),
    "P-192 by name": jose.jwk(P256, crv="P-192"),
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_keys_that_fit_nothing(members: Any) -> None:
    with pytest.raises(jwk.BadKeys):
        jwk.from_jwk(members, ALL)


@pytest.mark.parametrize("name", ["symmetric", "private"])
def test_a_published_secret_is_said(name: str) -> None:
    with pytest.raises(jwk.BadKeys, match="private or symmetric"):
        jwk.from_jwk(REFUSED[name], ALL)


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_one_private_member_is_enough(member: str) -> None:
    """RFC 7518, 6.2.2, 6.3.2 and 6.4.1; `d` is Ed25519's, too (RFC 8037)."""
    with pytest.raises(jwk.BadKeys, match="private or symmetric"):
        jwk.from_jwk(jose.jwk(RSA, **{member: "AQAB"}), ALL)


def test_a_private_pem_is_said() -> None:
    with pytest.raises(jwk.BadKeys, match="private key"):
        jwk.from_pem(private_pem(RSA), COMMON)


def test_a_modulus_that_costs_too_much() -> None:
    members = jose.jwk(RSA, n=jose.part(b"\xff" * 1025))
    assert RSAAlgorithm.from_jwk(members).key_size > jwk.MAX_RSA_BITS
    with pytest.raises(jwk.BadKeys, match="bits"):
        jwk.from_jwk(members, ALL)


def test_keys_that_dont_fit_are_left_out_and_said() -> None:
    keys = jwk.from_jwks(jose.key_set(REFUSED["private"], jose.jwk(P256), REFUSED["for encryption"]), ALL)
    assert [key.kid for key in keys.keys] == ["k1"]
    assert [reason.split(":")[0] for reason in keys.ignored] == ["key 0", "key 2"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [], "keys": []}',
        b'{"keys": null}',
        json.dumps({"keys": [{}] * 65}).encode(),
    ],
)
def test_sets_that_cant_be_read(document: bytes) -> None:
    with pytest.raises(jwk.BadKeys):
        jwk.from_jwks(document, ALL)


def test_the_largest_set() -> None:
    keys = [jose.jwk(P256, kid=f"k{number}") for number in range(jwk.MAX_KEYS)]
    assert len(jwk.from_jwks(jose.key_set(*keys), ALL).keys) == jwk.MAX_KEYS


def found(kid: str | None, algorithm: str, *members: dict[str, Any]) -> object:
    key = jwk.from_jwks(jose.key_set(*members), ALL).find(kid, algorithm)
    return key.material.public_numbers() if key is not None else None


class TestWhichKey:
    other = jose.private_key("ES256", "other")
    numbers = P256.public_key().public_numbers()
    other_numbers = other.public_key().public_numbers()

    def test_by_kid(self) -> None:
        members = jose.jwk(P256, kid="a"), jose.jwk(self.other, kid="b")
        assert found("a", "ES256", *members) == self.numbers
        assert found("b", "ES256", *members) == self.other_numbers
        assert found("c", "ES256", *members) is None

    def test_by_kid_and_algorithm(self) -> None:
        members = jose.jwk(P256, kid="a"), jose.jwk(P384, kid="a")
        assert found("a", "ES256", *members) == self.numbers
        assert found("a", "ES384", *members) == P384.public_key().public_numbers()
        assert found("a", "RS256", *members) is None

    def test_one_kid_for_two_keys_is_ambiguous(self) -> None:
        assert found("a", "ES256", jose.jwk(P256, kid="a"), jose.jwk(self.other, kid="a")) is None

    def test_one_key_listed_twice_is_one_key(self) -> None:
        assert found("a", "ES256", jose.jwk(P256, kid="a"), jose.jwk(P256, kid="a")) == self.numbers

    def test_a_token_without_kid_needs_exactly_one_key_that_fits(self) -> None:
        assert found(None, "ES256", jose.jwk(P256), jose.jwk(RSA)) == self.numbers
        assert found(None, "ES256", jose.jwk(P256), jose.jwk(self.other, kid="b")) is None

    def test_a_key_without_kid_serves_any_kid_if_it_alone_fits(self) -> None:
        assert found("x", "ES256", jose.jwk(P256, kid=None), jose.jwk(RSA, kid=None)) == self.numbers
        assert found("x", "ES256", jose.jwk(P256, kid=None), jose.jwk(self.other, kid=None)) is None

    def test_a_key_without_kid_doesnt_stand_in_for_the_one_named(self) -> None:
        assert found("b", "ES256", jose.jwk(P256, kid=None), jose.jwk(P384, kid="b")) is None


def test_generations_differ_with_the_keys_and_not_with_their_order() -> None:
    one, two = jose.jwk(P256, kid="a"), jose.jwk(P384, kid="b")
    sets = [
        jose.key_set(one, two),
        jose.key_set(one),
        jose.key_set(two),
        jose.key_set(),
        jose.key_set(one, {**two, "kid": "c"}),
        jose.key_set(one, {**two, "alg": "ES512"}),
        jose.key_set(one, jose.jwk(jose.private_key("ES384", "other"), kid="b")),
    ]
    digests = [jwk.from_jwks(document, ALL).digest for document in sets]
    assert digests[5] == digests[1], "a key that is left out doesn't count"
    assert len(set(digests)) == len(sets) - 1
    assert jwk.from_jwks(jose.key_set(two, one), ALL).digest == digests[0]


def test_algorithms_of_an_issuer() -> None:
    def of(**settings: Any) -> set[str]:
        return set(jwk.algorithms_of(IssuerSettings(name="i", issuer="i", audience="a", **settings)))

    assert of() == {"RS256", "ES256"}
    assert of(algorithms=("EdDSA",)) == {"EdDSA"}
    assert of(algorithms=("RS256", "HS256", "none", "ES256K")) == {"RS256"}
    assert of(secret_file=Path("s")) == {"HS256"}
    assert of(secret_file=Path("s"), algorithms=("RS256", "HS256")) == {"HS256"}


@pytest.mark.parametrize(("key", "expected"), [(RSA, "RS256"), (P256, "ES256")])
def test_pem(key: Any, expected: str) -> None:
    keys = jwk.from_pem(jose.pem(key), COMMON)
    assert keys.find("any", expected) is keys.find(None, expected) is keys.keys[0]
    assert keys.keys[0].algorithms == {expected}


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"junk",
        jose.pem(RSA)[:100],
        private_pem(RSA),
        private_pem(RSA) + jose.pem(RSA),
        jose.pem(P384),
        dsa.generate_parameters(1024)
        .generate_private_key()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        jose.pem(ec.generate_private_key(ec.SECP256K1())),
    ],
)
def test_pem_that_cant_be_used(document: bytes) -> None:
    with pytest.raises(jwk.BadKeys) as caught:
        jwk.from_pem(document, COMMON)
    assert "MII" not in str(caught.value)


def test_a_secret() -> None:
    keys = jwk.from_secret(b"  " + b"s" * 32 + b"\n")
    key = keys.find("any", "HS256")
    assert key is not None
    token = jose.sign({"alg": "HS256"}, {}, b"s" * 32, "HS256")
    assert key.verifies(jws.parse(token))
    assert keys.digest not in (b"s" * 32).hex()
    assert jwk.from_secret(b"t" * 32).digest != keys.digest


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"s" * 31,
        b" " * 64,
        b"\n" * 64,
        jose.pem(RSA),
        jose.pem(RSA).rstrip(),
        json.dumps(jose.jwk(RSA)).encode(),
        jose.key_set(jose.jwk(RSA)),
        RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        RSA.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    ],
)
def test_secrets_that_are_none(secret: bytes) -> None:
    """Empty ones (CVE-2026-82329) and public keys in every spelling (CVE-2022-29217, CVE-2026-48526)."""
    with pytest.raises(jwk.BadKeys):
        jwk.from_secret(secret)


@pytest.mark.parametrize("algorithm", sorted(ALL | {"HS256"}))
def test_every_algorithm_verifies_its_own_signatures_alone(algorithm: str) -> None:
    private = jose.private_key(algorithm)
    if algorithm == "HS256":
        key = jwk.from_secret(private).keys[0]
    else:
        key = jwk.public_key(private.public_key(), frozenset({algorithm}), None)
    token = jose.sign({"alg": algorithm}, {"a": 1}, private, algorithm)
    parsed = jws.parse(token)
    assert key.verifies(parsed)
    for changed in (
        {"signing_input": parsed.signing_input + b"A"},
        {"signature": parsed.signature[:-1] + bytes([parsed.signature[-1] ^ 1])},
        {"signature": parsed.signature[:-1]},
        {"signature": parsed.signature + b"\0"},
        {"signature": b"\0" + parsed.signature},
        {"signature": bytes(len(parsed.signature))},
        {"signature": b""},
        *({"algorithm": other} for other in (ALL | {"HS256", "none", ""}) - {algorithm}),
    ):
        parts = {name: getattr(parsed, name) for name in parsed.__struct_fields__}
        assert not key.verifies(jws.Jws(**{**parts, **changed})), changed
