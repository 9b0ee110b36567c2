"""Where a credential is found: at most one, and one that is present is never read as none."""

import base64
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.credentials import carriers
from sidecar.errors import CredentialRefused, Refused
from sidecar.model import Head, Headers, Secret, Target
from sidecar.reasons import Reason
from tests.biscuits import made

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
OPAQUE = "asc_pat_" + "a1B2c3D4e5F6" + "_" + "Z" * 49
EXTRA = ("x-cache-token", "private-token")
TARGET = Target(raw_path="/w/k", raw_query="", raw_segments=("w", "k"), segments=("w", "k"))


def basic(user: str, password: str, charset: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(charset)).decode()


def head(raw_query: str = "", **headers: str) -> Head:
    target = Target(raw_path="/w/k", raw_query=raw_query, raw_segments=("w", "k"), segments=("w", "k"))
    values = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(method="GET", target=target, headers=Headers(values={"host": "cache.example", **values}, forward=()))


def found(request: Head, extra: tuple[str, ...] = EXTRA) -> str | Reason | None:
    """The token, or why it was refused."""
    try:
        secret = carriers.find(request, extra)
    except Refused as refused:
        about_the_token = isinstance(refused, CredentialRefused)
        return refused.reason if about_the_token == (refused.reason is Reason.BAD_TOKEN) else pytest.fail(repr(refused))
    return secret.reveal() if secret is not None else None


def test_no_carrier_is_nobody() -> None:
    assert found(head()) is None
    assert found(head(), ()) is None


ACCEPTED = {
    "bearer": f"Bearer {JWT}",
    "any case of the scheme": f"bEaReR {JWT}",
    "the spelling with a colon": f"Bearer: {JWT}",
    "several spaces": f"Bearer   {JWT}",
    "basic": basic("ada", JWT),
    "basic, several spaces": basic("ada", JWT).replace(" ", "   "),
    "basic without a user": basic("", JWT),
    "basic in lower case": basic("ada", JWT).replace("Basic", "basic"),
    "basic, user in Latin-1": basic("adä", JWT, "latin-1"),
    "basic, user in UTF-8": basic("adä", JWT, "utf-8"),
    "basic, the user half a token": basic("asc_pat_short", JWT),
}


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
def test_authorization(value: str) -> None:
    assert found(head(authorization=value)) == JWT
    assert found(head(authorization=value), ()) == JWT


def test_the_password_is_all_that_follows_the_first_colon() -> None:
    assert found(head(authorization=basic("ada", "a:b:c"))) == "a:b:c"


@pytest.mark.parametrize("value", [JWT, f"Bearer {JWT}", f"bearer {JWT}", f"Bearer: {JWT}"])
@pytest.mark.parametrize("name", EXTRA)
def test_configured_headers(name: str, value: str) -> None:
    assert found(head(**{name: value})) == JWT
    assert found(head(**{name: value}), ()) is None


MALFORMED = {
    "empty": "",
    "a scheme alone": "Bearer",
    "a scheme and a space": "Bearer ",
    "a scheme and spaces": "Bearer    ",
    "no scheme": JWT,
    "no space": f"Bearer:{JWT}",
    "a tab for a space": f"Bearer\t{JWT}",
    "a space inside": f"Bearer {JWT} {JWT}",
    "a space at the end": f"Bearer {JWT} ",
    "a tab inside": f"Bearer a\t{JWT}",
    "beyond ASCII": "Bearer tökén",
    "another line": f"Bearer {JWT}\u2028",
    "digest": 'Digest username="ada"',
    "negotiate": "Negotiate YII=",
    "aws, not configured": "AWS4-HMAC-SHA256 Credential=x/20260101/eu/s3/aws4_request",
    "token": f"Token {JWT}",
    "another scheme with a pair": basic("ada", JWT).replace("Basic", "Token"),
    "two schemes": f"Bearer Bearer {JWT}",
    "basic, empty": "Basic ",
    "basic, not base64": "Basic !!!!",
    "basic, beyond ASCII instead of base64": "Basic tökén",
    "basic, base64 cut off": "Basic YWRhOnB3c",
    "basic, junk inside": "Basic YWRh\nOnB3",
    "basic, more after the padding": "Basic YTpiYw==YTpiYw==",
    "basic, base64url": "Basic " + base64.urlsafe_b64encode(b"\xfb\xff\xfe:pw").decode(),
    "basic, no colon": "Basic " + base64.b64encode(JWT.encode()).decode(),
    "basic, empty password": basic("ada", ""),
    "basic, token as user": basic(JWT, ""),
    "basic, a space first": basic("ada", f" {JWT}"),
    "basic, a space inside": basic("ada", f"a {JWT}"),
    "basic, a line end": basic("ada", f"{JWT}\n"),
    "basic, NUL": basic("ada", f"{JWT}\0"),
    "basic, beyond ASCII": basic("ada", "tökén"),
    "too long": "Bearer " + "a" * (carriers.MAX_TOKEN + 1),
    "basic, too long": basic("ada", "a" * (carriers.MAX_TOKEN + 1)),
    "basic, far too long": basic("ada", "a" * (4 * carriers.MAX_TOKEN)),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_present_and_malformed_is_a_bad_token_never_nobody(value: str) -> None:
    assert found(head(authorization=value)) is Reason.BAD_TOKEN


@pytest.mark.parametrize("value", [JWT, OPAQUE, f"Token {JWT}", f"token  {OPAQUE}", basic(OPAQUE, ""), basic(JWT, "")])
def test_a_token_in_the_wrong_place_is_told_the_right_one(value: str) -> None:
    with pytest.raises(Refused, match="send it as Bearer, or as the password of Basic") as caught:
        carriers.find(head(authorization=value))
    assert caught.value.reason is Reason.BAD_TOKEN
    assert all(token not in str(caught.value) for token in (JWT, OPAQUE))


@pytest.mark.parametrize(
    "value", ["", "Bearer", "bearer:", "Bearer ", f"{JWT} {JWT}", f"{JWT}\t", "tökén", f"Basic {JWT}", "a" * 8193]
)
def test_configured_header_present_and_malformed(value: str) -> None:
    assert found(head(private_token=value)) is Reason.BAD_TOKEN


def test_the_longest_token() -> None:
    longest = "a" * carriers.MAX_TOKEN
    assert found(head(authorization=f"Bearer {longest}")) == longest
    assert found(head(authorization=basic("ada", longest))) == longest


@pytest.mark.parametrize("first", ["", f"Bearer {JWT}", basic("ada", JWT), "Digest x"])
@pytest.mark.parametrize("second", ["", JWT, f"Bearer {JWT}"])
def test_two_carriers_are_refused_even_if_one_is_empty(first: str, second: str) -> None:
    assert found(head(authorization=first, private_token=second)) is Reason.TWO_CREDENTIALS
    assert found(head(x_cache_token=first, private_token=second)) is Reason.TWO_CREDENTIALS


@pytest.mark.parametrize("user", [JWT, OPAQUE])
@pytest.mark.parametrize("password", [JWT, OPAQUE])
def test_two_tokens_in_one_pair_are_refused(user: str, password: str) -> None:
    assert found(head(authorization=basic(user, password))) is Reason.TWO_CREDENTIALS


def test_only_the_password_is_a_token() -> None:
    assert found(head(authorization=basic(JWT, "x-oauth-basic"))) == "x-oauth-basic"


@pytest.mark.parametrize(
    "name", ["proxy-authorization", "cookie", "x-auth-token", "x-access-token", "www-authenticate"]
)
def test_nothing_else_is_a_carrier(name: str) -> None:
    assert found(head(**{name: f"Bearer {JWT}"})) is None


@pytest.mark.parametrize("query", [f"access_token={JWT}", f"token={OPAQUE}", f"authorization=Bearer%20{JWT}"])
def test_the_query_is_never_looked_at(query: str) -> None:
    assert found(head(raw_query=query)) is None


SAME_SITE = [
    {},
    {"origin": "https://cache.example"},
    {"origin": "http://cache.example"},
    {"origin": "HTTPS://CACHE.example"},
    {"origin": "https://cache.example:8443", "host": "cache.example:8443"},
    {"origin": "https://cache.example", "host": "cache.example:443"},
    {"origin": "http://cache.example", "host": "Cache.Example:80"},
    {"origin": "http://[::1]:8080", "host": "[::1]:8080"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]
CROSS_SITE = [
    {"origin": "https://evil.example"},
    {"origin": "https://cache.example.evil.example"},
    {"origin": "https://evilcache.example"},
    {"origin": "https://cache.example:8443"},
    {"origin": "https://cache.example", "host": "cache.example:80"},
    {"origin": "http://cache.example", "host": "cache.example:443"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "cache.example"},
    {"origin": "file://cache.example"},
    {"origin": "https://", "host": ""},
    {"origin": "https://cache.example https://evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": ""},
    {"sec-fetch-site": "something-new"},
    {"sec-fetch-site": "cross-site", "origin": "https://cache.example"},
    {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
]


@pytest.mark.parametrize("headers", SAME_SITE)
def test_basic_from_this_site(headers: dict[str, str]) -> None:
    assert found(head(authorization=basic("ada", JWT), **headers)) == JWT


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_basic_from_another_site_is_refused_and_bearer_is_not(headers: dict[str, str]) -> None:
    """A browser attaches a remembered password by itself; a Bearer token is only ever sent by a program."""
    assert found(head(authorization=basic("ada", JWT), **headers)) is Reason.CROSS_SITE
    assert found(head(authorization=f"Bearer {JWT}", **headers)) == JWT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (JWT, True),
        (OPAQUE, True),
        (OPAQUE.replace("_pat_", "_ci_"), True),
        (made(), True),
        ("Elaborate-but-short", False),
        (OPAQUE[:-1], False),
        (OPAQUE + "Z", False),
        ("ada", False),
        ("a.b.c", False),
        ("ada.b.lovelace@example.com", False),
        ("", False),
    ],
)
def test_what_looks_like_a_token(text: str, expected: bool) -> None:
    assert carriers.looks_like_token(text) is expected


TEXT = st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cs"]), max_size=60)


@given(
    headers=st.dictionaries(
        st.sampled_from(["authorization", "origin", "host", "sec-fetch-site", *EXTRA]),
        TEXT
        | st.sampled_from(["Bearer ", "Basic ", "bearer: "]).flatmap(lambda scheme: TEXT.map(lambda t: scheme + t)),
    )
)
def test_any_headers_give_one_clean_token_or_a_refusal(headers: dict[str, str]) -> None:
    request = Head(method="GET", target=TARGET, headers=Headers(values=headers, forward=()))
    outcome = found(request)
    present = [name for name in ("authorization", *EXTRA) if name in headers]
    assert (outcome is None) == (not present)
    if isinstance(outcome, str) and not isinstance(outcome, Reason):
        assert len(present) == 1
        assert outcome
        assert outcome.isascii()
        assert not {" ", "\t"} & set(outcome)


@given(st.binary(max_size=40), st.text(st.characters(codec="ascii", exclude_characters=" "), max_size=40))
def test_basic_gives_back_exactly_the_password(user: bytes, password: str) -> None:
    pair = user.replace(b":", b"") + b":" + password.encode()
    outcome = found(head(authorization="Basic " + base64.b64encode(pair).decode()))
    assert outcome == (password if password and password.isprintable() else Reason.BAD_TOKEN)


TOKEN = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=" "), min_size=1, max_size=9)


@given(st.sampled_from(["Bearer", "bearer", "Bearer:"]), st.integers(1, 3), TOKEN)
@example("Bearer", 2, "X")
def test_after_the_scheme_and_its_spaces_every_character_is_the_tokens(scheme: str, spaces: int, token: str) -> None:
    assert found(head(authorization=scheme + " " * spaces + token)) == token


@pytest.mark.parametrize(
    ("headers", "carrier"),
    [
        ({}, "bearer"),
        ({"authorization": f"Bearer {JWT}"}, "bearer"),
        ({"authorization": f"bearer: {JWT}"}, "bearer"),
        ({"authorization": basic("ada", JWT)}, "basic"),
        ({"authorization": basic("ada", JWT).replace("Basic", "BASIC")}, "basic"),
        ({"private_token": JWT}, "header"),
        ({"x_cache_token": JWT}, "header"),
    ],
)
def test_the_audit_log_can_name_where_a_credential_sat(headers: dict[str, str], carrier: str) -> None:
    assert carriers.carrier(head(**headers), EXTRA) == carrier


def test_what_is_found_cant_be_printed() -> None:
    secret = carriers.find(head(authorization=f"Bearer {JWT}"))
    assert isinstance(secret, Secret)
    assert JWT not in repr(secret)
    with pytest.raises(TypeError):
        f"{secret}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_a_refusal_holds_nothing_of_what_was_sent(value: str) -> None:
    with pytest.raises(Refused) as caught:
        carriers.find(head(authorization=value))
    for piece in value.split():
        if len(piece) > 9:
            assert piece not in str(caught.value)


# --- the old shared password ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "sent"),
    [
        (basic("cache", "hunter2"), ("basic", b"cache:hunter2")),
        (basic("cache", "correct horse: battery "), ("basic", b"cache:correct horse: battery ")),
        (basic("", ""), ("basic", b":")),
        (basic("käse", "größe"), ("basic", "käse:größe".encode())),
        ("bAsIc  " + basic("a", "b").split()[1], ("basic", b"a:b")),
        ("Basic " + base64.b64encode(b"no colon").decode(), ("basic", b"no colon")),
        ("Bearer s3cret", ("bearer", b"s3cret")),
        ("bearer:  s3cret", ("bearer", b"s3cret")),
        ("Bearer", ("bearer", b"")),
        ("Basic !!!", None),
        ("Basic", ("basic", b"")),
        ("Digest cache:hunter2", None),
        ("cache:hunter2", None),
    ],
)
def test_what_may_be_the_old_shared_password(authorization: str, sent: tuple[str, bytes] | None) -> None:
    assert carriers.old_password(head(authorization=authorization), EXTRA) == sent


def test_the_old_shared_password_has_one_place_and_stands_alone() -> None:
    assert carriers.old_password(head(), EXTRA) is None
    assert carriers.old_password(head(x_cache_token="s3cret"), EXTRA) is None
    both = head(authorization=basic("cache", "hunter2"), x_cache_token="s3cret")
    assert carriers.old_password(both, EXTRA) is None
    assert found(both) is Reason.TWO_CREDENTIALS


def test_a_browser_does_not_send_the_old_shared_password_for_another_site() -> None:
    with pytest.raises(Refused) as caught:
        carriers.old_password(head(authorization=basic("cache", "hunter2"), sec_fetch_site="cross-site"))
    assert caught.value.reason is Reason.CROSS_SITE


# --- what S3 clients send ------------------------------------------------------------------------------------------------------

SIGNED = "AWS4-HMAC-SHA256 Credential=A/20261122/eu/s3/aws4_request, SignedHeaders=host, Signature=" + "0" * 64


def session(request: Head, parameters: dict[str, str] | None = None) -> str | Reason | None:
    try:
        secret = carriers.session_token(request, parameters or {}, EXTRA)
    except Refused as refused:
        return refused.reason
    return secret.reveal() if secret is not None else None


def test_a_session_token_is_a_token_with_or_without_the_signature_beside_it() -> None:
    assert session(head()) is None
    assert session(head(authorization=SIGNED)) is None
    assert session(head(x_amz_security_token=OPAQUE)) == OPAQUE
    assert session(head(x_amz_security_token=JWT, authorization=SIGNED)) == JWT


@pytest.mark.parametrize("token", ["", "two words", "x" * (carriers.MAX_TOKEN + 1), "größe"])
def test_a_session_token_that_can_be_no_token_is_refused(token: str) -> None:
    assert session(head(x_amz_security_token=token, authorization=SIGNED)) is Reason.BAD_TOKEN


@pytest.mark.parametrize(
    ("others", "parameters", "reason"),
    [
        ({"authorization": f"Bearer {OPAQUE}"}, {}, Reason.TWO_CREDENTIALS),
        ({"authorization": basic("x", OPAQUE)}, {}, Reason.TWO_CREDENTIALS),
        ({"authorization": ""}, {}, Reason.TWO_CREDENTIALS),
        ({"authorization": SIGNED.lower()}, {}, Reason.TWO_CREDENTIALS),
        ({"authorization": SIGNED, "x_cache_token": OPAQUE}, {}, Reason.TWO_CREDENTIALS),
        ({}, {"X-Amz-Signature": "0" * 64}, Reason.TWO_CREDENTIALS),
        ({}, {"X-Amz-Security-Token": OPAQUE}, Reason.TWO_CREDENTIALS),
        ({"authorization": SIGNED}, {"AWSAccessKeyId": "A"}, Reason.TWO_CREDENTIALS),
        ({"authorization": "AWS A:c2ln"}, {}, Reason.SIGNATURE_V2),
    ],
)
def test_a_session_token_stands_beside_nothing_but_its_signature(
    others: dict[str, str], parameters: dict[str, str], reason: Reason
) -> None:
    assert session(head(x_amz_security_token=OPAQUE, **others), parameters) is reason


def test_a_signature_stands_beside_no_configured_header() -> None:
    dated = {"x_amz_date": "20261122T100000Z", "x_amz_content_sha256": "UNSIGNED-PAYLOAD"}
    names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date"
    signed = head(authorization=SIGNED.replace("SignedHeaders=host", names), **dated)
    now = 1_795_341_600.0
    found = carriers.signature(signed, {}, now, EXTRA)
    assert found is not None
    assert found.access_key_id == "A"
    assert carriers.signature(head(authorization=f"Bearer {OPAQUE}"), {}, now, EXTRA) is None
    signed.headers.values["x-cache-token"] = OPAQUE
    with pytest.raises(Refused) as caught:
        carriers.signature(signed, {}, now, EXTRA)
    assert caught.value.reason is Reason.TWO_CREDENTIALS


def test_elsewhere_neither_is_a_credential_that_is_known() -> None:
    assert found(head(authorization=SIGNED)) is Reason.BAD_TOKEN
    assert found(head(x_amz_security_token=OPAQUE)) is None
