"""What is left of requests: records that no trouble with the disk loses unseen, numbers that add up, and never a token."""

import base64
import contextlib
import re
import resource
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidecar.metrics import METRICS, PREFIX, Kind
from sidecar.model import PrincipalKind
from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.issuer import AUDIENCE, key_set
from tests.e2e.issuer import token as jwt
from tests.e2e.process import SidecarProcess, until
from tests.e2e.scripted_store import ScriptedStore
from tests.programs import require_program

pytestmark = pytest.mark.slow

CORP = "https://idp.example.com"
POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: local}
  - {path: /remote, client: plain, upstream: artifacts}
ci_tokens: read-write
personal_tokens: read
members: {users: [ada@example.com]}
rules:
  - {name: ci deletes, allow: [delete], kinds: [ci]}
  - {name: corp reads, allow: [read], issuer: corp}
"""

Start = Callable[..., SidecarProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(audit: str = "[{file: ./audit.jsonl}]") -> SidecarProcess:
        process = SidecarProcess(
            tmp_path,
            upstreams='  local: {url: "file://./data"}\n  artifacts: {url: "http://127.0.0.1:9"}\n',
            policies={"web.yaml": POLICY.replace("  - {name: corp reads, allow: [read], issuer: corp}\n", "")},
            audit=audit,
            more="limits: {drain_delay: 0s}",
        )
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.kill()


def put(sidecar: SidecarProcess, token: str, key: str, body: bytes = b"x") -> Answer:
    return ask(sidecar.port, "PUT", f"/web/{key}", bearer(token), body)


def get(sidecar: SidecarProcess, token: str | None, key: str) -> Answer:
    return ask(sidecar.port, "GET", f"/web/{key}", bearer(token) if token else None)


def ops(sidecar: SidecarProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def system(records: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    return [record for record in records if (record["kind"], record["action"]) == ("system", action)]


# --- the log can't be written ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def moved_away(sidecar: SidecarProcess) -> Iterator[None]:
    """A folder stands where the file has to be."""
    log = sidecar.folder / "audit.jsonl"
    log.rename(sidecar.folder / "audit.before")
    log.mkdir()
    yield
    log.rmdir()


@contextlib.contextmanager
def full_disk(sidecar: SidecarProcess) -> Iterator[None]:
    """No file of the process grows past this size: the next record stops in its middle."""
    _, hard = resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE)
    room = (sidecar.folder / "audit.jsonl").stat().st_size + 100
    resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (room, hard))
    yield
    resource.prlimit(sidecar.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("trouble", [moved_away, full_disk])
def test_nothing_is_written_without_its_record_and_reads_go_on(
    start: Start, trouble: Callable[[SidecarProcess], contextlib.AbstractContextManager[None]]
) -> None:
    sidecar = start()
    token, reader = sidecar.token(), sidecar.token(permissions=("read",))
    assert put(sidecar, token, "stored", b"before").status == 201
    for each in (token, reader):
        assert get(sidecar, each, "stored").body == b"before"
    until(lambda: any(record["actor"]["token_id"] == reader.split("_")[2] for record in sidecar.audit()))

    with trouble(sidecar):
        for refused in (
            put(sidecar, token, "stored", b"unseen"),
            put(sidecar, token, "new", b"unseen"),
            ask(sidecar.port, "DELETE", "/web/stored", bearer(token)),
            put(sidecar, reader, "stored", b"refused anyway, and that has to be on record too"),
        ):
            assert (refused.status, refused.reason) == (503, "audit_unavailable")
            assert refused.header("retry-after") is not None
        assert get(sidecar, token, "stored").body == b"before"
        assert get(sidecar, token, "new").status == 404
        assert get(sidecar, None, "stored").status == 401
        status, text = ops(sidecar, "/readyz?verbose")
        assert status == 503
        assert any(line.startswith("[-]audit: file: ") for line in text.splitlines()), text
        assert ops(sidecar, "/livez") == (200, "ok\n")
        assert sidecar.metric('sidecar_audit_records_total{result="error",sink="file"}') >= 4

    until(lambda: ops(sidecar, "/readyz")[0] == 200)
    assert put(sidecar, token, "stored", b"after").status == 204
    (gap,) = until(lambda: system(sidecar.audit(), "gap"))
    assert gap["severity"] == "error"
    assert gap["changes"]["count"] >= 4
    assert sidecar.stop() == 0
    assert sidecar.audit(), "every line has to be readable again"


def test_an_optional_log_that_fails_stops_nothing(start: Start) -> None:
    sidecar = start("[{file: ./audit.jsonl, required: false}, {file: stdout}]")
    token = sidecar.token()
    with moved_away(sidecar):
        assert put(sidecar, token, "key").status == 201
        assert ops(sidecar, "/readyz")[0] == 200
        until(lambda: sidecar.metric('sidecar_audit_records_total{result="error",sink="file"}') >= 1)
    until(lambda: (sidecar.folder / "audit.jsonl").exists() and system(sidecar.audit(), "gap"))


def test_standard_output_carries_records_marked_among_other_lines(start: Start) -> None:
    sidecar = start("[{file: stdout}]")
    assert put(sidecar, sidecar.token(), "key").status == 201
    assert sidecar.stop() == 0
    lines = [msgspec.json.decode(line) for line in sidecar.log.splitlines()]
    audit = [line for line in lines if line.get("log") == "audit"]
    assert [line["stage"] for line in audit if line["kind"] == "access"] == ["intent", "complete"]
    assert (audit[0]["action"], audit[-1]["action"]) == ("start", "stop")
    assert len(lines) > len(audit), "the process's own lines are there too"


# --- rotation and floods --------------------------------------------------------------------------------------------------------


def test_rotation_under_load_loses_nothing(start: Start) -> None:
    sidecar = start("[{file: ./audit.jsonl, rotate: {size: 64KiB, keep: 1000}}]")
    token, each, threads = sidecar.token(), 60, 6
    answered: list[int] = []

    def load(number: int) -> None:
        for turn in range(each):
            answered.append(put(sidecar, token, f"{number}-{turn}").status)
            answered.append(get(sidecar, token, f"{number}-{turn}").status)

    running = [threading.Thread(target=load, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert Counter(answered) == {201: each * threads, 200: each * threads}
    assert sidecar.stop() == 0

    rotated = sorted(sidecar.folder.glob("audit.jsonl.*"))
    assert len(rotated) >= 5
    assert all(path.stat().st_size <= 64 * 1024 for path in rotated)
    records = [
        msgspec.json.decode(line)
        for path in [*rotated, sidecar.folder / "audit.jsonl"]
        for line in path.read_bytes().splitlines()
    ]
    keys = {f"{number}-{turn}" for number in range(threads) for turn in range(each)}
    told = Counter(
        (record["stage"], record["request"]["method"], record["resource"]["name"])
        for record in records
        if record["kind"] == "access"
    )
    stages = (("intent", "PUT"), ("complete", "PUT"), ("complete", "GET"))
    assert told == {(stage, method, key): 1 for stage, method in stages for key in keys}
    assert [record["changes"]["previous"] for record in system(records, "rotate")] == [path.name for path in rotated]
    assert len({record["id"] for record in records}) == len(records)


def test_noise_of_unknown_callers_is_counted_and_does_not_fill_the_disk(start: Start) -> None:
    sidecar = start()
    for number in range(100):
        assert ask(sidecar.port, "GET", f"/web/{number}", bearer("nonsense")).status == 401
    until(lambda: sidecar.metric('sidecar_decisions_total{decision="unauthenticated",reason="bad_token"}') == 100)
    until(lambda: sidecar.metric("sidecar_audit_suppressed_total") == 99)
    assert sidecar.stop() == 0
    assert sum(record["reason"] == "bad_token" for record in sidecar.audit()) == 1
    (suppressed,) = system(sidecar.audit(), "suppressed")
    assert suppressed["changes"]["count"] == 99


# --- one run, looked at from all sides ----------------------------------------------------------------------------------------------


class Run:
    """Every kind of credential by every carrier, granted and refused; what was asked, by method and what it came to."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self.sidecar = sidecar
        self.ci = sidecar.token()
        self.reader = sidecar.token(permissions=("read",))
        self.personal = sidecar.token(kind=PrincipalKind.PERSONAL, subject="ada@example.com", workspaces=())
        self.by_command = sidecar.cli("token", "create", "--kind", "ci", "--subject", "x", "--workspace", "web").strip()
        self.revoked = sidecar.token()
        self.jwt = jwt(CORP)
        self.forged = jwt(CORP, key="k2")
        self.asked: Counter[tuple[str, int]] = Counter()
        self.reasons: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0
        self._traffic()

    @property
    def tokens(self) -> list[str]:
        return [self.ci, self.reader, self.personal, self.by_command, self.revoked, self.jwt, self.forged]

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> Answer:
        answer = ask(self.sidecar.port, method, path, headers, body)
        self.asked[method, answer.status] += 1
        self.reasons[answer.reason or "granted"] += 1
        self.bytes_out += len(answer.body)
        if body is not None and answer.reason is None:
            self.bytes_in += len(body)
        return answer

    def _traffic(self) -> None:
        self.ask("PUT", "/web/key", bearer(self.ci), b"content")
        self.ask("PUT", "/web/key", basic("anybody", self.by_command), b"content again")
        for headers in (
            bearer(self.ci),
            bearer(self.reader),
            basic("ada", self.personal),
            {"X-Api-Key": self.ci},
            {"Authorization": f"Bearer: {self.personal}"},
            bearer(self.jwt),
        ):
            self.ask("GET", "/web/key", headers)
            self.ask("HEAD", "/web/key", headers)
        self.ask("GET", "/remote/key", bearer(self.ci))
        self.ask("PUT", "/web/key", bearer(self.reader), b"refused")
        self.ask("DELETE", "/web/key", bearer(self.personal))
        self.ask("GET", f"/web/key?token={self.ci}&access_token={self.jwt}", bearer(self.ci))
        self.ask("GET", "/web/key", {**bearer(self.ci), "Cookie": f"t={self.ci}", "User-Agent": f"curl {self.ci}"})
        self.ask("GET", "/web/key", {**bearer(self.ci), "X-Api-Key": self.ci})
        self.ask("GET", "/web/key", bearer(self.forged))
        self.ask("GET", "/web/key", bearer(self.ci[:-1] + ("a" if self.ci[-1] != "a" else "b")))
        self.ask("GET", f"/web/{self.ci}", bearer(self.ci))
        self.ask("GET", f"/nowhere/{self.ci}", bearer(self.ci))
        self.ask("GET", "/web/key")
        self.sidecar.revoke(self.revoked)
        until(lambda: self.ask("GET", "/web/key", bearer(self.revoked)).reason == "revoked")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("evidence")
    (folder / "corp.jwks.json").write_bytes(key_set("k1"))
    (folder / "people.yaml").write_text("users: {ada@example.com: {}}\n")
    store = ScriptedStore()
    sidecar = SidecarProcess(
        folder,
        upstreams=f'  local: {{url: "file://./data", max_size: 1GiB}}\n  artifacts: {{url: "http://127.0.0.1:{store.port}"}}\n',
        policies={"web.yaml": POLICY},
        audit="[{file: ./audit.jsonl}, {file: stdout}]",
        more=f"""
issuers:
  corp: {{issuer: "{CORP}", audience: {AUDIENCE}, jwks_file: ./corp.jwks.json}}
directory: {{file: ./people.yaml}}
carriers: {{headers: [X-Api-Key]}}
limits: {{drain_delay: 0s}}
""",
    )
    try:
        yield Run(sidecar.start())
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        store.close()


def scraped(sidecar: SidecarProcess) -> dict[str, dict[str, float]]:
    """Metric -> sample as written -> value, histograms' parts under the histogram's name."""
    found: dict[str, dict[str, float]] = {}
    for line in ops(sidecar, "/metrics")[1].splitlines():
        if not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            found.setdefault(sample.partition("{")[0], {})[sample] = float(value)
    return found


def test_every_metric_is_there_after_traffic(run: Run) -> None:
    # The embedded store's sums are looked up every few seconds, and the oldest use is there once it holds something.
    until(lambda: scraped(run.sidecar).get(PREFIX + "embedded_store_oldest_use_timestamp_seconds"))
    samples = scraped(run.sidecar)
    for metric in METRICS:
        if metric.name == "worker_up" or metric.name.startswith(
            ("tls_", "upstream_client_certificate_", "upstream_key_")
        ):
            continue  # of several workers, of listeners with TLS, of stores that ask for a certificate, of buckets
        name = PREFIX + metric.name
        written = samples.get(name + "_count" if metric.kind is Kind.HISTOGRAM else name, {})
        assert written, f"{name} has no sample"
        assert all(f'{label}="' in sample for sample in written for label in metric.labels)


def test_every_histogram_has_seen_something(run: Run) -> None:
    samples = scraped(run.sidecar)
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            assert sum(samples[PREFIX + metric.name + "_count"].values()) > 0, f"{metric.name} was never observed"


def test_the_counters_agree_with_what_was_asked(run: Run) -> None:
    until(lambda: run.sidecar.metric("sidecar_requests_in_flight") == 0)
    samples = scraped(run.sidecar)
    counted: Counter[tuple[str, int]] = Counter()
    for sample, value in samples["sidecar_http_requests_total"].items():
        labels = dict(re.findall(r'(\w+)="(\w+)"', sample))
        counted[labels["method"], int(labels["code"])] += int(value)
    assert counted == run.asked

    decided: Counter[str] = Counter()
    for sample, value in samples["sidecar_decisions_total"].items():
        decided[dict(re.findall(r'(\w+)="(\w+)"', sample))["reason"]] += int(value)
    assert +decided == run.reasons

    assert sum(samples["sidecar_request_bytes_total"].values()) == run.bytes_in
    assert run.sidecar.metric('sidecar_upstream_requests_total{code_class="2xx",upstream="artifacts"}') == 1
    assert run.sidecar.metric('sidecar_upstream_up{upstream="artifacts"}') == 1
    for sink in ("file", "stdout"):
        taken = f'sidecar_audit_records_total{{result="ok",sink="{sink}"}}'
        until(lambda taken=taken: run.sidecar.metric(taken) == len(run.sidecar.audit()))


def test_promtool_has_nothing_to_say(run: Run) -> None:
    promtool = require_program("promtool")
    text = ops(run.sidecar, "/metrics")[1]
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_no_token_is_in_anything_that_was_left(run: Run, tmp_path: Path) -> None:
    """Logs, audit, metrics, the token store with its journal, stored objects, everything else of the run's folder."""
    until(lambda: any(record["action"] == "revoked" for record in run.sidecar.audit()))
    folder = tmp_path / "run"
    shutil.copytree(run.sidecar.folder, folder)
    (folder / "metrics").write_text(ops(run.sidecar, "/metrics")[1] + ops(run.sidecar, "/readyz?verbose")[1])
    (folder / "command line").write_text(run.sidecar.cli("token", "list", "--all", "--json"))
    secrets = [secret for token in run.tokens for secret in _spellings(token)]
    secrets.append((folder / "pepper").read_text().encode())
    (folder / "pepper").unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"log", "audit.jsonl", "sidecar.db", "metrics"} <= {path.name for path in files}
    leaks = [
        f"{path.relative_to(folder)}: {secret[:24]!r}..."
        for path in files
        for secret in secrets
        if secret in path.read_bytes()
    ]
    assert leaks == []


def _spellings(token: str) -> list[bytes]:
    """The token and its secret part alone, as they are, and as Basic carries them at each of base64's three offsets."""
    secret = token.rpartition("." if "." in token else "_")[2]
    secret = secret[:43]
    encoded = [base64.b64encode(b"x" * pad + secret.encode())[4 : 4 + 4 * (len(secret) // 3 - 1)] for pad in (0, 1, 2)]
    return [secret.encode(), *encoded]
