"""Who sends bad credentials is measured by network; memory and the lane are bounded."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials.failures import LANE, NETWORKS, Failures
from sidecar.model import Rate

NOW = 1_000_000.0
TEN = Rate(1.0, 10)


def test_so_many_at_once_and_then_as_they_flow_in() -> None:
    failures = Failures(TEN)
    assert [failures.failed("192.0.2.7", NOW) for _ in range(11)] == [0] * 10 + [1]
    assert failures.failed("192.0.2.7", NOW + 1) == 0
    assert failures.failed("192.0.2.7", NOW + 1) == 1


def test_a_flood_is_over_when_it_is_over() -> None:
    """What was refused beyond the measure is no debt: who mends their client is not kept waiting for what it did."""
    failures = Failures(TEN)
    for _ in range(100_000):
        failures.failed("192.0.2.7", NOW)
    assert failures.failed("192.0.2.7", NOW + 1) == 0


def test_one_network_is_not_another() -> None:
    failures = Failures(TEN)
    for _ in range(11):
        failures.failed("192.0.2.7", NOW)
        failures.failed("2001:db8::1", NOW)
    assert failures.failed("192.0.2.8", NOW) == 0
    assert failures.failed("2001:db8:0:1::1", NOW) == 0
    assert failures.failed("2001:db8::ffff", NOW) == 1  # of the same /64
    assert len(failures) == 4


def test_only_a_network_over_its_measure_waits_in_the_lane() -> None:
    failures = Failures(TEN)
    assert failures.lane("192.0.2.7", NOW) is None
    for _ in range(10):
        assert failures.lane("192.0.2.7", NOW) is None
        failures.failed("192.0.2.7", NOW)
    lane = failures.lane("192.0.2.7", NOW)
    assert lane is not None
    assert lane._value == LANE
    assert failures.lane("192.0.2.8", NOW) is None
    assert failures.lane("192.0.2.7", NOW + 1) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5)), max_size=60))
def test_nobody_is_told_to_wait_for_longer_than_one_flows_in(steps: list[tuple[int, float]]) -> None:
    failures, now = Failures(Rate(0.5, 2)), NOW
    for who, pause in steps:
        now += pause
        assert 0 <= failures.failed(f"192.0.2.{who}", now) <= 2


def test_memory_is_bounded() -> None:
    assert (NETWORKS, LANE) == (16_384, 4), "as docs/security.md says"
    failures = Failures(TEN)
    for number in range(NETWORKS + 100):
        failures.failed(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1", NOW)
    assert len(failures) == NETWORKS
