"""A stored revocation under its seal."""

import pytest
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, Peppers
from sidecar.credentials.revocation_row import RevocationRow, intact, sealed

ONE, OTHER = Pepper(b"5f0c3b7e91d24a86b0e7c1f2a3948d6c"), Pepper(b"a9e8d7c6b5f40312233445566778899a")
ROW = sealed(RevocationRow("jwt:ci:j-1", None, 1_800_000_000, "root", 1_800_000_600, "", ""), ONE)


def test_a_sealed_row_is_intact_and_names_its_pepper() -> None:
    assert intact(ROW, Peppers(OTHER, ONE))
    assert ROW.pepper_id == ONE.id


def test_what_was_sealed_once_is_believed_for_good() -> None:
    """Pinned: a version that reckons otherwise would take every stored revocation for one that is not intact."""
    assert ROW.mac == "eaff7bc48dc3c05835bcdeed2120849c7ce31b2a1c7c037a5c36c55fc4447288"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "jwt:ci:j-2"},
        {"before": 1},
        {"at": 0},
        {"actor": "somebody"},
        {"expires_at": 1_800_000_601},
        {"expires_at": "1800000600"},
        {"pepper_id": OTHER.id},
        {"mac": ""},
        {"mac": None},
    ],
)
def test_any_other_row_is_not(change: dict[str, object]) -> None:
    assert not intact(replace(ROW, **change), Peppers(ONE, OTHER))


def test_a_row_under_a_pepper_that_is_gone_is_not() -> None:
    assert not intact(ROW, Peppers(OTHER))
