"""What a credential is that somebody hands in to be revoked."""

import base64
import time

import pytest
from biscuit_auth import Biscuit, BiscuitBuilder, BlockBuilder, KeyPair

from sidecar.credentials.master_key import AccessKeyId
from sidecar.credentials.opaque import TokenFormat
from sidecar.credentials.pasted import Pasted, recognise
from sidecar.errors import CredentialRefused
from sidecar.model import PrincipalKind, Secret
from sidecar.settings import IssuerSettings
from tests import jose

SPELLING = TokenFormat("asc")
ISSUERS = {"ci": IssuerSettings("ci", "https://ci.example", "cache", subject_claim="who")}
NOW = int(time.time())


def asked(text: str) -> Pasted | None:
    return recognise(Secret(text), SPELLING, ISSUERS)


def jwt(**claims: object) -> str:
    body = {"iss": "https://ci.example", "who": "job", "iat": NOW, "exp": NOW + 60, **claims}
    return jose.sign({"alg": "ES256"}, body, jose.private_key("ES256"), "ES256")


def test_an_id_and_a_whole_token_name_the_same() -> None:
    token_id, token = SPELLING.mint(PrincipalKind.CI)
    assert asked(token_id) == Pasted(None, token_id)
    assert asked(token.reveal()) == Pasted(PrincipalKind.CI, token_id)


def test_an_id_alone_says_nothing_else() -> None:
    found = asked(SPELLING.mint(PrincipalKind.CI)[0])
    assert found is not None
    assert (found.name, found.issuer, found.subject, found.root_id) == ("", "", "", "")
    assert (found.issued_at, found.expires_at) == (None, None)


def test_an_access_key_goes_with_its_token() -> None:
    token_id, _ = SPELLING.mint(PrincipalKind.CI)
    assert asked(str(AccessKeyId(3, token_id))) == Pasted(None, token_id)


def test_a_token_of_ours_with_a_typo_is_refused() -> None:
    _, token = SPELLING.mint(PrincipalKind.CI)
    with pytest.raises(CredentialRefused):
        asked(token.reveal()[:-1] + ("0" if token.reveal()[-1] != "0" else "1"))


def test_a_jwt_goes_by_its_jti_and_without_one_by_its_identity() -> None:
    found = asked(jwt(jti="j-1"))
    assert found == Pasted(PrincipalKind.JWT, "j-1", "jwt:ci:j-1", "ci", "job", NOW, NOW + 60)
    found = asked(jwt())
    assert found == Pasted(PrincipalKind.JWT, "", "", "ci", "job", NOW, NOW + 60)


def test_a_jwt_of_a_stranger_is_refused() -> None:
    with pytest.raises(CredentialRefused, match="issuer"):
        asked(jwt(iss="https://elsewhere.example"))


def test_a_biscuit_goes_by_its_last_block() -> None:
    root = BiscuitBuilder('token_id("t")').build(KeyPair().private_key)
    narrowed = root.append(BlockBuilder('check if operation("read")'))
    for biscuit in (root, narrowed):
        last = biscuit.revocation_ids[-1]
        for text in (biscuit.to_base64(), biscuit.to_base64().rstrip("=")):
            root_id = "t" if biscuit is root else ""
            assert asked(text) == Pasted(PrincipalKind.BISCUIT, last, f"biscuit:{last}", root_id=root_id)
        assert asked(last) == Pasted(PrincipalKind.BISCUIT, last, f"biscuit:{last}")
    assert isinstance(root, Biscuit)


def test_a_biscuit_that_could_be_read_in_two_ways_is_none_of_ours() -> None:
    content = BiscuitBuilder('token_id("t")').build(KeyPair().private_key).to_bytes()
    assert asked(base64.urlsafe_b64encode(bytes(content)).decode()) is not None
    unknown_field = b"\x7a\x00"
    assert asked(base64.urlsafe_b64encode(bytes(content) + unknown_field).decode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "password",
        "a.b.c",
        "..",
        "eyJ.eyJ.x",
        "ghp_0123456789",
        "E" * 300,
        "E" * 9000,
        "4fTq9XbLm2Z",
        "z" * 128,
        base64.urlsafe_b64encode(b"\x12\x20" + b"no block" * 8).decode(),
    ],
)
def test_everything_else_is_not_ours(text: str) -> None:
    assert asked(text) is None
