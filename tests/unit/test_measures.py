"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.measures import DURATION, SIZE, Measure


@pytest.mark.parametrize(
    ("measure", "text", "amount"),
    [
        (DURATION, "500ms", 0.5),
        (DURATION, "0s", 0),
        (DURATION, "30s", 30),
        (DURATION, "5m", 300),
        (DURATION, "12h", 43200),
        (DURATION, "90d", 7776000),
        (SIZE, "512B", 512),
        (SIZE, "64KiB", 65536),
        (SIZE, "10MiB", 10485760),
        (SIZE, "5GiB", 5368709120),
        (SIZE, "1TiB", 1099511627776),
        (SIZE, "999999999B", 999999999),
    ],
)
def test_what_is_written_is_what_is_meant(measure: Measure, text: str, amount: float) -> None:
    assert measure.read(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 m", "-5m", "+5m", "1.5h", "5M", "5w", "5mib", "5MB", "5mm", "1e3s", "\u0665m", "5m\n", "1000000000s", "5B"],
)  # fmt: skip
def test_what_is_no_duration(text: str) -> None:
    assert DURATION.read(text) is None


@pytest.mark.parametrize("text", ["", "5", "B", "5KB", "5kib", "5K", "5 B", "-1B", "0x5B", "5m", "1000000000B"])
def test_what_is_no_size(text: str) -> None:
    assert SIZE.read(text) is None


@pytest.mark.parametrize(
    ("measure", "amount", "text"),
    [
        (DURATION, 0, "0ms"),
        (DURATION, 0.001, "1ms"),
        (DURATION, 0.1, "100ms"),
        (DURATION, 90, "90s"),
        (DURATION, 3600, "1h"),
        (DURATION, 36500 * 86400, "36500d"),
        (SIZE, 0, "0B"),
        (SIZE, 1536, "1536B"),
        (SIZE, 1024, "1KiB"),
        (SIZE, 2**50, "1024TiB"),
    ],
)
def test_an_amount_is_told_in_the_largest_unit_that_divides_it(measure: Measure, amount: float, text: str) -> None:
    assert measure.written(amount) == text


@given(st.integers(0, 999_999_999), st.sampled_from([(each, unit) for each in (DURATION, SIZE) for unit in each.units]))
def test_what_is_told_reads_back(number: int, of: tuple[Measure, str]) -> None:
    measure, unit = of
    amount = measure.read(f"{number}{unit}")
    assert amount is not None
    told = measure.read(measure.written(amount))
    assert told is None or told == pytest.approx(amount)  # `None`: more than nine digits of the smaller unit
