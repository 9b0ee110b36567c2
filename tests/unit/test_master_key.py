"""Access keys in the form of AWS's: an id that says whose it is, and secrets that only the master key can reckon."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4
from sidecar.credentials import master_key
from sidecar.credentials.master_key import AccessKey, AccessKeyId, MasterKey, MasterKeyUnusable
from sidecar.credentials.opaque import ALPHABET, ID_LENGTH
from sidecar.model import Secret

CONTENT = b"3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718"
OTHER = b"a1b2c3d4e5f607183f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765"
VERSION, ID, SECRET = 153, "SCKATEAAYCC26S26VM3F", "wH7znef1E6E96deiSpIkZtrAT5fegrswvbWFwdtE"
TOKEN_IDS = st.text(st.sampled_from(ALPHABET), min_size=ID_LENGTH, max_size=ID_LENGTH)


@given(TOKEN_IDS, st.integers(0, 2**13 - 1))
def test_an_id_says_its_token_and_its_master_key(token_id: str, version: int) -> None:
    text = str(AccessKeyId(version, token_id))
    assert re.fullmatch(r"SCK[A-Z2-7]{17}", text)
    assert master_key.parse(text) == AccessKeyId(version, token_id)


@given(st.text(st.sampled_from("ABCXYZ234567"), min_size=17, max_size=17))
def test_whatever_reads_as_an_id_is_written_so(rest: str) -> None:
    named = master_key.parse(f"SCK{rest}")
    assert named is None or str(named) == f"SCK{rest}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCK",
        "AKIAIOSFODNN7EXAMPLE",
        "SCKAAAAAAAAAAAAAAAAA\n",
        "SCKaaaaaaaaaaaaaaaaa",
        "SCKAAAAAAAAAAAAAAAA1",
        "SCKAAAAAAAAAAAAAAAAAA",
        "SCK77777777777777777",  # its token's id would be beyond the last
    ],
)
def test_what_is_no_id_of_ours_names_nothing(text: str) -> None:
    assert master_key.parse(text) is None


def test_the_same_key_and_id_make_the_same_pair_for_good() -> None:
    """Pinned: a version that reckons otherwise would end every access key that there is."""
    key = MasterKey(CONTENT)
    assert (key.version, key.id_for("0123456789Ab")) == (VERSION, ID)
    assert key.secret(ID).reveal() == SECRET


def test_a_secret_is_of_one_id_and_one_master_key() -> None:
    key, other = MasterKey(CONTENT), MasterKey(OTHER)
    first, second = key.id_for("0123456789Ab"), key.id_for("0123456789Ac")
    assert key.version != other.version
    assert len({key.secret(first).reveal(), key.secret(second).reveal(), other.secret(first).reveal()}) == 3
    assert re.fullmatch(r"[0-9A-Za-z]{40}", key.secret(first).reveal())


def test_a_day_key_is_what_the_secret_comes_to_on_that_day() -> None:
    key = MasterKey(CONTENT)
    assert key.day_key(ID, "20261122") == sigv4.day_key(key.secret(ID).reveal(), "20261122")
    assert key.day_key(ID, "20261122") != key.day_key(ID, "20261123")


def test_white_space_around_a_master_key_does_not_count() -> None:
    assert MasterKey(CONTENT + b"\n").secret(ID).reveal() == MasterKey(CONTENT).secret(ID).reveal()


@pytest.mark.parametrize("content", [b"", b"short", b" " * 64, b"a" * 64, b"changeme" * 8])
def test_what_is_short_or_a_placeholder_is_no_master_key(content: bytes) -> None:
    with pytest.raises(MasterKeyUnusable, match="openssl rand") as refused:
        MasterKey(content)
    assert content.strip() == b"" or content.strip().decode() not in str(refused.value)


RANDOM = b"0123456789abcdefghijklmnopqrstuv"


def test_32_bytes_of_ten_kinds_are_enough_and_no_less() -> None:
    MasterKey(RANDOM)
    MasterKey(RANDOM[:10] * 4)
    with pytest.raises(MasterKeyUnusable, match="has 31 bytes and needs at least 32"):
        MasterKey(RANDOM[:31] + b" \n")
    with pytest.raises(MasterKeyUnusable, match="placeholder"):
        MasterKey(RANDOM[:9] * 4)


def test_the_last_tokens_id_has_a_name_and_no_other_is_read_after_it() -> None:
    def name(token: int) -> str:
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        return "SCK" + "".join(digits[token >> (5 * at) & 31] for at in reversed(range(17)))

    last = len(ALPHABET) ** ID_LENGTH - 1
    assert master_key.parse(name(last)) == AccessKeyId(0, ALPHABET[-1] * ID_LENGTH)
    assert master_key.parse(name(last + 1)) is None


def test_neither_a_master_key_nor_a_pair_can_be_printed() -> None:
    key = MasterKey(CONTENT)
    assert repr(key) == f"<master key {key.version}>"
    assert SECRET not in repr(AccessKey(ID, Secret(SECRET)))
