"""Whether what was found is ours: verified as in service, and an outage is never a verdict."""

from typing import Any

import pytest

from sidecar.cli.leak_judge import Judge, Judged, name_of
from sidecar.cli.leak_scan import Place
from sidecar.credentials.found import Candidate
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.reasons import Reason

ADA = Principal(PrincipalKind.JWT, "ada", issuer="ci", token_id="j-1", revocation_ids=("jwt:ci:j-1",))


class Says:
    generation = ""

    def __init__(self, answer: Principal | Exception | None) -> None:
        self.answer = answer

    async def verify(self, token: Secret, now: float) -> Principal | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Feed:
    def __init__(self, revoked: bool) -> None:
        self._revoked = revoked

    def revoked(self, principal: Principal) -> bool:
        return self._revoked


async def judged(answer: Principal | Exception | None, revoked: bool = False, kind: str = "jwt") -> Judged:
    judge = Judge(None, {"jwt": Says(answer)}, Feed(revoked))  # type: ignore[arg-type]
    return await judge.judge(Place("f", 1, Candidate(kind, Secret("x"), 0), b""))


REFUSED = {
    "forged": (CredentialRefused(Reason.BAD_TOKEN, "signature"), Judged(None)),
    "expired": (CredentialRefused(Reason.EXPIRED, "", ADA), Judged(ADA, Reason.EXPIRED)),
    "its keys can't be reached": (
        Unavailable(Reason.VERIFIER_UNAVAILABLE, "no keys yet"),
        Judged(None, problem="no keys yet"),
    ),
    "not of this kind": (None, Judged(None)),
}


@pytest.mark.parametrize(("answer", "expected"), REFUSED.values(), ids=REFUSED)
async def test_what_is_not_verified_is_not_ours(answer: Exception | None, expected: Judged) -> None:
    assert await judged(answer) == expected


async def test_what_is_verified_is_ours_whether_it_was_revoked_or_not() -> None:
    assert await judged(ADA) == Judged(ADA)
    assert await judged(ADA, revoked=True) == Judged(ADA, Reason.REVOKED)


async def test_without_issuers_no_jwt_is_ours() -> None:
    assert await judged(ADA, kind="biscuit") == Judged(None)


def test_the_audit_log_knows_a_biscuit_by_its_last_block() -> None:
    chain: dict[str, Any] = {"token_id": "root", "revocation_ids": ("opaque:root", "biscuit:aa", "biscuit:bb")}
    assert name_of(Principal(PrincipalKind.BISCUIT, "b", **chain)) == "bb"
    assert name_of(ADA) == "j-1"
