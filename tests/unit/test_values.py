"""What a decision rests on is swapped whole and never changed; and it costs the collector nothing, however much there is."""

import gc

import msgspec
import pytest
from sidecar import answers, model, settings
from sidecar.credentials import jwk, jws, opaque
from sidecar.policy import cases, compiled, files, routes, rules, salvage, trace
from sidecar.policy.file import compile_file
from sidecar.policy.files import PolicyFiles, Version
from sidecar.policy.routes import Node
from sidecar.profiles import profile
from sidecar.reasons import Reason
from sidecar.upstream import conditions

MODULES = (
    answers,
    cases,
    compiled,
    conditions,
    files,
    jwk,
    jws,
    model,
    opaque,
    profile,
    routes,
    salvage,
    rules,
    settings,
    trace,
)
IN_THE_MAKING = {"Trace", "_File"}
"""Filled step by step by whoever made them."""
STRUCTS = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
]

TEXT = """
workspace: web
routes: [{path: /web, client: plain, upstream: store}]
rules: [{deny: [write], issuer: corp, claims: {ref: {glob: "a/*"}}, path: "a/**"}]
"""


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_a_value_stays_as_it_was_made(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen == (kind.__name__ not in IN_THE_MAKING)


def test_a_local_answer_is_empty_unless_it_says_otherwise() -> None:
    answer = profile.LocalAnswer(204)
    assert (answer.headers, answer.body) == ((), b"")


def test_a_case_asks_nothing_that_it_does_not_say() -> None:
    case = compiled.Case("a", 1, model.ANONYMOUS, Reason.GRANTED)
    assert (case.method, case.path, case.workspace, case.actions, case.directory) == ("", "", "", (), False)


def test_policies_cost_the_collector_nothing() -> None:
    workspace = compile_file(TEXT, "web.yaml", issuers=None, upstreams=None, profiles=["plain"])
    policies = PolicyFiles()
    policies.load([Version("web.yaml", workspace)])
    snapshot = policies.snapshot
    [rule] = workspace.rules
    assert rule.claims is not None
    values = (snapshot, snapshot.routes, snapshot.routes.paths, *snapshot.files.values(), Node(), workspace)
    assert not [value for value in (*values, *workspace.routes, rule, rule.claims["ref"]) if gc.is_tracked(value)]
