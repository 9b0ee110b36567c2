"""Whoever reached a limit is refused before the store is asked; nobody else is, and nothing is forgotten or counted twice."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.decision import Decision
from sidecar.model import ANONYMOUS, Principal, PrincipalKind, Quota, Quotas, Rate
from sidecar.policy.compiled import Workspace
from sidecar.reasons import Reason
from sidecar.server import allowances
from sidecar.server.allowances import Allowances, Permit

NOW = 1_000_000.0
ADA = Principal(PrincipalKind.PERSONAL, "ada", token_id="ada-laptop")
CI = Principal(PrincipalKind.CI, "ci", token_id="ci-1", workspace="web")
TEN = Rate(1.0, 10)


def workspace(name: str = "web", quotas: Quotas | None = None) -> Workspace:
    return Workspace(name, f"{name}.yaml", "0" * 64, quotas=quotas)


def decided(principal: Principal | None = ADA, where: Workspace | None = None, **more: Any) -> Decision:
    return Decision(more.pop("reason", Reason.GRANTED), workspace=where or workspace(), principal=principal, **more)


def admitted(kept: Allowances, decision: Decision, now: float = NOW, peer: str = "192.0.2.7") -> Permit | None:
    _, permit = kept.admit(decision, peer, now)
    return permit


def count(kept: Allowances, decision: Decision, now: float = NOW, peer: str = "192.0.2.7") -> int:
    """How many requests are let in, each ended at once."""
    number = 0
    while (permit := admitted(kept, decision, now, peer)) is not None:
        permit.end(0, now)
        number += 1
    return number


def test_requests_of_a_token() -> None:
    refused: list[tuple[str, str]] = []
    kept = Allowances(Quotas(token=Quota(requests=TEN)), lambda scope, limit: refused.append((scope, limit)))
    assert count(kept, decided()) == 10
    refusal, permit = kept.admit(decided(rule="r"), "192.0.2.7", NOW)
    assert permit is None
    assert (refusal.reason, refusal.detail, refusal.rule) == (Reason.RATE_LIMITED, "requests of the token", None)
    assert refusal.retry_after == 1
    assert refused == [("token", "requests")] * 2
    assert count(kept, decided(CI)) == 10
    assert count(kept, decided(), NOW + 3) == 3
    assert count(kept, decided(where=workspace("docs")), NOW + 3) == 0  # the same token elsewhere


def test_what_is_asked_of_no_workspace_counts_for_who_asks() -> None:
    """Listing buckets looks at every workspace's policy: nobody does it without end."""
    kept = Allowances(Quotas(token=Quota(requests=TEN), workspace=Quota(requests=Rate(1.0, 3))))
    nowhere = Decision(Reason.ANSWERED_HERE, principal=ADA)
    assert count(kept, nowhere) == 10
    assert kept.admit(nowhere, "192.0.2.7", NOW)[0].reason is Reason.RATE_LIMITED
    assert count(kept, decided()) == 0
    assert count(kept, decided(CI)) == 3
    unknown = Decision(Reason.NO_ROUTE)
    assert kept.admit(unknown, "192.0.2.7", NOW) == (unknown, None)


def test_what_is_alike_in_name_alone_is_not_one_token() -> None:
    kept = Allowances(Quotas(token=Quota(requests=TEN)))
    pairs = [
        [Principal(PrincipalKind.LEGACY, "shared password", workspace=name) for name in ("web", "docs")],
        [Principal(PrincipalKind.BISCUIT, "build", token_id=name) for name in ("b-1", "b-2")],
    ]
    for one, other in pairs:
        assert count(kept, decided(one)) == 10
        assert count(kept, decided(other)) == 10


def test_bytes_are_paid_back_before_the_next_request() -> None:
    kept = Allowances(Quotas(token=Quota(bytes=TEN)))
    permit = admitted(kept, decided())
    assert permit is not None
    permit.end(35, NOW)  # nothing that runs is cut off
    refusal, _ = kept.admit(decided(), "", NOW)
    assert (refusal.detail, refusal.retry_after) == ("bytes of the token", 26)
    assert admitted(kept, decided(), NOW + 25) is None
    assert admitted(kept, decided(), NOW + 26) is not None


def test_streams_are_given_back() -> None:
    kept = Allowances(Quotas(token=Quota(streams=2)))
    first, second = admitted(kept, decided()), admitted(kept, decided())
    assert first is not None
    assert second is not None
    refusal, permit = kept.admit(decided(), "", NOW)
    assert permit is None
    assert (refusal.detail, refusal.retry_after) == ("streams of the token", 1)
    first.end(0, NOW)
    assert admitted(kept, decided()) is not None
    assert admitted(kept, decided()) is None


def test_a_workspace_s_limit_is_all_its_callers_together() -> None:
    kept = Allowances(Quotas(workspace=Quota(requests=TEN)))
    assert count(kept, decided()) == 10
    assert count(kept, decided(CI)) == 0
    assert count(kept, decided(ANONYMOUS)) == 0
    assert count(kept, decided(where=workspace("docs"))) == 10


def test_the_policy_and_the_configuration_hold_both() -> None:
    kept = Allowances(Quotas(token=Quota(requests=TEN)))
    assert count(kept, decided(where=workspace(quotas=Quotas(token=Quota(requests=Rate(1, 3)))))) == 3
    assert count(kept, decided(CI, workspace(quotas=Quotas(token=Quota(requests=Rate(1, 30)))))) == 10


def test_what_was_refused_by_one_limit_took_nothing_from_another() -> None:
    kept = Allowances(Quotas(token=Quota(requests=TEN), workspace=Quota(streams=1)))
    held = admitted(kept, decided(CI))
    assert held is not None
    assert count(kept, decided()) == 0
    held.end(0, NOW)
    assert count(kept, decided()) == 10


def test_jwts_are_one_by_issuer_and_subject_and_strangers_by_their_network() -> None:
    kept = Allowances(Quotas(token=Quota(requests=TEN)))
    jobs = [Principal(PrincipalKind.JWT, "repo:a", issuer="forge", token_id=f"jti-{number}") for number in range(3)]
    assert [count(kept, decided(job)) for job in jobs] == [10, 0, 0]
    assert count(kept, decided(Principal(PrincipalKind.JWT, "repo:a", issuer="corp"))) == 10
    assert count(kept, decided(ANONYMOUS), peer="2001:db8::1") == 10
    assert count(kept, decided(ANONYMOUS), peer="2001:db8::2") == 0
    assert count(kept, decided(ANONYMOUS), peer="192.0.2.8") == 10


def test_a_refusal_of_nobody_known_is_left_as_it_is() -> None:
    kept = Allowances(Quotas(token=Quota(requests=Rate(1, 1)), workspace=Quota(requests=Rate(1, 1))))
    assert admitted(kept, decided()) is not None
    for decision in (
        decided(None, reason=Reason.BAD_TOKEN),
        decided(ANONYMOUS, reason=Reason.NO_TOKEN),
        Decision(Reason.NO_ROUTE),
    ):
        assert kept.admit(decision, "", NOW) == (decision, None)
    refusal, _ = kept.admit(decided(reason=Reason.NO_RULE), "", NOW)
    assert refusal.reason is Reason.RATE_LIMITED  # who is known and asks in vain asks too


def test_another_limit_after_an_edit_lets_nobody_off() -> None:
    kept = Allowances(Quotas())
    assert count(kept, decided(where=workspace(quotas=Quotas(token=Quota(requests=TEN))))) == 10
    assert count(kept, decided(where=workspace(quotas=Quotas(token=Quota(requests=Rate(1, 20)))))) == 0
    assert admitted(kept, decided(where=workspace(quotas=Quotas(token=Quota(streams=1))))) is not None


def test_memory_is_bounded_and_who_has_something_under_way_is_remembered(monkeypatch: Any) -> None:
    monkeypatch.setattr(allowances, "ACCOUNTS", 5)
    kept = Allowances(Quotas(token=Quota(streams=1)))
    assert admitted(kept, decided()) is not None
    for number in range(50):
        assert count_once(kept, Principal(PrincipalKind.CI, "ci", token_id=str(number)))
    assert len(kept) == 5
    assert admitted(kept, decided()) is None


def count_once(kept: Allowances, principal: Principal) -> bool:
    permit = admitted(kept, decided(principal))
    if permit is not None:
        permit.end(0, NOW)
    return permit is not None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3), st.integers(0, 40)), max_size=60))
def test_streams_never_go_above_the_limit_nor_below_zero(steps: list[tuple[bool, float, int]]) -> None:
    kept, running, now = Allowances(Quotas(token=Quota(streams=3, bytes=TEN))), [], NOW
    for begins, pause, size in steps:
        now += pause
        if begins:
            permit = admitted(kept, decided(), now)
            running += [permit] if permit is not None else []
        elif running:
            running.pop().end(size, now)
        assert len(running) <= 3
    for permit in running:
        permit.end(0, now)
    assert admitted(kept, decided(), now + 100_000) is not None


def test_a_token_and_its_access_key_have_one_account() -> None:
    kept = Allowances(Quotas(token=Quota(requests=TEN)))
    by_key = Principal(PrincipalKind.ACCESS_KEY, "ci", token_id="ci-1", workspace="web", token_kind=PrincipalKind.CI)
    another = Principal(PrincipalKind.ACCESS_KEY, "ci", token_id="ci-2", workspace="web", token_kind=PrincipalKind.CI)
    assert admitted(kept, decided(CI)) is not None
    assert count(kept, decided(by_key)) == 9
    assert count(kept, decided(CI)) == 0
    assert count(kept, decided(another)) == 10
