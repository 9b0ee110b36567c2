"""A token has one spelling, and one meaning of its JSON; signatures are judged as Wycheproof says."""

import base64
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_decode

from sidecar.credentials import jwk, jws
from tests import jose

WYCHEPROOF = Path(__file__).parents[2] / "../shared/corpora/wycheproof/json_web_signature_test.json"
HEADER = {"alg": "ES256", "kid": "k1"}


@given(st.binary(max_size=200))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=")
    assert jws.decode(text) == data


@given(st.binary(min_size=1, max_size=24).map(lambda text: text.translate(bytes.maketrans(b"\0\1\2\3", b"-_+=AA"[:4]))))
def test_whatever_decodes_is_the_canonical_spelling(text: bytes) -> None:
    try:
        data = jws.decode(text)
    except jws.Malformed:
        return
    assert base64.urlsafe_b64encode(data).rstrip(b"=") == text


@pytest.mark.parametrize("before", [b"Q", b"QU", b"QUJ"])
def test_no_last_character_sets_a_bit_that_nobody_reads(before: bytes) -> None:
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    canonical = ""
    for last in alphabet:
        try:
            jws.decode(before + last.encode())
        except jws.Malformed:
            continue
        canonical += last
    assert canonical == alphabet[:: {1: 16, 2: 4, 3: 1}[len(before)]]  # four, two or no bits are left over


@pytest.mark.parametrize(
    "text", [b"QQ==", b"QQ=", b"QR", b"QUJ", b"Q", b"Q Q", b"QQ\n", b"+/8", b"Q.", b"QQ==QQ", b"Q\xc3"]
)
def test_base64url_spelled_otherwise_is_refused(text: bytes) -> None:
    with pytest.raises(jws.Malformed):
        jws.decode(text)


ODD_JSON = {
    "empty": b"",
    "not JSON": b"{a: 1}",
    "single quotes": b"{'a': 1}",
    "a comment": b"{} // x",
    "a comma at the end": b'{"a": 1,}',
    "two values": b"{} {}",
    "duplicate": b'{"a": 1, "a": 1}',
    "duplicate, escaped": b'{"a": 1, "\\u0061": 2}',
    "duplicate, deep down": b'{"a": [{"b": {"c": 1, "c": 2}}]}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": -Infinity}',
    "1e400": b'{"a": 1e400}',
    "-1e400": b'{"a": -1e400}',
    "many digits": b'{"a": 123456789012345678901}',
    "4000 digits": b'{"a": ' + b"1" * 4000 + b"}",
    "5000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "nested 5000 deep": b"[" * 5000 + b"]" * 5000,
    "nested 5000 deep, objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "nested 17 deep": b"[" * 17 + b"]" * 17,
    "nested 17 deep, mixed": b'{"a":[' * 8 + b"[{}]" + b"]}" * 8,
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32-be"),
    "Latin-1": '{"a": "é"}'.encode("latin-1"),
    "overlong": b'{"a": "\xc0\xae"}',
    "surrogate in bytes": b'{"a": "\xed\xa0\x80"}',
    "surrogate, escaped": b'{"a": "\\ud800"}',
    "surrogate in a name": b'{"\\udfff": 1}',
    "surrogate, deep down": b'{"a": [[{"b": ["\\ud800x"]}]]}',
    "raw control character": b'{"a": "\x01"}',
    "raw NUL": b'{"a": 1}\0',
}


@pytest.mark.parametrize("data", ODD_JSON.values(), ids=ODD_JSON)
def test_json_that_readers_disagree_on(data: bytes) -> None:
    with pytest.raises(jws.Malformed):
        jws.strict_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**19) + 1, 10**19) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(JSON)
def test_plain_json_is_read_as_it_is(value: object) -> None:
    assert jws.strict_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_deepest_json(opening: bytes, closing: bytes) -> None:
    deepest = opening * jws.MAX_DEPTH + b"1" + closing * jws.MAX_DEPTH
    assert jws.strict_json(deepest)
    with pytest.raises(jws.Malformed, match="deep"):
        jws.strict_json(opening + deepest + closing)


def test_the_longest_number() -> None:
    assert jws.strict_json(b"1" * 20) == int("1" * 20)
    with pytest.raises(jws.Malformed):
        jws.strict_json(b"1" * 21)


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_malformed(data: bytes) -> None:
    try:
        value = jws.strict_json(data)
    except jws.Malformed:
        return
    assert json.loads(data.decode("utf-8")) == value


def test_parse() -> None:
    token = jose.sign({**HEADER, "typ": "JWT", "jwk": {}}, {"a": 1}, jose.private_key("ES256"), "ES256")
    parsed = jws.parse(token)
    assert (parsed.algorithm, parsed.kid, parsed.payload) == ("ES256", "k1", b'{"a": 1}')
    assert parsed.signing_input == token.rpartition(".")[0].encode()
    assert len(parsed.signature) == 64


@pytest.mark.parametrize("kid", [None, "k", "k" * jws.MAX_KID, "schlüssel"])
def test_kids(kid: str | None) -> None:
    header = {"alg": "ES256"} if kid is None else {"alg": "ES256", "kid": kid}
    assert jws.parse(jose.sign(header, {}, jose.private_key("ES256"), "ES256")).kid == kid


ODD_HEADERS = {
    "not an object": ["alg"],
    "no alg": {"kid": "k1"},
    "alg null": {"alg": None},
    "alg a list": {"alg": ["ES256"]},
    "crit": {**HEADER, "crit": ["exp"]},
    "crit, empty": {**HEADER, "crit": []},
    "crit null": {**HEADER, "crit": None},
    "b64 false": {**HEADER, "b64": False},
    "b64 true": {**HEADER, "b64": True},
    "zip": {**HEADER, "zip": "DEF"},
    "enc": {**HEADER, "enc": "A256GCM"},
    "cty": {**HEADER, "cty": "JWT"},
    "kid null": {"alg": "ES256", "kid": None},
    "kid a number": {"alg": "ES256", "kid": 1},
    "kid empty": {"alg": "ES256", "kid": ""},
    "kid too long": {"alg": "ES256", "kid": "k" * 257},
    "kid with a line end": {"alg": "ES256", "kid": "k1\n"},
    "duplicate alg": b'{"alg": "ES256", "kid": "k1", "alg": "ES256"}',
}


@pytest.mark.parametrize("header", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_headers_that_change_how_the_rest_is_read(header: object) -> None:
    with pytest.raises(jws.Malformed):
        jws.parse(jose.sign(header, {"a": 1}, jose.private_key("ES256"), "ES256"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t + "=",
        lambda t: t.replace(".", "=.", 1),
        lambda t: t.rpartition(".")[0],
        lambda t: t.rpartition(".")[0] + ".",
        lambda t: t + ".",
        lambda t: t + ".AAAA",
        lambda t: "." + t,
        lambda t: t.replace(".", "..", 1),
        lambda t: t.replace(".", "\u3002"),
        lambda t: "\ufeff" + t,
        lambda t: "",
        lambda t: "..",
        lambda t: "\ud800.a.b",
    ],
)
def test_other_shapes(spoil: Any) -> None:
    with pytest.raises(jws.Malformed):
        jws.parse(spoil(jose.sign(HEADER, {"a": 1}, jose.private_key("ES256"), "ES256")))


def test_no_text_of_the_token_is_in_a_refusal() -> None:
    for header in ({"alg": "HUSHHUSH", "crit": ["HUSHHUSH"]}, b'{"HUSHHUSH": 1, "HUSHHUSH": 2}', b'{"HUSHHUSH'):
        with pytest.raises(jws.Malformed) as caught:
            jws.parse(jose.sign(header, "HUSHHUSH", b"k", "HS256"))
        assert "HUSH" not in repr(caught.value)
        assert caught.value.__cause__ is None


OTHER_ALGORITHM = "the key is for another algorithm (its `alg`) than the token was signed with"
SAME_AS_VALID = "the padding that the case is about isn't in the file: its text is that of the valid case 357"
JUNK = "a character outside of base64url, which a lenient decoder skips"
DIFFERENCES = {
    346: OTHER_ALGORITHM,  # PS384 by a key for PS256
    347: OTHER_ALGORITHM,  # ES512 by a key for `ES521`, which is no algorithm
    350: OTHER_ALGORITHM,
    351: OTHER_ALGORITHM,
    367: SAME_AS_VALID,
    370: SAME_AS_VALID,
    372: JUNK,
    373: JUNK,
}
"""Wycheproof cases that are judged otherwise here, and why."""


def wycheproof() -> list[Any]:
    if not WYCHEPROOF.is_file():
        return []
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    return [(group.get("public") or group["private"], case) for group in groups for case in group["tests"]]


def accepts(key: dict[str, Any], token: str) -> bool:
    """The way of `JwtVerifier` from a token's text to the verdict on its signature."""
    try:
        parsed = jws.parse(token)
        if key["kty"] == "oct":
            algorithms = frozenset({"HS256"} & {key["alg"]})
            known = jwk.KeySet([jwk.Key(key["kid"], algorithms, base64url_decode(key["k"]), b"")])
        else:
            known = jwk.KeySet([jwk.from_jwk(key, jwk.ASYMMETRIC)])
    except (jws.Malformed, jwk.BadKeys):
        return False
    found = known.find(parsed.kid, parsed.algorithm)
    return found is not None and found.verifies(parsed)


@pytest.mark.skipif(not WYCHEPROOF.is_file(), reason=f"the Wycheproof corpus is not at {WYCHEPROOF.name}")
def test_wycheproof() -> None:
    cases = wycheproof()
    assert len(cases) == 401
    otherwise = {case["tcId"] for key, case in cases if accepts(key, case["jws"]) != (case["result"] == "valid")}
    assert otherwise == set(DIFFERENCES)
    tokens = {case["tcId"]: case["jws"] for _, case in cases}
    assert tokens[367] == tokens[370] == tokens[357]
    accepted_although_invalid = {
        case["tcId"] for key, case in cases if case["result"] != "valid" and accepts(key, case["jws"])
    }
    assert accepted_although_invalid == {tc for tc, reason in DIFFERENCES.items() if reason is SAME_AS_VALID}
