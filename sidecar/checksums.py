"""The checksums that S3 clients send with a body, as a header or as a trailer: which there are, and how each is reckoned.

Values are base64 of the big-endian bytes. CRC-32C, CRC-64/NVME (the AWS CLI's default) and xxHash come from AWS's own C
library: in Python a gigabyte takes minutes. It is loaded when a body first carries one, since it weighs 5 MiB in every process.
Source: S3 User Guide, "Checking object integrity".
"""

import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sidecar.errors import Refused
from sidecar.reasons import Reason

PREFIX = "x-amz-checksum-"
OF_OBJECT = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})
"""Headers with the prefix that hold no checksum."""


class Checksum(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """`step(data, previous) -> next`, and how many bytes the result has."""

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash:
    """AWS's own one, whose digest ends it."""

    def __init__(self, hasher: Any) -> None:
        self.update: Callable[[bytes], object] = hasher.update
        self.digest: Callable[[], bytes] = hasher.finalize


def _xxhash(kind: str) -> Checksum:
    from awscrt import checksums

    return _XxHash(getattr(checksums.XXHash, kind)())


def _crc32c() -> Checksum:
    from awscrt import checksums

    return _Crc(checksums.crc32c, 4)


def _crc64nvme() -> Checksum:
    from awscrt import checksums

    return _Crc(checksums.crc64nvme, 8)


ALGORITHMS: dict[str, Callable[[], Checksum]] = {
    "x-amz-checksum-crc32": lambda: _Crc(zlib.crc32, 4),
    "x-amz-checksum-crc32c": _crc32c,
    "x-amz-checksum-crc64nvme": _crc64nvme,
    "x-amz-checksum-md5": lambda: hashlib.md5(usedforsecurity=False),
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
    "x-amz-checksum-sha512": hashlib.sha512,
    "x-amz-checksum-xxhash64": lambda: _xxhash("new_xxhash64"),
    "x-amz-checksum-xxhash3": lambda: _xxhash("new_xxhash3_64"),
    "x-amz-checksum-xxhash128": lambda: _xxhash("new_xxhash3_128"),
}
"""By the name of the header or trailer."""


_SIZES = {
    "x-amz-checksum-crc32": 4, "x-amz-checksum-crc32c": 4, "x-amz-checksum-crc64nvme": 8, "x-amz-checksum-md5": 16,
    "x-amz-checksum-sha1": 20, "x-amz-checksum-sha256": 32, "x-amz-checksum-sha512": 64,
    "x-amz-checksum-xxhash64": 8, "x-amz-checksum-xxhash3": 8, "x-amz-checksum-xxhash128": 16,
}  # fmt: skip
"""Bytes of each."""


class Checksums:
    """Several over one body."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Raises `Refused(MALFORMED_BODY)` for one that is unknown: what can't be checked isn't let through."""
        unknown = [name for name in names if name not in ALGORITHMS]
        if unknown:
            raise Refused(Reason.MALFORMED_BODY, f"a checksum that is not known here: {unknown[0][:64]}")
        self._of = {name: ALGORITHMS[name]() for name in names}
        self._all = list(self._of.values())

    def update(self, data: bytes) -> None:
        for each in self._all:
            each.update(data)

    def check(self, values: Mapping[str, str]) -> None:
        """`values`: what the client says, by the same names. Raises `Refused` unless every one is right: `BODY_MISMATCH`, or
        `BAD_HEADER` for one that can't be."""
        for name, checksum in self._of.items():
            if not well_formed(name, values.get(name, "")):
                raise Refused(Reason.BAD_HEADER, f"{name} holds none")
            digest = binascii.b2a_base64(checksum.digest(), newline=False).decode()
            if not hmac.compare_digest(digest.encode(), values.get(name, "").encode()):
                raise Refused(Reason.BODY_MISMATCH, f"{name} is another")


def well_formed(name: str, value: str) -> bool:
    """Whether the value can be one of the algorithm, which is known here."""
    try:
        return len(binascii.a2b_base64(value.encode(), strict_mode=True)) == _SIZES[name]
    except (ValueError, UnicodeEncodeError):
        return False


def in_headers(values: Mapping[str, str]) -> dict[str, str]:
    """The checksums of the body that stand in a request's headers."""
    return {name: value for name, value in values.items() if name.startswith(PREFIX) and name not in OF_OBJECT}
