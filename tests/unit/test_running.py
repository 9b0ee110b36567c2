"""Requests under way, where they end with their tokens."""

from typing import Any, cast

import pytest

from sidecar.errors import CredentialRefused
from sidecar.model import Principal, PrincipalKind
from sidecar.reasons import Reason
from sidecar.server.running import Running

ADA, ZOE = (Principal(PrincipalKind.PERSONAL, name) for name in ("ada", "zoe"))


class FakeExchange:
    def __init__(self) -> None:
        self.cut = False

    def cut_off(self) -> None:
        self.cut = True


def rig() -> tuple[Running, set[str]]:
    running, gone = Running(), set[str]()
    running.revoked = lambda principal: principal.subject in gone
    return running, gone


def exchange() -> Any:
    return cast(Any, FakeExchange())


def test_what_is_revoked_while_it_runs_is_cut_off_and_nothing_else() -> None:
    running, gone = rig()
    ada, zoe, nobody = exchange(), exchange(), exchange()
    with running.entered(ada, ADA), running.entered(zoe, ZOE), running.entered(nobody, None):
        running.look()
        assert not ada.cut
        gone.add("ada")
        running.look()
        assert (ada.cut, zoe.cut, nobody.cut) == (True, False, False)


def test_who_has_left_is_not_cut_off() -> None:
    running, gone = rig()
    ada = exchange()
    with running.entered(ada, ADA):
        pass
    gone.add("ada")
    running.look()
    assert not ada.cut
    assert len(running) == 0


def test_who_failed_has_left() -> None:
    running, _ = rig()
    with pytest.raises(OSError), running.entered(exchange(), ADA):
        raise OSError
    assert len(running) == 0


def test_who_was_revoked_since_the_decision_does_not_enter() -> None:
    running, gone = rig()
    gone.add("ada")
    with pytest.raises(CredentialRefused) as refused, running.entered(exchange(), ADA):
        raise AssertionError("it ran")
    assert refused.value.reason is Reason.REVOKED
    assert len(running) == 0
