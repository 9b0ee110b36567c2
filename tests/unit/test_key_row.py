"""A root key's row under its seal."""

import pytest
from msgspec.structs import replace

from sidecar.credentials.biscuit.key_row import RootKeyRow, intact, sealed
from sidecar.credentials.pepper import Pepper, Peppers

ONE, OTHER = Pepper(b"5f0c3b7e91d24a86b0e7c1f2a3948d6c"), Pepper(b"a9e8d7c6b5f40312233445566778899a")
PUBLIC = "ed25519/" + "0123456789abcdef" * 4
ROW = sealed(RootKeyRow(7, PUBLIC, 1_800_000_000, "root", None, None, "", ""), ONE)


def test_a_sealed_row_is_intact_and_names_its_pepper() -> None:
    assert intact(ROW, Peppers(OTHER, ONE))
    assert ROW.pepper_id == ONE.id


def test_what_was_sealed_once_is_believed_for_good() -> None:
    """Pinned: a version that reckons otherwise would refuse every Biscuit under every key that is stored."""
    assert ROW.mac == "4f7888f571faa04379ac6a0d3f671fe7bba88d53b0e9ec751da72e47b10d35bb"


@pytest.mark.parametrize(
    "change",
    [
        {"id": 8},
        {"public_key": PUBLIC.replace("a", "b")},
        {"created_at": 0},
        {"created_by": "somebody"},
        {"retired_at": 1_800_000_001},
        {"retired_by": "somebody"},
        {"pepper_id": OTHER.id},
        {"mac": ""},
        {"mac": None},
    ],
)
def test_any_other_row_is_not(change: dict[str, object]) -> None:
    assert not intact(replace(ROW, **change), Peppers(ONE, OTHER))


def test_a_retired_key_is_not_brought_back_by_moving_its_words() -> None:
    retired = sealed(replace(ROW, retired_at=1_800_000_001, retired_by="root"), ONE)
    assert intact(retired, Peppers(ONE))
    for change in ({"retired_at": None}, {"retired_at": None, "retired_by": None}):
        assert not intact(replace(retired, **change), Peppers(ONE))


def test_a_row_under_a_pepper_that_is_gone_is_not() -> None:
    assert not intact(ROW, Peppers(OTHER))
