"""Biscuits as callers: who they are, what is refused and why, what hostile ones cost, and that nothing of the library gets out."""

import base64
import contextlib
import time
from collections.abc import Callable
from typing import Any

import biscuit_auth
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.credentials import revocation_names
from sidecar.credentials.biscuit import library, spelling, verifier, wire
from sidecar.credentials.biscuit.library import Judgement, LibraryError, PrivateKey, PublicKey
from sidecar.credentials.biscuit.profile import MATCHING_BUDGET, MOST_BLOCKS, MOST_MEMBERS
from sidecar.credentials.biscuit.verifier import BiscuitVerifier, Refusal, RootKeys
from sidecar.credentials.identities import Identities, NothingRevoked
from sidecar.credentials.opaque import revocation_id
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Action, Circumstances, Permission, PrincipalKind, Secret
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings
from tests.biscuits import (
    ALL,
    KEY,
    KEYS,
    NOW,
    READ,
    WRITE,
    holds,
    made,
    narrowed,
    permitted,
    principal,
    signed,
    verified,
)

CHECK = 'check if path($p), $p.starts_with("a/")'
CLAIMS = 'token_id("Abcdefgh1234"); subject("build"); check if time($t), $t < 2030-01-01T00:00:00Z'


def content(token: str) -> bytes:
    found = spelling.decoded(token)
    assert found is not None
    return found


def refusal(token: str, keys: RootKeys = KEYS, now: float = NOW) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as refused:
        verified(token, keys, now)
    return refused.value


# --- who it is ----------------------------------------------------------------------------------------------------------------


def test_it_says_who_and_what_it_is() -> None:
    token = made(owner="u-17")
    block = KEYS.open(content(token)).block_ids[0]
    who = principal(token)
    assert (who.kind, who.subject, who.token_id) == (PrincipalKind.BISCUIT, "build", "Abcdefgh1234")
    assert (who.family, who.expires_at, who.issued_at) == ("Abcdefgh1234", NOW + 3600, NOW)
    assert (who.owned, who.owner_id, who.bound) == (True, "u-17", True)
    assert who.limits.workspaces == {"web"}
    assert who.revocation_ids == (
        revocation_id("Abcdefgh1234"),
        revocation_names.root_key(1),
        revocation_names.block(block),
    )
    assert not principal(made()).owned


def test_every_block_has_an_id_of_its_own_and_keeps_its_parents() -> None:
    parent = made()
    child, other = narrowed(parent, CHECK), narrowed(parent, CHECK)
    grandchild = narrowed(child, CHECK)
    names = [principal(token).revocation_ids for token in (parent, child, grandchild)]
    assert names[1][: len(names[0])] == names[0]
    assert names[2][: len(names[1])] == names[1]
    assert principal(other).revocation_ids[-1] != names[1][-1]
    assert revocation_names.blocks(names[2]) == KEYS.open(content(grandchild)).block_ids


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=10))
def test_a_block_s_id_is_that_of_its_subtree_and_of_nothing_else(parents: list[int]) -> None:
    """A tree of derived tokens: whoever revokes one node reaches it and what is below it."""
    tokens, above = [made()], [frozenset({0})]
    for number, pick in enumerate(parents, 1):
        parent = pick % len(tokens)
        if len(above[parent]) > MOST_BLOCKS:
            parent = 0
        tokens.append(narrowed(tokens[parent], CHECK))
        above.append(above[parent] | {number})
    names = [set(principal(token).revocation_ids) for token in tokens]
    own = [revocation_names.block(KEYS.open(content(token)).block_ids[-1]) for token in tokens]
    for node, name in enumerate(own):
        assert {other for other, held in enumerate(names) if name in held} == {
            other for other, line in enumerate(above) if node in line
        }


def test_a_block_ends_it_sooner_and_never_later() -> None:
    sooner = narrowed(made(), "check if time($t), $t < 2027-01-15T08:10:00Z")
    assert principal(sooner).expires_at == NOW + 600
    assert refusal(sooner, now=NOW + 600).reason is Reason.EXPIRED
    later = narrowed(made(), "check if time($t), $t < 2035-01-01T00:00:00Z")
    assert principal(later).expires_at == NOW + 3600


def test_whoever_holds_an_expired_one_is_known() -> None:
    refused = refusal(made(), now=NOW + 3600)
    assert refused.reason is Reason.EXPIRED
    assert refused.principal is not None
    assert refused.principal.token_id == "Abcdefgh1234"


def test_a_check_that_names_a_workspace_binds_to_none() -> None:
    """A ceiling is for tokens that were made for a workspace; else narrowing would grant something."""
    workspace = Workspace("web", "web.yaml", "", ci_tokens=frozenset({READ}))
    free = made(workspaces=())
    for token, allowed in ((made(), True), (free, False), (narrowed(free, 'check if workspace("web")'), False)):
        who = principal(token)
        verdict = evaluate(
            workspace,
            who,
            [Action(READ, "a")],
            person=None,
            directory=False,
            exists=None,
            circumstances=Circumstances("GET", NOW),
        )
        assert verdict.allowed is allowed


def test_a_rule_for_its_kind_grants_and_its_checks_narrow() -> None:
    rule = Rule("biscuits", 1, allow=ALL, kinds=frozenset({PrincipalKind.BISCUIT}))
    workspace = Workspace("web", "web.yaml", "", rules=(rule,))

    def reason(token: str, permission: Permission, circumstances: Circumstances | None) -> Reason:
        actions = [Action(permission, "a")]
        return evaluate(
            workspace,
            principal(token),
            actions,
            person=None,
            directory=False,
            exists=None,
            circumstances=circumstances,
        ).reason

    asked = Circumstances("GET", NOW)
    assert reason(made(workspaces=()), READ, asked) is Reason.GRANTED
    assert reason(made(workspaces=()), Permission.DELETE, asked) is Reason.TOKEN_LIMIT
    assert reason(made(workspaces=()), READ, None) is Reason.TOKEN_LIMIT
    assert reason(made(workspaces=("docs",)), READ, asked) is Reason.WRONG_WORKSPACE


# --- what is not one, and what is a bad one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "eyJhbGciOiJIUzI1NiJ9.e30.x", "asc_ci_x", "E", "Eg==x", "Zm9v", "E" * 4])
def test_what_is_spelled_otherwise_is_not_mine(text: str) -> None:
    assert verified(text) is None


def test_without_keys_nothing_is_a_biscuit() -> None:
    assert verified(made(), RootKeys()) is None


def test_padding_says_nothing() -> None:
    token = made()
    assert principal(token.rstrip("=")).revocation_ids == principal(token).revocation_ids


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (lambda: made(PrivateKey.fresh()), "signature is wrong"),
        (lambda: made(key_id=7), "root key 7 is unknown, or retired"),
        (lambda: signed("check if time($t), $t < 2030-01-01T00:00:00Z"), "token_id"),
        (lambda: signed(f'{CLAIMS}; subject("other")'), "subject once"),
        (lambda: signed('token_id("Abcdefgh1234"); subject("build")'), "never ends"),
        (lambda: signed(CLAIMS.replace("Abcdefgh1234", "a b")), "its id or its subject"),
        (lambda: signed(CLAIMS.replace("build", "bu\u0007ild")), "its id or its subject"),
        (lambda: signed(f"{CLAIMS}; admin($x) <- subject($x)"), "no rules"),
        (lambda: spelling.encoded(b"\x12\x00" + b"\x12" * 4100), "longer than 4096 bytes"),
        (lambda: "Eg" + "A" * 5000, "malformed"),
        (lambda: made()[:-8], "malformed"),
    ],
)
def test_bad_ones(token: Callable[[], str], reason: str) -> None:
    refused = refusal(token())
    assert refused.reason is Reason.BAD_TOKEN
    assert reason in refused.detail


def test_without_a_root_key_id_it_is_refused() -> None:
    key = biscuit_auth.KeyPair()
    token = biscuit_auth.BiscuitBuilder(CLAIMS).build(key.private_key).to_base64()
    assert "no root key id" in refusal(token, RootKeys({1: repr(key.public_key)})).detail


def test_the_root_key_id_is_not_signed_and_that_helps_nobody() -> None:
    """The same key under two ids: revoking everything under an id reaches what names it, so a key has one id alone."""
    moved = spelling.encoded(b"\x08\x02" + content(made())[2:])
    assert "root key 2 is unknown" in refusal(moved).detail


def test_only_ed25519_keys() -> None:
    with pytest.raises(LibraryError):
        RootKeys({1: "secp256r1/" + "02" * 33})
    with pytest.raises(LibraryError):
        PublicKey("ed25519/00")


def third_party() -> str:
    stranger = biscuit_auth.KeyPair()
    token = biscuit_auth.Biscuit.from_base64(made(), biscuit_auth.PublicKey(KEY.public))
    block = token.third_party_request().create_block(stranger.private_key, biscuit_auth.BlockBuilder(CHECK))
    return str(token.append_third_party(stranger.public_key, block).to_base64())


def test_blocks_of_third_parties_are_refused() -> None:
    assert "somebody else has signed" in refusal(third_party()).detail


def doubled(token: str, harmless: str) -> str:
    """The last block stands twice in its signed form: first a harmless one, then the one that is signed."""
    found = content(token)
    shell = narrowed(made(), harmless)
    fields = list(wire._read_fields(found))
    last = max(place for place, (number, _) in enumerate(fields) if number == 3)
    good = dict(wire._read_fields([value for number, value in wire._read_fields(content(shell)) if number == 3][-1]))
    out = b""
    for place, (number, value) in enumerate(fields):
        if isinstance(value, int):
            out += _tag(number, 0) + _varint(value)
            continue
        body = _tag(1, 2) + _varint(len(good[1])) + good[1] + value if place == last else value
        out += _tag(number, 2) + _varint(len(body)) + body
    return spelling.encoded(out)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


SLOW = "; ".join(f'a("{number}")' for number in range(20)) + "; check if a($x), a($y), a($z), a($v), a($w)"


def test_what_is_examined_is_what_the_library_reads() -> None:
    """The library takes the last of two fields and a reader of the sent bytes could take the first."""
    token = doubled(narrowed(made(), SLOW), CHECK)
    biscuit_auth.Biscuit.from_base64(token, biscuit_auth.PublicKey(KEY.public))  # it is accepted there
    with pytest.raises(wire.Malformed, match="stands twice"):
        wire.blocks(content(token))
    assert "holds checks alone" in refusal(token).detail


@given(st.binary(max_size=200))
def test_noise_is_malformed_and_nothing_worse(noise: bytes) -> None:
    for prefix in (b"", b"\x08\x01\x12", content(made())[:-60]):
        with pytest.raises(Refusal):
            KEYS.open(prefix + noise)
        with contextlib.suppress(wire.Malformed):
            wire.blocks(prefix + noise)


def test_what_is_nested_deeply_ends_nothing() -> None:
    term = b""
    for _ in range(500):
        term = b"\x4a" + _varint(len(term) + 2) + b"\x0a" + _varint(len(term)) + term if len(term) < 3000 else term
    with pytest.raises(wire.Malformed):
        wire._term(term, [])


def test_a_key_that_is_no_text_is_refused() -> None:
    assert not holds(made(), path="a\udcff")


def test_bytes_changed_anywhere_are_refused() -> None:
    token = content(narrowed(made(), CHECK))
    for place in range(2, len(token)):
        broken = token[:place] + bytes([token[place] ^ 0x41]) + token[place + 1 :]
        with pytest.raises(Refusal):
            KEYS.open(broken)


# --- what its checks are asked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "asked"),
    [
        ('check if operations({"store:read"})', {}),
        ("check if time($t), $t == 2027-01-15T08:00:00Z", {}),
        ('check if workspace("docs")', {"workspace": "docs"}),
        ('check if path("a/\u00e9/ b")', {"path": "a/\u00e9/ b"}),
        ('check if method("HEAD")', {"method": "HEAD"}),
        ('check if setting("channel", "stable")', {"settings": {"channel": "stable"}}),
        ('check if token_id("Abcdefgh1234")', {}),
        ('check if client_ip("203.0.113.7")', {"client_ip": "203.0.113.7"}),
    ],
)
def test_every_published_fact_is_supplied(check: str, asked: dict[str, Any]) -> None:
    other = {"workspace": "docsx", "path": "b", "method": "PUT", "settings": {}, "client_ip": "", "permission": WRITE}
    token = narrowed(made(workspaces=(), permissions=None), check)
    assert holds(token, **asked)
    if "token_id" not in check:
        assert not holds(token, **{**other, "now": NOW + 1})


def test_a_check_on_a_fact_that_is_not_there_fails_whichever_way_it_is_written() -> None:
    for check in ('check if client_ip($ip), $ip != "1.2.3.4"', 'check if setting("a", $v), $v != "b"'):
        assert not holds(narrowed(made(), check))


def test_settings_are_looked_up_where_the_workspace_is() -> None:
    token = narrowed(made(workspaces=()), 'check if setting("channel", "stable")')
    limits = principal(token).limits
    assert limits.checks is not None
    stable, beta = {"channel": "stable"}, {"channel": "beta"}
    for workspace, known, held in (("a", stable, True), ("b", beta, False), ("a", beta, False), ("a", stable, True)):
        asked = (workspace, known, READ, Action(READ, "k"), Circumstances("GET", NOW))
        assert limits.checks.hold(*asked) is held


def test_operations_of_each_permission() -> None:
    assert permitted(made()) == {READ, WRITE}
    assert permitted(made(permissions=None)) == ALL
    assert permitted(made(permissions=frozenset({Permission.OVERWRITE}))) == {Permission.OVERWRITE}
    assert permitted(made(permissions=frozenset({WRITE, Permission.OVERWRITE}))) == {WRITE, Permission.OVERWRITE}
    no_writes = narrowed(made(permissions=None), 'check if operations($o), !$o.contains("store:write")')
    assert permitted(no_writes) == ALL - {WRITE, Permission.OVERWRITE}


@pytest.mark.parametrize(
    ("check", "key", "allowed"),
    [
        ('check if path($p), $p.starts_with("a/")', "a/b", True),
        ('check if path($p), $p == "a" or path($p), $p.starts_with("a/")', "a", True),
        ('check if path($p), $p.starts_with("a/")', "a", False),
        ('check if path($p), $p == "a"', "a", False),
        ('check if path($p), $p.starts_with("")', "", True),
        ('check if path($p), $p.starts_with("a/b")', "a", False),
        ('check if path($p), !$p.starts_with("b")', "a", False),
        ('check if path($p), $p.ends_with("a")', "a", False),
        ('check if path($p), $p.matches("^a(/.*)?$")', "a", False),
        ('check if method("GET")', "a", True),
    ],
)
def test_an_action_on_a_tree_needs_checks_that_hold_of_every_key_in_it(check: str, key: str, allowed: bool) -> None:
    assert holds(narrowed(made(), check), READ, key, below=True) is allowed


# --- what fails ---------------------------------------------------------------------------------------------------------------


class Panic(BaseException):
    """As the library's `PanicException`: no `Exception`."""


def test_a_panic_of_the_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object) -> None:
        raise Panic("internal error: entered unreachable code")

    token = made()
    limits = principal(token).limits
    with monkeypatch.context() as patched:
        patched.setattr(library.biscuit_auth.Biscuit, "from_bytes", panic, raising=False)
        assert refusal(token).reason is Reason.BAD_TOKEN
    monkeypatch.setattr(library, "run", panic)
    assert limits.checks is not None
    assert not limits.checks.hold("web", {}, READ, Action(READ, "a"), Circumstances("GET", NOW))


def test_a_panic_of_the_real_library_is_contained() -> None:
    authorizer = biscuit_auth.AuthorizerBuilder('a({"b"}); allow if true').build_unauthenticated()
    [found] = authorizer.query(biscuit_auth.Rule("u($x) <- a($x)"))
    with pytest.raises(LibraryError, match="PanicException"):
        library.contained(lambda: found.terms)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_passed_on(stop: type[BaseException]) -> None:
    def leave() -> None:
        raise stop

    with pytest.raises(stop):
        library.contained(leave)


async def test_checks_that_are_late_are_an_outage_that_nobody_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    token = Secret(made(expires_at=int(time.time()) + 600))
    identities = Identities([BiscuitVerifier(KEYS)], NothingRevoked(), IdentityCacheSettings())
    workspace = Workspace("web", "web.yaml", "", ci_tokens=frozenset({READ}))

    async def asked() -> bool:
        who, _ = await identities.identify(token, time.time())
        circumstances = Circumstances("GET", time.time())
        actions = [Action(READ, "a")]
        return evaluate(
            workspace, who, actions, person=None, directory=False, exists=None, circumstances=circumstances
        ).allowed

    limits = library._limits()
    longest = limits.max_time
    assert longest.total_seconds() >= 0.25
    assert await asked()
    limits.max_time = longest * 0
    try:
        with pytest.raises(Unavailable) as late:
            await asked()
    finally:
        limits.max_time = longest
    assert late.value.reason is Reason.CHECKS_LATE
    assert await asked()


def test_judgements_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = KEYS.open(content(made()))
    facts = [library.fact('operations({"store:read"})', {}), library.fact('workspace("web")', {})]
    assert opened.verified.judge(facts) is Judgement.FAILS  # the time is missing
    facts.append(verifier._at(NOW))
    assert opened.verified.judge(facts) is Judgement.HOLDS


def test_private_keys_are_not_printed() -> None:
    assert repr(KEY) == "<private key>"
    assert KEY.pem.decode() not in f"{KEY!r} {KEY}"
    assert PrivateKey.of_pem(KEY.pem).public == KEY.public
    with pytest.raises(LibraryError):
        PrivateKey.of_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


# --- what hostile ones cost ---------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    """The best of some: what it costs and not what the machine does besides."""
    best = 1e9
    for _ in range(7):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def in_profile_and_heavy() -> dict[str, str]:
    """The most that fits: blocks, checks, alternatives that fail one by one, joins, expressions that fill the budget."""
    alternatives = " or ".join(
        'path($p), method($m), token_id($t), $p != "x", $m != "Y", $t != "z", $p == "k"' for _ in range(3)
    )
    dots = "." * (MATCHING_BUDGET // 5)
    return {
        "blocks": narrowed(made(), *[CHECK.replace("a/", "")] * 8),
        "alternatives": narrowed(made(), *[f'check if {alternatives} or path("a")'] * 3),
        "expressions": narrowed(made(), f'check if path($p), $p.matches("^{dots}$") or path("a")'),
        "checks": narrowed(made(), *["; ".join(f'check if path($p), $p != "{n}"' for n in range(6))] * 2),
        "large set": narrowed(
            made(),
            "check if path($p), {"
            + ", ".join(f'"{n:04}"' for n in range(MOST_MEMBERS - 4))
            + '}.contains($p) or path("a")',
        ),
    }


def out_of_profile() -> dict[str, str]:
    token = content(made())
    return {
        "joins": narrowed(made(), SLOW),
        "closures": narrowed(
            made(),
            "check if operations($o), [1,2,3,4].all($a -> [1,2,3,4].all($b -> [1,2,3,4].all($c -> $a + $b + $c > 0)))",
        ),
        "thirty blocks": narrowed(made(), *["check if true"] * 18),
        "empty fields": spelling.encoded(token + b"\x1a\x00" * ((spelling.MAX_BYTES - len(token)) // 2)),
        "unknown fields": spelling.encoded(token + b"\x78\x00" * ((spelling.MAX_BYTES - len(token)) // 2)),
        "symbols": narrowed(made(), "; ".join(f'check if path("{n:03}")' for n in range(80))),
        "many operators": narrowed(made(), f'check if path($p), {"!" * 250}($p == "a")'),
        "nested arrays": narrowed(made(), f"check if path($p), $p == {'[' * 40}{']' * 40}"),
        "no signature": spelling.encoded(token[:-40] + bytes(40)),
    }


HOSTILE = {**in_profile_and_heavy(), **out_of_profile()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_costs_less_than_ten_honest_ones(name: str) -> None:
    def all_of_it(token: str) -> None:
        try:
            limits = verifier.principal_of(KEYS.open(content(token)), NOW).limits
        except Refusal:
            return
        assert limits.checks is not None
        limits.checks.hold("web", {}, READ, Action(READ, "a"), Circumstances("GET", NOW))

    honest, hostile = made(), HOSTILE[name]
    ratio = seconds(lambda: [all_of_it(hostile) for _ in range(5)]) / seconds(
        lambda: [all_of_it(honest) for _ in range(5)]
    )
    assert ratio < 10, f"{name} costs as much as {ratio:.1f} honest ones"


@pytest.mark.parametrize("name", in_profile_and_heavy())
def test_so_does_asking_its_checks_again(name: str) -> None:
    def ask(token: str) -> Callable[[], object]:
        checks = principal(token).limits.checks
        assert checks is not None
        asked = ("web", {}, READ, Action(READ, "a"), Circumstances("GET", NOW))
        return lambda: [checks.hold(*asked) for _ in range(20)]

    ratio = seconds(ask(HOSTILE[name])) / seconds(ask(made()))
    assert ratio < 10, f"{name} costs as much as {ratio:.1f} honest ones"


def test_base64_of_other_alphabets_is_no_biscuit() -> None:
    plain = base64.b64encode(content(made())).decode()
    assert ("+" in plain or "/" in plain) <= (spelling.decoded(plain) is None)
