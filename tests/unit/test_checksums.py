"""Checksums of S3 bodies, against their published check values."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import checksums
from sidecar.errors import Refused
from sidecar.reasons import Reason

OF_NOTHING = {  # of no bytes, by the specification of xxHash
    "x-amz-checksum-xxhash64": "ef46db3751d8e999",
    "x-amz-checksum-xxhash3": "2d06800538d394c2",
    "x-amz-checksum-xxhash128": "99aa06d3014798d86001c324468d497f",
}
CHECK = {  # of "123456789", by the CRC catalogue and RFC 1321, 3174 and 6234
    "x-amz-checksum-crc32": "cbf43926",
    "x-amz-checksum-crc32c": "e3069283",
    "x-amz-checksum-crc64nvme": "ae8b14860a799888",
    "x-amz-checksum-md5": "25f9e794323b453885f5181f1b624d0b",
    "x-amz-checksum-sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "x-amz-checksum-sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "x-amz-checksum-sha512": (
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d4"
        "99c95455b6b5bb503acf574fba8ffe85"
    ),
}


def test_every_algorithm_has_its_check_value() -> None:
    assert CHECK.keys() | OF_NOTHING.keys() == checksums.ALGORITHMS.keys()


@pytest.mark.parametrize("name", sorted(OF_NOTHING))
def test_check_value_of_nothing(name: str) -> None:
    checksums.Checksums((name,)).check({name: base64.b64encode(bytes.fromhex(OF_NOTHING[name])).decode()})
    one = checksums.Checksums((name,))
    for piece in (b"1234", b"", b"56789"):
        one.update(piece)
    with pytest.raises(Refused) as refused:
        one.check({name: base64.b64encode(bytes.fromhex(OF_NOTHING[name])).decode()})
    assert refused.value.reason is Reason.BODY_MISMATCH


@pytest.mark.parametrize("name", sorted(CHECK))
def test_check_value(name: str) -> None:
    right = base64.b64encode(bytes.fromhex(CHECK[name])).decode()
    for pieces in ([b"123456789"], [b"1234", b"", b"56789"]):
        one = checksums.Checksums((name,))
        for piece in pieces:
            one.update(piece)
        one.check({name: right})
        another = base64.b64encode(bytes(len(CHECK[name]) // 2)).decode()
        for wrong, reason in (
            (another, Reason.BODY_MISMATCH),
            ("", Reason.BAD_HEADER),
            (right[:-1], Reason.BAD_HEADER),
            (base64.b64encode(b"x").decode(), Reason.BAD_HEADER),
        ):
            with pytest.raises(Refused) as refused:
                one.check({name: wrong})
            assert refused.value.reason is reason


def test_one_wrong_among_several_is_enough() -> None:
    names = ("x-amz-checksum-crc32", "x-amz-checksum-sha1")
    one = checksums.Checksums(names)
    one.update(b"123456789")
    right = {name: base64.b64encode(bytes.fromhex(CHECK[name])).decode() for name in names}
    one.check(right)
    for name in names:
        with pytest.raises(Refused):
            one.check(right | {name: "AAAA"})


@given(st.text())
def test_an_unknown_one_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        checksums.Checksums((checksums.PREFIX + name,))
    assert refused.value.reason is Reason.MALFORMED_BODY


def test_which_headers_are_checksums_of_the_body() -> None:
    values = {
        "x-amz-checksum-crc32": "a",
        "x-amz-checksum-type": "FULL_OBJECT",
        "x-amz-checksum-mode": "ENABLED",
        "x-amz-checksum-algorithm": "CRC32",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "content-type": "text/plain",
    }
    assert checksums.in_headers(values) == {"x-amz-checksum-crc32": "a"}
