"""A store's state in the log: each change once, and nothing that fills it."""

import pytest

from sidecar.errors import NoBucket, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.server.stores import QUIET, StoreState

DOWN = Unavailable(Reason.UPSTREAM_UNREACHABLE, "connection refused")
SILENT = Unavailable(Reason.UPSTREAM_TIMEOUT, "silent for too long")
LOCKED = Refused(Reason.UPSTREAM_CREDENTIALS, "the store answered 401")
NOWHERE = NoBucket("acme")
REDIRECT = Refused(Reason.UPSTREAM_REDIRECT)

SAID_DOWN = "the upstream s does not answer: upstream_unreachable: connection refused"
SAID_LOCKED = "the upstream s refused the sidecar's own credentials: upstream_credentials: the store answered 401"
SAID_NOWHERE = f"the upstream s does not have the bucket that it is asked for: {NOWHERE}"
SAID_AGAIN = "the upstream s answers again"

Told = tuple[float, Refused | None]


def told(caplog: pytest.LogCaptureFixture, *answers: Told) -> list[str]:
    state = StoreState("s")
    for at, refusal in answers:
        if refusal is None:
            state.answered()
        else:
            state.failed(refusal, at)
    assert {line.levelname for line in caplog.records} <= {"WARNING"}
    return [line.getMessage() for line in caplog.records]


@pytest.mark.parametrize(
    ("answers", "lines"),
    [
        ([(0, None), (1, None)], []),
        ([(0, DOWN), (1, DOWN), (99, DOWN)], [SAID_DOWN]),
        ([(0, DOWN), (99, SILENT)], [SAID_DOWN]),
        ([(0, None), (1, DOWN), (2, None), (3, None)], [SAID_DOWN, SAID_AGAIN]),
        ([(0, LOCKED), (1, LOCKED), (2, None)], [SAID_LOCKED, SAID_AGAIN]),
        ([(0, DOWN), (QUIET, LOCKED)], [SAID_DOWN, SAID_LOCKED]),
        ([(0, NOWHERE), (1, NOWHERE), (2, None)], [SAID_NOWHERE, SAID_AGAIN]),
        ([(0, REDIRECT)], []),
    ],
)
def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture, answers: list[Told], lines: list[str]) -> None:
    assert told(caplog, *answers) == lines


def test_a_store_that_fails_now_and_then_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answers = [(tenths / 10, DOWN if tenths % 2 else None) for tenths in range(300)]
    assert told(caplog, *answers) == [SAID_DOWN, SAID_AGAIN] * 3


def test_a_change_that_was_not_told_at_once_is_told_later(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, (0, DOWN), (1, None), (2, DOWN), (QUIET, DOWN)) == [SAID_DOWN, SAID_AGAIN, SAID_DOWN]


def test_the_problem_is_the_last_one() -> None:
    state = StoreState("s")
    assert (state.up, state.problem) == (None, None)
    state.failed(DOWN, 0)
    assert (state.up, state.problem) == (False, "upstream_unreachable: connection refused")
    state.failed(SILENT, 1)
    assert (state.up, state.problem) == (False, "upstream_timeout: silent for too long")
    state.failed(LOCKED, 2)
    assert (state.up, state.problem) == (True, "upstream_credentials: the store answered 401")
    state.answered()
    assert (state.up, state.problem) == (True, None)
