"""What a client signed: accepted as unmodified clients sign, and refused wherever one byte of it is another."""

import string
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4, sigv4_verify, target
from sidecar.errors import Refused
from sidecar.model import Head, Headers, Secret
from sidecar.reasons import Reason

KEY_ID, SECRET, REGION, HOST = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1", "s3.test:9000"
NOW = 1_795_321_745.0
KEYS = st.text(st.sampled_from("abAB09-_~/+%=&?@:;,!$'()*<>\"\\^`{|}# é€"), min_size=1, max_size=12)


def signer(secret: str = SECRET) -> sigv4.Signer:
    return sigv4.Signer(KEY_ID, Secret(secret), REGION)


def head(method: str, raw: str, headers: dict[str, str]) -> Head:
    return Head(method, target.parse(raw), Headers({name.lower(): value for name, value in headers.items()}, ()))


def signed(
    method: str = "GET",
    path: str = "/b/k",
    query: str = "",
    headers: dict[str, str] | None = None,
    *,
    now: float = NOW,
    payload: str = sigv4.UNSIGNED_PAYLOAD,
) -> dict[str, str]:
    """All headers of a request signed as a client would."""
    sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    added = signer().sign(method, path, query, sent, now, host=HOST, payload=payload)
    return {"host": HOST, **(headers or {}), **{name.decode(): value.decode() for name, value in added}}


def parameters(raw: str) -> dict[str, str]:
    query = raw.partition("?")[2]
    return {
        unquote(name): unquote(value) for name, _, value in (part.partition("=") for part in query.split("&")) if name
    }


def accepted(method: str, raw: str, headers: dict[str, str], *, now: float = NOW) -> bool:
    """The whole judgement, with one access key known. A path that no target allows is a refusal like any other."""
    try:
        presented = sigv4_verify.read(head(method, raw, headers), parameters(raw), now)
    except Refused:
        return False
    if presented is None or presented.access_key_id != KEY_ID:
        return False
    scope = presented.scope
    return sigv4_verify.matches(
        presented, sigv4.signing_key(sigv4.day_key(SECRET, scope.day), scope.region, scope.service)
    )


def refusal(
    raw: str = "/b/k", headers: dict[str, str] | None = None, *, now: float = NOW, region: str | None = None
) -> Reason:
    with pytest.raises(Refused) as refused:
        sigv4_verify.read(head("GET", raw, headers or {}), parameters(raw), now, region=region)
    return refused.value.reason


@given(KEYS, st.dictionaries(KEYS, KEYS, max_size=3))
def test_what_was_signed_is_accepted_and_only_with_its_key(key: str, query: dict[str, str]) -> None:
    path = sigv4.encode_path(f"/b/{key}")
    asked = "&".join(f"{sigv4.encode(name)}={sigv4.encode(value)}" for name, value in query.items())
    headers = signed(path=path, query=asked)
    raw = f"{path}?{asked}"
    presented = sigv4_verify.read(head("GET", raw, headers), parameters(raw), NOW)
    assert presented is not None
    assert accepted("GET", raw, headers)
    other = sigv4.signing_key(sigv4.day_key("another secret", presented.scope.day), REGION)
    assert not sigv4_verify.matches(presented, other)


CAPTURED = [
    # AWS CLI 1.45.11 and rclone 1.60.1 as they are, signing with AKIDEXAMPLE and "secret"
    (
        "PUT",
        "/bkt/dir/small",
        "host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date;x-amz-sdk-checksum-algorithm",
        "965d5f5bd18328f1a07abf8ee1f5ec7f7e4ac83c5000902d6834d96fbd584049",
        {
            "x-amz-sdk-checksum-algorithm": "CRC32",
            "x-amz-checksum-crc32": "7W96eg==",
            "x-amz-date": "20261122T042846Z",
            "x-amz-content-sha256": "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4",
        },
    ),
    (
        "GET",
        "/bkt?list-type=2&prefix=dir%2F&delimiter=%2F&encoding-type=url",
        "host;x-amz-content-sha256;x-amz-date",
        "a7daa666067dbace60f6e0f3c1625528d53be161611851fbcab353d44fd74155",
        {"x-amz-date": "20261122T042849Z", "x-amz-content-sha256": sigv4.EMPTY_SHA256},
    ),
    (
        "PUT",
        "/bkt/rc/small",
        "content-length;content-md5;content-type;host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-meta-mtime",
        "348f7eec14ff6da214f4ca48574125d8576b1970dc9d97ae43487b98d40fb13d",
        {
            "content-length": "3",
            "content-md5": "dk76iD3aHhHbR2ccSju9ng==",
            "content-type": "application/octet-stream",
            "x-amz-acl": "private",
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-date": "20261122T042945Z",
            "x-amz-meta-mtime": "1795321725.67129413",
        },
    ),
    (
        "PUT",
        "/ws/acme/bkt/k",
        "host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date;x-amz-sdk-checksum-algorithm",
        "466b662b2968411eba853ecd718ce7d5620879736225c96f5dfe42b12be54a29",
        {
            "x-amz-sdk-checksum-algorithm": "CRC32",
            "x-amz-checksum-crc32": "7W96eg==",
            "x-amz-date": "20261122T042901Z",
            "x-amz-content-sha256": "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4",
        },
    ),
]


@pytest.mark.parametrize(("method", "raw", "names", "signature", "headers"), CAPTURED)
def test_what_real_clients_signed(method: str, raw: str, names: str, signature: str, headers: dict[str, str]) -> None:
    day = headers["x-amz-date"][:8]
    authorization = (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{day}/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    sent = {"host": "127.0.0.1:18086", **headers, "authorization": authorization, "amz-sdk-request": "attempt=1"}
    presented = sigv4_verify.read(head(method, raw, sent), parameters(raw), 1_795_321_725.0)
    assert presented is not None
    assert sigv4_verify.matches(presented, sigv4.signing_key(sigv4.day_key("secret", day), "us-east-1"))
    assert (presented.payload, presented.in_url) == (headers["x-amz-content-sha256"], False)


EXTRA = {"x-amz-meta-a": "one  two", "x-amz-acl": "private"}
PRINTABLE = [chr(code) for code in range(0x20, 0x7F)] + ["\t", "\x00", "\x7f", "é"]


def mutations(text: str) -> list[str]:
    return [
        f"{text[:at]}{other}{text[at + 1 :]}" for at in range(len(text)) for other in PRINTABLE if other != text[at]
    ]


def test_every_mutated_byte_of_a_signed_header_request_is_refused() -> None:
    path, query = "/b/a%2Fb/k%20~", "prefix=a%2Fb&versionId=x-1"
    headers = signed("PUT", path, query, EXTRA)
    raw = f"{path}?{query}"
    assert accepted("PUT", raw, headers)
    assert not [method for method in mutations("PUT") if accepted(method, raw, headers)]
    assert not [other for other in mutations(raw) if accepted("PUT", other, headers)]
    for name, value in headers.items():
        assert not [other for other in mutations(value) if accepted("PUT", raw, headers | {name: other})], name
        without = {each: text for each, text in headers.items() if each != name}
        assert not accepted("PUT", raw, without)
        assert not [
            other
            for other in mutations(name)
            if other.lower() != name and accepted("PUT", raw, without | {other: value})
        ]


def test_every_mutated_byte_of_a_signed_url_is_refused() -> None:
    path = "/b/a%2Fb/k%20~"
    raw = f"{path}?{signer().presign('GET', path, 'versionId=x-1', NOW, host=HOST, expires=600)}"
    assert accepted("GET", raw, {"host": HOST})
    assert not [other for other in mutations(raw) if accepted("GET", other, {"host": HOST})]
    assert not [other for other in mutations(HOST) if accepted("GET", raw, {"host": other})]
    assert not accepted("PUT", raw, {"host": HOST})


@pytest.mark.parametrize("added", ["x-amz-acl", "x-amz-copy-source", "x-amz-meta-b", "x-amz-whatever"])
def test_an_x_amz_header_that_nobody_signed_is_refused(added: str) -> None:
    assert refusal(headers=signed() | {added: "x"}) is Reason.UNSIGNED_HEADER
    raw = f"/b/k?{signer().presign('GET', '/b/k', '', NOW, host=HOST, expires=600)}"
    assert refusal(raw, {"host": HOST, added: "x"}) is Reason.UNSIGNED_HEADER


def test_other_headers_may_be_added_on_the_way() -> None:
    assert accepted("GET", "/b/k", signed() | {"user-agent": "x", "range": "bytes=0-1", "expect": "100-continue"})


def test_host_must_be_signed() -> None:
    headers = signed()
    headers["authorization"] = headers["authorization"].replace("host;", "")
    assert refusal(headers=headers) is Reason.UNSIGNED_HEADER


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-900, None), (900, None), (-901, Reason.CLOCK_SKEW), (901, Reason.CLOCK_SKEW), (86_400, Reason.CLOCK_SKEW)],
)
def test_clocks_may_differ_by_15_minutes(seconds: int, reason: Reason | None) -> None:
    headers = signed(now=NOW + seconds)
    if reason is None:
        assert accepted("GET", "/b/k", headers)
    else:
        assert refusal(headers=headers) is reason


@pytest.mark.parametrize(("later", "good"), [(-901, False), (-900, True), (0, True), (60, True), (61, False)])
def test_a_signed_url_lives_as_long_as_it_says(later: int, good: bool) -> None:
    raw = f"/b/k?{signer().presign('GET', '/b/k', '', NOW, host=HOST, expires=60)}"
    if good:
        assert accepted("GET", raw, {"host": HOST}, now=NOW + later)
    else:
        assert refusal(raw, {"host": HOST}, now=NOW + later) is Reason.URL_EXPIRED


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "1e3", "", "60.0", "٦٠"])
def test_a_signed_url_lives_a_week_at_most(expires: str) -> None:
    raw = f"/b/k?{signer().presign('GET', '/b/k', '', NOW, host=HOST, expires=60)}"
    raw = raw.replace("X-Amz-Expires=60", f"X-Amz-Expires={sigv4.encode(expires)}")
    assert refusal(raw, {"host": HOST}) is Reason.MALFORMED_SIGNATURE


def test_a_week_is_not_too_long() -> None:
    raw = f"/b/k?{signer().presign('GET', '/b/k', '', NOW, host=HOST, expires=604_800)}"
    assert accepted("GET", raw, {"host": HOST})
    assert accepted("GET", raw, {"host": HOST}, now=NOW + 604_800)


def test_a_signed_url_may_say_what_stands_for_the_body() -> None:
    """AWS's JavaScript SDK says it in the query; botocore doesn't say it."""
    query = signer().presign("PUT", "/b/k", "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", NOW, host=HOST, expires=60)
    assert accepted("PUT", f"/b/k?{query}", {"host": HOST})
    presented = sigv4_verify.read(head("PUT", f"/b/k?{query}", {"host": HOST}), parameters(f"/b/k?{query}"), NOW)
    assert presented is not None
    assert (presented.payload, presented.in_url, presented.expires_at) == ("UNSIGNED-PAYLOAD", True, NOW + 60)
    other = query.replace("UNSIGNED-PAYLOAD", sigv4.EMPTY_SHA256)
    assert not accepted("PUT", f"/b/k?{other}", {"host": HOST})


def test_a_signed_url_and_a_header_must_say_the_same_of_the_body() -> None:
    query = signer().presign("PUT", "/b/k", "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", NOW, host=HOST, expires=60)
    headers = {"host": HOST, "x-amz-content-sha256": sigv4.EMPTY_SHA256}
    assert refusal(f"/b/k?{query}", headers) is Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
        "X-Amz-Content-Sha256",
    ],
)  # fmt: skip
def test_a_part_of_a_signed_url_is_not_no_signature(name: str) -> None:
    """Otherwise it would pass for an anonymous request, with a parameter that the store reads."""
    assert refusal(f"/b/k?{name}=x", {"host": HOST}) is Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize("name", ["AWSAccessKeyId", "Signature"])
def test_a_part_of_version_2_is_enough(name: str) -> None:
    assert refusal(f"/b/k?{name}=x", {"host": HOST}) is Reason.SIGNATURE_V2


def test_nothing_signed_is_not_mine() -> None:
    for headers in ({}, {"authorization": "Bearer abc"}, {"authorization": "Basic YTpi"}):
        assert sigv4_verify.read(head("GET", "/b/k?prefix=x", headers), {"prefix": "x"}, NOW) is None


def test_a_signature_in_the_url_beside_another_credential_is_two() -> None:
    raw = f"/b/k?{signer().presign('GET', '/b/k', '', NOW, host=HOST, expires=60)}"
    for authorization in ("Bearer abc", signed()["authorization"], "Basic YTpi"):
        assert refusal(raw, {"host": HOST, "authorization": authorization}) is Reason.TWO_CREDENTIALS


def test_a_session_token_in_a_url_is_misplaced() -> None:
    one = sigv4.Signer(KEY_ID, Secret(SECRET), REGION, session_token=Secret("tok"))
    raw = f"/b/k?{one.presign('GET', '/b/k', '', NOW, host=HOST, expires=60)}"
    assert refusal(raw, {"host": HOST}) is Reason.MISPLACED_TOKEN


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        ("/b/k", {"authorization": "AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg="}),
        ("/b/k?AWSAccessKeyId=AKIDEXAMPLE&Signature=Yv%2B0gAJ0sdYWLwV6E5LrU0jFMcY%3D&Expires=1795325346", {}),
    ],
)
def test_version_2_is_named(raw: str, headers: dict[str, str]) -> None:
    assert refusal(raw, headers) is Reason.SIGNATURE_V2


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),  # SigV4A
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("Signature=", "signature="),
        ("Signature=", "Extra=1, Signature="),
        ("Signature=", "Signature=00, Signature="),
        ("/s3/", "/sts/"),
        ("/aws4_request", "/aws4_request/"),
        ("20261122/", "20261121/"),
        ("host;x-amz-content-sha256", "x-amz-content-sha256;host"),
        ("host;", "host;host;"),
        ("host;", "host;missing;"),
        ("host;", "Host;"),
        ("AKIDEXAMPLE", "A" * 129),
        ("AKIDEXAMPLE", ""),
    ],
)
def test_malformed_authorization(was: str, becomes: str) -> None:
    headers = signed()
    assert was in headers["authorization"]
    headers["authorization"] = headers["authorization"].replace(was, becomes)
    assert refusal(headers=headers) is Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize("date", ["", "20261122T042905", "20261322T042905Z", "Sun, 22 Nov 2026 04:29:05 GMT"])
def test_malformed_date(date: str) -> None:
    assert refusal(headers=signed() | {"x-amz-date": date}) is Reason.MALFORMED_SIGNATURE


def test_a_date_is_read_to_its_second() -> None:
    assert sigv4_verify.unix("20261122T042905Z") == NOW
    assert sigv4_verify.unix("20271231T235958Z") == datetime(2027, 12, 31, 23, 59, 58, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("payload", ["", "abc", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", sigv4.EMPTY_SHA256.upper()])
def test_the_body_s_hash_must_be_one(payload: str) -> None:
    assert refusal(headers=signed(payload=payload)) is Reason.MALFORMED_SIGNATURE


@pytest.mark.parametrize(
    "payload",
    [
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        sigv4.EMPTY_SHA256,
    ],
)
def test_what_may_stand_for_the_body(payload: str) -> None:
    headers = signed(payload=payload)
    presented = sigv4_verify.read(head("GET", "/b/k", headers), {}, NOW)
    assert presented is not None
    assert presented.payload == payload


def test_a_configured_region_is_the_only_one() -> None:
    assert sigv4_verify.read(head("GET", "/b/k", signed()), {}, NOW, region=REGION) is not None
    assert refusal(headers=signed(), region="us-east-1") is Reason.MALFORMED_SIGNATURE


def test_a_client_that_encodes_less_of_the_path_than_aws() -> None:
    """curl signs the encoded path and sends `@` and `(` plainly; botocore signs what it sends."""
    assert accepted("GET", "/b/@scope/p(1)", signed(path="/b/%40scope/p%281%29"))
    assert accepted("GET", "/b/@scope/p(1)", signed(path="/b/@scope/p(1)"))
    assert not accepted("GET", "/b/%40scope/p%281%29", signed(path="/b/@scope/p(1)"))


def test_a_signature_is_shown_to_nobody() -> None:
    presented = sigv4_verify.read(head("GET", "/b/k", signed()), {}, NOW)
    assert presented is not None
    assert presented.signature not in repr(presented)


@given(st.text(string.printable, max_size=60))
def test_any_authorization_is_refused_or_not_mine(text: str) -> None:
    for scheme in ("", "AWS4-HMAC-SHA256 ", "AWS"):
        assert not accepted("GET", "/b/k", signed() | {"authorization": scheme + text})
