"""What running parts show: a number or a check for each thing that an operator asks, and one record for each event."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from sidecar import readings
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.directory.file import DirectoryEvent
from sidecar.errors import Problem
from sidecar.jwks import KeyStatus
from sidecar.metrics import Metrics
from sidecar.policy.files import EventKind, PolicyEvent
from sidecar.policy.source import PolicySource
from sidecar.profiles import PROFILES
from sidecar.server.ops import Checks, Result
from sidecar.store.token_store import Change, TokenEvent

PROBLEM = Problem("web.yaml", 3, "$.ci_tokens", "expected none, read or read-write")
POLICY = "workspace: web\nroutes: [{path: /web, client: plain, upstream: artifacts}]\n"


class Sink:
    """Stands for the audit log."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def put(self, record: bytes) -> None:
        self.records.append(msgspec.json.decode(record))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(issuers=("corp",))


@pytest.fixture
def records() -> Records:
    return Records(Instance(), b"k" * 32)


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for labels, (value, *_) in metrics.snapshot()[name].items()}


def keys(**said: object) -> Any:
    status = KeyStatus("corp", usable=True, keys=1, ignored=0, age=5.0, fetches=3, failures=2, last_error="")
    return SimpleNamespace(status=lambda: msgspec.structs.replace(status, **said))


# --- issuers and tokens ------------------------------------------------------------------------------------------------------------


def test_an_issuers_fetches_are_told_by_how_they_ended(metrics: Metrics) -> None:
    readings.of_keys(metrics, Checks(), {"corp": keys()})
    assert values(metrics, "jwks_refreshes_total") == {("corp", "ok"): 3, ("corp", "error"): 2}
    assert values(metrics, "jwks_age_seconds") == {("corp",): 5}


def test_an_issuer_that_never_answered_has_no_age(metrics: Metrics) -> None:
    readings.of_keys(metrics, Checks(), {"corp": keys(age=None)})
    assert values(metrics, "jwks_age_seconds") == {}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"usable": True, "last_error": "TimeoutError"}, None),
        ({"usable": False, "last_error": "TimeoutError"}, "TimeoutError"),
        ({"usable": False, "last_error": ""}, "no keys yet"),
    ],
)
def test_an_issuer_without_usable_keys_is_shown_and_takes_nothing_down(
    metrics: Metrics, said: dict[str, object], problem: str | None
) -> None:
    checks = Checks()
    readings.of_keys(metrics, checks, {"corp": keys(**said)})
    assert checks.run() == [Result("issuer corp", problem, required=False)]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_feed_of_revocations_that_is_silent_makes_unready(metrics: Metrics, fresh: bool) -> None:
    checks = Checks()
    feed = SimpleNamespace(seq=7, heard=1e12, errors=2, noticed=4, is_fresh=lambda now: fresh)
    readings.of_token_state(metrics, checks, cast(Any, feed))
    (result,) = checks.run()
    assert (result.problem is None, result.required) == (fresh, True)
    assert values(metrics, "token_state_sequence") == {(): 7}
    assert values(metrics, "token_state_sync_errors_total") == {(): 2}
    assert values(metrics, "token_state_source_total") == {("poll",): 4}
    assert values(metrics, "token_state_staleness_seconds") == {(): 0}, "a clock that was set back is no staleness"


def test_a_token_event_of_the_command_line_becomes_a_record(records: Records) -> None:
    change = Change(seq=1, kind="revoked", token_id="4fTq9XbLm2Za", at=1_700_000_000, actor="root", expires_at=0)
    told = msgspec.json.decode(readings.token_record(records, TokenEvent(change, None)))
    assert (told["kind"], told["action"]) == ("token", "revoked")
    assert told["actor"]["principal"] == "root"
    assert told["changes"]["token_id"] == "4fTq9XbLm2Za"
    assert told["time"].startswith("2023-11-14T22:13:20")


# --- policies and people -------------------------------------------------------------------------------------------------------------


def event(*problems: Problem) -> PolicyEvent:
    kind = EventKind.REJECTED if problems else EventKind.LOADED
    return PolicyEvent(kind, "web.yaml", "web", "abc", None, 4, problems)


def test_a_rejected_file_is_counted_recorded_and_said_line_by_line(
    metrics: Metrics, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    news = readings.PolicyNews(cast(Any, sink), records, metrics)
    news.heard(event(PROBLEM, msgspec.structs.replace(PROBLEM, line=9)))
    assert values(metrics, "policy_reloads_total") == {("ok",): 0, ("error",): 1}
    assert [line.getMessage() for line in caplog.records] == [
        f"policy web.yaml:{line} $.ci_tokens: {PROBLEM.message}" for line in (3, 9)
    ]
    (told,) = sink.records
    assert (told["kind"], told["action"], told["workspace"]) == ("policy", "rejected", "web")
    assert len(told["changes"]["problems"]) == 2
    assert news.last_success == 0


def test_a_loaded_file_is_counted_and_recorded_with_its_digest(metrics: Metrics, records: Records) -> None:
    sink = Sink()
    news = readings.PolicyNews(cast(Any, sink), records, metrics)
    news.heard(event())
    assert values(metrics, "policy_reloads_total") == {("ok",): 1, ("error",): 0}
    assert sink.records[0]["decision"]["policy_sha256"] == "abc"
    assert news.last_success > 0


def test_of_several_processes_one_speaks(metrics: Metrics, records: Records, caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    news = readings.PolicyNews(cast(Any, sink), records, metrics, speaks=False)
    news.heard(event(PROBLEM))
    news.heard(event())
    assert values(metrics, "policy_reloads_total") == {("ok",): 0, ("error",): 0}
    assert (sink.records, caplog.records) == ([], [])
    assert news.last_success > 0, "what it shows of itself it knows all the same"


def policies(folder: Path, **files: str) -> PolicySource:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    source = PolicySource(folder, issuers={}, upstreams=("artifacts",), profiles=PROFILES)
    source.load_now()
    return source


def shown(metrics: Metrics, source: PolicySource) -> Checks:
    checks = Checks()
    readings.of_policies(metrics, checks, source, cast(Any, SimpleNamespace(last_success=0.0)))
    return checks


def test_a_bad_file_is_shown_by_name_and_takes_nothing_down(metrics: Metrics, tmp_path: Path) -> None:
    other = POLICY.replace("web", "other")
    checks = shown(metrics, policies(tmp_path, web=POLICY, other=other + "anonymus: read\n"))
    ready, informative = checks.run()
    assert (ready.problem, ready.required) == (None, True)
    assert informative.problem is not None
    assert "other.yaml" in informative.problem
    assert "web.yaml" not in informative.problem
    assert informative.required is False
    assert values(metrics, "policy_workspaces") == {("ok",): 1, ("bad",): 1}
    assert values(metrics, "policy_last_reload_successful") == {(): 0}


def test_without_any_workspace_there_is_nothing_to_decide_by(metrics: Metrics, tmp_path: Path) -> None:
    ready, _ = shown(metrics, policies(tmp_path)).run()
    assert ready == Result("policy", "no workspace is loaded", required=True)


def test_replicas_with_the_same_files_show_the_same_digest_and_others_another(tmp_path: Path) -> None:
    digests = []
    for name, text in (("a", POLICY), ("b", POLICY), ("c", POLICY + "anonymous: read\n")):
        (tmp_path / name).mkdir()
        metrics = Metrics()
        shown(metrics, policies(tmp_path / name, web=text))
        ((digest,),) = values(metrics, "policy_info")
        digests.append(digest)
    assert digests[0] == digests[1] != digests[2]


def test_an_edit_of_the_directory_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        readings.people_heard(DirectoryEvent(True, "abc", 2))
        readings.people_heard(DirectoryEvent(False, "abc", 2, (PROBLEM,)))
    assert [(line.levelname, line.getMessage()) for line in caplog.records] == [
        ("INFO", "directory: 2 people"),
        ("WARNING", f"directory {PROBLEM}"),
    ]


def test_the_first_problem_stands_for_all() -> None:
    assert readings.first_of([]) is None
    assert readings.first_of([PROBLEM, PROBLEM]) == str(PROBLEM)
