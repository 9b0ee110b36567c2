"""What derives from a token: its replacements and what was narrowed from it, never what it came from."""

import pytest

from sidecar.audit import lineage
from sidecar.audit.lineage import Lineage
from sidecar.audit.lines import Actor, Changes


@pytest.mark.parametrize(
    ("actor", "theirs"),
    [
        (Actor(token_id="t1"), True),
        (Actor(token_id="t2", parent="t1"), True),
        (Actor(token_id="x", root_id="t1"), True),
        (Actor(token_id="root", blocks=["b0", "t1", "b2"]), True),
        (Actor(token_id="t0"), False),
        (Actor(token_id="t2", root_id="t0", parent="t0"), False),
        (Actor(token_id="root", blocks=["b0", "b2"]), False),
        (Actor(), False),
    ],
)
def test_who_acts_in_its_name(actor: Actor, theirs: bool) -> None:
    assert Lineage("t1").acted(actor) is theirs
    assert not Lineage("").acted(actor)


def test_replacements_are_learnt_from_what_they_do_and_from_how_they_came_to_be() -> None:
    known = Lineage("t1")
    assert known.acted(Actor(token_id="t2", parent="t1"))
    assert known.born(Changes(token_id="t3", parent="t2"))
    assert not known.born(Changes(token_id="x", parent="y"))
    assert not known.born(None)
    assert known.acted(Actor(token_id="t3"))
    assert known.ids == {"t1", "t2", "t3"}
    assert "t3" in known
    assert None not in known


@pytest.mark.parametrize(
    ("wanted", "narrowed"),
    [
        ("root", {"b0": False, "b1": True, "b2": True}),
        ("b0", {"b0": False, "b1": True, "b2": True}),
        ("b1", {"b0": None, "b1": False, "b2": True}),
        ("b2", {"b0": None, "b1": None, "b2": False}),
        ("x", {"b0": None, "b1": None, "b2": None}),
    ],
)
def test_blocks_below_it_are_learnt_from_what_they_do(wanted: str, narrowed: dict[str, bool | None]) -> None:
    known = Lineage(wanted)
    known.acted(Actor(token_id="root", root_id="root", blocks=["b0", "b1", "b2"]))
    assert {each: known.narrowed(f"biscuit:{each}") for each in narrowed} == narrowed
    assert known.may_name(b'{"token_id":"biscuit:b2"}') is (narrowed["b2"] is not None)


def test_a_line_that_names_none_of_them_need_not_be_read() -> None:
    known = Lineage('t"1')
    assert known.may_name(b'{"token_id":"t\\"1"}')
    assert not known.may_name(b'{"token_id":"t2"}')
    known.born(Changes(token_id="t2", parent='t"1'))
    assert known.may_name(b'{"token_id":"t2"}')
    for number in range(100):
        known.born(Changes(token_id=f"r{number}", parent="t2"))
    assert known.may_name(b"anything: there are too many to look for")


def test_a_file_can_not_make_it_follow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST", 5)
    known = Lineage("t1")
    for number in range(20):
        known.born(Changes(token_id=f"r{number}", parent="t1"))
    assert len(known.ids) == 5
