"""Nobody gets more than the bucket holds and what flows in, nobody waits longer than they are told, and memory is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.bucket import Bucket, Buckets
from sidecar.model import Rate

RATES = st.builds(Rate, st.floats(0.01, 1000), st.floats(1, 1000))
STEPS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 50)), max_size=40)


@given(RATES, STEPS)
def test_never_more_than_the_burst_and_what_flowed_in(rate: Rate, steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = Bucket(rate, 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if amount <= rate.burst and bucket.take(amount, now) == 0:
            taken += amount
        assert taken <= (rate.burst + now * rate.per_second) * (1 + 1e-9)


@given(RATES, STEPS)
def test_whoever_waits_as_long_as_told_is_served(rate: Rate, steps: list[tuple[float, float]]) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    for pause, amount in steps:
        now += pause
        amount = min(amount, rate.burst)
        if wait := bucket.take(amount, now):
            assert bucket.take(amount, now + wait * 0.99 - 1e-6) > 0 or wait < 1e-5
            now += wait * (1 + 1e-9) + 1e-6
            assert bucket.take(amount, now) == 0


@given(RATES, st.floats(1, 10_000), st.floats(0, 100))
def test_a_debt_is_paid_back_before_anything_else(rate: Rate, debt: float, pause: float) -> None:
    bucket = Bucket(rate, 0.0)
    bucket.charge(rate.burst + debt, 0.0)
    assert bucket.level(0.0) == pytest.approx(-debt)
    assert bucket.wait(1, 0.0) == pytest.approx((debt + 1) / rate.per_second)
    assert bucket.level(pause) == pytest.approx(min(rate.burst, pause * rate.per_second - debt), abs=1e-6)


@given(RATES, st.lists(st.floats(-1000, 1000), min_size=1, max_size=20))
def test_a_clock_that_jumps_fills_no_bucket_above_its_brim_and_stops_none(rate: Rate, jumps: list[float]) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    bucket.charge(rate.burst, now)
    for jump in jumps:
        now += jump
        assert bucket.level(now) <= rate.burst
    assert bucket.wait(rate.burst, now) <= rate.burst / rate.per_second * (1 + 1e-9)


def test_only_the_time_since_the_last_look_flows_in() -> None:
    bucket = Bucket(Rate(2, 100), 1000)
    assert bucket.take(100, 1000) == 0
    assert bucket.level(1003) == 6
    assert bucket.level(1004) == 8


def test_a_fraction_is_waited_for_as_well() -> None:
    bucket = Bucket(Rate(1, 10), 0)
    assert bucket.take(10, 0) == 0
    assert bucket.take(0.5, 0) == 0.5


def test_what_is_refused_takes_nothing() -> None:
    bucket = Bucket(Rate(1, 10), 0)
    assert bucket.take(8, 0) == 0
    assert bucket.take(5, 0) == 3
    assert bucket.take(2, 0) == 0


def test_more_than_a_bucket_holds_is_had_from_a_full_one() -> None:
    bucket = Bucket(Rate(1, 10), 0)
    assert bucket.take(25, 0) == 0
    assert bucket.take(1, 0) == 16


def test_another_rate_lets_nobody_off() -> None:
    bucket = Bucket(Rate(1, 10), 0)
    bucket.charge(15, 0)
    bucket.resize(Rate(5, 100))
    assert bucket.take(1, 0) == pytest.approx(6 / 5)
    bucket.resize(Rate(1, 2))
    assert bucket.level(1000) == 2


def test_the_one_longest_away_is_forgotten() -> None:
    buckets = Buckets(2)

    def full():
        return Bucket(Rate(1, 10), 0)

    buckets.get("a", full).charge(10, 0)
    buckets.get("b", full)
    buckets.get("a", full)
    buckets.get("c", full)
    assert len(buckets) == 2
    assert buckets.find("b") is None
    assert (found := buckets.find("a")) is not None
    assert found.level(0) == 0
