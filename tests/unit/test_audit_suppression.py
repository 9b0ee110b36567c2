"""A peer's refusals in a window are recorded once and then counted; peers beyond the bound share one count."""

import json
from typing import Any

import pytest

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.suppression import Suppression


class Clockwork:
    """A loop of which only `call_later` is needed, turned by hand."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Any]] = []

    def call_later(self, delay: float, callback: Any) -> Any:
        self.timers.append((delay, callback))
        return _Handle()

    def end_window(self) -> float:
        delay, callback = self.timers.pop(0)
        callback()
        return delay


class _Handle:
    def cancel(self) -> None: ...


@pytest.fixture
def clockwork() -> Clockwork:
    return Clockwork()


@pytest.fixture
def written() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def suppression(clockwork: Clockwork, written: list[dict[str, Any]]) -> Suppression:
    records = Records(Instance(), b"k" * 32)
    made = Suppression(records, lambda line: written.append(json.loads(line)["changes"]), peers=3, clock=lambda: 1000.0)
    made.open(clockwork)  # type: ignore[arg-type]
    return made


def test_the_first_of_each_peer_is_recorded_and_the_rest_counted(
    suppression: Suppression, clockwork: Clockwork, written: list[dict[str, Any]]
) -> None:
    assert [suppression.first(peer) for peer in ("a", "a", "b", "a", "a")] == [True, False, True, False, False]
    assert written == []
    assert clockwork.end_window() == 10.0
    assert written == [{"peer": "a", "count": 3, "window_s": 10.0}]
    assert suppression.total == 3


def test_the_next_window_begins_anew(suppression: Suppression, clockwork: Clockwork) -> None:
    suppression.first("a")
    suppression.first("a")
    clockwork.end_window()
    assert clockwork.timers == []
    assert suppression.first("a") is True
    assert len(clockwork.timers) == 1


def test_a_flood_from_many_peers_writes_a_bounded_number_of_records(
    suppression: Suppression, clockwork: Clockwork, written: list[dict[str, Any]]
) -> None:
    recorded = sum(suppression.first(f"10.0.{n % 250}.{n // 250}") for n in range(10_000))
    clockwork.end_window()
    assert recorded == 3
    assert written == [{"peer": "others", "count": 9_997, "window_s": 10.0}]


def test_closing_tells_what_was_counted_so_far(suppression: Suppression, written: list[dict[str, Any]]) -> None:
    suppression.first("a")
    suppression.first("a")
    suppression.close()
    assert [entry["count"] for entry in written] == [1]


def test_addresses_of_one_ipv6_network_are_one_peer(suppression: Suppression) -> None:
    assert suppression.first("2001:db8::1") is True
    assert suppression.first("2001:db8::ffff") is False
    assert suppression.first("2001:db8:0:1::1") is True
