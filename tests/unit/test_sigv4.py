"""Signature Version 4: AWS's published vectors, agreement with botocore, and what signing costs beside it."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4
from sidecar.model import Secret

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared" / "corpora" / "aws-sigv4" / "v4"
NAMES = sorted(folder.name for folder in VECTORS.iterdir()) if VECTORS.is_dir() else []

KEY_ID, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
NOW = 1_795_321_745.0

KEYS = st.text(st.sampled_from("abAB09-._~/+%=&?@:;,!$'()*<>\"\\^`{|}# é€😀"), min_size=1, max_size=20)
VALUES = st.text(st.sampled_from("abc019 -._~+/=&%é€"), max_size=8)


def test_there_are_38_vectors() -> None:
    if not NAMES:
        pytest.skip("the corpus aws-sigv4 is not there")
    assert len(NAMES) == 38


class Vector:
    """One folder of the corpus: a request as AWS's test suite writes it down, and what each step of signing it gives."""

    def __init__(self, name: str) -> None:
        self.folder = VECTORS / name
        self.context = json.loads(self.text("context.json"))
        head, _, self.body = self.text("request.txt").replace("\r\n", "\n").partition("\n\n")
        line, *rest = head.rstrip("\n").split("\n")
        self.method, _, target = line.rpartition(" ")[0].partition(" ")
        self.path, _, self.query = target.partition("?")
        self.headers: list[tuple[str, str]] = []
        for each in rest:
            if each[:1].isspace():  # a folded line, as HTTP/1.1 once had
                name, value = self.headers.pop()
                self.headers.append((name, f"{value} {each.strip()}"))
            else:
                name, _, value = each.partition(":")
                self.headers.append((name.lower(), value))
        self.date = self.context["timestamp"].replace("-", "").replace(":", "")
        self.scope = sigv4.Scope(self.date[:8], self.context["region"], self.context["service"])
        self.payload = hashlib.sha256(self.body.encode()).hexdigest()
        secret = self.context["credentials"]["secret_access_key"]
        self.key = sigv4.signing_key(sigv4.day_key(secret, self.scope.day), self.scope.region, self.scope.service)
        self.token = self.context["credentials"].get("token")

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def canonical(self, query: str, headers: list[tuple[str, str]]) -> str:
        path = service_path(self.path, normalise=self.context["normalize"])
        names, lines = sigv4.canonical_headers(headers)
        return sigv4.canonical_request(self.method, path, sigv4.canonical_query(query), names, lines, self.payload)

    def check(self, way: str, canonical: str) -> None:
        assert canonical == self.text(f"{way}-canonical-request.txt")
        text = sigv4.string_to_sign(canonical, self.date, self.scope)
        assert text == self.text(f"{way}-string-to-sign.txt")
        assert sigv4.signature(self.key, text) == self.text(f"{way}-signature.txt").strip()


def service_path(path: str, *, normalise: bool) -> str:
    """The canonical path for every service but S3, which the vectors are about: dots and doubled slashes resolved, then encoded."""
    if normalise:
        kept: list[str] = []
        for segment in path.split("/"):
            if segment == "..":
                del kept[-1:]
            elif segment not in ("", "."):
                kept.append(segment)
        ends = path.endswith(("/", "/.", "/..")) and kept
        path = "/" + "/".join(kept) + ("/" if ends else "")
    return quote(path, safe="/-._~")


@pytest.mark.parametrize("name", NAMES)
def test_published_vector_signed_by_header(name: str) -> None:
    vector = Vector(name)
    headers = [*vector.headers, ("x-amz-date", vector.date)]
    if vector.context["sign_body"]:
        headers.append(("x-amz-content-sha256", vector.payload))
    if vector.token and not vector.context.get("omit_session_token"):
        headers.append(("x-amz-security-token", vector.token))
    vector.check("header", vector.canonical(vector.query, headers))


@pytest.mark.parametrize("name", NAMES)
def test_published_vector_signed_by_query(name: str) -> None:
    vector = Vector(name)
    headers = list(vector.headers)
    names, _ = sigv4.canonical_headers(headers)
    credential = f"{vector.context['credentials']['access_key_id']}/{vector.scope}"
    parts = [vector.query] if vector.query else []
    parts += [
        f"X-Amz-Algorithm={sigv4.ALGORITHM}",
        f"X-Amz-Credential={sigv4.encode(credential)}",
        f"X-Amz-Date={vector.date}",
        f"X-Amz-SignedHeaders={sigv4.encode(names)}",
        f"X-Amz-Expires={vector.context['expiration_in_seconds']}",
    ]
    if vector.token and not vector.context.get("omit_session_token"):
        parts.append(f"X-Amz-Security-Token={sigv4.encode(vector.token)}")
    vector.check("query", vector.canonical("&".join(parts), headers))


UNSIGNED = SimpleNamespace(s3={"payload_signing_enabled": False})


def botocore_request(method: str, url: str, **headers: str) -> AWSRequest:
    request = AWSRequest(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    request.context["client_config"] = UNSIGNED
    return request


@pytest.fixture(autouse=True)
def the_same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(NOW, UTC))


def signer(token: str | None = None) -> sigv4.Signer:
    return sigv4.Signer(KEY_ID, Secret(SECRET), REGION, session_token=None if token is None else Secret(token))


@given(KEYS, st.dictionaries(VALUES.filter(bool), VALUES, max_size=4), st.sampled_from([None, "tok/en+x=="]))
def test_any_key_and_query_is_signed_as_botocore_signs_it(
    key: str, parameters: dict[str, str], token: str | None
) -> None:
    path = sigv4.encode_path(f"/bucket/{key}")
    assert path == percent_encode(f"/bucket/{key}", safe="/~")
    query = "&".join(f"{sigv4.encode(name)}={sigv4.encode(value)}" for name, value in parameters.items())
    theirs = botocore_request("PUT", f"https://s3.test{path}" + (f"?{query}" if query else ""), x_amz_meta_a=" b   c ")
    S3SigV4Auth(Credentials(KEY_ID, SECRET, token), "s3", REGION).add_auth(theirs)
    ours = signer(token).sign("PUT", path, query, [(b"X-Amz-Meta-A", b" b   c ")], NOW, host="s3.test")
    expected = {name.lower(): value for name, value in theirs.headers.items()}
    assert {name.decode(): value.decode() for name, value in ours} == {
        name: value for name, value in expected.items() if name != "x-amz-meta-a"
    }


@given(KEYS, st.dictionaries(VALUES.filter(bool), VALUES, max_size=3), st.sampled_from([None, "tok/en+x=="]))
def test_any_key_is_presigned_as_botocore_presigns_it(key: str, parameters: dict[str, str], token: str | None) -> None:
    path = sigv4.encode_path(f"/bucket/{key}")
    query = "&".join(f"{sigv4.encode(name)}={sigv4.encode(value)}" for name, value in parameters.items())
    theirs = botocore_request("GET", f"https://s3.test{path}" + (f"?{query}" if query else ""))
    S3SigV4QueryAuth(Credentials(KEY_ID, SECRET, token), "s3", REGION, expires=60).add_auth(theirs)
    ours = signer(token).presign("GET", path, query, NOW, host="s3.test", expires=60)
    assert sorted(ours.split("&")) == sorted(theirs.url.partition("?")[2].split("&"))


@given(KEYS)
def test_a_key_comes_back_from_its_canonical_spelling(key: str) -> None:
    path = sigv4.encode_path(key)
    assert unquote(path) == key
    assert path.isascii()
    assert path.count("/") == key.count("/")  # neither `//` nor dots are resolved


@given(KEYS, st.sampled_from(["", "!$'()*,:;=@+"]))
def test_what_a_client_left_plain_is_encoded_as_aws_does_and_nothing_twice(key: str, plain: str) -> None:
    assert sigv4.s3_path(quote(key, safe="/-._~" + plain)) == sigv4.encode_path(key)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("acl", "acl="),
        ("uploads&x=1", "uploads=&x=1"),
        ("b=2&a=1", "a=1&b=2"),
        ("a-b=1&a=2", "a=2&a-b=1"),  # as whole texts, `-` would stand before `=`
        ("a=2&a=10&a=1", "a=1&a=10&a=2"),
        ("prefix=a/b c", "prefix=a%2Fb%20c"),
        ("prefix=a+b", "prefix=a%20b"),
        ("prefix=a%2Bb", "prefix=a%2Bb"),
        ("prefix=%2f", "prefix=%2f"),  # one spelling, one signature
        ("x=a=b", "x=a%3Db"),
    ],
)
def test_canonical_query(raw: str, canonical: str) -> None:
    assert sigv4.canonical_query(raw) == canonical


def test_a_day_s_key_signs_for_that_day_alone() -> None:
    one = signer()
    today = one.sign("GET", "/b/k", "", [], NOW, host="h")
    tomorrow = one.sign("GET", "/b/k", "", [], NOW + 86_400, host="h")
    assert today != tomorrow
    assert tomorrow == signer().sign("GET", "/b/k", "", [], NOW + 86_400, host="h")  # the kept key is not the old one
    assert today == one.sign("GET", "/b/k", "", [], NOW, host="h")


@pytest.mark.parametrize("expires", [1, sigv4.LONGEST_EXPIRY])
def test_a_url_may_live_for_a_second_or_a_week(expires: int) -> None:
    one = sigv4.Signer("AKID", Secret("s"), "r")
    assert f"X-Amz-Expires={expires}&" in one.presign("GET", "/b/k", "", 0.0, host="h", expires=expires)


@pytest.mark.parametrize("expires", [0, -1, sigv4.LONGEST_EXPIRY + 1])
def test_a_url_can_t_be_signed_for_ever(expires: int) -> None:
    with pytest.raises(ValueError, match="604800"):
        signer().presign("GET", "/b/k", "", NOW, host="h", expires=expires)


def test_a_signer_shows_no_secret() -> None:
    assert SECRET not in repr(signer())


def test_signing_costs_at_most_a_tenth_of_botocore() -> None:
    """Both in one run, so that the machine's speed cancels out; the best of many rounds, so that its other work does."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.signing_cost"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours, theirs = map(float, ran.stdout.split())
    assert ours <= theirs / 10, f"{ours:.1f} µs against {theirs:.1f} µs"
