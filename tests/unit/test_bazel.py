"""Bazel: `ac/` and `cas/` are different things."""

import pytest
from msgspec import structs

from sidecar.errors import Refused
from sidecar.model import ANONYMOUS, Action, Permission, Principal, PrincipalKind
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.profiles import PROFILES
from sidecar.reasons import REASONS, Reason
from tests.unit.clients import errand, forwarded, route, statuses

HASH = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
GET = f"""
GET /ws/ac/{HASH} HTTP/1.1
host: 127.0.0.1:18085
connection: keep-alive
accept: */*
accept-encoding: gzip
Authorization: Bearer tok-abc
user-agent: bazel/
"""
PUT = f"""
PUT /ws/cas/{HASH} HTTP/1.1
host: 127.0.0.1:18085
accept: */*
content-length: 3
connection: keep-alive
Authorization: Bearer tok-abc
user-agent: bazel/
"""
OPEN = route("bazel", cas_writes_open=True)


def test_reads() -> None:
    for place in ("ac", "cas"):
        found = errand(GET.replace("/ac/", f"/{place}/"), route("bazel"))
        assert found.actions == (Action(Permission.READ, f"{place}/{HASH}"),)
        assert (found.path, found.sha256) == (f"/keys/{place}/{HASH}", None)
        assert set(forwarded(found)) == {"accept", "accept-encoding", "user-agent"}


def test_a_blob_is_held_to_its_name_and_replaces_nothing() -> None:
    found = errand(PUT, route("bazel"))
    assert found.sha256 == HASH
    assert found.actions == (Action(Permission.WRITE, f"cas/{HASH}"),)


def test_an_action_is_held_to_nothing() -> None:
    for at in (route("bazel"), OPEN):
        found = errand(PUT.replace("/cas/", "/ac/"), at)
        assert found.sha256 is None
        assert found.actions == (Action(Permission.WRITE, f"ac/{HASH}", creates=True),)


@pytest.mark.parametrize(
    "path", ["", "ac", f"ac/{HASH}/", f"{HASH}", f"cas/ac/{HASH}x/", f"AC/{HASH}", f"CAS/{HASH}", f"ac/cas/{HASH}/x", "ac/a.b", "x/y"]
)  # fmt: skip
def test_anything_else_is_unknown(path: str) -> None:
    with pytest.raises(Refused) as refused:
        errand(f"PUT /ws/{path} HTTP/1.1", OPEN)
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


@pytest.mark.parametrize("name", [HASH.upper(), HASH[1:], HASH + "0", "x" * 64])
def test_a_blob_s_name_has_one_form(name: str) -> None:
    for method in ("GET", "PUT"):
        with pytest.raises(Refused) as refused:
            errand(f"{method} /ws/cas/{name} HTTP/1.1", OPEN)
        assert refused.value.reason is Reason.BODY_MISMATCH


def test_what_stands_last_decides_which_of_the_two_it_is() -> None:
    """A store takes the whole path for the key, so that `ac` further up makes no blob an action."""
    assert errand(f"PUT /ws/ac/cas/{HASH} HTTP/1.1", OPEN).sha256 == HASH
    found = errand(f"PUT /ws/cas/ac/{HASH} HTTP/1.1", OPEN)
    assert (found.sha256, found.actions[0].proved) == (None, False)


def judge(action: Action, level: Permission, *rules: Rule, principal: Principal = ANONYMOUS) -> Reason:
    workspace = Workspace("ws", "ws.yaml", "", anonymous=frozenset({level}), ci_tokens=frozenset({level}), rules=rules)
    return evaluate(workspace, principal, (action,), person=None, directory=False, exists=None).reason


def test_where_it_is_open_whoever_may_read_may_write_blobs() -> None:
    (blob,) = errand(PUT, OPEN).actions
    (action,) = errand(PUT.replace("/cas/", "/ac/"), OPEN).actions
    assert judge(blob, Permission.READ) is Reason.GRANTED
    assert judge(blob, Permission.WRITE) is Reason.NO_RULE
    assert judge(action, Permission.READ) is Reason.NO_RULE
    assert judge(errand(PUT, route("bazel")).actions[0], Permission.READ) is Reason.NO_RULE
    for denied in (Permission.READ, Permission.WRITE):
        rule = Rule("no", 1, deny=frozenset({denied}))
        assert judge(blob, Permission.READ, rule) is Reason.RULE_DENY


def test_a_token_for_reading_alone_writes_blobs_and_one_for_another_path_doesn_t() -> None:
    (blob,) = errand(PUT, OPEN).actions
    token = Principal(PrincipalKind.CI, "ci", workspace="ws")
    for limits, reason in (
        ({"permissions": frozenset({Permission.READ})}, Reason.GRANTED),
        ({"permissions": frozenset({Permission.WRITE})}, Reason.TOKEN_LIMIT),
        ({"path": "ac/**"}, Reason.TOKEN_LIMIT),
    ):
        limited = structs.replace(token, limits=structs.replace(token.limits, **limits))
        assert judge(blob, Permission.READ, principal=limited) is reason


def test_a_verb_of_the_route_s_own_is_not_opened() -> None:
    at = structs.replace(OPEN, verbs={"PUT": Permission.ADMIN})
    (action,) = errand(PUT, at).actions
    assert (action.permission, action.proved) == (Permission.ADMIN, False)
    with pytest.raises(Refused):
        errand(PUT.replace("PUT", "POST"), structs.replace(OPEN, verbs={"POST": Permission.WRITE}))


def test_statuses_are_the_reasons_own() -> None:
    for method in ("GET", "PUT"):
        assert statuses("bazel", method) == {reason: row.status for reason, row in REASONS.items() if row.status >= 400}


def test_what_a_store_says() -> None:
    bazel = PROFILES["bazel"]
    assert [bazel.answered("PUT", status) for status in (200, 201, 204, 500)] == [200, 201, 204, 500]
    assert bazel.answered("PUT", 412) is Reason.EXISTS
    assert bazel.answered("GET", 412) == 412
