"""JWTs: every check by a token that fails it alone, the attacks that other verifiers fell for, and properties."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.credentials import jwk
from sidecar.credentials.carriers import MAX_TOKEN
from sidecar.credentials.jwt import MAX_TIME, JwtVerifier, revocation_id
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import UNLIMITED, Principal, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IssuerSettings
from tests import jose

NOW = 1_800_000_000.0
ISSUER = "https://idp.example.com"
AUDIENCE = "artifact-cache"
RSA, EC = jose.private_key("RS256"), jose.private_key("ES256")
ATTACKER = jose.private_key("RS256", "attacker")
SETTINGS = IssuerSettings(name="corp", issuer=ISSUER, audience=AUDIENCE)
RSA_SET = jose.key_set(jose.jwk(RSA, kid="k1", alg="RS256"), jose.jwk(EC, kid="k2"))
HEADER = {"alg": "RS256", "kid": "k1", "typ": "JWT"}
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "ada",
    "jti": "id-1",
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "exp": NOW + 600,
}


class Keys:
    """A key source in memory. With `late`, the keys are known only after a look at the issuer."""

    def __init__(self, keys: jwk.KeySet, late: bool = False) -> None:
        self.keys, self.late, self.asked = keys, late, list[tuple[str | None, str]]()
        self.generation = 1

    def find(self, kid: str | None, algorithm: str) -> jwk.Key | None:
        return None if self.late else self.keys.find(kid, algorithm)

    async def key(self, kid: str | None, algorithm: str) -> jwk.Key | None:
        self.asked.append((kid, algorithm))
        return self.keys.find(kid, algorithm)


def issuer(keys: bytes = RSA_SET, **changes: Any) -> tuple[IssuerSettings, Keys]:
    made = IssuerSettings(**{**{name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__}, **changes})
    return made, Keys(jwk.from_jwks(keys, jwk.algorithms_of(made)))


VERIFIER = JwtVerifier([issuer()])


def judge(token: str, verifier: JwtVerifier = VERIFIER, now: float = NOW) -> Principal | None:
    """Runs the verification to its end; it has nothing to wait for."""
    coroutine = verifier.verify(Secret(token), now)
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")


def refusal(token: str, verifier: JwtVerifier = VERIFIER, now: float = NOW) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as caught:
        judge(token, verifier, now)
    return caught.value


def signed(claims: object = CLAIMS, key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    return jose.sign({**HEADER, **header}, claims, key, algorithm)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


def test_a_good_token() -> None:
    claims = {**CLAIMS, "repository": "o/r", "kubernetes.io": {"namespace": "ci"}}
    assert judge(signed(claims)) == Principal(
        kind=PrincipalKind.JWT,
        subject="ada",
        issuer="corp",
        groups=frozenset(),
        claims=claims,
        token_id="id-1",
        limits=UNLIMITED,
        expires_at=NOW + 600,
        revocation_ids=("jwt:corp:id-1",),
        issued_at=NOW - 10,
    )


@pytest.mark.parametrize("text", ["", "ada", "asc_pat_abc", "a.b", "a.b.c.d", "En0KEwoE", "\0", "é"])
def test_what_isnt_shaped_like_a_jwt_isnt_mine(text: str) -> None:
    assert judge(text) is None


@pytest.mark.parametrize(
    "text", ["a.b.c", "..", "ey", "eyJh.eyJh", "eyJh.a.b.c.d", "ey a", "a.é.c", "eyJhbGciOiJub25lIn0.e30."]
)
def test_what_is_shaped_like_a_jwt_is_mine_and_bad(text: str) -> None:
    assert refusal(text).reason is Reason.BAD_TOKEN


# --- attacks on the signature, the algorithm and the key; each but the controls is refused -----------------------

FORGED = {"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "jti": "x", "iat": NOW - 10, "exp": NOW + 600}
GOOD = signed()
STEM, _, SIGNATURE = GOOD.rpartition(".")
PUBLIC_PEM = jose.pem(RSA)
PUBLIC_JWK = json.dumps(jose.jwk(RSA, kid="k1", alg="RS256")).encode()


def der_signature() -> str:
    text = f"{jose.part({'alg': 'ES256', 'kid': 'k2'})}.{jose.part(FORGED)}"
    return f"{text}.{jose.part(EC.sign(text.encode(), ECDSA(hashes.SHA256())))}"


def unsigned(algorithm: object, signature: str = "") -> str:
    header = {"alg": algorithm, "kid": "k1", "typ": "JWT"}
    return f"{jose.part(header)}.{jose.part(FORGED)}.{signature}"


ATTACKS = {
    # algorithm
    **{f"alg {name!r}": unsigned(name) for name in ("none", "None", "NONE", "nOnE", "", None)},
    **{f"alg {name!r}, some signature": unsigned(name, "AAAA") for name in ("none", "None", "NONE", "nOnE", "", None)},
    "alg absent": f"{jose.part({'kid': 'k1'})}.{jose.part(FORGED)}.AAAA",
    "HS256 by the public PEM": signed(FORGED, PUBLIC_PEM, "HS256", alg="HS256"),
    "HS256 by the stripped PEM": signed(FORGED, PUBLIC_PEM.strip(), "HS256", alg="HS256"),
    "HS256 by the PEM in one line": signed(FORGED, PUBLIC_PEM.replace(b"\n", b""), "HS256", alg="HS256"),
    "HS256 by the JWK's text": signed(FORGED, PUBLIC_JWK, "HS256", alg="HS256"),
    "HS256 by nothing": signed(FORGED, b"", "HS256", alg="HS256"),
    "PS256 by an RS256 key": signed(FORGED, RSA, "PS256", alg="PS256"),
    "RS512 by an RS256 key": signed(FORGED, RSA, "RS512", alg="RS512"),
    "RS256 said, PS256 done": signed(FORGED, RSA, "PS256"),
    "RS256 said, ES256 key named": signed(FORGED, RSA, kid="k2"),
    "ES256 said, RS256 key named": signed(FORGED, EC, "ES256", alg="ES256"),
    "alg in lower case": signed(FORGED, alg="rs256"),
    "ES256, r = s = 0": f"{jose.part({'alg': 'ES256', 'kid': 'k2'})}.{jose.part(FORGED)}.{jose.part(bytes(64))}",
    "ES256, no signature bytes": f"{jose.part({'alg': 'ES256', 'kid': 'k2'})}.{jose.part(FORGED)}.AA",
    "ES256, DER signature": der_signature(),
    # shape
    "signature stripped": STEM + ".",
    "two parts": STEM,
    "four parts": GOOD + ".AAAA",
    "line end after it": GOOD + "\n",
    "space before it": " " + GOOD,
    "header padded": GOOD.replace(".", "=.", 1),
    "signature padded": GOOD + "==",
    "signature's unused bits set": GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
    "signature in base64": STEM + "." + base64.b64encode(b"\xff" * 256).decode(),
    "another's signature": STEM + "." + signed(FORGED).rpartition(".")[2],
    "payload swapped": f"{STEM.partition('.')[0]}.{jose.part(FORGED)}.{SIGNATURE}",
    # key
    "embedded jwk": signed(FORGED, ATTACKER, jwk=jose.jwk(ATTACKER)),
    "embedded jku": signed(FORGED, ATTACKER, jku="https://evil.example/jwks.json"),
    "embedded x5u": signed(FORGED, ATTACKER, x5u="https://evil.example/cert.pem"),
    "embedded x5c": signed(FORGED, ATTACKER, x5c=["MIIB"]),
    "kid a path": signed(FORGED, ATTACKER, kid="../../../../dev/null"),
    "kid /dev/null, empty secret": signed(FORGED, b"", "HS256", alg="HS256", kid="/dev/null"),
    "kid SQL": signed(FORGED, ATTACKER, kid="k1' OR '1'='1"),
    "kid a number": signed(kid=1),
    "kid absent, two keys of the issuer": jose.sign({"alg": "RS256"}, FORGED, ATTACKER, "RS256"),
    # extensions and nesting
    "crit": signed(crit=["exp"], exp=1),
    "b64 false": signed(b64=False),
    "b64 false, critical": signed(b64=False, crit=["b64"]),
    "zip": signed(zip="DEF"),
    "cty": signed(cty="JWT"),
    "nested": signed(GOOD.encode()),
    "typ secevent+jwt": signed(typ="secevent+jwt"),
    "typ logout+jwt": signed(typ="logout+jwt"),
    "typ of another kind": signed(typ=["JWT"]),
    "typ null": signed(typ=None),
    "typ empty": signed(typ=""),
    # claims
    "exp in the past": signed({**CLAIMS, "exp": NOW - 60}),
    "no exp": signed(without("exp")),
    "wrong aud": signed({**CLAIMS, "aud": "other"}),
    "aud with a foreign member": signed({**CLAIMS, "aud": [AUDIENCE, "other"]}),
    "our name is the aud's prefix": signed({**CLAIMS, "aud": AUDIENCE + "-staging"}),
    "our iss is its prefix": signed({**CLAIMS, "iss": ISSUER + ".evil.example"}),
    "a part of our iss": signed({**CLAIMS, "iss": ISSUER[:-1]}),
    "iss with a slash": signed({**CLAIMS, "iss": ISSUER + "/"}),
    "iss in upper case": signed({**CLAIMS, "iss": ISSUER.upper()}),
    "iss a list": signed({**CLAIMS, "iss": [ISSUER]}),
    "iss absent": signed(without("iss")),
    "iss the issuer's name": signed({**CLAIMS, "iss": "corp"}),
    "10 years": signed({**CLAIMS, "exp": NOW + 10 * 365 * 86400}),
}

CONTROLS = {
    "as it should be": GOOD,
    "ES256": signed(CLAIMS, EC, "ES256", alg="ES256", kid="k2"),
    "no typ": jose.sign({"alg": "RS256", "kid": "k1"}, CLAIMS, RSA, "RS256"),
    "typ in lower case": signed(typ="jwt"),
    "typ in full": signed(typ="application/JWT"),
    "typ at+jwt": signed({**CLAIMS, "client_id": "c"}, typ="at+JWT"),
    "kid absent, one key fits": jose.sign({"alg": "RS256"}, CLAIMS, RSA, "RS256"),
    "keys in the header, ignored": signed(
        jku="https://evil.example", x5u="https://evil.example", jwk=jose.jwk(ATTACKER)
    ),
    "aud a list of one": signed({**CLAIMS, "aud": [AUDIENCE]}),
    "no jti": signed(without("jti")),
    "no nbf": signed(without("nbf")),
    "exp with a fraction": signed({**CLAIMS, "exp": NOW + 0.5}),
}


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
def test_attacks(token: str) -> None:
    assert refusal(token).reason is (Reason.EXPIRED if token == ATTACKS["exp in the past"] else Reason.BAD_TOKEN)


@pytest.mark.parametrize("token", CONTROLS.values(), ids=CONTROLS)
def test_the_controls_are_accepted(token: str) -> None:
    principal = judge(token)
    assert principal is not None
    assert principal.subject == "ada"


# --- the JSON and the types of claims; signed by the right key ----------------------------------------------------


def raw(member: str) -> bytes:
    """The claims' JSON with one more or another member, written as given."""
    name = json.loads("[" + member.partition(":")[0] + "]")[0]
    kept = json.dumps({key: value for key, value in CLAIMS.items() if key != name})
    return f"{kept[:-1]}, {member}}}".encode()


ODDITIES: dict[str, object] = {
    "duplicate sub": b'{"sub": "root", ' + json.dumps(CLAIMS)[1:].encode(),
    "duplicate sub, escaped": b'{"\\u0073ub": "root", ' + json.dumps(CLAIMS)[1:].encode(),
    "duplicate iss": b'{"iss": "https://other", ' + json.dumps(CLAIMS)[1:].encode(),
    "exp NaN": raw('"exp": NaN'),
    "exp Infinity": raw('"exp": Infinity'),
    "exp -Infinity": raw('"exp": -Infinity'),
    "exp 1e400": raw('"exp": 1e400'),
    "exp 1e30": raw('"exp": 1e30'),
    "exp true": raw('"exp": true'),
    "exp null": raw('"exp": null'),
    "exp as text": raw(f'"exp": "{int(NOW) + 600}"'),
    "exp in a list": raw(f'"exp": [{int(NOW) + 600}]'),
    "exp negative": raw('"exp": -1'),
    "exp of 4000 digits": raw('"exp": ' + "9" * 4000),
    "exp of 5000 digits": raw('"exp": ' + "9" * 5000),
    "exp in milliseconds": {**CLAIMS, "exp": (NOW + 600) * 1000},
    "payload nested 5000 deep": b"[" * 2000 + b"]" * 2000,
    "a claim nested deep": {**CLAIMS, "x": json.loads("[" * 20 + "]" * 20)},
    "payload UTF-16": json.dumps(CLAIMS).encode("utf-16"),
    "payload with a byte order mark": b"\xef\xbb\xbf" + json.dumps(CLAIMS).encode(),
    "payload a list": [CLAIMS],
    "payload a text": "ada",
    "payload null": b"null",
    "payload empty": b"",
    "NUL in sub": {**CLAIMS, "sub": "ada\0"},
    "line end in sub": {**CLAIMS, "sub": "ada\nroot"},
    "a terminal's escape in sub": {**CLAIMS, "sub": "\x1b[2Jada"},
    "line separator in sub": {**CLAIMS, "sub": "ada\u2028root"},
    "lone surrogate in sub": {**CLAIMS, "sub": "ada\ud800"},
    "lone surrogate in another claim": {**CLAIMS, "x": {"y": ["\udfff"]}},
    "integer sub": {**CLAIMS, "sub": 7},
    "empty sub": {**CLAIMS, "sub": ""},
    "long sub": {**CLAIMS, "sub": "a" * 1025},
    "sub a list": {**CLAIMS, "sub": ["ada"]},
    "no sub": without("sub"),
    "no iat": without("iat"),
    "iat in the future": {**CLAIMS, "iat": NOW + 31},
    "iat as text": {**CLAIMS, "iat": str(NOW)},
    "iat true": {**CLAIMS, "iat": True},
    "iat after exp": {**CLAIMS, "iat": NOW + 20, "exp": NOW + 10},
    "nbf in the future": {**CLAIMS, "nbf": NOW + 31},
    "nbf as text": {**CLAIMS, "nbf": str(NOW)},
    "nbf null": {**CLAIMS, "nbf": None},
    "aud null": {**CLAIMS, "aud": None},
    "no aud": without("aud"),
    "aud empty": {**CLAIMS, "aud": []},
    "aud an object": {**CLAIMS, "aud": {AUDIENCE: 1}},
    "aud in another list": {**CLAIMS, "aud": [[AUDIENCE]]},
    "aud with a number": {**CLAIMS, "aud": [AUDIENCE, 1]},
    "aud twice": {**CLAIMS, "aud": [AUDIENCE, AUDIENCE]},
    "jti a number": {**CLAIMS, "jti": 7},
    "jti null": {**CLAIMS, "jti": None},
    "jti empty": {**CLAIMS, "jti": ""},
    "jti with a line end": {**CLAIMS, "jti": "a\nb"},
    "jti long": {**CLAIMS, "jti": "j" * 1025},
}


@pytest.mark.parametrize("claims", ODDITIES.values(), ids=ODDITIES)
def test_odd_claims(claims: object) -> None:
    assert refusal(signed(claims)).reason is Reason.BAD_TOKEN


def test_duplicate_members_in_the_header() -> None:
    header = b'{"alg": "none", "alg": "RS256", "kid": "k1"}'
    assert refusal(jose.sign(header, CLAIMS, RSA, "RS256")).reason is Reason.BAD_TOKEN


def test_the_longest_subject() -> None:
    principal = judge(signed({**CLAIMS, "sub": "a" * 1024}))
    assert principal is not None
    assert principal.subject == "a" * 1024


def test_the_longest_token() -> None:
    sizes = {len(token): token for token in (signed({**CLAIMS, "x": "x" * size}) for size in range(5675, 5690))}
    longest = max(size for size in sizes if size <= MAX_TOKEN)
    assert longest >= MAX_TOKEN - 1
    assert judge(sizes[longest]) is not None
    assert refusal(sizes[min(size for size in sizes if size > MAX_TOKEN)]).detail == "token too long"


# --- time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "now", "reason"),
    [
        ({"exp": NOW}, NOW + 29.9, None),
        ({"exp": NOW}, NOW + 30, Reason.EXPIRED),
        ({"exp": NOW}, NOW + 1e6, Reason.EXPIRED),
        ({"nbf": NOW + 30}, NOW, None),
        ({"nbf": NOW + 30.1}, NOW, Reason.BAD_TOKEN),
        ({"iat": NOW + 30}, NOW, None),
        ({"iat": NOW + 30.1}, NOW, Reason.BAD_TOKEN),
        ({"iat": NOW, "exp": NOW + 86400}, NOW, None),
        ({"iat": NOW, "exp": NOW}, NOW, None),
        ({"iat": NOW + 1, "exp": NOW}, NOW, Reason.BAD_TOKEN),
        ({"iat": NOW, "exp": NOW + 86401}, NOW, Reason.BAD_TOKEN),
        ({"iat": NOW - 86400, "exp": NOW + 10}, NOW, Reason.BAD_TOKEN),
        ({"iat": 0, "exp": 0}, NOW, Reason.EXPIRED),
        ({"iat": MAX_TIME - 9, "exp": MAX_TIME - 1}, MAX_TIME - 9, None),
        ({"iat": MAX_TIME - 9, "exp": MAX_TIME}, MAX_TIME - 9, Reason.BAD_TOKEN),
    ],
)
def test_times(claims: dict[str, float], now: float, reason: Reason | None) -> None:
    token = signed({**CLAIMS, **claims})
    if reason is None:
        assert judge(token, now=now) is not None
    else:
        assert refusal(token, now=now).reason is reason


def test_expiry_is_said_only_of_tokens_that_the_issuer_signed() -> None:
    """Else anybody learns by a forged token how far they got."""
    assert refusal(signed({**CLAIMS, "exp": NOW - 60}, ATTACKER)).reason is Reason.BAD_TOKEN


def test_expiry_says_whose_token_it_was() -> None:
    holder = refusal(signed({**CLAIMS, "exp": NOW - 60})).principal
    assert holder is not None
    assert (holder.subject, holder.issuer, holder.token_id) == ("ada", "corp", CLAIMS["jti"])


def test_expiry_is_said_only_of_tokens_for_this_audience() -> None:
    """Whoever holds a token of the issuer for somebody else is nobody here."""
    refused = refusal(signed({**CLAIMS, "exp": NOW - 60, "aud": "elsewhere"}))
    assert (refused.reason, refused.principal) == (Reason.BAD_TOKEN, None)


def test_leeway_and_lifetime_are_the_issuers() -> None:
    strict = JwtVerifier([issuer(leeway=0.0, max_lifetime=610.0)])
    assert judge(signed(), strict) is not None
    assert refusal(signed({**CLAIMS, "exp": NOW + 601}), strict).reason is Reason.BAD_TOKEN
    assert refusal(signed({**CLAIMS, "exp": NOW}), strict).reason is Reason.EXPIRED


# --- audience and parties --------------------------------------------------------------------------------------

BOTH = [AUDIENCE, "other"]


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"azp": "ci"}, True),
        ({"client_id": "ci"}, True),
        ({"azp": "ci", "client_id": "evil"}, True),
        ({"aud": BOTH, "azp": "ci"}, True),
        ({}, False),
        ({"aud": BOTH}, False),
        ({"azp": "evil"}, False),
        ({"azp": "evil", "client_id": "ci"}, False),
        ({"azp": None, "client_id": "ci"}, False),
        ({"azp": ["ci"]}, False),
        ({"aud": [AUDIENCE, 1], "azp": "ci"}, False),
        ({"aud": ["other"], "azp": "ci"}, False),
    ],
)
def test_authorized_parties(claims: dict[str, Any], accepted: bool) -> None:
    verifier = JwtVerifier([issuer(authorized_parties=("ci", "web"))])
    token = signed({**CLAIMS, **claims})
    if accepted:
        assert judge(token, verifier) is not None
    else:
        assert refusal(token, verifier).reason is Reason.BAD_TOKEN


@pytest.mark.parametrize("missing", ["client_id", "jti", "sub", "iat"])
def test_access_tokens_of_rfc_9068_have_what_it_asks_for(missing: str) -> None:
    claims = {**CLAIMS, "client_id": "c"}
    assert judge(signed(claims, typ="application/at+jwt")) is not None
    del claims[missing]
    assert refusal(signed(claims, typ="at+jwt")).reason is Reason.BAD_TOKEN


def test_types_are_the_issuers() -> None:
    verifier = JwtVerifier([issuer(types=("vc+jwt",))])
    assert judge(signed(typ="VC+jwt"), verifier) is not None
    assert refusal(signed(), verifier).reason is Reason.BAD_TOKEN


# --- subject and groups ----------------------------------------------------------------------------------------


def test_the_subject_is_the_configured_claim() -> None:
    verifier = JwtVerifier([issuer(subject_claim="email")])
    principal = judge(signed({**CLAIMS, "email": "ada@example.com"}), verifier)
    assert principal is not None
    assert principal.subject == "ada@example.com"
    assert refusal(signed(), verifier).reason is Reason.BAD_TOKEN
    assert refusal(signed({**CLAIMS, "email": ["ada@example.com"]}), verifier).reason is Reason.BAD_TOKEN


GROUPS = JwtVerifier([issuer(groups_claim="https://example.com/groups")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], set()), (["a", "b", "a"], {"a", "b"}), ("a", {"a"}), ("a b", {"a b"}), (["Grüße"], {"Grüße"})],
)
def test_groups(value: object, expected: set[str]) -> None:
    token = signed({**CLAIMS, "https://example.com/groups": value})
    principal, unconfigured = judge(token, GROUPS), judge(token)
    assert principal is not None
    assert principal.groups == expected
    assert unconfigured is not None
    assert unconfigured.groups == set()


def test_no_groups_claim_is_no_groups() -> None:
    principal = judge(signed(), GROUPS)
    assert principal is not None
    assert principal.groups == frozenset()


@pytest.mark.parametrize(
    "value", [None, 7, True, {"a": 1}, ["a", 7], ["a", None], [["a"]], [""], "", ["a\n"], ["x" * 1025]]
)
def test_groups_that_cant_be_read_refuse_the_token(value: object) -> None:
    """To read them as none would slip past a rule that denies a group."""
    token = signed({**CLAIMS, "https://example.com/groups": value})
    assert refusal(token, GROUPS).reason is Reason.BAD_TOKEN


@pytest.mark.parametrize("overage", [{"_claim_names": {"groups": "src1"}}, {"hasgroups": True}, {"hasgroups": "true"}])
def test_entra_group_overage_refuses_the_token_and_says_so(overage: dict[str, Any]) -> None:
    verifier = JwtVerifier([issuer(groups_claim="groups")])
    assert "overage" in refusal(signed({**CLAIMS, **overage}), verifier).detail
    assert judge(signed({**CLAIMS, **overage})) is not None


def test_other_claims_that_are_elsewhere_are_nobodys_groups() -> None:
    verifier = JwtVerifier([issuer(groups_claim="groups")])
    assert judge(signed({**CLAIMS, "_claim_names": {"photo": "src1"}, "hasgroups": False}), verifier) is not None


# --- issuers ---------------------------------------------------------------------------------------------------


def secret_issuer() -> tuple[IssuerSettings, Keys]:
    made = IssuerSettings(name="legacy", issuer="legacy", audience=AUDIENCE, secret_file=Path("unread"))
    return made, Keys(jwk.from_secret(jose.private_key("HS256")))


def test_issuers_dont_vouch_for_one_another() -> None:
    second = jose.key_set(jose.jwk(ATTACKER, kid="k1"))
    verifier = JwtVerifier([issuer(), issuer(second, name="other", issuer="https://other.example")])
    mine = judge(signed(), verifier)
    theirs = judge(signed({**CLAIMS, "iss": "https://other.example"}, ATTACKER), verifier)
    assert mine is not None
    assert theirs is not None
    assert (mine.issuer, mine.subject) == ("corp", "ada")
    assert (theirs.issuer, theirs.subject) == ("other", "ada")
    assert mine.revocation_ids != theirs.revocation_ids
    assert refusal(signed(CLAIMS, ATTACKER), verifier).reason is Reason.BAD_TOKEN
    assert refusal(signed({**CLAIMS, "iss": "https://other.example"}), verifier).reason is Reason.BAD_TOKEN


def test_hs256_is_for_an_issuer_with_a_secret_alone() -> None:
    verifier = JwtVerifier([issuer(), secret_issuer()])
    secret, claims = jose.private_key("HS256"), {**CLAIMS, "iss": "legacy"}
    assert judge(jose.sign({"alg": "HS256"}, claims, secret, "HS256"), verifier) is not None
    for header, content, key, algorithm in [
        ({"alg": "HS256"}, CLAIMS, secret, "HS256"),
        ({"alg": "HS256"}, claims, PUBLIC_PEM, "HS256"),
        ({"alg": "HS512"}, claims, secret, "HS512"),
        ({"alg": "RS256"}, claims, RSA, "RS256"),
        ({"alg": "none"}, claims, secret, "HS256"),
    ]:
        assert refusal(jose.sign(header, content, key, algorithm), verifier).reason is Reason.BAD_TOKEN


def test_an_algorithm_that_the_issuer_doesnt_list() -> None:
    verifier = JwtVerifier([issuer(jose.key_set(jose.jwk(RSA)), algorithms=("PS256",))])
    assert judge(signed(CLAIMS, RSA, "PS256", alg="PS256"), verifier) is not None
    assert refusal(signed(), verifier).reason is Reason.BAD_TOKEN


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_every_algorithm(algorithm: str) -> None:
    key = jose.private_key(algorithm)
    verifier = JwtVerifier([issuer(jose.key_set(jose.jwk(key)), algorithms=(algorithm,))])
    assert judge(signed(CLAIMS, key, algorithm, alg=algorithm), verifier) is not None


def test_the_same_issuer_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="two issuers"):
        JwtVerifier([issuer(), issuer(name="again")])


def test_without_issuers_every_jwt_is_refused() -> None:
    assert refusal(signed(), JwtVerifier([])).detail.startswith("untrusted issuer")


async def test_a_key_that_isnt_at_hand_is_asked_for() -> None:
    made, keys = issuer()
    keys.late = True
    assert await JwtVerifier([(made, keys)]).verify(Secret(signed()), NOW) is not None
    assert keys.asked == [("k1", "RS256")]
    keys.late = False
    assert await JwtVerifier([(made, keys)]).verify(Secret(signed()), NOW) is not None
    assert len(keys.asked) == 1


async def test_nothing_is_asked_for_tokens_that_are_refused_anyway() -> None:
    made, keys = issuer()
    keys.late = True
    for token in (
        signed(alg="HS256"),
        signed({**CLAIMS, "iss": "https://x"}),
        signed(typ="logout+jwt"),
        signed(crit=[]),
    ):
        with pytest.raises(CredentialRefused):
            await JwtVerifier([(made, keys)]).verify(Secret(token), NOW)
    assert keys.asked == []


async def test_an_outage_is_no_verdict() -> None:
    class Down(Keys):
        async def key(self, kid: str | None, algorithm: str) -> jwk.Key | None:
            raise Unavailable(Reason.VERIFIER_UNAVAILABLE)

    with pytest.raises(Unavailable):
        await JwtVerifier([(SETTINGS, Down(jwk.KeySet([])))]).verify(Secret(signed()), NOW)


def test_generation_moves_with_the_settings() -> None:
    def generation(*issuers: tuple[IssuerSettings, Keys]) -> str:
        return JwtVerifier(issuers).generation

    assert generation(issuer()) == generation(issuer())
    changed = [
        generation(),
        generation(issuer()),
        generation(issuer(), secret_issuer()),
        generation(issuer(audience="other")),
        generation(issuer(leeway=31.0)),
        generation(issuer(types=("JWT",))),
        generation(issuer(groups_claim="groups")),
    ]
    assert len(set(changed)) == len(changed)


def test_a_key_that_is_rotated_out_changes_the_generation() -> None:
    made, keys = issuer()
    verifier = JwtVerifier([(made, keys)])
    before = verifier.generation
    assert verifier.generation == before
    keys.keys, keys.generation = jwk.from_jwks(jose.key_set(jose.jwk(EC, kid="k2")), jwk.algorithms_of(made)), 2
    assert verifier.generation not in (before, "")
    assert verifier.generation == verifier.generation
    assert refusal(signed(), verifier).reason is Reason.BAD_TOKEN


def test_revocation_ids_are_of_the_issuers_name_and_the_jti() -> None:
    assert revocation_id("corp", "id-1") == "jwt:corp:id-1"
    principal = judge(signed(without("jti")))
    assert principal is not None
    assert principal.revocation_ids == ()


def test_a_second_form_of_a_signature_has_the_same_revocation_id() -> None:
    """An ECDSA signature (r, s) is also valid as (r, n - s): the text changes, what is revoked must not."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    token = signed(CLAIMS, EC, "ES256", alg="ES256", kid="k2")
    stem, _, text = token.rpartition(".")
    signature = base64.urlsafe_b64decode(text + "==")
    flipped = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    first, second = judge(token), judge(f"{stem}.{jose.part(flipped)}")
    assert first is not None
    assert second is not None
    assert first.revocation_ids == second.revocation_ids


# --- what a refusal says ---------------------------------------------------------------------------------------


def test_details_show_kid_and_issuer_escaped_and_cut_and_nothing_else() -> None:
    shown = refusal(signed({**CLAIMS, "iss": "https://\n\x1b[31m" + "x" * 500})).detail
    assert shown.startswith("untrusted issuer 'https://\\n\\x1b[31mxxx")
    assert len(shown) < 120
    assert "'nobody'" in refusal(signed(kid="nobody")).detail


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aud": "other"}, "aud is 'other', this audience is 'AUDIENCE'"),
        ({"aud": ["a", "b"]}, "aud is ['a', 'b'], this audience is 'AUDIENCE'"),
        ({"aud": None}, "aud is absent, this audience is 'AUDIENCE'"),
        ({"aud": "\n\x1b[31m" + "x" * 500}, "aud is '\\n\\x1b[31mxxx"),
        ({"exp": CLAIMS["iat"] + 1_000_000}, "exp - iat is 1000000 s, max_lifetime is MAX s"),
    ],
)
def test_details_show_what_was_compared_and_whose_settings_these_are(changes: dict[str, Any], said: str) -> None:
    detail = refusal(signed({**CLAIMS, **changes})).detail
    said = said.replace("AUDIENCE", AUDIENCE).replace("MAX", f"{SETTINGS.max_lifetime:.0f}")
    assert detail.startswith(f"issuer corp: {said}")
    assert len(detail) < 240
    assert detail.isprintable()


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
def test_no_refusal_holds_a_part_of_the_token(token: str) -> None:
    caught = refusal(token)
    for piece in token.split("."):
        if len(piece) > 8:
            assert piece not in f"{caught!r} {caught.detail} {caught.__cause__!r}"


# --- properties ------------------------------------------------------------------------------------------------

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOKENS = [GOOD, CONTROLS["ES256"], CONTROLS["no typ"]]


def test_every_change_of_the_last_character_is_refused() -> None:
    """The last character of a signature has bits that no byte needs."""
    for token in TOKENS:
        for character in BASE64URL + "=+/. \n":
            if character != token[-1]:
                assert refusal(token[:-1] + character).reason is Reason.BAD_TOKEN


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(TOKENS),
    st.data(),
    st.sampled_from(BASE64URL + "=+/. \n\0é"),
    st.sampled_from(["replace", "insert", "delete"]),
)
def test_any_change_of_one_character_is_refused(token: str, data: st.DataObject, character: str, change: str) -> None:
    at = data.draw(st.integers(0, len(token) - 1))
    mutant = token[:at] + ("" if change == "delete" else character) + token[at + (change != "insert") :]
    if mutant == token:
        return
    judged = outcome(mutant)
    if judged is None:
        assert mutant.count(".") != 2
    else:
        assert isinstance(judged, CredentialRefused)
        assert judged.reason is Reason.BAD_TOKEN


def outcome(token: str) -> object:
    """Anything but these three escapes and fails the test."""
    try:
        return judge(token)
    except CredentialRefused as refused:
        return refused


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80) | st.lists(st.binary(max_size=40).map(jose.part), max_size=5).map(".".join))
@example("a.a.a")
@example("eyJ")
def test_any_text_is_not_mine_or_refused(text: str) -> None:
    assert not isinstance(outcome(text), Principal)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*CLAIMS, "azp", "client_id", "groups", "_claim_names", "hasgroups", "x"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_any_claims_signed_by_the_issuer_are_a_clean_principal_or_refused(changes: dict[str, Any]) -> None:
    verifier = JwtVerifier([issuer(jose.key_set(jose.jwk(EC, kid="k2")), groups_claim="groups")])
    token = signed({**CLAIMS, **changes}, EC, "ES256", alg="ES256", kid="k2")
    try:
        principal = judge(token, verifier)
    except CredentialRefused:
        return
    assert principal is not None
    assert principal.subject
    for text in (principal.subject, principal.token_id, *principal.groups):
        assert "\n" not in text
        assert "\0" not in text
        text.encode()
    assert principal.expires_at is not None
    assert NOW - SETTINGS.leeway < principal.expires_at < NOW + SETTINGS.max_lifetime + SETTINGS.leeway


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "cty", "crit", "b64", "jwk", "x5c", "zip", "enc"]), JSON, max_size=4
    )
)
def test_any_header_signed_by_somebody_else_is_refused(changes: dict[str, Any]) -> None:
    assert isinstance(outcome(jose.sign({**HEADER, **changes}, CLAIMS, b"attacker", "HS256")), CredentialRefused)


def test_claims_keep_their_types() -> None:
    claims = {
        **CLAIMS,
        "ref_protected": "true",
        "runner_id": 7,
        "tag": None,
        "ok": True,
        "f": 1.5,
        "deep": {"a.b/c": [1]},
    }
    principal = judge(signed(claims))
    assert principal is not None
    assert json.dumps(principal.claims) == json.dumps(claims)
