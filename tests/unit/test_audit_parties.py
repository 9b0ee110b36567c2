"""Who asked, in a record: whose word an identity rests on, nobody described as another, and no credential but as its HMAC."""

import hashlib
import hmac
import json

import pytest

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.model import Principal, PrincipalKind, Secret
from tests.unit.test_audit_record import ADA, DONE, KEY, NOW, RECORDS, TOKEN, access, made


@pytest.mark.parametrize(
    ("principal", "owner"),
    [
        (ADA, "ada@example.com"),
        (Principal(kind=PrincipalKind.CI, subject="ci-bot", workspace="web"), "web"),
        (Principal(kind=PrincipalKind.JWT, subject="repo:x/y", issuer="github"), "github"),
    ],
)
def test_the_owner_says_whose_word_the_identity_rests_on(principal: Principal, owner: str) -> None:
    assert made(access(principal=principal))["actor"]["owner"] == owner


def test_another_principal_is_never_described_by_a_remembered_one() -> None:
    for number in range(3000):
        principal = Principal(kind=PrincipalKind.PERSONAL, subject=f"person-{number}")
        for carrier in ("bearer", "basic"):
            actor = made(access(principal=principal, carrier=carrier))["actor"]
            assert (actor["principal"], actor["auth_method"]) == (f"person-{number}", carrier)


def test_an_unknown_credential_leaves_its_hmac_alone() -> None:
    line = RECORDS.access(access(unknown_token=Secret(TOKEN), carrier="bearer"), NOW, DONE)
    assert TOKEN.encode() not in line
    assert b"s" * 10 not in line
    expected = hmac.new(KEY, TOKEN.encode(), hashlib.sha256).hexdigest()
    actor = json.loads(line)["actor"]
    assert (actor["type"], actor["unknown_token_hmac"]) == ("unknown", expected)
    assert expected != hashlib.sha256(TOKEN.encode()).hexdigest()


def test_a_known_caller_has_no_hmac() -> None:
    assert made(access(principal=ADA, unknown_token=Secret(TOKEN)))["actor"]["unknown_token_hmac"] is None


def test_a_short_install_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Records(Instance(), b"")
