"""One record: the same keys always, whatever came in; no credential in it; never longer than its limit."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.audit.access import Access, Completion, Delivery, Key, delivery
from sidecar.audit.record import Records
from sidecar.audit.record_id import record_id
from sidecar.audit.schema import RECORD_LIMIT, STRING_LIMIT, Instance
from sidecar.cli.token_scopes import parse as scope_of
from sidecar.model import ANONYMOUS, Action, Limits, Permission, Principal, PrincipalKind, Scope, Secret
from sidecar.reasons import Outcome, Reason
from sidecar.tokens import WantedScope

KEY = b"k" * 32
NOW = 1_795_321_501.123456
RECORDS = Records(Instance(pod="store-0", version="1.4.0"), KEY)
ADA = Principal(
    kind=PrincipalKind.PERSONAL,
    subject="ada@example.com",
    groups=frozenset({"web-team", "all"}),
    token_id="0123456789ab",
    token_name="laptop",
    limits=Limits(permissions=frozenset({Permission.READ})),
    expires_at=NOW + 60,
)
TOKEN = "asc_pat_0123456789ab_" + "s" * 43 + "abc123"
DONE = Completion(status=200, duration=0.0124, bytes_in=3, bytes_out=182, upstream_status=200)

KEYS = {
    "": "v id time duration_ms kind action stage outcome reason severity workspace request response client actor resource "
    "decision changes instance trace chain",
    "request": "id protocol method host path query user_agent bytes operation",
    "response": "status bytes upstream_status upstream_request_id aborted",
    "client": "ip peer_ip forwarded tls",
    "client.tls": "version cert_sha256",
    "actor": "type token_id token_name owner principal groups auth_method scopes token_expires unknown_token_hmac root_id parent blocks jti claims",
    "resource": "store container name version digest path",
    "decision": "rule policy_sha256 policy_generation token_state_seq staleness_ms cache detail would_deny",
    "instance": "pod namespace node version replica",
    "trace": "trace_id span_id",
}


def keys(record: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {prefix: " ".join(record)}
    for name, value in record.items():
        if isinstance(value, dict) and name != "changes":
            found |= keys(value, f"{prefix}.{name}".lstrip("."))
    return found


def access(**fields: Any) -> Access:
    known: dict[str, Any] = {
        "request_id": "r-1",
        "method": "GET",
        "path": "/web/a",
        "peer": "10.1.2.3",
        "profile": "plain",
    }
    return Access(**(known | fields))


def made(fields: Access, end: Completion | None = DONE) -> dict[str, Any]:
    line = RECORDS.access(fields, NOW, end)
    assert b"\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_token_for_several_places_is_told_with_its_scopes_as_they_are_written() -> None:
    scopes = (Scope("web", frozenset({Permission.READ, Permission.WRITE}), "a/**"), Scope("docs"))
    builder = replace(ADA, limits=Limits(scopes=scopes))
    told = made(access(principal=builder))["actor"]["scopes"]
    assert told == ["workspace=docs", "workspace=web,path=a/**,permissions=read+write"]
    assert tuple(map(scope_of, told)) == (WantedScope("docs"), WantedScope("web", "a/**", ("read", "write")))


EVERY_KIND = {
    "complete": RECORDS.access(access(principal=ADA, actions=(Action(Permission.READ, "a"),)), NOW, DONE),
    "intent": RECORDS.access(access(principal=ADA, actions=(Action(Permission.WRITE, "a"),)), NOW),
    "anonymous": RECORDS.access(access(principal=ANONYMOUS), NOW, DONE),
    "unknown": RECORDS.access(access(unknown_token=Secret(TOKEN)), NOW, DONE),
    "nobody": RECORDS.access(access(), NOW, DONE),
    "long": RECORDS.access(access(user_agent="x" * 100_000), NOW, DONE),
    "token": RECORDS.token_event(
        "revoke", NOW, token_id="0123456789ab", by="root", kind=PrincipalKind.CI, workspace="web"
    ),
    "policy": RECORDS.policy_event(
        "reject", NOW, workspace="web", sha256="ab", problems=("policies/web.yaml:3 $: no",)
    ),
    "system": RECORDS.system("gap", NOW, severity="error", changes={"count": 3}),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_record_has_exactly_the_same_keys(kind: str) -> None:
    assert keys(json.loads(EVERY_KIND[kind])) == KEYS


def test_only_a_requests_first_record_has_its_id() -> None:
    write = access(principal=ADA, actions=(Action(Permission.WRITE, "a"),))
    intent = json.loads(RECORDS.access(write, NOW))
    completion = json.loads(RECORDS.access(write, NOW, DONE, follows=True))
    assert intent["id"] == intent["request"]["id"] == completion["request"]["id"] == "r-1"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", completion["id"])


def test_a_request_is_told_whole() -> None:
    record = made(
        access(
            query="versionId=3",
            host="store.example",
            user_agent="curl/8",
            workspace="web",
            upstream="artifacts",
            actions=(Action(Permission.READ, "k x"),),
            principal=ADA,
            carrier="bearer",
            rule="members",
            policy_sha256="ab" * 32,
            policy_generation=7,
            token_state_seq=4711,
            staleness=0.18,
            cache="hit",
        )
    )
    assert record.pop("id") == "r-1"
    assert record == {
        "v": "sidecar.audit/v1",
        "time": "2026-11-22T04:25:01.123456Z",
        "duration_ms": 12.4,
        "kind": "access",
        "action": "object.read",
        "stage": "complete",
        "outcome": "allow",
        "reason": "granted",
        "severity": "info",
        "workspace": "web",
        "request": {
            "id": "r-1",
            "protocol": "plain",
            "method": "GET",
            "host": "store.example",
            "path": "/web/a",
            "query": "versionId=3",
            "user_agent": "curl/8",
            "bytes": 3,
            "operation": None,
        },
        "response": {
            "status": 200,
            "bytes": 182,
            "upstream_status": 200,
            "upstream_request_id": None,
            "aborted": False,
        },
        "client": {
            "ip": "10.1.2.3",
            "peer_ip": "10.1.2.3",
            "forwarded": None,
            "tls": {"version": None, "cert_sha256": None},
        },
        "actor": {
            "type": "personal",
            "token_id": "0123456789ab",
            "token_name": "laptop",
            "owner": "ada@example.com",
            "principal": "ada@example.com",
            "groups": ["all", "web-team"],
            "auth_method": "bearer",
            "scopes": ["read"],
            "token_expires": "2026-11-22T04:26:01.123456Z",
            "unknown_token_hmac": None,
            "root_id": None,
            "parent": None,
            "blocks": None,
            "jti": None,
            "claims": None,
        },
        "resource": {
            "store": "artifacts",
            "container": None,
            "name": "k x",
            "version": None,
            "digest": None,
            "path": None,
        },
        "decision": {
            "rule": "members",
            "policy_sha256": "ab" * 32,
            "policy_generation": 7,
            "token_state_seq": 4711,
            "staleness_ms": 180,
            "cache": "hit",
            "detail": None,
            "would_deny": None,
        },
        "changes": None,
        "instance": {"pod": "store-0", "namespace": None, "node": None, "version": "1.4.0", "replica": None},
        "trace": {"trace_id": None, "span_id": None},
        "chain": None,
    }


def further(*names: str, end: Completion | None = None, **fields: Any) -> list[dict[str, Any]]:
    """Of a request that deletes `first` and these."""
    others = tuple(Key(Permission.DELETE, name, f"/web/{name}", "web", "artifacts", "bkt") for name in names)
    asked = access(
        principal=ADA, actions=(Action(Permission.DELETE, "first"),), further=others, **{"workspace": "web", **fields}
    )
    lines = list(RECORDS.further(asked, NOW, end))
    assert all(len(each) <= RECORD_LIMIT for each in lines)
    return [json.loads(each) for each in lines]


@pytest.mark.parametrize("end", [None, DONE])
def test_each_key_of_a_request_has_a_record_that_says_the_same_of_all_else(end: Completion | None) -> None:
    first = made(access(principal=ADA, workspace="web", actions=(Action(Permission.DELETE, "first"),)), end)
    told = further("a b", 'q"\\', "\u00e9", end=end, operation="DeleteObjects")
    assert [each["resource"]["name"] for each in told] == ["a b", 'q"\\', "\u00e9"]
    assert {each["resource"]["path"] for each in told} == {"/web/a b", '/web/q"\\', "/web/\u00e9"}
    assert len({each["id"] for each in [first, *told]}) == 4
    for each in told:
        assert keys(each) == KEYS
        assert (each["action"], each["stage"], each["workspace"]) == ("object.delete", first["stage"], "web")
        assert each["request"] == {**first["request"], "operation": "DeleteObjects"}
        assert all(each[part] == first[part] for part in ("response", "client", "actor", "decision", "changes"))


def test_a_thousand_keys_take_no_more_than_their_names_and_little_besides() -> None:
    """Else one request of a few kilobytes writes megabytes, and turns the files over that hold what was done before."""
    told = further(*["k" * 1000] * 3, user_agent="x" * 5000, query="y" * 5000, path="/z" * 3000, host="\x7f" * 300)
    assert [len(json.dumps(each)) < 8192 for each in told] == [True] * 3
    assert {each["resource"]["name"] for each in told} == {"k" * 1000}
    (odd,) = further("\udc80", user_agent="\udc80")
    assert odd["resource"]["name"] == "\\udc80"
    assert "s" * 43 not in str(further(f"{TOKEN}/x"))


def test_nothing_that_is_asked_crowds_out_which_key_it_is_of() -> None:
    crowd = '"' * 2048
    noisy = replace(ADA, groups=frozenset(f"{number}{crowd}" for number in range(64)))
    wanted = access(
        principal=noisy, actions=(Action(Permission.WRITE, "k" * 1024),), query=crowd, user_agent=crowd, host=crowd
    )
    assert made(wanted)["resource"]["name"] == "k" * 1024


def test_an_intent_has_no_end_yet_and_the_id_of_its_completion() -> None:
    fields = access(actions=(Action(Permission.WRITE, "a"),), principal=ADA)
    intent, complete = made(fields, None), made(fields)
    assert (intent["stage"], complete["stage"]) == ("intent", "complete")
    assert intent["request"]["id"] == complete["request"]["id"]
    assert (intent["response"]["status"], intent["duration_ms"], intent["request"]["bytes"]) == (None, None, None)


def test_the_end_may_differ_from_the_decision() -> None:
    end = Completion(status=504, duration=30.0, reason=Reason.UPSTREAM_TIMEOUT, outcome=Outcome.ERROR, aborted=True)
    record = made(access(principal=ADA), end)
    assert (record["outcome"], record["reason"], record["severity"]) == ("error", "upstream_timeout", "error")
    assert record["response"]["aborted"] is True


def test_a_folder_has_a_slash_and_a_move_tells_where_to() -> None:
    tree = Action(Permission.DELETE, "a", below=True)
    assert made(access(actions=(tree,)))["resource"]["name"] == "a/"
    assert made(access(actions=(tree,)))["changes"] is None
    moved = (Action(Permission.READ, "a"), Action(Permission.DELETE, "a"), Action(Permission.WRITE, f"b/{TOKEN}", True))
    told = made(access(actions=moved))
    assert told["resource"]["name"] == "a"
    assert told["changes"]["destination"].startswith("b/")
    assert TOKEN not in told["changes"]["destination"]
    into = (Action(Permission.READ, "a", below=True), Action(Permission.WRITE, "b", True, below=True))
    assert made(access(actions=into))["changes"] == {"destination": "b/"}


def test_several_actions_are_named_by_the_strongest() -> None:
    moved = (Action(Permission.READ, "a"), Action(Permission.DELETE, "a"), Action(Permission.WRITE, "b"))
    assert made(access(actions=moved))["action"] == "object.delete"


def test_no_secret_reaches_a_record_by_any_field() -> None:
    line = RECORDS.access(
        access(
            method=TOKEN,
            path=f"/web/{TOKEN}",
            query=f"access_token={TOKEN}&x={TOKEN}&password=hunter2hunter2",
            host=TOKEN,
            user_agent=f"curl {TOKEN}",
            actions=(Action(Permission.READ, TOKEN),),
            unknown_token=Secret(TOKEN),
        ),
        NOW,
        DONE,
    )
    event = RECORDS.token_event("create", NOW, token_id="id", changes={"token": Secret(TOKEN), "deep": [Secret(TOKEN)]})
    for text in (line, event):
        assert TOKEN.encode() not in text
        assert b"s" * 43 not in text
        assert b"hunter2" not in text


HOSTILE = st.text(
    alphabet=st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from('\x00\n\r\u2028"\\\x7f')),
    max_size=300,
)


@settings(max_examples=150, deadline=None)
@given(HOSTILE, st.integers(1, 400), HOSTILE)
def test_hostile_text_stays_one_line_of_valid_json_with_the_same_keys(text: str, times: int, name: str) -> None:
    big = text * times
    principal = Principal(
        kind=PrincipalKind.JWT, subject=big, token_name=big, groups=frozenset(big[:200]) | {big}, issuer="corp"
    )
    fields = access(
        **dict.fromkeys(("method", "path", "query", "host", "user_agent", "workspace", "upstream", "client_ip"), big),
        actions=(Action(Permission.READ, big),),
        forwarded=tuple([big] * 50),
        principal=principal,
        rule=big,
    )
    line = RECORDS.access(fields, NOW, DONE)
    assert b"\n" not in line
    assert len(line) <= RECORD_LIMIT
    assert keys(json.loads(line.decode("utf-8"))) == KEYS
    event = RECORDS.system("x", NOW, changes={name: big, "many": [big] * 500, "deep": {name: {name: [big] * 90}}})
    assert len(event) <= RECORD_LIMIT
    assert keys(json.loads(event)) == KEYS


def test_a_long_text_is_cut_and_says_so() -> None:
    agent = json.loads(EVERY_KIND["long"])["request"]["user_agent"]
    assert agent == "x" * (STRING_LIMIT - 1) + "…"
    exactly = made(access(user_agent="x" * STRING_LIMIT))["request"]["user_agent"]
    assert exactly == "x" * STRING_LIMIT


def test_lone_surrogates_are_written_as_their_escape() -> None:
    assert made(access(user_agent="a\udc80b"))["request"]["user_agent"] == "a\\udc80b"


def test_ids_sort_by_time_and_differ() -> None:
    assert record_id(1000.0) < record_id(1000.002) < record_id(2_000_000_000.0)
    assert len({record_id(NOW) for _ in range(2000)}) == 2000


@pytest.mark.parametrize(
    ("fields", "owed"),
    [
        ({"actions": (Action(Permission.READ, "a"),), "principal": ADA}, Delivery.RELAXED),
        ({"actions": (), "principal": ADA}, Delivery.RELAXED),
        ({"actions": (Action(Permission.WRITE, "a"),), "principal": ADA}, Delivery.STRICT),
        ({"actions": (Action(Permission.WRITE, "a"),), "principal": ANONYMOUS}, Delivery.STRICT),
        ({"actions": (Action(Permission.OVERWRITE, "a"),), "principal": ADA}, Delivery.STRICT),
        ({"actions": (Action(Permission.ADMIN, "a"),), "principal": ADA}, Delivery.STRICT),
        (
            {"actions": (Action(Permission.READ, "a"), Action(Permission.DELETE, "a")), "principal": ADA},
            Delivery.STRICT,
        ),
        ({"outcome": Outcome.DENY, "principal": ADA, "actions": (Action(Permission.READ, "a"),)}, Delivery.STRICT),
        ({"outcome": Outcome.ERROR, "principal": ADA}, Delivery.STRICT),
        (
            {"outcome": Outcome.DENY, "principal": ANONYMOUS, "actions": (Action(Permission.WRITE, "a"),)},
            Delivery.COUNTED,
        ),
        ({"outcome": Outcome.UNAUTHENTICATED, "principal": None}, Delivery.COUNTED),
    ],
)
def test_what_law_8_owes(fields: dict[str, Any], owed: Delivery) -> None:
    decided = access(**fields)
    assert delivery(decided.outcome, decided.reason, decided.principal, decided.actions) is owed
