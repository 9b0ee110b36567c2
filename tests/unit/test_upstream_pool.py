"""Connections to a store over real sockets: how many, which first, for how long, and who waits for whom."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.errors import ClientGone, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import Timeouts, UpstreamSettings
from sidecar.upstream import pool as module
from sidecar.upstream.http import HttpUpstream
from sidecar.upstream.own_files import Material
from sidecar.upstream.pool import Pool
from tests.ports import free_port
from tests.unit.relays import (
    OK,
    Client,
    Store,
    Talk,
    answers,
    descriptors,
    event_loop_policy,
    forever,
    on_uvloop,
    store,
    until,
)

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP", 0.01)


@asynccontextmanager
async def reaching(made: Store, connections: int = 8, **settings: Any) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream(made.settings(connections=connections, **settings))
    try:
        yield upstream
    finally:
        await upstream.close()


async def get(upstream: HttpUpstream, path: str = "/") -> Client:
    client = Client("GET", path)
    await upstream.forward(client)
    return client


class Held:
    """A store that answers when it is told."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.by: list[Talk] = []
        """Which connection each request came on."""

    @property
    def asked(self) -> int:
        return len(self.by)

    async def __call__(self, talk: Talk) -> None:
        while True:
            await talk.head()
            self.by.append(talk)
            await self.go.wait()
            talk.say(OK)


async def test_a_connection_is_used_again() -> None:
    async with store(forever) as made, reaching(made) as upstream:
        for _ in range(5):
            assert (await get(upstream)).answer == b"ok"
        assert len(made.talks) == 1


async def test_there_are_never_more_connections_than_the_setting() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=3) as upstream:
        asking = [asyncio.create_task(get(upstream)) for _ in range(10)]
        await until(lambda: held.asked == 3)
        held.go.set()
        assert [client.answer for client in await asyncio.gather(*asking)] == [b"ok"] * 10
        assert len(made.talks) == 3


async def test_whoever_waits_too_long_is_told_that_all_are_busy() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=1, queue_timeout=0.05) as upstream:
        first = asyncio.create_task(get(upstream))
        await until(lambda: held.asked == 1)
        with pytest.raises(Unavailable) as caught:
            await get(upstream)
        assert caught.value.reason is Reason.OVERLOADED
        held.go.set()
        assert (await first).finished


async def test_one_more_than_the_queue_holds_is_told_at_once() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=1, queue=2) as upstream:
        asking = [asyncio.create_task(get(upstream)) for _ in range(3)]
        await until(lambda: held.asked == 1 and upstream.pool.waiting == 2)
        with pytest.raises(Unavailable, match="the queue is full") as caught:
            await get(upstream)
        assert caught.value.reason is Reason.OVERLOADED
        assert (upstream.pool.refused_full, upstream.pool.refused_late, upstream.pool.busy) == (1, 0, 1)
        held.go.set()
        assert [client.answer for client in await asyncio.gather(*asking)] == [b"ok"] * 3
        assert upstream.pool.waiting == 0


async def test_without_a_queue_nobody_waits() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=1, queue=0) as upstream:
        first = asyncio.create_task(get(upstream))
        await until(lambda: held.asked == 1)
        with pytest.raises(Unavailable, match="the queue is full"):
            await get(upstream)
        held.go.set()
        assert (await first).finished


async def test_those_who_wait_are_served_in_the_order_of_their_coming() -> None:
    """Also where newcomers come in the very moment in which a connection becomes free."""
    order: list[str] = []

    async def ask(upstream: HttpUpstream, name: str) -> None:
        await get(upstream)
        order.append(name)

    held = Held()
    async with store(held) as made, reaching(made, connections=1) as upstream:
        waiting = [asyncio.create_task(ask(upstream, f"early {n}")) for n in range(4)]
        await until(lambda: upstream.pool.waiting == 3)
        waiting[0].add_done_callback(lambda done: waiting.append(asyncio.create_task(ask(upstream, "newcomer"))))
        held.go.set()
        await until(lambda: len(order) == 5)
        assert order == ["early 0", "early 1", "early 2", "early 3", "newcomer"]
        assert len(made.talks) == 1


async def test_a_place_that_a_broken_connection_leaves_is_not_taken_by_a_newcomer() -> None:
    served: list[str] = []

    async def script(talk: Talk) -> None:
        await talk.head()
        await go.wait()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    async def ask(upstream: HttpUpstream, name: str) -> None:
        await get(upstream)
        served.append(name)

    go = asyncio.Event()
    async with store(script) as made, reaching(made, connections=1) as upstream:
        tasks = [asyncio.create_task(ask(upstream, f"early {n}")) for n in range(3)]
        await until(lambda: upstream.pool.waiting == 2)
        tasks[0].add_done_callback(lambda done: tasks.append(asyncio.create_task(ask(upstream, "newcomer"))))
        go.set()
        await until(lambda: len(served) == 4)
        assert served == ["early 0", "early 1", "early 2", "newcomer"]
        assert upstream.pool.busy == 0


async def test_a_storm_of_leavers_loses_no_place() -> None:
    """Clients leave while they wait, in the moment of their turn, and under way: afterwards all places are there."""
    async with store(forever) as made, reaching(made, connections=3) as upstream:
        for wave in range(20):
            tasks = [asyncio.create_task(get(upstream)) for _ in range(12)]
            for _ in range(wave):
                await asyncio.sleep(0)
            for task in tasks[wave % 3 :: 3]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await until(lambda: upstream.pool.busy == 0)
        assert upstream.pool.waiting == 0
        assert upstream.pool._promised == 0
        clients = await asyncio.gather(*(get(upstream) for _ in range(12)))
        assert all(client.finished for client in clients)
        assert made.open <= 3


async def test_new_certificates_end_what_was_made_under_the_old_ones() -> None:
    held = Held()
    held.go.set()
    async with store(held) as made, reaching(made) as upstream:
        await get(upstream)
        held.go.clear()
        busy = asyncio.create_task(get(upstream))
        await until(lambda: held.asked == 2)
        upstream.pool.renew(Material(tls=None))  # of the same kind: nothing changes
        assert upstream.pool.busy == 1
        upstream.pool._material = Material(tls=ssl.create_default_context())
        upstream.pool.renew(Material(tls=None))
        held.go.set()
        assert (await busy).finished
        await until(lambda: made.open == 0)
        await get(upstream)
        assert len(made.talks) == 2


async def test_a_turn_is_passed_on_by_a_client_that_leaves_with_it() -> None:
    """Its turn comes and it is cancelled in the same moment: the next one must not wait for another release."""
    async with store(forever) as made:
        pool = Pool(made.settings(connections=1))
        connection = await pool.open()
        leaving, staying = asyncio.create_task(pool.open()), asyncio.create_task(pool.open())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await connection.exchange(GET, Client("GET", "/"))
        pool.release(connection)
        leaving.cancel()
        async with asyncio.timeout(20):
            assert await staying is connection
        await pool.close()


async def test_a_promised_place_is_passed_on_by_a_client_that_leaves_with_it() -> None:
    async with store(forever) as made:
        pool = Pool(made.settings(connections=1))
        first = await pool.open()
        leaving, staying = asyncio.create_task(pool.open()), asyncio.create_task(pool.open())
        await until(lambda: pool.waiting == 2)
        pool._lost(first)
        leaving.cancel()
        async with asyncio.timeout(20):
            assert (await staying).reusable
        first.abort()
        await pool.close()


async def test_whoever_needs_a_fresh_one_takes_one_place_and_not_two() -> None:
    """It is handed one that was used, ends that, and connects: the place that this leaves is its own."""
    async with store(forever) as made:
        pool = Pool(made.settings(connections=1))
        first = await pool.open()
        await first.exchange(GET, Client("GET", "/"))
        fresh, other = asyncio.create_task(pool.open(fresh=True)), asyncio.create_task(pool.open())
        await until(lambda: pool.waiting == 2)
        pool.release(first)
        second = await fresh
        assert second is not first
        await until(lambda: len(made.talks) == 2 and made.open == 1)
        assert (other.done(), pool.waiting) == (False, 1)
        await second.exchange(GET, Client("GET", "/"))
        pool.release(second)
        assert await other is second
        assert len(made.talks) == 2
        await pool.close()


async def test_whoever_waits_is_told_at_once_that_the_circuit_opened() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=1, queue_timeout=60.0) as upstream:
        first = asyncio.create_task(get(upstream))
        await until(lambda: held.asked == 1)
        waiting = [asyncio.create_task(get(upstream)) for _ in range(3)]
        await until(lambda: upstream.pool.waiting == 3)
        (address,) = upstream.pool.addresses.all
        while not upstream.pool.addresses.circuit_open:
            upstream.pool.addresses.unreachable(address, "refused")
        async with asyncio.timeout(20):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {getattr(result, "reason", None) for result in results} == {Reason.UPSTREAM_CIRCUIT_OPEN}
        held.go.set()
        assert (await first).finished


async def test_a_connection_that_cannot_be_made_gives_its_place_back() -> None:
    """The store refuses: whoever waited for the place learns so at once, not after the whole patience."""
    pool = Pool(
        UpstreamSettings("store", f"http://127.0.0.1:{free_port()}", timeouts=Timeouts(connect=60.0), connections=1)
    )
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(pool.open() for _ in range(5)), return_exceptions=True)
    assert {result.reason for result in results if isinstance(result, Unavailable)} == {Reason.UPSTREAM_UNREACHABLE}
    assert len(results) == 5
    await pool.close()


async def test_a_connection_that_breaks_gives_its_place_back() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        talk.say(b"nonsense\r\n\r\n")

    async with store(script) as made, reaching(made, connections=1, connect=60.0) as upstream:
        async with asyncio.timeout(20):
            results = await asyncio.gather(*(get(upstream) for _ in range(5)), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, Unavailable)] == [Reason.UPSTREAM_BROKEN] * 5


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    held = Held()
    async with store(held) as made, reaching(made, connections=1, connect=1.0) as upstream:
        for n in range(3):
            leaving = asyncio.create_task(get(upstream))
            await until(lambda n=n: held.asked == n + 1)  # type: ignore[misc]  # a default binds the loop's value
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        held.go.set()
        assert (await get(upstream)).finished
        assert len(made.talks) == 4


async def test_connections_that_a_store_drops_at_once_don_t_use_the_places_up() -> None:
    async def script(talk: Talk) -> None:
        talk.reset()

    async with store(script) as made, reaching(made, connections=2) as upstream:
        for _ in range(20):
            with pytest.raises(Unavailable) as caught:
                await get(upstream)
            assert caught.value.reason is Reason.UPSTREAM_BROKEN
        assert len(made.talks) >= 20


async def test_the_last_one_in_is_the_first_one_out() -> None:
    held = Held()
    async with store(held) as made, reaching(made) as upstream:
        asking = []
        for n in range(3):
            asking.append(asyncio.create_task(get(upstream)))
            await until(lambda n=n: held.asked == n + 1)  # type: ignore[misc]  # a default binds the loop's value
        held.go.set()
        await asyncio.gather(*asking)
        for _ in range(5):
            await get(upstream)
        assert len(set(held.by[:3])) == 3
        assert len(set(held.by[3:])) == 1  # so the others may idle until they go
        assert len(made.talks) == 3


async def test_an_idle_connection_is_ended_after_its_time_and_the_busy_one_stays() -> None:
    held = Held()
    held.go.set()
    async with store(held) as made, reaching(made, idle=0.5, first_byte=20.0) as upstream:
        await get(upstream)
        held.go.clear()
        busy = asyncio.create_task(get(upstream))
        await until(lambda: held.asked == 2)
        held.go.set()
        await busy
        await until(lambda: made.open == 0)
        assert (await get(upstream)).finished
        assert len(made.talks) == 2


async def test_a_full_pool_lets_an_idle_one_go_for_a_fresh_one() -> None:
    async with store(forever) as made:
        pool = Pool(made.settings(connections=1))
        first = await pool.open()
        await first.exchange(GET, Client("GET", "/"))
        pool.release(first)
        second = await pool.open(fresh=True)
        assert second is not first
        await until(lambda: made.open == 1)
        await pool.close()


async def test_a_connection_that_spoke_while_idle_is_never_handed_out() -> None:
    async with store(answers(OK, OK)) as made:
        pool = Pool(made.settings())
        connection = await pool.open()
        await connection.exchange(GET, Client("GET", "/"))
        pool.release(connection)
        made.talks[0].say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await until(lambda: not connection.reusable)
        assert pool.idle() is None
        ending = await pool.open()
        pool.release(ending)
        ending.abort()  # the pool has not heard of it yet
        assert pool.idle() is None
        await pool.close()


async def test_a_store_that_is_away_is_unreachable(tmp_path: object) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", f"unix:{tmp_path}/none.sock"):
        pool = Pool(UpstreamSettings("store", url))
        with pytest.raises(Unavailable) as caught:
            await pool.open()
        assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE
        await pool.close()


async def test_a_store_that_does_not_accept_is_unreachable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        stuffing = [socket.socket() for _ in range(8)]
        for each in stuffing:
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(("127.0.0.1", port))
        pool = Pool(UpstreamSettings("store", f"http://127.0.0.1:{port}", timeouts=Timeouts(connect=0.1)))
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable) as caught:
                await pool.open()
        assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE
        await pool.close()
        for each in stuffing:
            each.close()


async def test_nothing_is_left_open() -> None:
    async with store(forever) as made, reaching(made) as upstream:
        await get(upstream)  # what the loop itself opens, it opens now
    await until(lambda: made.open == 0)
    await asyncio.sleep(0)
    before = descriptors()
    held = Held()
    async with store(held) as made:
        upstream = HttpUpstream(made.settings(connections=4))
        asking = [asyncio.create_task(get(upstream)) for _ in range(8)]
        await until(lambda: held.asked == 4)
        for task in asking[::2]:
            task.cancel()
        held.go.set()
        await asyncio.gather(*asking, return_exceptions=True)
        client = Client("GET", "/")
        client.gone = True
        with pytest.raises(ClientGone):
            await upstream.forward(client)
        await upstream.close()
    await until(lambda: descriptors() == before)
