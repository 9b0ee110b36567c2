"""What the parts show of themselves: readiness that fails only where nothing can be decided, numbers that mean what they say."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from sidecar import readings
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.errors import Problem, Unavailable
from sidecar.metrics import Metrics
from sidecar.policy.compiled import Rule, Workspace
from sidecar.policy.routes import FileStatus, Snapshot
from sidecar.policy.source import PolicySource, SourceStatus
from sidecar.reasons import Reason
from sidecar.server.ops import Checks
from sidecar.server.stores import StoreState
from sidecar.settings import UpstreamSettings
from sidecar.upstream.http import HttpUpstream

RECORDS = Records(Instance(), b"k" * 32)
PROBLEM = Problem("web.yaml", 3, "$.routes", "is wrong")


def sample(metrics: Metrics, name: str) -> dict[str, float]:
    text, _ = metrics.expose("")
    rows = [line.rpartition(" ") for line in text.decode().splitlines() if line.startswith(f"sidecar_{name}")]
    return {key.removeprefix(f"sidecar_{name}"): float(value) for key, _, value in rows}


def ready(checks: Checks) -> dict[str, tuple[str | None, bool]]:
    return {result.name: (result.problem, result.required) for result in checks.run()}


class Policies:
    def __init__(self, *workspaces: Workspace, bad: tuple[str, ...] = ()) -> None:
        files = {name: FileStatus(name, False, None, (PROBLEM,)) for name in bad}
        self.snapshot = Snapshot(workspaces={each.name: each for each in workspaces}, files=files)

    def status(self) -> Any:
        return SimpleNamespace(good=len(self.snapshot.workspaces), bad=len(self.snapshot.files), error="")


def policies(*args: Any, **kwargs: Any) -> tuple[Metrics, Checks, Policies]:
    metrics, checks, source = Metrics(), Checks(), Policies(*args, **kwargs)
    news = SimpleNamespace(last_success=5.0)
    readings.of_policies(metrics, checks, cast(Any, source), cast(Any, news))
    return metrics, checks, source


WEB = Workspace("web", "web.yaml", "a" * 64, rules=(Rule("r", 1), Rule("s", 2)))
API = Workspace("api", "api.yaml", "b" * 64, rules=(Rule("t", 1),))


def test_a_bad_edit_does_not_make_a_working_process_unready() -> None:
    _, checks, _ = policies(WEB, bad=("api.yaml",))
    problem, required = ready(checks)["policy files"]
    assert (problem, required) == ("not as they are on disk: api.yaml", False)
    assert ready(checks)["policy"] == (None, True)


def test_nothing_to_decide_by_is_not_ready() -> None:
    _, checks, _ = policies(bad=("api.yaml",))
    assert ready(checks)["policy"] == ("no workspace is loaded", True)


def test_workspaces_in_report_mode_are_counted_as_long_as_it_is_on() -> None:
    now = time.time()
    trial, over = (structs.replace(WEB, name=str(until), report_until=until) for until in (now + 60, now - 1))
    metrics, _, _ = policies(trial, over, API)
    assert sample(metrics, "policy_report_mode") == {"": 1.0}


def test_old_passwords_are_counted_and_a_file_that_cannot_be_used_is_told() -> None:
    metrics, checks, problems = Metrics(), Checks(), ["workspace web: old: it is empty"]
    counts = SimpleNamespace(accepted=3, ended=2, peers=lambda now: 7)
    readings.of_old_passwords(metrics, checks, cast(Any, SimpleNamespace(problems=lambda: problems)), cast(Any, counts))
    assert sample(metrics, "legacy_requests_total") == {'{result="accepted"}': 3.0, '{result="ended"}': 2.0}
    assert sample(metrics, "legacy_peers") == {"": 7.0}
    assert ready(checks) == {"shared passwords": (problems[0], False)}
    problems.clear()
    assert ready(checks) == {"shared passwords": (None, False)}


def test_the_numbers_of_the_policies() -> None:
    metrics, _, _ = policies(WEB, API, bad=("x.yaml",))
    assert sample(metrics, "policy_rules") == {"": 3}
    assert sample(metrics, "policy_workspaces") == {'{state="ok"}': 2, '{state="bad"}': 1}
    assert sample(metrics, "policy_last_reload_successful") == {"": 0}
    assert sample(metrics, "policy_last_reload_success_timestamp_seconds") == {"": 5}


def test_replicas_agree_on_the_digest_of_the_same_policies_alone() -> None:
    digests = [
        next(iter(sample(policies(*each)[0], "policy_info")))
        for each in [(WEB, API), (API, WEB), (WEB,), (WEB, Workspace("api", "api.yaml", "c" * 64))]
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_an_issuer_that_is_down_informs_and_never_makes_unready() -> None:
    up = SimpleNamespace(status=lambda: SimpleNamespace(age=7.0, fetches=3, failures=0, usable=True, last_error=None))
    down = SimpleNamespace(
        status=lambda: SimpleNamespace(age=None, fetches=0, failures=2, usable=False, last_error="no")
    )
    new = SimpleNamespace(
        status=lambda: SimpleNamespace(age=None, fetches=0, failures=0, usable=False, last_error=None)
    )
    metrics, checks = Metrics(issuers=["up", "down", "new"]), Checks()
    readings.of_keys(metrics, checks, cast(Any, {"up": up, "down": down, "new": new}))
    assert ready(checks) == {
        "issuer up": (None, False),
        "issuer down": ("no", False),
        "issuer new": ("no keys yet", False),
    }
    assert sample(metrics, "jwks_age_seconds") == {'{issuer="up"}': 7}
    refreshes = sample(metrics, "jwks_refreshes_total")
    assert refreshes['{issuer="up",result="ok"}'] == 3
    assert refreshes['{issuer="down",result="error"}'] == 2


def test_a_store_that_fails_informs_and_never_makes_unready() -> None:
    stores = {name: StoreState(name) for name in ("good", "down", "new")}
    stores["good"].answered()
    stores["down"].failed(Unavailable(Reason.UPSTREAM_TIMEOUT, "silent"), 0.0)
    metrics, checks = Metrics(upstreams=stores), Checks()
    readings.of_stores(metrics, checks, stores)
    assert ready(checks) == {
        "upstream good": (None, False),
        "upstream down": ("when it was last asked: upstream_timeout: silent", False),
        "upstream new": (None, False),
    }
    assert sample(metrics, "upstream_up") == {'{upstream="good"}': 1, '{upstream="down"}': 0}


@pytest.mark.parametrize(("fresh", "problem"), [(True, None), (False, "revocations can't be followed")])
def test_revocations_that_cannot_be_followed_make_unready(fresh: bool, problem: str | None) -> None:
    feed = SimpleNamespace(seq=9, heard=1.0, errors=2, noticed=4, is_fresh=lambda now: fresh)
    metrics, checks = Metrics(), Checks()
    readings.of_token_state(metrics, checks, cast(Any, feed))
    assert ready(checks) == {"token_state": (problem, True)}
    assert sample(metrics, "token_state_sequence") == {"": 9}
    assert sample(metrics, "token_state_sync_errors_total") == {"": 2}
    assert sample(metrics, "token_state_staleness_seconds")[""] > 1_000_000


def test_an_unreadable_policy_directory_is_shown() -> None:
    class Policies:
        def status(self) -> SourceStatus:
            return SourceStatus(1, 1, 0, 0.0, "Permission denied")

    assert "Permission denied" in (readings._bad_files(cast(PolicySource, Policies())) or "")


async def test_the_ways_to_the_stores_show_how_they_are_and_make_nobody_unready() -> None:
    metrics, checks = Metrics(upstreams=["s"]), Checks()
    upstream = HttpUpstream(
        UpstreamSettings("s", "http://127.0.0.1:1", urls=("http://127.0.0.1:1", "http://127.0.0.2:1"))
    )
    readings.of_upstreams(metrics, checks, {"s": upstream})
    assert sample(metrics, "upstream_connections") == {
        '{state="busy",upstream="s"}': 0.0,
        '{state="idle",upstream="s"}': 0.0,
    }
    assert sample(metrics, "upstream_addresses") == {
        '{state="left_out",upstream="s"}': 0.0,
        '{state="used",upstream="s"}': 2.0,
    }
    assert sample(metrics, "upstream_queue_refusals_total") == {
        '{upstream="s",why="full"}': 0.0,
        '{upstream="s",why="late"}': 0.0,
    }
    assert ready(checks) == {"upstream s addresses": (None, False), "upstream s files": (None, False)}
    for address in upstream.pool.addresses.all:
        for _ in range(5):
            upstream.pool.addresses.unreachable(address, "refused")
    upstream.files.problem = "the client certificate has expired"
    assert sample(metrics, "upstream_circuit_open{") == {'upstream="s"}': 1.0}
    assert sample(metrics, "upstream_circuit_openings_total") == {'{upstream="s"}': 1.0}
    assert sample(metrics, "upstream_ejections_total") == {'{upstream="s"}': 2.0}
    found = ready(checks)
    assert found["upstream s files"] == ("the client certificate has expired", False)
    assert found["upstream s addresses"] == (
        "circuit open, none of them answers: 127.0.0.1:1 (refused), 127.0.0.2:1 (refused)",
        False,
    )
    await upstream.close()
