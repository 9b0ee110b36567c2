"""What a decision rests on is swapped whole and never changed; and it costs the collector nothing, however much there is."""

import gc
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

import sidecar
from sidecar import model
from sidecar.decision import Decision
from sidecar.policy import compiled
from sidecar.policy.file import compile_file
from sidecar.policy.files import PolicyFiles, Version
from sidecar.policy.routes import Node
from sidecar.profiles import profile
from sidecar.reasons import Reason
from sidecar.upstream import conditions
from tests.architecture import layer, read

MODULES = [
    conditions,
    *(import_module(each.name) for each in read(Path(sidecar.__path__[0])) if (layer(each.name) or 0) <= 3),
]
IN_THE_MAKING = {
    "Trace",
    "_File",
    "_Query",
    "_DayKey",
    "_Pending",
    "_Accepted",
    "_Part",
    "Decision",
    "LastRead",
    "Asking",
}
"""Filled step by step by whoever made them, or one request's or one connection's own."""
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


def test_a_decision_claims_nothing_that_nobody_has_found_out() -> None:
    decision = Decision(Reason.INTERNAL_ERROR)
    assert (decision.detail, decision.carrier, decision.actions) == ("", "", ())
    assert (decision.exists, decision.only_creates) == (False, False)
    assert (decision.generation, decision.retry_after) == (0, 0)
    assert not decision.allowed
    assert not decision.known


def test_policies_cost_the_collector_nothing() -> None:
    workspace = compile_file(TEXT, "web.yaml", issuers=None, upstreams=None, profiles=["plain"])
    policies = PolicyFiles()
    policies.load([Version("web.yaml", workspace)])
    snapshot = policies.snapshot
    [rule] = workspace.rules
    assert rule.claims is not None
    values = (snapshot, snapshot.routes, snapshot.routes.paths, *snapshot.files.values(), Node(), workspace)
    assert not [value for value in (*values, *workspace.routes, rule, rule.claims["ref"]) if gc.is_tracked(value)]
