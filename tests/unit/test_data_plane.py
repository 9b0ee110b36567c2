"""Law 8 over real sockets: evidence first, then bytes; each request is told once and counted once, however it ends."""

import asyncio
import contextlib
import hashlib
import json
import random
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.metrics import Metrics
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Routes, Snapshot
from sidecar.ports import Downstream
from sidecar.reasons import Reason
from sidecar.s3.parts import upload as upload_of
from sidecar.server.client import Listener
from sidecar.server.data_plane import DataPlane, Place
from sidecar.settings import LimitSettings, ProvenanceSettings
from tests.unit.relays import event_loop_policy, on_uvloop, until
from tests.unit.test_gate import ALL, TOKENS, WEB
from tests.unit.test_gate import Rig as Deciding

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop


class Sink:
    """Required; fails while `failing`, and holds while `hold` is clear."""

    name = "file"
    required = True

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.failing = False
        self.hold = threading.Event()
        self.hold.set()

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        self.hold.wait(20)
        if self.failing:
            raise OSError("no space")
        self.lines += lines

    def close(self) -> None: ...


async def ok(exchange: Downstream) -> None:
    while await exchange.read():
        pass
    exchange.start(200, [], 2)
    exchange.write(b"ok")
    exchange.finish()


class FakeStore:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.behave: Callable[[Downstream], Awaitable[None]] = ok
        self.before: Callable[[], None] = lambda: None

    async def exists(self, upstream_path: str) -> bool:
        return False

    async def forward(self, exchange: Downstream) -> None:
        self.before()
        self.asked.append(f"{exchange.method} {exchange.upstream_path}")
        await self.behave(exchange)

    async def close(self) -> None: ...


class Plane:
    def __init__(self, sink: Sink, digests: ProvenanceSettings | None = None) -> None:
        self.sink, self.store, self.deciding = sink, FakeStore(), Deciding()
        self.state: list[tuple[int | None, float | None]] = [(7, 0.1)]
        self.metrics = Metrics(profiles=["plain"], upstreams=["store"])
        records = Records(Instance(), b"k" * 32)
        self.audit = AuditLog([sink], records, commit_timeout=20)
        self.plane = DataPlane(
            gate=self.deciding.gate,
            places={"store": Place(self.store)},
            audit=self.audit,
            records=records,
            metrics=self.metrics,
            token_state=lambda now: self.state[-1],
            patience=20,
            draining=lambda: False,
            digests=digests,
        )
        self.listener = Listener(self.plane.handle, LimitSettings(), self.metrics.turned_away)
        self.port = 0

    async def ask(self, line: str, token: str | None = None, *headers: str, body: bytes = b"") -> bytes:
        """The whole of what comes back until the connection ends."""
        reader, writer = await self.send(line, token, *headers, "Connection: close", body=body)
        async with asyncio.timeout(20):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b"(reset)"
            finally:
                writer.close()

    async def send(
        self, line: str, token: str | None = None, *headers: str, body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{line} HTTP/1.1", "Host: cache", *headers]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if body and not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return reader, writer

    def records(self) -> list[dict[str, Any]]:
        return [record for line in self.sink.lines if (record := json.loads(line))["kind"] == "access"]

    async def told(self, *stages: tuple[str, str]) -> list[dict[str, Any]]:
        """Waits until the log says exactly these stages and reasons; the log is slower than the answer."""
        with contextlib.suppress(AssertionError):
            await until(lambda: len(self.records()) >= len(stages))
        await asyncio.sleep(0.08)  # longer than a relaxed record waits for company: nothing more comes
        found = self.records()
        assert [(record["stage"], record["reason"]) for record in found] == list(stages)
        return found

    def counted(self, name: str) -> dict[str, float]:
        text, _ = self.metrics.expose("")
        lines = [line for line in text.decode().splitlines() if line.startswith(f"sidecar_{name}")]
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines) if float(value)}


@pytest.fixture
async def plane(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    made = Plane(Sink(), getattr(request, "param", None))
    await made.audit.open()
    server = await asyncio.get_running_loop().create_server(made.listener, "127.0.0.1", 0)
    made.listener.start()
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.sink.hold.set()
    await made.listener.drain(0.5)
    await made.audit.close()


async def test_a_read_is_told_when_it_has_ended(plane: Plane) -> None:
    answer = await plane.ask("GET /web/a?x=1", "ci-token")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    (record,) = await plane.told(("complete", "granted"))
    assert record["response"]["status"] == 200
    assert record["response"]["bytes"] == 2
    assert record["actor"]["token_id"] == "ci"
    assert plane.store.asked == ["GET /web/a?x=1"]


async def test_a_write_is_on_record_before_the_store_is_asked(plane: Plane) -> None:
    on_record: list[str] = []
    plane.store.before = lambda: on_record.extend(record["stage"] for record in plane.records())
    assert b" 200 " in await plane.ask("PUT /web/a", "ci-token", body=b"data")
    assert on_record == ["intent"]
    first, second = await plane.told(("intent", "granted"), ("complete", "granted"))
    assert first["request"]["id"] == second["request"]["id"]
    assert second["request"]["bytes"] == 4


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_without_evidence_nothing_reaches_the_store(plane: Plane, how: str) -> None:
    plane.sink.failing = how == "fails"
    if how == "hangs":
        plane.audit._commit_timeout = 0.1
        plane.sink.hold.clear()
    answer = await plane.ask("PUT /web/a", "ci-token", body=b"data")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert plane.store.asked == []
    assert plane.counted("decisions_total") == {
        'sidecar_decisions_total{decision="error",reason="audit_unavailable"}': 1
    }
    assert plane.counted("upstream_requests_total") == {}


async def test_a_read_does_not_wait_for_the_log(plane: Plane) -> None:
    plane.sink.hold.clear()
    assert b" 200 " in await plane.ask("GET /web/a", "ci-token")


async def test_a_known_callers_refusal_is_on_record_before_it_is_answered(plane: Plane) -> None:
    plane.sink.hold.clear()
    asking = asyncio.create_task(plane.ask("DELETE /web/a", "ci-token"))
    await until(lambda: plane.audit.depth or plane.plane.in_flight)
    await asyncio.sleep(0.05)
    assert not asking.done()
    plane.sink.hold.set()
    assert (await asking).startswith(b"HTTP/1.1 403 ")
    (record,) = await plane.told(("complete", "no_rule"))
    assert (record["outcome"], record["response"]["status"]) == ("deny", 403)


async def test_a_known_callers_refusal_that_cannot_be_recorded_is_a_503(plane: Plane) -> None:
    plane.sink.failing = True
    assert (await plane.ask("DELETE /web/a", "ci-token")).startswith(b"HTTP/1.1 503 ")
    assert plane.store.asked == []


async def test_a_refusal_that_was_recorded_too_late_is_told_as_what_was_answered(plane: Plane) -> None:
    plane.audit._commit_timeout = 0.1
    plane.sink.hold.clear()
    assert (await plane.ask("DELETE /web/a", "ci-token")).startswith(b"HTTP/1.1 503 ")
    plane.sink.hold.set()
    await plane.told(("complete", "no_rule"), ("complete", "audit_unavailable"))


async def test_unknown_callers_are_recorded_once_and_then_counted(plane: Plane) -> None:
    for _ in range(20):
        assert (await plane.ask("GET /web/a")).startswith(b"HTTP/1.1 401 ")
    (record,) = await plane.told(("complete", "no_token"))
    assert record["response"]["status"] == 401
    assert plane.audit.suppressed == 19
    assert sum(plane.counted("http_requests_total").values()) == 20


async def test_unknown_callers_who_do_not_wait_fill_no_disk_either(plane: Plane) -> None:
    """Each leaves before it is answered."""
    for _ in range(20):
        _, writer = await plane.send("GET /web/a", "stranger")
        writer.transport.abort()
    await until(lambda: plane.plane.in_flight == 0 and plane.listener.open_connections == 0)
    await asyncio.sleep(0.1)
    assert len(plane.records()) <= 1


async def test_noise_is_answered_and_counted(plane: Plane) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await plane.told(("complete", "bad_request"))
    assert plane.store.asked == []


async def test_a_client_that_leaves_is_told_as_one(plane: Plane) -> None:
    async def slow(exchange: Downstream) -> None:
        exchange.start(200, [], 100)
        exchange.write(b"begun")
        await asyncio.sleep(60)

    plane.store.behave = slow
    reader, writer = await plane.send("GET /web/a", "ci-token")
    await reader.readuntil(b"begun")
    writer.transport.abort()
    (record,) = await plane.told(("complete", "granted"))
    assert record["response"]["aborted"] is True
    assert record["response"]["bytes"] == 5
    assert sum(plane.counted("http_requests_total").values()) == 1
    assert plane.plane.in_flight == 0


async def test_a_store_that_breaks_off_is_told_and_resets_the_client(plane: Plane) -> None:
    async def breaking(exchange: Downstream) -> None:
        exchange.start(200, [], 100)
        exchange.write(b"begun")
        raise Unavailable(Reason.UPSTREAM_BROKEN)

    plane.store.behave = breaking
    assert await plane.ask("GET /web/a", "ci-token") == b"(reset)"
    (record,) = await plane.told(("complete", "upstream_broken"))
    assert (record["outcome"], record["response"]["aborted"]) == ("error", True)
    assert plane.plane.stores["store"].up is True


FAILURES: dict[str, tuple[Exception, bytes, str, bool | None]] = {
    "unreachable": (Unavailable(Reason.UPSTREAM_UNREACHABLE), b"502", "upstream_unreachable", False),
    "silent": (Unavailable(Reason.UPSTREAM_TIMEOUT), b"504", "upstream_timeout", False),
    "broken": (Unavailable(Reason.UPSTREAM_BROKEN), b"502", "upstream_broken", False),
    "a bug": (ValueError("a bug"), b"500", "internal_error", None),
    "a stalled upload": (Refused(Reason.BODY_TIMEOUT), b"408", "body_timeout", None),
    "a malformed upload": (Refused(Reason.BAD_REQUEST), b"400", "bad_request", None),
    "an answer that isn't passed on": (Refused(Reason.UPSTREAM_REDIRECT), b"502", "upstream_redirect", None),
    "our own credentials refused": (Refused(Reason.UPSTREAM_CREDENTIALS), b"502", "upstream_credentials", True),
    "a full pool": (Unavailable(Reason.OVERLOADED), b"503", "overloaded", None),
}


@pytest.mark.parametrize(("failure", "status", "reason", "up"), FAILURES.values(), ids=FAILURES)
async def test_each_failure_is_answered_told_and_blamed_on_the_right_one(
    plane: Plane, failure: Exception, status: bytes, reason: str, up: bool | None
) -> None:
    async def fail(exchange: Downstream) -> None:
        raise failure

    plane.store.behave = fail
    answer = await plane.ask("PUT /web/a", "ci-token", body=b"x")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Content-Length: " in answer
    await plane.told(("intent", "granted"), ("complete", reason))
    assert sum(plane.counted("http_requests_total").values()) == 1
    assert plane.plane.stores["store"].up is up


async def test_a_store_that_fails_is_logged_when_it_changes(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(exchange: Downstream) -> None:
        raise Unavailable(Reason.UPSTREAM_UNREACHABLE, "connection refused")

    for behave in (ok, fail, fail, fail, ok, ok):
        plane.store.behave = behave
        await plane.ask("GET /web/a", "ci-token")
    assert [line.getMessage() for line in caplog.records if line.name == "sidecar.server.stores"] == [
        "the upstream store does not answer: upstream_unreachable: connection refused",
        "the upstream store answers again",
    ]


async def test_a_client_that_leaves_too_early_says_nothing_about_the_store(plane: Plane) -> None:
    async def left(exchange: Downstream) -> None:
        raise ClientGone

    plane.store.behave = left
    await plane.ask("GET /web/a", "ci-token")
    assert plane.plane.stores["store"].up is None


async def test_an_answer_of_our_own_is_told_too(plane: Plane) -> None:
    assert (await plane.ask("OPTIONS /web/a")).startswith(b"HTTP/1.1 204 ")
    await plane.told(("complete", "answered_here"))
    assert plane.store.asked == []


async def test_an_unknown_token_is_written_as_its_hmac_alone(plane: Plane) -> None:
    await plane.ask("GET /web/a", "stranger")
    (record,) = await plane.told(("complete", "bad_token"))
    assert "stranger" not in json.dumps(record)
    assert len(record["actor"]["unknown_token_hmac"]) == 64


async def test_each_use_of_an_ended_token_is_told_with_whose_it_is(plane: Plane) -> None:
    plane.deciding.revocations.revoked_ids = frozenset({"ada"})
    for token in ("ada-token", "ada-token", "expired", "expired"):
        assert (await plane.ask("GET /open/a", token)).startswith(b"HTTP/1.1 401 ")
    records = await plane.told(*[("complete", "revoked")] * 2, *[("complete", "expired")] * 2)
    assert [record["actor"]["token_id"] for record in records] == ["ada", "ada", "ci", "ci"]
    assert {record["actor"]["unknown_token_hmac"] for record in records} == {None}
    assert plane.audit.suppressed == 0
    assert plane.store.asked == []


async def test_a_use_of_an_ended_token_that_cannot_be_recorded_is_a_503(plane: Plane) -> None:
    plane.sink.failing = True
    assert (await plane.ask("GET /web/a", "expired")).startswith(b"HTTP/1.1 503 ")


async def test_each_request_of_a_connection_is_decided_and_told(plane: Plane) -> None:
    reader, writer = await plane.send("GET /web/a", "ci-token")
    await reader.readuntil(b"ok")
    writer.write(b"GET /web/b HTTP/1.1\r\nHost: cache\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await plane.told(("complete", "granted"), ("complete", "no_token"))
    assert plane.store.asked == ["GET /web/a"]


async def by_key(exchange: Downstream) -> None:
    """A store whose status and length depend on the key."""
    size = len(exchange.upstream_path)
    exchange.start(404 if exchange.upstream_path.endswith("missing") else 200, [], size)
    exchange.write(b"x" * size)
    exchange.finish()


async def test_what_a_connection_asked_before_is_in_no_record_of_what_it_asks_next(plane: Plane) -> None:
    """Records of requests that are alike are filled into a frame (`audit/frame.py`): whatever differs must not be the frame's."""
    plane.store.behave = by_key
    chance = random.Random(7)
    asked = [
        (
            chance.choice(["GET", "GET", "HEAD"]),
            chance.choice(["/web/a", "/web/bb", "/web/missing", "/open/a", "/web/a?x=1", "/web/%41"]),
            chance.choice(["ci-token", "ci-token", "ada-token", None]),
            chance.choice(["one", "one", "two"]),
        )
        for _ in range(40)
        for _ in range(2)
    ]
    asked = [request for request in asked for _ in range(chance.choice([1, 3]))]

    async def run(keep: bool) -> list[dict[str, Any]]:
        plane.sink.lines.clear()
        plane.deciding.snapshot = ALL
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        for number, (method, path, token, agent) in enumerate(asked):
            if number == len(asked) // 2:
                plane.deciding.snapshot = replace(ALL, generation=ALL.generation + 1)
            authorization = f"Authorization: Bearer {token}\r\n" if token else ""
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: c\r\nUser-Agent: {agent}\r\n{authorization}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length is not None and method == "GET" else 0)
            if not keep or b"Connection: close" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
        writer.close()
        await plane.audit.commit(b'{"kind": "mark"}')  # all that went before is written with it
        records = [record for record in plane.records() if record["reason"] == "granted"]
        for record in records:
            record["id"] = record["request"]["id"] = record["time"] = record["duration_ms"] = None
        return records

    await run(keep=False)  # from now on each token's identity is in the cache
    alone = await run(keep=False)
    assert len(alone) > 50
    assert await run(keep=True) == alone


async def test_what_changes_behind_equal_requests_shows_in_the_next_record(plane: Plane) -> None:
    """Equal heads on one connection, while policy, token state, token and store move on."""
    store = {"status": 200}

    async def behave(exchange: Downstream) -> None:
        exchange.start(store["status"], [], 0)
        exchange.finish()

    def policy() -> None:
        plane.deciding.snapshot = replace(ALL, generation=42)

    def renamed() -> None:
        again = replace(TOKENS["ci-token"], token_name="renamed")
        plane.deciding.verifier.verify = lambda token, now: asyncio.sleep(0, again)  # type: ignore[method-assign]
        plane.deciding.verifier.generation = "2"

    def gone() -> None:
        store["status"] = 404

    plane.store.behave = behave
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    changes: list[Callable[[], None]] = [lambda: None, policy, lambda: plane.state.append((8, 0.1)), renamed, gone]
    for change in changes:
        change()
        for _ in range(4):
            writer.write(b"GET /web/a HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer ci-token\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await plane.audit.commit(b'{"kind": "mark"}')
    told = [
        (
            record["decision"]["policy_generation"],
            record["decision"]["token_state_seq"],
            record["actor"]["token_name"],
            record["response"]["status"],
        )
        for record in plane.records()
    ]
    steps = [(7, 7, "", 200), (42, 7, "", 200), (42, 8, "", 200), (42, 8, "renamed", 200), (42, 8, "renamed", 404)]
    assert told == [(*step[:2], step[2] or None, step[3]) for step in steps for _ in range(4)]


@pytest.mark.parametrize("ours", [True, False])
async def test_only_the_embedded_stores_word_on_a_digest_is_taken(plane: Plane, ours: bool) -> None:
    async def behave(exchange: Downstream) -> None:
        while await exchange.read():
            pass
        exchange.start(201, [(b"ETag", b"t"), (b"x-sidecar-sha256", b"5" * 64)], 0)
        exchange.finish()

    plane.store.behave = behave
    plane.plane._places["store"] = Place(plane.store, hashes=ours)  # type: ignore[index]
    answer = await plane.ask("PUT /web/a", "ci-token", body=b"body")
    _, done = await plane.told(("intent", "granted"), ("complete", "granted"))
    found = "5" * 64 if ours else hashlib.sha256(b"body").hexdigest()
    assert done["resource"]["digest"] == f"sha256:{found}"
    assert (b"x-sidecar-sha256" in answer) is not ours


@pytest.mark.parametrize("plane", [ProvenanceSettings(digest_up_to=4)], indirect=True)
@pytest.mark.parametrize(("body", "hashed"), [(b"four", True), (b"fiver", False)])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("tag", [None, 'W/"t-1"', "odd\ttag"])
async def test_a_body_that_costs_more_to_hash_than_to_carry_has_the_stores_name(
    plane: Plane, body: bytes, hashed: bool, chunked: bool, tag: str | None
) -> None:
    async def behave(exchange: Downstream) -> None:
        while await exchange.read():
            pass
        exchange.start(201, [] if tag is None else [(b"ETag", tag.encode())], 0)
        exchange.finish()

    plane.store.behave = behave
    if chunked:
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert b" 201 " in await plane.ask("PUT /web/a", "ci-token", "Transfer-Encoding: chunked", body=sent)
    else:
        assert b" 201 " in await plane.ask("PUT /web/a", "ci-token", body=body)
    _, done = await plane.told(("intent", "granted"), ("complete", "granted"))
    by_tag = "etag:t-1" if tag == 'W/"t-1"' else None
    assert done["resource"]["digest"] == (f"sha256:{hashlib.sha256(body).hexdigest()}" if hashed else by_tag)


async def test_a_client_that_closes_as_soon_as_it_has_its_answer_takes_nothing_from_the_record(plane: Plane) -> None:
    """Its request is cancelled between the answer's last byte and whatever the store's connection still needs."""
    bucket = Route("web", "/bkt", ("bkt",), "s3", "store", "/bkt")
    workspace = replace(WEB, routes=(bucket,))
    plane.deciding.snapshot = Snapshot(Routes().adding(workspace.routes), {"web": workspace})

    async def behave(exchange: Downstream) -> None:
        while await exchange.read():
            pass
        if exchange.method == "PUT":
            exchange.start(200, [(b"ETag", b'"p"')], 0)
        else:
            done = b'<CompleteMultipartUploadResult><ETag>"w-1"</ETag></CompleteMultipartUploadResult>'
            exchange.start(200, [], len(done))
            exchange.write(done)
        exchange.finish()
        await asyncio.sleep(60)

    plane.store.behave = behave
    parts = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>p</ETag></Part></CompleteMultipartUpload>"
    upload = "/bkt/k?partNumber=1&uploadId=u", "/bkt/k?uploadId=u"
    for line, body, end in ((f"PUT {upload[0]}", b"part", b"\r\n\r\n"), (f"POST {upload[1]}", parts, b"Result>")):
        reader, writer = await plane.send(f"{line}", "ci-token", body=body)
        async with asyncio.timeout(20):
            await reader.readuntil(end)
        writer.transport.abort()
        await until(lambda: plane.plane.in_flight == 0)
    sha256 = hashlib.sha256(b"part")
    _, part, _, whole = await plane.told(*[("intent", "granted"), ("complete", "granted")] * 2)
    assert part["resource"]["digest"] == f"sha256:{sha256.hexdigest()}"
    assert whole["resource"]["digest"] == f"sha256-parts:{hashlib.sha256(sha256.digest()).hexdigest()}-1"
    assert whole["response"]["aborted"] is False
    assert plane.plane._parts.of(upload_of("store", "/bkt/k", "u")) == {}
