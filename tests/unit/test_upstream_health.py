"""One address of a store: what raises a doubt, what settles it, and for how long it is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings import HealthSettings
from sidecar.upstream.health import FAILING, Health, Standing

SETTINGS = HealthSettings(failures=3, ejection=1.0, max_ejection=8.0)


def health() -> Health:
    return Health(SETTINGS)


def left_out(now: float = 0.0) -> Health:
    made = health()
    made.asked(Standing.SILENT, "silence", now)
    return made


@given(st.lists(st.sampled_from(["answered", "doubted"]), max_size=200))
def test_no_request_of_a_client_has_an_address_left_out(requests: list[str]) -> None:
    """Whatever clients make the store do, it is our own question that decides; they can only have it asked."""
    made = health()
    for now, what in enumerate(requests):
        if what == "answered":
            made.answered()
        else:
            made.doubted("no answer", float(now))
    assert made.standing is Standing.WELL
    in_a_row = len(requests) - max((n + 1 for n, what in enumerate(requests) if what == "answered"), default=0)
    assert (made.due is not None) == (in_a_row >= SETTINGS.failures)


def test_a_doubt_is_cleared_by_an_answer() -> None:
    made = health()
    for _ in range(SETTINGS.failures):
        made.doubted("no answer", 5.0)
    assert made.due == 5.0
    made.answered()
    assert made.due is None


def test_a_doubt_is_settled_by_our_question() -> None:
    made = health()
    for _ in range(SETTINGS.failures):
        made.doubted("no answer", 5.0)
    assert not made.asked(Standing.WELL, "", 6.0)
    assert (made.standing, made.due, made.failures) == (Standing.WELL, None, 0)
    assert made.asked(Standing.SILENT, "HEAD / is not answered", 7.0)
    assert (made.standing, made.why) == (Standing.SILENT, "HEAD / is not answered")


def test_connections_that_can_t_be_made_need_no_question() -> None:
    made = health()
    assert [made.unreachable("refused", 0.0) for _ in range(SETTINGS.failures + 1)] == [False, False, True, False]
    assert made.standing is Standing.SILENT


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    made = health()
    for _ in range(5):
        assert not made.unreachable("refused", 0.0)
        assert not made.unreachable("refused", 0.0)
        made.answered()
    assert made.standing is Standing.WELL


def test_each_time_out_is_twice_as_long_up_to_the_longest() -> None:
    made, now, waits = left_out(), 0.0, []
    for _ in range(6):
        assert made.due is not None
        waits.append(made.due - now)
        now = made.due
        assert not made.asked(Standing.SILENT, "still", now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(("well_for", "next_wait"), [(0.5, 2.0), (8.0, 2.0), (8.5, 1.0)])
def test_one_that_comes_and_goes_is_not_forgiven_at_once(well_for: float, next_wait: float) -> None:
    made = left_out(now=0.0)
    assert made.asked(Standing.WELL, "", 1.0)
    assert made.asked(Standing.SILENT, "again", 1.0 + well_for)
    assert made.due == 1.0 + well_for + next_wait


def test_it_may_be_silent_for_ever() -> None:
    made = left_out()
    for now in range(3000):
        made.asked(Standing.SILENT, "still", float(now))
    assert made.due == 2999.0 + SETTINGS.max_ejection


def test_one_that_answers_an_old_request_comes_back_by_our_question_alone() -> None:
    made = left_out()
    made.answered()
    assert (made.standing, made.due) == (Standing.SILENT, 1.0)


def test_one_that_may_be_needed_is_asked_at_once() -> None:
    made = left_out()
    made.hurry(0.25)
    assert made.due == 0.25
    well = health()
    well.hurry(0.25)
    assert well.due is None


def test_answers_that_speak_of_a_request_are_no_failures_of_the_store() -> None:
    assert {400, 403, 404, 405, 416, 429, 501, 507}.isdisjoint(FAILING)
