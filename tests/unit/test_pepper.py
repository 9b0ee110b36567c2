"""The key behind what is issued: what can serve as one, and that what was stored under it is found again by later versions."""

import hashlib
import hmac

import pytest

from sidecar.credentials.pepper import Pepper, PepperUnusable, nobody, same

KEY = b"0123456789abcdef" * 2


def keyed(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def test_digests_and_macs_stay_what_they_were_when_rows_were_written() -> None:
    """Written out a second time: another spelling of any of it would disown every token in every database."""
    pepper = Pepper(KEY)
    assert pepper.id == keyed(KEY, b"sidecar/pepper/id/v1").hex()[:8]
    assert pepper.digest("a_token") == keyed(keyed(KEY, b"sidecar/opaque/digest/v1"), b"a_token").hex()
    row = b"NoneType:0:;str:3:a\xc3\xa9;int:2:12;bytes:1:\xff;str:0:;"
    assert pepper.mac([None, "aé", 12, b"\xff", ""]) == keyed(keyed(KEY, b"sidecar/opaque/row/v1"), row).hex()


def test_whatever_a_database_hands_back_has_a_mac_and_no_two_lists_have_the_same() -> None:
    lists: list[list[object]] = [
        [], [None], [""], [0], ["0"], [b"0"], [0.0], [None, None], ["a", "b"], ["ab"], ["a;", "b"], ["a", ";b"], ["\ud800"],
    ]  # fmt: skip
    assert len({Pepper(KEY).mac(values) for values in lists}) == len(lists)


def test_white_space_at_the_ends_of_the_file_does_not_count() -> None:
    assert Pepper(b" \n" + KEY + b"\r\n").id == Pepper(KEY).id
    with pytest.raises(PepperUnusable):
        Pepper(KEY[:31] + b"\n")


@pytest.mark.parametrize("content", [b"", KEY[:31], b"a" * 64, b"012345678" * 8, b"changeme" * 8])
def test_what_is_short_or_typed_by_a_person_is_refused(content: bytes) -> None:
    with pytest.raises(PepperUnusable):
        Pepper(content)


@pytest.mark.parametrize("content", [KEY, b"0123456789" * 4, bytes(range(128, 160))])
def test_what_may_serve(content: bytes) -> None:
    assert Pepper(content).digest("a") != Pepper(KEY + b"x").digest("a")


def test_where_there_is_no_row_a_comparison_costs_the_same_and_never_holds() -> None:
    digest = Pepper(KEY).digest("a")
    assert len(nobody()) == len(digest)
    assert not same(nobody(), digest)
    assert same(digest, digest)
    for stored in (None, 1, digest.encode(), "", digest.upper(), "\ud800" * 64):
        assert not same(stored, digest)
