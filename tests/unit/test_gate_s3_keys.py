"""Keys that a store may read in two ways: no spelling of a key grants what its plain one doesn't.

Stores that keep keys as files read `a//b` as `a/b`. The property holds for each place where a request of an S3 client names keys.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from sidecar.decision import Decision
from sidecar.gate import Gate
from sidecar.model import NOTHING, Action, Limits, Permission, Principal, PrincipalKind
from sidecar.policy.buckets import as_file
from sidecar.policy.compiled import Route, Rule, Workspace
from sidecar.policy.glob import Glob
from sidecar.policy.routes import Routes, Snapshot
from sidecar.policy.trace import Trace
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.trial import STATED_HEADER, stated

ROUTE = Route("bkt", "/bkt", ("bkt",), "s3", "store", "/bkt")
EVERYTHING = frozenset(Permission)


class Request(Struct, frozen=True):
    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


def _delete_many(key: str) -> Request:
    body = f"<Delete><Object><Key>plain</Key></Object><Object><Key>{escape(key)}</Key></Object></Delete>".encode()
    return Request("POST", "/bkt?delete", {"content-length": str(len(body))}, body)


KINDS: dict[str, Callable[[str], Request]] = {
    "get": lambda key: Request("GET", f"/bkt/{quote(key)}"),
    "put": lambda key: Request("PUT", f"/bkt/{quote(key)}"),
    "put, another spelling": lambda key: Request("PUT", f"/bkt/{quote(key, safe='')}"),
    "delete": lambda key: Request("DELETE", f"/bkt/{quote(key)}"),
    "tag": lambda key: Request("PUT", f"/bkt/{quote(key)}?tagging"),
    "copy from it": lambda key: Request("PUT", "/bkt/plain", {"x-amz-copy-source": f"bkt/{quote(key)}"}),
    "copy onto it": lambda key: Request("PUT", f"/bkt/{quote(key)}", {"x-amz-copy-source": "bkt/plain"}),
    "rename it": lambda key: Request(
        "PUT", "/bkt/plain?renameObject", {"x-amz-rename-source": f"bkt/{quote(key, safe='')}"}
    ),
    "delete it with others": _delete_many,
    "list below it": lambda key: Request("GET", f"/bkt?list-type=2&prefix={quote(key)}/"),
    "list what begins so": lambda key: Request("GET", f"/bkt?versions&prefix={quote(key)}/x"),
}


def gate_of(workspace: Workspace, caller: Principal) -> Gate:
    snapshot = Snapshot(Routes().adding(workspace.routes), {workspace.name: workspace})

    async def exists(route: Route, path: str) -> bool:
        return False

    return Gate(
        snapshot=lambda: snapshot, profiles=PROFILES, identities=stated(caller), directory=None, existence=exists
    )


def decide(gate: Gate, request: Request, trace: Trace | None = None, *, anonymous: bool = False) -> Decision:
    sent = [request.body] if request.body else []

    async def body() -> bytes:
        return sent.pop() if sent else b""

    headers = [(b"host", b"h"), *((name.encode(), value.encode()) for name, value in request.headers.items())]
    if not anonymous:
        headers.append(STATED_HEADER)
    return asyncio.run(gate.decide(request.method, request.target, headers, "", 1e9, body=body, trace=trace))


def asked(request: Request, rules: Sequence[Rule], path: str | None) -> Reason:
    granted = NOTHING if any(rule.allow for rule in rules) else EVERYTHING
    workspace = Workspace("bkt", "b.yaml", "5" * 64, routes=(ROUTE,), ci_tokens=granted, rules=tuple(rules))
    caller = Principal(PrincipalKind.CI, "ci", workspace="bkt", limits=Limits(path=path))
    return decide(gate_of(workspace, caller), request).reason


NAMES = (
    st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4).map("/".join).filter(lambda key: key.strip("/"))
)
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=4).map("/".join)
PLAIN = [Rule("plain", 1, allow=EVERYTHING, path=Glob("plain"))]


@given(st.sampled_from(sorted(KINDS)), NAMES, st.booleans(), st.lists(GLOBS, min_size=1, max_size=2), st.none() | GLOBS)
def test_no_spelling_of_a_key_grants_what_its_plain_one_does_not(
    kind: str, key: str, allows: bool, globs: list[str], limit: str | None
) -> None:
    which = {"allow" if allows else "deny": EVERYTHING}
    rules = [Rule(text, 1, path=Glob(text), **which) for text in globs] + (PLAIN if allows else [])
    plain = asked(KINDS[kind](as_file(key)), rules, limit)
    met = asked(KINDS[kind](key), rules, limit)
    assert met is not Reason.GRANTED or plain is Reason.GRANTED


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("key", ["kept//a", "kept/a/", "/kept/a", "//kept///a//"])
def test_a_rule_about_a_key_holds_for_each_spelling_of_it(kind: str, key: str) -> None:
    rule = Rule("kept", 1, deny=EVERYTHING, path=Glob("kept/a/**" if kind.startswith("list") else "kept/a"))
    assert asked(KINDS[kind](key), [rule], None) is Reason.RULE_DENY
    assert asked(KINDS[kind]("other//a"), [rule], None) is Reason.GRANTED


def test_a_rule_about_the_key_as_it_was_sent_holds_too() -> None:
    rule = Rule("odd", 1, deny=EVERYTHING, path=Glob("a//b"))
    assert asked(KINDS["put"]("a//b"), [rule], None) is Reason.RULE_DENY


def test_a_limit_and_an_allow_rule_must_hold_for_both() -> None:
    assert asked(KINDS["put"]("mine//x"), [], "mine/**") is Reason.GRANTED
    assert asked(KINDS["put"]("mine//x"), [], "mine/*/x") is Reason.TOKEN_LIMIT
    assert (
        asked(KINDS["put"]("mine//x"), [Rule("one", 1, allow=EVERYTHING, path=Glob("mine/*/x"))], None)
        is Reason.NO_RULE
    )


def test_the_decision_tells_the_key_as_it_was_sent_and_explains_both() -> None:
    rule = Rule("kept", 1, deny=frozenset({Permission.DELETE}), path=Glob("kept/a"))
    workspace = Workspace("bkt", "b.yaml", "5" * 64, routes=(ROUTE,), ci_tokens=EVERYTHING, rules=(rule,))
    trace = Trace()
    gate = gate_of(workspace, Principal(PrincipalKind.CI, "ci", workspace="bkt"))
    decision = decide(gate, KINDS["delete"]("kept//a"), trace)
    assert (decision.reason, decision.rule) == (Reason.RULE_DENY, "kept")
    assert decision.actions == (Action(Permission.DELETE, "kept//a"),)
    assert [(each.action.key, each.denied_by) for each in trace.actions] == [("kept//a", None), ("kept/a", rule)]


def test_an_answer_is_public_only_if_both_keys_are() -> None:
    rule = Rule("secret", 1, deny=EVERYTHING, path=Glob("secret/a"), kinds=frozenset({PrincipalKind.ANONYMOUS}))
    read = frozenset({Permission.READ})
    workspace = Workspace("bkt", "b.yaml", "5" * 64, routes=(ROUTE,), anonymous=read, rules=(rule,))
    gate = gate_of(workspace, Principal(PrincipalKind.CI, "ci", workspace="bkt"))
    public = {key: gate.is_public(decide(gate, KINDS["get"](key))) for key in ("open//a", "secret//a")}
    assert public == {"open//a": True, "secret//a": False}


@pytest.mark.parametrize("prefix", ["../a/", "a/../b/", "./a/", "a/./", "a/%2e%2e/x"])
def test_a_list_of_a_prefix_with_dot_segments_is_refused(prefix: str) -> None:
    request = Request("GET", f"/bkt?list-type=2&prefix={prefix}")
    assert asked(request, [], None) is Reason.BAD_TARGET
    assert asked(Request("GET", "/bkt?list-type=2&prefix=a/.."), [], None) is Reason.GRANTED
