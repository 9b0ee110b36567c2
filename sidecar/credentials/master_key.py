"""The key behind every access key, and what it makes: an id in the form of AWS's, a secret, and the keys of single days.

An id says which master key and which token it is of; with the master key and the id anybody can reckon the secret, so that it is
stored nowhere. The law: a master key's content is in memory only while something is made of it, and no `MasterKey` outlives the
call that read its file. What verifies signatures keeps keys of single days, which sign for one access key on one day.
"""

import hmac
import re

from msgspec import Struct

from sidecar import sigv4
from sidecar.credentials.opaque import ALPHABET, ID_LENGTH
from sidecar.errors import SidecarError
from sidecar.model import Secret

PREFIX = "SCK"
"""AWS's own begin with `AKIA` and `ASIA`, which scanners for leaked keys report to AWS."""
LENGTH = 20
"""Characters of an id, as AWS's have. Its documentation allows 16 to 128 of `\\w`; there are tools that insist on upper case."""
SECRET_LENGTH = 40
"""Characters of a secret, as AWS's have, but letters and digits alone: no tool has to quote it. 238 bits."""
SHORTEST = 32
_DISTINCT = 10
_TOKEN_BITS = 72
"""What 12 characters of base62 need."""
_VERSION_BITS = 5 * (LENGTH - len(PREFIX)) - _TOKEN_BITS
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ID = re.compile(rf"{PREFIX}[{_BASE32}]{{{LENGTH - len(PREFIX)}}}")


class MasterKeyUnusable(SidecarError):
    """The file can't serve as a master key. The text says what to do and never shows the content."""


class AccessKeyId(Struct, frozen=True):
    """Written as `SCK` and 17 characters of base32: 13 bits of version and 72 of the token's id."""

    version: int
    token_id: str

    def __str__(self) -> str:
        number = self.version << _TOKEN_BITS | _number(self.token_id, ALPHABET)
        return PREFIX + _digits(number, _BASE32, LENGTH - len(PREFIX))


def parse(text: str) -> AccessKeyId | None:
    """`None` for what is no access key id of ours."""
    if _ID.fullmatch(text) is None:
        return None
    version, token = divmod(_number(text[len(PREFIX) :], _BASE32), 1 << _TOKEN_BITS)
    return AccessKeyId(version, _digits(token, ALPHABET, ID_LENGTH)) if token < len(ALPHABET) ** ID_LENGTH else None


def _number(text: str, alphabet: str) -> int:
    number = 0
    for character in text:
        number = number * len(alphabet) + alphabet.index(character)
    return number


def _digits(number: int, alphabet: str, length: int) -> str:
    """The last `length` digits of the number."""
    text = ""
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        text = alphabet[digit] + text
    return text


class MasterKey:
    """Keyed functions; the key itself can't be read back out or printed."""

    __slots__ = ("_key", "version")

    def __init__(self, content: bytes) -> None:
        """`content` is the file as read; white space at its ends doesn't count. Raises `MasterKeyUnusable`."""
        key = content.strip()
        if len(key) < SHORTEST:
            raise MasterKeyUnusable(
                f"the master key has {len(key)} bytes and needs at least {SHORTEST} random ones, as of `openssl rand -hex 32`"
            )
        if len(set(key)) < _DISTINCT:
            raise MasterKeyUnusable("the master key is a placeholder, not random; `openssl rand -hex 32` makes one")
        self._key = hmac.digest(key, b"sidecar/access-key/secret/v1", "sha256")
        named = hmac.digest(key, b"sidecar/access-key/version/v1", "sha256")
        self.version = int.from_bytes(named[:4], "big") >> (32 - _VERSION_BITS)
        """Names the key in the ids that it made. Two keys have the same by chance once in 8,192 times."""

    def __repr__(self) -> str:
        return f"<master key {self.version}>"

    def id_for(self, token_id: str) -> str:
        return str(AccessKeyId(self.version, token_id))

    def secret(self, access_key_id: str) -> Secret:
        """Of one of its ids."""
        number = int.from_bytes(hmac.digest(self._key, access_key_id.encode(), "sha256"), "big")
        return Secret(_digits(number, ALPHABET, SECRET_LENGTH))

    def day_key(self, access_key_id: str, day: str) -> bytes:
        """What signs for one of its ids on one day (`20261122`), as `sigv4.day_key` has it of the secret."""
        return sigv4.day_key(self.secret(access_key_id).reveal(), day)


class AccessKey(Struct, frozen=True):
    """A pair as S3 tools take it."""

    id: str
    secret: Secret
