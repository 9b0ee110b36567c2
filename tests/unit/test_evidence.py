"""What is on record of a request before the store is asked: each key that it changes."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.decision import Decision
from sidecar.model import Action, Permission, Principal, PrincipalKind
from sidecar.policy.compiled import Route
from sidecar.reasons import Reason
from sidecar.s3.operations import OPERATIONS
from sidecar.server.evidence import Evidence

READ, WRITE, DELETE, ADMIN = Permission.READ, Permission.WRITE, Permission.DELETE, Permission.ADMIN
NOW = 1_800_000_000.0
ADA = Principal(PrincipalKind.PERSONAL, "ada", token_id="t1")


class Log:
    def __init__(self) -> None:
        self.committed: list[list[dict[str, Any]]] = []
        self.put_records: list[dict[str, Any]] = []

    async def commit(self, *records: bytes) -> None:
        self.committed.append([json.loads(each) for each in records])

    def put(self, record: bytes) -> None:
        self.put_records.append(json.loads(record))


def route(path: str, client: str = "s3", workspace: str = "web") -> Route:
    return Route(workspace, path, tuple(path[1:].split("/")), client, "store", path)


async def told(decision: Decision, operation: str = "") -> list[dict[str, Any]]:
    """The records of the intent, and the same of the completion, but for what is known only then."""
    if operation:
        decision.sending = SimpleNamespace(asked=SimpleNamespace(operation=OPERATIONS[operation]))  # type: ignore[assignment]
    decision.principal = ADA
    connection = SimpleNamespace(peer="10.0.0.1", tls=None)
    incoming: Any = SimpleNamespace(connection=connection, message=SimpleNamespace(path="/bkt", method="POST"))
    exchange: Any = SimpleNamespace(
        status=200, bytes_in=0, bytes_out=0, upstream_status=200, aborted=False, tag=None, body_sha256=None
    )
    log: Any = Log()
    evidence = Evidence(log, Records(Instance(), b"k" * 32), decision, incoming, lambda now: (1, 0.0), NOW, 0.0)
    await evidence.intent()
    evidence.completion(exchange, decision.reason, "", 1.0)
    (committed,) = log.committed
    assert [each["stage"] for each in committed] == ["intent"] * len(committed)
    assert [each["stage"] for each in log.put_records] == ["complete"] * len(committed)
    for name in ("action", "workspace", "resource"):
        assert [each[name] for each in committed] == [each[name] for each in log.put_records]
    assert len({each["request"]["id"] for each in committed + log.put_records}) == 1
    assert len({each["id"] for each in committed + log.put_records}) == 2 * len(committed)
    return list(committed)


def places(records: list[dict[str, Any]]) -> list[tuple[str, str, str, str | None]]:
    return [(each["action"], each["workspace"], each["resource"]["name"], each["resource"]["path"]) for each in records]


async def test_every_key_of_many_is_on_record_at_once() -> None:
    actions = tuple(Action(DELETE, f"k {number}") for number in range(1000))
    records = await told(Decision(Reason.GRANTED, route=route("/bkt/team"), actions=actions), "DeleteObjects")
    assert places(records) == [
        ("object.delete", "web", f"k {number}", f"/bkt/team/k%20{number}") for number in range(1000)
    ]
    assert {each["resource"]["container"] for each in records} == {"bkt"}
    assert {each["request"]["operation"] for each in records} == {"DeleteObjects"}


async def test_a_key_that_asks_for_two_permissions_has_one_record() -> None:
    actions = tuple(Action(each, key) for key in ("a", "b") for each in (DELETE, ADMIN))
    records = await told(Decision(Reason.GRANTED, route=route("/bkt"), actions=actions), "DeleteObjects")
    assert places(records) == [("object.admin", "web", "a", "/bkt/a"), ("object.admin", "web", "b", "/bkt/b")]


async def test_one_key_in_a_body_is_found_by_its_path() -> None:
    decision = Decision(Reason.GRANTED, route=route("/bkt"), actions=(Action(DELETE, "a"),))
    assert places(await told(decision, "DeleteObjects")) == [("object.delete", "web", "a", "/bkt/a")]


async def test_what_a_renaming_takes_away_is_a_deletion_where_it_was() -> None:
    decision = Decision(Reason.GRANTED, route=route("/bkt"), actions=(Action(WRITE, "new", creates=True),))
    decision.removed = route("/phones", workspace="mobile"), "old"
    assert places(await told(decision, "RenameObject")) == [
        ("object.write", "web", "new", None),
        ("object.delete", "mobile", "old", "/phones/old"),
    ]


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_move_is_told_in_one_record_with_where_it_goes(deleted: bool) -> None:
    actions = [Action(READ, "a"), Action(WRITE, "b", creates=True)]
    if deleted:
        actions.insert(1, Action(DELETE, "a"))
    (record,) = await told(Decision(Reason.GRANTED, route=route("/dav", "webdav"), actions=tuple(actions)))
    assert (record["resource"]["name"], record["changes"]) == ("a", {"destination": "b"})
    assert record["request"]["operation"] is None
