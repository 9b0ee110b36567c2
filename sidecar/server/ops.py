"""The operators' listener: `/livez`, `/readyz`, `/metrics`. The law: nothing here changes anything, and none of it is reachable
through the data plane's listener.

Liveness never asks anybody else: a database that is down must not restart a fleet. Readiness is a list of named checks;
an informative one is shown and doesn't count. Each connection serves one request and lives for at most 30 s, which
bounds slow senders and slow readers alike; where there are too many, the oldest makes room, so that whoever holds
connections can't keep the next probe out.
"""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import web
from msgspec import Struct

from sidecar.listening import bind
from sidecar.settings import KiB, Listen

CONNECTIONS = 64
CONNECTION_LIFE = 30.0
SILENCE = 5.0
"""Seconds until a connection has to have sent something."""
_HEAD_LIMIT = 8 * KiB

_log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""`None` is well; a text says why not, for the operator's eyes. Called at each probe: it looks, it doesn't go and ask."""


class Result(Struct, frozen=True):
    name: str
    problem: str | None
    required: bool


class Checks:
    """What readiness consists of; each part of the program adds its own when it is wired."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[Check, bool]] = {}

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Raises `ValueError` for a name that is taken."""
        if name in self._checks:
            raise ValueError(f"there is a check {name!r} already")
        self._checks[name] = check, required

    def run(self) -> list[Result]:
        """All of them, in the order in which they were added. One that raises has failed; the log says how."""
        results = []
        for name, (check, required) in self._checks.items():
            try:
                problem = check()
            except Exception:
                _log.exception("the readiness check %s failed", name)
                problem = "the check itself failed; the log says why"
            results.append(Result(name, problem, required))
        return results


class Readiness(Protocol):
    def run(self) -> list[Result]: ...


class Scrape(Protocol):
    def expose(self, accept: str) -> tuple[bytes, str]:
        """Body and Content-Type for this `Accept` header."""


async def _nothing_to_prepare(path: str) -> None:
    return None


class _Answer(web.Response):
    """Says nothing of what serves it, and ends its connection."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Content-Type-Options"] = "nosniff"


def _text(status: int, text: str) -> _Answer:
    answer = _Answer(status=status, text=text + "\n")
    answer.force_close()
    return answer


class _Connection(web.RequestHandler):
    __slots__ = ("_expiry", "_heard", "_life", "_listener", "_peer")

    def __init__(self, listener: "_Listener", life: float, **kwargs: Any) -> None:
        super().__init__(listener, **kwargs)
        self._listener = listener
        self._life = life
        self._heard = False
        self._expiry: asyncio.TimerHandle | None = None
        self._peer: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # By what it can do and not by its class: uvloop's transports are of none of asyncio's.
        self._peer = cast("asyncio.Transport", transport)
        self._expiry = self._loop.call_later(min(SILENCE, self._life), self.end)
        self._listener.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._expiry is not None and not self._heard:
            self._heard = True
            self._expiry.cancel()
            self._expiry = self._loop.call_later(self._life, self.end)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.closed(self)
        if self._expiry is not None:
            self._expiry.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        """At once, whatever is unsent: a close would wait for a client that doesn't read."""
        self._listener.closed(self)
        if self._peer is not None:
            self._peer.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """aiohttp's own would repeat what the client sent, in the answer and in the log."""
        if status >= 500:
            _log.error("the ops listener failed", exc_info=exc)
        return _text(status, HTTPStatus(status).phrase.lower())


class _Listener(web.Server):
    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], life: float) -> None:
        super().__init__(
            handler,
            access_log=None,
            lingering_time=0,
            max_line_size=_HEAD_LIMIT,
            max_field_size=_HEAD_LIMIT,
            max_headers=64,
        )
        self._life = life
        self._open: dict[_Connection, None] = {}
        """The oldest first, without those that are being ended."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._life, loop=self._loop, **self._kwargs)

    def opened(self, connection: _Connection) -> None:
        self._open[connection] = None
        if len(self._open) > CONNECTIONS:
            next(iter(self._open)).end()

    def closed(self, connection: _Connection) -> None:
        self._open.pop(connection, None)

    async def end(self) -> None:
        self.pre_shutdown()
        await self.shutdown(1.0)


class OpsServer:
    def __init__(
        self,
        checks: Readiness,
        metrics: Scrape,
        *,
        prepare: Callable[[str], Awaitable[None]] = _nothing_to_prepare,
        connection_life: float = CONNECTION_LIFE,
    ) -> None:
        """`prepare` is awaited with a page's path before it is made. `connection_life` in seconds."""
        self._checks = checks
        self._metrics = metrics
        self._prepare = prepare
        self._connection_life = connection_life
        self._pages = {"/livez": self._live, "/readyz": self._ready, "/metrics": self._expose}
        self._listener: _Listener | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listen: Listen) -> None:
        """Raises `OSError` where the address can't be had."""
        loop = asyncio.get_running_loop()
        listener = _Listener(self._answer, self._connection_life)
        if listen.unix is not None:
            # asyncio, given the path, would take it away from a process that listens there.
            self._server = await loop.create_unix_server(listener, sock=bind(listen)[0])
        else:
            self._server = await loop.create_server(listener, listen.host or None, listen.port, reuse_address=True)
        self._listener = listener

    @property
    def port(self) -> int:
        """The TCP port that was bound; 0 for a unix socket, or before `start`."""
        name = self._server.sockets[0].getsockname() if self._server is not None else ""
        return int(name[1]) if isinstance(name, tuple) else 0

    async def stop(self) -> None:
        """Closes the listener and ends its connections within a second."""
        if self._server is not None and self._listener is not None:
            self._server.close()
            await self._listener.end()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        page = self._pages.get(path)
        if page is None:
            return _text(404, "not found")
        if request.method not in ("GET", "HEAD"):
            answer = _text(405, "GET and HEAD only")
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        await self._prepare(path)
        return page(request, query)

    def _live(self, request: web.BaseRequest, query: str) -> _Answer:
        """Whoever reads this answer knows that the loop turns."""
        return _text(200, "ok")

    def _ready(self, request: web.BaseRequest, query: str) -> _Answer:
        """200 or 503; with `?verbose` a line for each check: `[+]` well, `[-]` not ready, `[~]` bad but informative."""
        results = self._checks.run()
        ready = all(result.problem is None for result in results if result.required)
        lines = [_line(result) for result in results] if query.partition("=")[0] == "verbose" else []
        return _text(200 if ready else 503, "\n".join([*lines, "ready" if ready else "not ready"]))

    def _expose(self, request: web.BaseRequest, query: str) -> _Answer:
        body, content_type = self._metrics.expose(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        answer = _Answer(body=body, headers=headers)
        answer.force_close()
        return answer


def _line(result: Result) -> str:
    if result.problem is None:
        return f"[+]{result.name} ok"
    return f"[{'-' if result.required else '~'}]{result.name}: {' '.join(result.problem.split())}"


def _accepts_gzip(accepted: str) -> bool:
    for coding in accepted.lower().split(","):
        name, _, parameter = coding.partition(";")
        if name.strip() == "gzip":
            return parameter.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
