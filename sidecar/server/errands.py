"""Errands of build caches' clients (`profiles.Errand`), carried to their store: what is asked besides, and in which order.

- Headers that a client wants back with an object, on a store that doesn't keep them: they are an object of their own beside it,
  `KEY.headers`, that no client can name. It is written after the object, so that a writer who loses a race leaves nothing of theirs
  with the winner's; the client hears of its upload when both are there. A store that gives such a header back keeps them itself
  and is not asked again.
- A narinfo is read whole and judged before anybody gets a byte of it, or the store hears of it.
"""

import asyncio
from collections.abc import Collection

from sidecar import narinfo
from sidecar.decision import Decision
from sidecar.errors import Refused, Unavailable
from sidecar.gate import Gate
from sidecar.ports import Downstream, HeaderList, Upstream
from sidecar.profiles import Errand, Profile, Work, turborepo
from sidecar.reasons import Reason
from sidecar.server.exchange import Exchange
from sidecar.server.through import Held, Own, Told, Verified

BESIDE = ".headers"
"""What an artifact's headers are called beside it. No hash has a dot."""
_DROPPED = 1024 * 1024
"""The most bytes of a body that nobody wants, and that are read so that the connection may live on."""
_QUESTION = 256 * 1024
_AT_ONCE = 8
_JUDGED_AT_ONCE = 32
"""Then others have their turn: a token's own checks take up to a millisecond for each key."""


class Errands:
    def __init__(self, gate: Gate, keeping: Collection[str] = ()) -> None:
        """`keeping`: the upstreams that keep an artifact's headers themselves; others are learnt."""
        self._gate = gate
        self._keeping = set(keeping)

    async def carry(
        self, errand: Errand, decision: Decision, profile: Profile, exchange: Exchange, upstream: Upstream
    ) -> None:
        """`exchange` has been handed over. As `Upstream.forward`: raises `Refused` before the answer has started."""
        if errand.work is Work.QUERY:
            await self._query(errand, decision, exchange, upstream)
            return
        told = Told(exchange, profile, errand.missing)
        if errand.work is Work.CHECK_NARINFO:
            await _narinfo(decision, told, upstream)
            return
        client: Downstream = told
        if errand.work is Work.KEEP_HEADERS:
            await self._with_headers(errand, decision, told, upstream)
            return
        if errand.sha256 is not None:
            client = Verified(client, errand.sha256)
        await upstream.forward(client)

    async def _with_headers(self, errand: Errand, decision: Decision, told: Told, upstream: Upstream) -> None:
        assert decision.route is not None
        name, path = decision.route.upstream, _beside(errand.path)
        client: Downstream = told
        if name in self._keeping or told.method not in ("GET", "HEAD", "PUT", "DELETE"):
            await upstream.forward(client if errand.sha256 is None else Verified(client, errand.sha256))
        elif told.method == "PUT":
            held = Held(told)
            await upstream.forward(held if errand.sha256 is None else Verified(held, errand.sha256))
            if 200 <= held.status < 300 and held.whole:
                await _keep(upstream, path, errand.forward)
            held.tell(told)
        elif told.method == "DELETE":
            await upstream.forward(Own("DELETE", path))
            await upstream.forward(told)
        else:
            told.beside = await _kept(upstream, path)
            await upstream.forward(told)
            if told.store_keeps:
                self._keeping.add(name)

    async def _query(self, errand: Errand, decision: Decision, exchange: Exchange, upstream: Upstream) -> None:
        """Turborepo's question which of many artifacts are there. What the caller may not read isn't there."""
        hashes = turborepo.hashes(await _whole(exchange, _QUESTION))
        prefix = decision.actions[0].key
        readable: set[str] = set()
        for at in range(0, len(hashes), _JUDGED_AT_ONCE):
            keys = [f"{prefix}/{each}" for each in hashes[at : at + _JUDGED_AT_ONCE]]
            readable.update(self._gate.grants(decision, keys))
            await asyncio.sleep(0)
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(each: str) -> object:
            if f"{prefix}/{each}" not in readable:
                return None
            async with places:
                own = Own("HEAD", f"{errand.path}/{each}")
                await upstream.forward(own)
            if own.status == 404:
                return None
            if own.status != 200:
                raise Refused(Reason.UPSTREAM_ERROR, f"the store answered {own.status}")
            return turborepo.found(own.length, own.answer_headers)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {each: group.create_task(ask(each)) for each in hashes}
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        answer = turborepo.answer_to_query({each: task.result() for each, task in tasks.items()})
        exchange.answer(answer.status, answer.headers, answer.body)


async def take_and_drop(exchange: Exchange) -> None:
    """Read a body that nobody wants; what is very long ends with its connection."""
    dropped = 0
    while dropped <= _DROPPED and (data := await exchange.read()):
        dropped += len(data)


async def _whole(client: Downstream, limit: int) -> bytes:
    """Raises `Refused(MALFORMED_BODY)` beyond `limit` bytes."""
    body = bytearray()
    while data := await client.read():
        body += data
        if len(body) > limit:
            raise Refused(Reason.MALFORMED_BODY, f"longer than {limit} bytes")
    return bytes(body)


async def _narinfo(decision: Decision, told: Told, upstream: Upstream) -> None:
    assert decision.route is not None
    keys = decision.route.trusted_keys or ()
    store_hash = decision.actions[0].key.rpartition("/")[2].removesuffix(".narinfo")
    if told.method == "PUT":
        body = await _whole(told, narinfo.MAX_SIZE)
        _check(narinfo.untrusted(body, store_hash, keys))
        own = Own("PUT", told.upstream_path, told.headers, body)
        await upstream.forward(own)
    else:
        own = Own("GET", told.upstream_path, told.headers, limit=narinfo.MAX_SIZE)
        await upstream.forward(own)
        if own.whole and 200 <= own.status < 300:
            coded = any(name.lower() == b"content-encoding" for name, _ in own.answer_headers)
            _check("in a content coding" if coded else narinfo.untrusted(own.body, store_hash, keys))
    own.tell(told)


def _check(why: str | None) -> None:
    if why is not None:
        raise Refused(Reason.UNTRUSTED_NARINFO, why)


def _beside(path: str) -> str:
    path, mark, query = path.partition("?")
    return f"{path}{BESIDE}{mark}{query}"


async def _kept(upstream: Upstream, path: str) -> HeaderList:
    own = Own("GET", path)
    await upstream.forward(own)
    if own.status in (404, 410):
        return ()
    if own.status != 200 or not own.whole:
        raise Unavailable(Reason.UPSTREAM_ERROR, f"the store answered {own.status} for the artifact's headers")
    pairs = (line.partition(b": ") for line in own.body.split(b"\n"))
    return [(name, value) for name, _, value in pairs if name.decode("latin-1") in turborepo.ARTIFACT_HEADERS]


async def _keep(upstream: Upstream, path: str, headers: HeaderList) -> None:
    """Also where there are none, so that those of an older artifact don't stay."""
    kept = [(name.lower(), value) for name, value in headers]
    lines = [b"%b: %b" % pair for pair in kept if pair[0].decode("latin-1") in turborepo.ARTIFACT_HEADERS]
    own = Own("PUT", path, ((b"content-type", b"text/plain"),), b"\n".join(lines))
    await upstream.forward(own)
    if not 200 <= own.status < 300:
        raise Unavailable(Reason.UPSTREAM_ERROR, f"the store answered {own.status} to the artifact's headers")
