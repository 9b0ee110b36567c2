"""What a Nix binary cache says of a store path (`*.narinfo`), and whether a trusted key has signed it.

Law: what is judged here is what Nix reads, or the file is not trusted: each field once, none in a form that two readers could take
apart differently, and the path that it describes is the path that was asked for. `URL`, `FileHash` and the compression are
not signed; what they lead to is held against the signed `NarHash` by Nix itself.
Source: Nix's `nar-info.cc` and `path-info.cc` (the fingerprint `1;path;hash;size;references`).
"""

import base64
import binascii
import re
from collections.abc import Sequence

from sidecar.policy.compiled import TrustedKey

TRUSTED_PUBLIC_KEYS = "trusted_public_keys"
"""The workspace's setting; in the form of `trusted-public-keys` in nix.conf."""

MAX_SIZE = 256 * 1024
"""Bytes of one narinfo. A path has a handful of references as a rule, a large system a few thousand."""

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
"""Nix's base 32: without e, o, t and u."""
_LINE = re.compile(r"([A-Za-z]+): ([ -~]*)")
_STORE_PATH = re.compile(rf"((?:/[0-9a-zA-Z+._?=-]+)+)/([{ALPHABET}]{{32}})-([0-9a-zA-Z+._?=-]{{1,211}})")
_REFERENCE = re.compile(rf"[{ALPHABET}]{{32}}-[0-9a-zA-Z+._?=-]{{1,211}}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_REQUIRED = ("StorePath", "URL", "NarHash", "NarSize")


def read_key(text: str) -> TrustedKey | None:
    """`NAME:BASE64` of 32 bytes, as `nix-store --generate-binary-cache-key` writes it; `None` for anything else."""
    name, _, encoded = text.partition(":")
    key = _decoded(encoded)
    return TrustedKey(name, key) if name and key is not None and len(key) == 32 else None


def untrusted(body: bytes, store_hash: str, keys: Sequence[TrustedKey]) -> str | None:
    """Why a narinfo is not to be trusted, for the log; `None` where one of `keys` has signed it.

    `store_hash`: the 32 characters before `.narinfo` in its own path. A valid signature over another path would give a
    client that one in this one's place.
    """
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        return "not ASCII"
    if not text.endswith("\n"):
        return "broken off: no newline at its end"
    fields: dict[str, str] = {}
    signatures: list[str] = []
    for line in text[:-1].split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            return "a line that is not 'Name: value'"
        name, value = match.groups()
        if name == "Sig":
            signatures.append(value)
        elif name in fields:
            return f"two lines {name}"
        else:
            fields[name] = value
    missing = [name for name in _REQUIRED if not fields.get(name)]
    if missing:
        return f"no {missing[0]}"
    fingerprint = _fingerprint(fields)
    if fingerprint is None:
        return "a path, hash, size or reference in a form that is not Nix's"
    if fingerprint.partition("-")[0].rpartition("/")[2] != store_hash:
        return "it describes another path"
    if not any(_signed(fingerprint.encode(), signature, keys) for signature in signatures):
        return "no trusted key has signed it"
    return None


def _fingerprint(fields: dict[str, str]) -> str | None:
    path = _STORE_PATH.fullmatch(fields["StorePath"])
    digest = nar_hash(fields["NarHash"])
    references = [word for word in fields.get("References", "").split(" ") if word]
    if path is None or digest is None or _NUMBER.fullmatch(fields["NarSize"]) is None:
        return None
    if any(_REFERENCE.fullmatch(word) is None for word in references):
        return None
    listed = ",".join(f"{path[1]}/{word}" for word in sorted(set(references)))
    return f"1;{fields['StorePath']};sha256:{digest};{fields['NarSize']};{listed}"


def _signed(fingerprint: bytes, signature: str, keys: Sequence[TrustedKey]) -> bool:
    # Whoever only reads of profiles, as a command line's help does, needs no cryptography.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    name, _, encoded = signature.partition(":")
    raw = _decoded(encoded)
    for key in keys:
        if key.name == name and raw is not None:
            try:
                Ed25519PublicKey.from_public_bytes(key.key).verify(raw, fingerprint)
            except InvalidSignature:
                continue
            return True
    return False


def nar_hash(text: str) -> str | None:
    """A SHA-256 as Nix writes it (`sha256:` and base 32, base 16 or base 64; or SRI) -> base 32, as the fingerprint has it."""
    algorithm, separator, encoded = text[:6], text[6:7], text[7:]
    if algorithm != "sha256" or separator not in (":", "-"):
        return None
    if separator == ":" and len(encoded) == 52:
        raw = from_base32(encoded)
    elif separator == ":" and re.fullmatch("[0-9a-f]{64}", encoded) is not None:
        raw = bytes.fromhex(encoded)
    else:
        raw = _decoded(encoded)
    return to_base32(raw) if raw is not None and len(raw) == 32 else None


def to_base32(raw: bytes) -> str:
    """Nix's own order: the last five bits come first."""
    number, size = int.from_bytes(raw, "little"), (len(raw) * 8 + 4) // 5
    return "".join(ALPHABET[number >> (5 * place) & 31] for place in range(size - 1, -1, -1))


def from_base32(text: str) -> bytes | None:
    """32 bytes from 52 characters; `None` for what isn't the one way to write them."""
    number = 0
    for character in text:
        digit = ALPHABET.find(character)
        if digit < 0:
            return None
        number = number << 5 | digit
    if len(text) != 52 or number >> 256:
        return None
    return number.to_bytes(32, "little")


def _decoded(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
