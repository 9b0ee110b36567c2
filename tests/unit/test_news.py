"""What happens is told: by one process, to the audit log, the metrics and the process's own log."""

import json
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.metrics import Metrics
from sidecar.news import PolicyNews, token_record
from sidecar.policy.files import EventKind, PolicyEvent
from sidecar.store.token_store import Change, TokenEvent
from tests.unit.test_readings import PROBLEM, sample

RECORDS = Records(Instance(), b"k" * 32)


class Log:
    def __init__(self) -> None:
        self.records: list[Any] = []

    def put(self, record: bytes) -> None:
        self.records.append(json.loads(record))


def test_what_becomes_of_a_policy_file_is_told_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    metrics, log = Metrics(), Log()
    news = PolicyNews(cast(Any, log), RECORDS, metrics)
    with caplog.at_level(logging.WARNING):
        news.heard(PolicyEvent("reject", "web.yaml", "web", "a" * 64, "a" * 64, 2, (PROBLEM,)))
        assert news.last_success == 0
        assert "web.yaml:3 $.routes: is wrong" in caplog.text
        news.heard(PolicyEvent("load", "web.yaml", "web", "b" * 64, "a" * 64, 3))
    assert news.last_success > 0
    counts = {key: value for key, value in sample(metrics, "policy_reloads_total").items() if value}
    assert counts == {'{result="error"}': 1, '{result="ok"}': 1}
    assert [record["workspace"] for record in log.records] == ["web", "web"]
    assert [record["outcome"] for record in log.records] == ["error", "allow"]
    assert [record["decision"]["policy_sha256"] for record in log.records] == ["a" * 64, "b" * 64]


EDITS: dict[str, tuple[PolicyEvent, list[str]]] = {
    "a bad edit": (
        PolicyEvent(EventKind.REJECTED, "web.yaml", "web", "a" * 64, "a" * 64, 2, (PROBLEM,)),
        [
            "WARNING policy web.yaml:3 $.routes: is wrong",
            "WARNING policy web.yaml: the last good version stays in force",
        ],
    ),
    "a bad file at the start": (
        PolicyEvent(EventKind.REJECTED, "web.yaml", "web", None, None, 1, (PROBLEM,)),
        [
            "WARNING policy web.yaml:3 $.routes: is wrong",
            "WARNING policy web.yaml: there is no good version, so its workspace is refused",
        ],
    ),
    "mended": (
        PolicyEvent(EventKind.LOADED, "web.yaml", "web", "a" * 64, "a" * 64, 3),
        ["INFO policy web.yaml: loaded"],
    ),
    "taken away": (
        PolicyEvent(EventKind.REMOVED, "web.yaml", None, None, "a" * 64, 4),
        ["INFO policy web.yaml: removed"],
    ),
    "one of many at the start": (PolicyEvent(EventKind.LOADED, "web.yaml", "web", "a" * 64, None, 1), []),
}


@pytest.mark.parametrize(("event", "lines"), EDITS.values(), ids=EDITS)
def test_the_log_says_what_is_in_force(caplog: pytest.LogCaptureFixture, event: PolicyEvent, lines: list[str]) -> None:
    with caplog.at_level(logging.INFO):
        PolicyNews(cast(Any, Log()), RECORDS, Metrics()).heard(event)
    assert [f"{line.levelname} {line.getMessage()}" for line in caplog.records] == lines


def test_of_several_processes_one_speaks() -> None:
    metrics, log = Metrics(), Log()
    news = PolicyNews(cast(Any, log), RECORDS, metrics, speaks=False)
    news.heard(PolicyEvent("load", "web.yaml", "web", "b" * 64, None, 3))
    assert log.records == []
    assert not any(sample(metrics, "policy_reloads_total").values())
    assert news.last_success > 0


def test_a_token_event_of_the_command_line_is_told_with_who_did_it() -> None:
    token = row()
    change = Change(4, "revoke", "abc", 1_000_000, "root", 2_000_000)
    known = json.loads(token_record(RECORDS, TokenEvent(change, cast(Any, token))))
    gone = json.loads(token_record(RECORDS, TokenEvent(change, None)))
    for record in (known, gone):
        assert (record["kind"], record["actor"]["principal"]) == ("token", "root")
        assert record["changes"]["token_id"] == "abc"
        assert record["time"].startswith("1970-01-12T13:46:40")
    assert (known["changes"]["token_name"], known["changes"]["subject"]) == ("laptop", "ada")
    assert (gone["changes"]["token_name"], gone["changes"]["subject"]) == (None, None)
    assert (known["workspace"], known["changes"].keys()) == (None, gone["changes"].keys())


def row(**columns: Any) -> Any:
    stored = {"name": "laptop", "kind": "personal", "subject": "ada", "workspaces": None, "permissions": None}
    rest = {"path": None, "expires_at": 2_000_000, "scopes": None, "parent": None}
    return SimpleNamespace(**stored | rest | columns)


def changes_of(token: Any) -> dict[str, Any]:
    change = Change(4, "created", "abc", 1_000_000, "root", 2_000_000)
    record = json.loads(token_record(RECORDS, TokenEvent(change, token)))
    told = {name: record["changes"][name] for name in ("workspaces", "permissions", "path", "expires_at")}
    return {"workspace": record["workspace"], **told}


def test_a_token_event_says_what_the_token_may_do_and_until_when() -> None:
    until = "1970-01-24T03:33:20.000000Z"
    assert changes_of(row(kind="ci", workspaces="web", permissions="read write", path="releases/**")) == {
        "workspace": "web",
        "workspaces": ["web"],
        "permissions": ["read", "write"],
        "path": "releases/**",
        "expires_at": until,
    }
    assert changes_of(row(workspaces="api web")) == {
        "workspace": None,
        "workspaces": ["api", "web"],
        "permissions": None,
        "path": None,
        "expires_at": until,
    }


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ('[{"workspace":"web","permissions":["read"]}]', [{"workspace": "web", "path": None, "permissions": ["read"]}]),
        ("[{", None),
        (7, None),
        (None, None),
    ],
)
def test_a_token_event_tells_the_tokens_scopes_if_they_are_any(stored: object, told: object) -> None:
    change = Change(4, "created", "abc", 1_000_000, "root", 2_000_000)
    record = json.loads(token_record(RECORDS, TokenEvent(change, row(scopes=stored, parent="def"))))
    assert (record["changes"]["scopes"], record["changes"]["parent"]) == (told, "def")


@pytest.mark.parametrize("at", [2**62, 2**70, -(2**62)])
def test_a_token_event_is_told_though_its_row_has_no_date(at: int) -> None:
    assert changes_of(row(expires_at=at))["expires_at"] is None
