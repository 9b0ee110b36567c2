"""One issuer and its tokens, made anew for every run: RS256, 2,048 bits, what CI systems and identity providers sign with."""

import itertools
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://issuer.bench.example"
AUDIENCE = "bench"
LIFETIME = 6 * 3600
"""Seconds; longer than any run."""


class Credentials:
    """`access` is the claim that the policies of the peers read: `read` or `write`."""

    def __init__(self, directory: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._serial = itertools.count()
        self._pool: list[str] = []
        self.directory = directory
        """Each peer has one of its name in it."""
        self.public_pem = directory / "issuer.pem"
        self.public_pem.write_bytes(
            self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        self.writer = self.issue("write")
        self.reader = self.issue("read")

    def issue(self, access: str) -> str:
        """A token that no one has seen yet."""
        now, serial = int(time.time()), next(self._serial)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"job-{serial}",
            "jti": f"{serial:08d}",
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "access": access,
        }
        return jwt.encode(claims, self._key, algorithm="RS256")

    def pool(self, size: int) -> list[str]:
        """The same `size` readers' tokens at every call."""
        while len(self._pool) < size:
            self._pool.append(self.issue("read"))
        return self._pool[:size]

    def forged(self) -> str:
        """The reader's claims under a signature that isn't theirs."""
        head, _, _ = self.issue("read").rpartition(".")
        return f"{head}.{self.reader.rpartition('.')[2]}"
