"""Credentials in whatever text people leave them in."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials.found import candidates
from sidecar.credentials.master_key import AccessKeyId
from sidecar.credentials.opaque import TokenFormat
from sidecar.model import PrincipalKind
from tests import jose
from tests.unit.test_patterns import BISCUITS

TOKEN_ID, SECRET = TokenFormat("asc").mint(PrincipalKind.CI)
TOKEN = SECRET.reveal()
PERSONAL = TokenFormat("asc").mint(PrincipalKind.PERSONAL)[1].reveal()
JWT = jose.sign({"alg": "ES256"}, {"iss": "https://ci.example", "sub": "a" * 40}, jose.private_key("ES256"), "ES256")
KINDS = {"token": TOKEN, "jwt": JWT, "biscuit": BISCUITS[0].rstrip("="), "access_key": str(AccessKeyId(1, TOKEN_ID))}
ENCODED = {"ci": TOKEN, "personal": PERSONAL, "jwt": JWT, "biscuit": KINDS["biscuit"]}


def basic(secret: str, user: str = "") -> str:
    return base64.b64encode(f"{user}:{secret}".encode()).decode()


PLACES = {
    "alone": "{}",
    ".npmrc": "registry=https://store.example/web/\n//store.example/web/:_authToken={}\n",
    "nx.json": '{{"tasksRunnerOptions": {{"default": {{"options": {{"accessToken": "{}"}}}}}}}}',
    ".bazelrc": "build --remote_cache=https://store.example\nbuild --remote_header='Authorization=Bearer {}'\n",
    "gradle.properties": "org.gradle.caching=true\ncacheToken={}\n",
    ".netrc": "machine store.example login x password {}\n",
    "pip.conf": "[global]\nindex-url = https://x:{}@store.example/simple\n",
    "a log with colours": "\x1b[32m+ curl -H 'Authorization: Bearer {}'\x1b[0m\r\n",
    "utf-8 around": "пароль: {} \u2013 ende",
    "binary around": "\x00\x00{}\x00\x00",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_where_people_leave_it(kind: str, place: str) -> None:
    text = place.format(KINDS[kind])
    found = [each for each in candidates(text.encode()) if each.kind == kind]
    assert [each.secret.reveal() for each in found] == [KINDS[kind]]
    assert text.encode()[found[0].at :].startswith(KINDS[kind].encode())


WRAPPED = {
    "Basic": "Authorization: Basic {}",
    ".npmrc _auth": "//store.example/web/:_auth={}\n",
    "a query": "GET /x?h=Basic%20{} HTTP/1.1",
    "a Kubernetes Secret": "data:\n  token: {}\n",
}


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("user", ["", "x", "xy", "somebody@example.com"])
@pytest.mark.parametrize("place", WRAPPED.values(), ids=WRAPPED)
def test_in_base64(kind: str, user: str, place: str) -> None:
    text = place.format(basic(ENCODED[kind], user))
    assert ENCODED[kind] in [each.secret.reveal() for each in candidates(text.encode())]


@pytest.mark.parametrize("kind", ENCODED)
def test_in_base64_of_either_alphabet(kind: str) -> None:
    content = f"~~~???:{ENCODED[kind]}".encode()
    for blob in (base64.b64encode(content), base64.urlsafe_b64encode(content)):
        assert (b"+" in blob and b"/" in blob) or (b"-" in blob and b"_" in blob)
        assert ENCODED[kind] in [each.secret.reveal() for each in candidates(blob)]


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("user", ["", "x", "xy", "u" * 90])
@pytest.mark.parametrize("before", ["", "one line\n" * 50])
def test_where_in_the_base64_it_stands(kind: str, user: str, before: str) -> None:
    text = f"{before}{basic(ENCODED[kind], user)}"
    found = [each.at for each in candidates(text.encode()) if each.secret.reveal() == ENCODED[kind]]
    there = len(before) + (len(user) + 1) * 4 / 3
    assert found
    assert all(len(before) <= at and abs(at - there) <= 4 for at in found), (found, there)


@pytest.mark.parametrize("kind", ["token", "biscuit"])
def test_percent_encoded(kind: str) -> None:
    text = "https://x/?t=" + "".join(f"%{ord(character):02X}" for character in KINDS[kind]) + "&y=%20"
    assert KINDS[kind] in [each.secret.reveal() for each in candidates(text.encode())]
    assert BISCUITS[0] in [each.secret.reveal() for each in candidates(quote(BISCUITS[0]).encode())]


def test_where_the_percent_encoded_stands() -> None:
    before = "one line\n" * 50
    text = f"{before}https://x/?t={TOKEN.replace('_', '%5F')}"
    [found] = [each for each in candidates(text.encode()) if each.secret.reveal() == TOKEN]
    assert found.at == text.index("asc")


@given(st.binary(max_size=300))
def test_any_bytes_may_be_searched(text: bytes) -> None:
    for each in candidates(text):
        assert 0 <= each.at < len(text)


@pytest.mark.parametrize(
    "piece",
    [b"eyJ", b"eyJaaaaaaaa", b"_pat_", b"CAAS", b"-CAAS", b"asc_ci_", b"%2", b"%25", b"a%20", b"A" * 88 + b" ", b"/"],
)
def test_a_hostile_text_takes_time_in_proportion(piece: bytes) -> None:
    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        best = 9e9
        for _ in range(5):
            began = time.thread_time()
            for _found in candidates(text):
                pass
            best = min(best, time.thread_time() - began)
        return best

    small, large = seconds(30_000), seconds(240_000)
    assert large < 40 * max(small, 0.001), json.dumps([small, large])
