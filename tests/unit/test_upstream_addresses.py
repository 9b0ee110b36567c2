"""Several addresses of one store over real sockets: who is asked, who is left out, who comes back, and when nobody is asked at all."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.settings import HealthSettings, Timeouts, UpstreamSettings
from sidecar.upstream import addresses as addresses_module
from sidecar.upstream import pool as pool_module
from sidecar.upstream.http import HttpUpstream
from tests.ports import free_port
from tests.unit.relays import OK, Client, Script, Store, Talk, event_loop_policy, on_uvloop, store, until

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

HEALTH = HealthSettings(failures=3, ejection=0.1, max_ejection=0.4)


@pytest.fixture(autouse=True)
def fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SWEEP", 0.01)


class Says:
    """A store that says one thing to each request, and another to our own question, as long as it isn't told otherwise."""

    def __init__(self, status: int = 200, to_us: int | None = None) -> None:
        self.status = status
        self.to_us = to_us
        self.silent = False
        self.asked: list[bytes] = []
        """Request lines of clients."""
        self.questions = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, talk: Talk) -> None:
        while True:
            line = (await talk.head()).split(b"\r\n")[0]
            ours = line == b"HEAD / HTTP/1.1"
            if ours:
                self.questions += 1
            else:
                self.asked.append(line)
            if self.silent:
                await talk.reader.read()
                return
            if self.gate is not None and not ours:
                await self.gate.wait()
            status = self.to_us if ours and self.to_us is not None else self.status
            talk.say(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)


def refusing_port() -> int:
    return free_port()


def settings(*ports: int, **more: Any) -> UpstreamSettings:
    urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
    made = UpstreamSettings("store", urls[0], urls=urls, timeouts=Timeouts(connect=1.0), health=HEALTH)
    return replace(made, **more)


@asynccontextmanager
async def reaching(*ports: int, **more: Any) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream(settings(*ports, **more))
    try:
        yield upstream
    finally:
        await upstream.close()


@asynccontextmanager
async def stores(*scripts: Script) -> AsyncIterator[list[Store]]:
    async with contextlib.AsyncExitStack() as opened:
        yield [await opened.enter_async_context(store(script)) for script in scripts]


async def ask(upstream: HttpUpstream, method: str = "GET", path: str = "/a") -> int:
    client = Client(method, path)
    await upstream.forward(client)
    return client.status


async def refused(upstream: HttpUpstream, method: str = "GET") -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await ask(upstream, method)
    return caught.value


# --- which one ------------------------------------------------------------------------------------------------------------


async def test_requests_are_spread_over_all() -> None:
    scripts = [Says() for _ in range(3)]
    async with stores(*scripts) as made, reaching(*(each.port for each in made)) as upstream:
        for _ in range(12):
            await ask(upstream)
        assert [len(script.asked) for script in scripts] == [4, 4, 4]
        assert [len(each.talks) for each in made] == [1, 1, 1]


async def test_the_one_with_the_fewest_requests_under_way_is_asked() -> None:
    slow, quick = Says(), Says()
    slow.gate = asyncio.Event()
    async with stores(slow, quick) as made, reaching(*(each.port for each in made)) as upstream:
        held = [asyncio.create_task(ask(upstream)) for _ in range(2)]
        await until(lambda: len(slow.asked) == 1 and held[0].done() + held[1].done() == 1)
        for _ in range(10):
            await ask(upstream)
        assert len(slow.asked) == 1
        slow.gate.set()
        await asyncio.gather(*held)


async def test_each_is_told_its_own_name() -> None:
    heads: list[bytes] = []

    async def script(talk: Talk) -> None:
        while True:
            heads.append(await talk.head())
            talk.say(OK)

    async with stores(script, script) as made, reaching(*(each.port for each in made)) as upstream:
        await ask(upstream)
        await ask(upstream)
        hosts = {line for head in heads for line in head.split(b"\r\n") if line.startswith(b"Host:")}
        assert hosts == {b"Host: 127.0.0.1:%d" % each.port for each in made}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_one_that_can_t_be_reached_leaves_the_others_to_try_whatever_the_method(method: str) -> None:
    there = Says()
    async with stores(there) as (made,), reaching(refusing_port(), made.port) as upstream:
        for _ in range(4):
            assert await ask(upstream, method) == 200
        assert len(there.asked) == 4  # each once


async def test_connections_are_bounded_over_all_addresses_together() -> None:
    scripts = [Says(), Says()]
    for script in scripts:
        script.gate = asyncio.Event()
    async with stores(*scripts) as made, reaching(*(each.port for each in made), connections=3) as upstream:
        asking = [asyncio.create_task(ask(upstream)) for _ in range(8)]
        await until(lambda: upstream.pool.waiting == 5 and sum(len(script.asked) for script in scripts) >= 3)
        assert sum(len(script.asked) for script in scripts) == 3
        for script in scripts:
            assert script.gate is not None
            script.gate.set()
        assert await asyncio.gather(*asking) == [200] * 8
        assert sum(len(each.talks) for each in made) <= 4  # one that idled may have made room for a better one


# --- left out, and back ---------------------------------------------------------------------------------------------------


async def test_one_that_refuses_connections_is_left_out_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    there, port = Says(), refusing_port()
    async with stores(there) as (made,), reaching(port, made.port) as upstream:
        addresses = upstream.pool.addresses
        while not addresses.ejections:
            assert await ask(upstream) == 200
            made.talks[-1].writer.close()  # so that the next one needs a connection
            await asyncio.sleep(0)
        assert [str(address) for address in addresses.eligible] == [f"127.0.0.1:{made.port}"]
        assert f"127.0.0.1:{port} (upstream_unreachable: ConnectionRefusedError" in (addresses.problem() or "")
        async with await asyncio.start_server(_well, "127.0.0.1", port):
            await until(lambda: len(addresses.eligible) == 2)
        assert addresses.problem() is None
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[1] for line in lines] == [f"127.0.0.1:{port} is left out", f"127.0.0.1:{port} is back"]


async def _well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")  # whoever refuses is there
    writer.close()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_one_that_answers_with_failures_of_its_own_is_left_out(status: int) -> None:
    bad, good = Says(status), Says()
    async with stores(bad, good) as made, reaching(*(each.port for each in made)) as upstream:
        addresses = upstream.pool.addresses

        async def until_left_out() -> None:
            while not addresses.ejections:
                await ask(upstream)

        await asyncio.wait_for(until_left_out(), 20)
        asked = len(bad.asked)
        assert [await ask(upstream) for _ in range(5)] == [200] * 5
        assert len(bad.asked) == asked
        bad.status = 200
        await until(lambda: len(addresses.eligible) == 2)


async def test_one_that_accepts_and_never_answers_is_left_out() -> None:
    bad, good = Says(), Says()
    bad.silent = True
    fast = Timeouts(connect=1.0, first_byte=0.2)
    async with stores(bad, good) as made, reaching(*(each.port for each in made), timeouts=fast) as upstream:
        pool_patience, pool_module._PATIENCE = pool_module._PATIENCE, 0.2
        try:
            while not upstream.pool.addresses.ejections:
                with contextlib.suppress(Unavailable):
                    await ask(upstream)
        finally:
            pool_module._PATIENCE = pool_patience
        assert [str(address) for address in upstream.pool.addresses.eligible] == [f"127.0.0.1:{made[1].port}"]


@pytest.mark.parametrize("kind", ["status", "silence", "reset"])
async def test_a_client_that_knows_what_a_store_stumbles_over_has_no_address_left_out(kind: str) -> None:
    """It is answered as badly as it asks; our own question clears the doubt, and others are served."""

    async def stumbling(talk: Talk) -> None:
        nonlocal questions
        while True:
            head = await talk.head()
            if b"/evil" not in head:
                questions += head.startswith(b"HEAD / ")
                talk.say(OK.removesuffix(b"ok") if head.startswith(b"HEAD") else OK)
            elif kind == "status":
                talk.say(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
            elif kind == "silence":
                await talk.reader.read()
                return
            else:
                talk.reset()
                return

    questions = 0
    fast = Timeouts(connect=1.0, first_byte=0.1)
    async with stores(stumbling, stumbling) as made, reaching(*(each.port for each in made), timeouts=fast) as upstream:
        for _ in range(12):
            evil = [asyncio.create_task(ask(upstream, path="/evil")) for _ in range(6)]
            await asyncio.gather(*evil, return_exceptions=True)
            await until(lambda: all(address.health.due is None for address in upstream.pool.addresses.all))
            assert await ask(upstream, path="/good") == 200
        assert questions > 0
        assert (upstream.pool.addresses.ejections, upstream.pool.addresses.circuit_open) == (0, False)


async def test_whoever_answers_is_never_left_out_altogether() -> None:
    """All fail: what they say is passed on, since it says more than a refusal of ours."""
    scripts = [Says(503), Says(503)]
    async with stores(*scripts) as made, reaching(*(each.port for each in made)) as upstream:
        addresses = upstream.pool.addresses

        async def until_both() -> None:
            while addresses.ejections < 2:
                assert await ask(upstream) == 503

        await asyncio.wait_for(until_both(), 20)
        assert len(addresses.eligible) == 2
        assert not addresses.circuit_open
        assert [await ask(upstream) for _ in range(10)] == [503] * 10


async def test_a_single_address_that_fails_is_asked_on() -> None:
    script = Says(500)
    async with stores(script) as (made,), reaching(made.port) as upstream:
        assert [await ask(upstream) for _ in range(20)] == [500] * 20
        assert (upstream.pool.addresses.ejections, script.questions) == (0, 0)


async def test_clients_that_leave_without_an_answer_raise_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everybody waits for our timeout."""
    monkeypatch.setattr(pool_module, "_IMPATIENT", 0.02)
    monkeypatch.setattr(pool_module, "_PATIENCE", 0.05)
    script = Says()
    script.silent = True
    async with stores(script) as (made,), reaching(made.port) as upstream:
        for _ in range(HEALTH.failures):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ask(upstream), 0.2)
        await until(lambda: upstream.pool.addresses.circuit_open)


# --- the circuit ----------------------------------------------------------------------------------------------------------


async def test_the_circuit_opens_says_so_once_and_closes_by_our_question(caplog: pytest.LogCaptureFixture) -> None:
    port = refusing_port()
    async with reaching(port) as upstream:
        addresses = upstream.pool.addresses
        reasons = [(await refused(upstream)).reason for _ in range(HEALTH.failures + 20)]
        assert reasons[: HEALTH.failures] == [Reason.UPSTREAM_UNREACHABLE] * HEALTH.failures
        assert set(reasons[HEALTH.failures :]) == {Reason.UPSTREAM_CIRCUIT_OPEN}
        assert "circuit open" in (addresses.problem() or "")
        async with await asyncio.start_server(_well, "127.0.0.1", port):
            await until(lambda: not addresses.circuit_open)
            assert await ask(upstream) == 403
        assert addresses.circuit_openings == 1
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 2
    assert "circuit open" in lines[0]
    assert "ConnectionRefusedError" in lines[0]
    assert "circuit closed" in lines[1]


async def test_an_open_circuit_asks_ever_more_rarely_and_no_client_makes_it_ask_more() -> None:
    script = Says()
    script.silent = True
    async with stores(script) as (made,):
        upstream = HttpUpstream(settings(made.port, timeouts=Timeouts(connect=0.2, first_byte=0.02)))
        patience, pool_module._PATIENCE = pool_module._PATIENCE, 0.02
        try:
            while not upstream.pool.addresses.circuit_open:
                with contextlib.suppress(Unavailable):
                    await ask(upstream)
            asked, questions, until_then = len(script.asked), script.questions, time.monotonic() + 1.0
            while time.monotonic() < until_then:
                assert (await refused(upstream)).reason is Reason.UPSTREAM_CIRCUIT_OPEN
                await asyncio.sleep(0.002)
        finally:
            pool_module._PATIENCE = patience
            await upstream.close()
        assert len(script.asked) == asked
        assert 1 <= script.questions - questions <= 4  # after 0.1, 0.2, 0.4, 0.4 s


async def test_those_who_wait_are_told_when_the_circuit_opens() -> None:
    script = Says()
    script.silent = True
    fast = Timeouts(connect=0.2, first_byte=0.05)
    async with (
        stores(script) as (made,),
        reaching(made.port, connections=3, queue_timeout=30.0, timeouts=fast) as upstream,
    ):
        patience, pool_module._PATIENCE = pool_module._PATIENCE, 0.05
        try:
            async with asyncio.timeout(20):
                results = await asyncio.gather(*(ask(upstream) for _ in range(40)), return_exceptions=True)
        finally:
            pool_module._PATIENCE = patience
    reasons = [result.reason for result in results if isinstance(result, Unavailable)]
    assert len(reasons) == 40
    assert Reason.UPSTREAM_CIRCUIT_OPEN in reasons


# --- names ----------------------------------------------------------------------------------------------------------------


class Resolver:
    def __init__(self, *found: str) -> None:
        self.found: Sequence[str] | OSError = found
        self.asked = 0

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.asked += 1
        if isinstance(self.found, OSError):
            raise self.found
        return self.found


def named(port: int) -> UpstreamSettings:
    return UpstreamSettings("store", f"http://store.test:{port}", timeouts=Timeouts(connect=0.5), health=HEALTH)


@pytest.fixture
def fast_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses_module, "RESOLVE_EVERY", 0.05)
    monkeypatch.setattr(addresses_module, "RESOLVE_AGAIN", 0.05)


@asynccontextmanager
async def serving(host: str, port: int) -> AsyncIterator[list[str]]:
    asked: list[str] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(OK)

    server = await asyncio.start_server(serve, host, port)
    try:
        yield asked
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # for what reads there to see its end


@pytest.mark.usefixtures("fast_names")
async def test_all_addresses_of_a_name_are_used_and_followed() -> None:
    port = refusing_port()
    resolver = Resolver("127.0.0.1", "127.0.0.2")
    async with (
        serving("127.0.0.1", port) as one,
        serving("127.0.0.2", port) as two,
        serving("127.0.0.3", port) as three,
    ):
        upstream = HttpUpstream(named(port), resolver)
        for _ in range(6):
            await ask(upstream)
        assert (len(one), len(two), len(three)) == (3, 3, 0)
        assert all(f"Host: store.test:{port}\r\n" in head for head in one + two)
        resolver.found = ("127.0.0.2", "127.0.0.3")
        await until(
            lambda: {str(each) for each in upstream.pool.addresses.all} == {f"127.0.0.{n}:{port}" for n in (2, 3)}
        )
        for _ in range(6):
            await ask(upstream)
        assert len(one) == 3
        assert len(three) >= 3
        assert upstream.pool.busy == 0
        await upstream.close()


@pytest.mark.usefixtures("fast_names")
async def test_a_resolver_that_fails_takes_no_store_away() -> None:
    port = refusing_port()
    resolver = Resolver("127.0.0.1")
    async with serving("127.0.0.1", port):
        upstream = HttpUpstream(named(port), resolver)
        await ask(upstream)
        resolver.found = OSError(-2, "Name or service not known")
        asked = resolver.asked
        await until(lambda: resolver.asked > asked + 2)
        assert await ask(upstream) == 200
        await upstream.close()


async def test_all_that_come_before_a_name_is_known_wait_for_it() -> None:
    port, known, begun = refusing_port(), asyncio.Event(), asyncio.Event()

    async def slow(name: str, port: int) -> Sequence[str]:
        begun.set()
        await known.wait()
        return ["127.0.0.1"]

    async with serving("127.0.0.1", port) as asked:
        upstream = HttpUpstream(named(port), slow)
        asking = [asyncio.create_task(ask(upstream))]
        await begun.wait()
        asking += [asyncio.create_task(ask(upstream)) for _ in range(4)]
        for _ in range(3):
            await asyncio.sleep(0)
        known.set()
        assert await asyncio.gather(*asking) == [200] * 5
        assert len(asked) == 5
        await upstream.close()


async def test_a_name_that_nobody_knows_is_unreachable_and_asked_for_once_by_all() -> None:
    resolver = Resolver()
    resolver.found = OSError(-2, "Name or service not known")
    upstream = HttpUpstream(named(1), resolver)
    results = await asyncio.gather(*(refused(upstream) for _ in range(20)))
    assert {result.reason for result in results} == {Reason.UPSTREAM_UNREACHABLE}
    assert {result.detail for result in results} == {"store.test can't be resolved: Name or service not known"}
    assert resolver.asked == 1
    assert upstream.pool.addresses.problem() == results[0].detail
    await upstream.close()
