"""Which concrete thing stands behind each port: the only file that names them all.

Read `start` for the order in which a process comes up, `drain` and `stop` for how it goes down.
"""

import asyncio
import errno
import hashlib
import logging
import os
import platform
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from sidecar import __version__, headers, readings
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.sinks import FileSink, Sink, StdoutSink
from sidecar.credentials.identities import Identities
from sidecar.credentials.jwt import JwtVerifier
from sidecar.directory.file import DirectoryFile
from sidecar.errors import SidecarError
from sidecar.gate import Gate
from sidecar.jwks import keys_of
from sidecar.metrics import Metrics
from sidecar.model import Principal, PrincipalKind
from sidecar.policy.compiled import Route
from sidecar.policy.source import PolicySource
from sidecar.ports import Revocations, Upstream, Verifier
from sidecar.profiles import PROFILES
from sidecar.server.client import Listener
from sidecar.server.data_plane import DataPlane, Place
from sidecar.server.ops import Checks, OpsServer
from sidecar.settings import AuditSink, Listen, Settings, UpstreamSettings
from sidecar.store.changes import ChangeFeed
from sidecar.store.last_used import LastUsed
from sidecar.store.open import OpenStore, open_token_store
from sidecar.store.token_events import TokenEvents
from sidecar.store.token_store import TokenEvent
from sidecar.upstream.file import FileStore
from sidecar.upstream.http import HttpUpstream

log = logging.getLogger(__name__)


class StartError(SidecarError):
    """The process can't come up. The text says what to do."""


class NothingRevoked:
    """Stands for the change feed where no tokens are issued here."""

    epoch = 0

    def revoked(self, principal: Principal) -> bool:
        return False

    def is_fresh(self, now: float) -> bool:
        return True


class Sidecar:
    """One serving process. `start`, then `drain` (which ends in `stop`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._draining = False
        self._sockets: list[asyncio.Server] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []
        """What `stop` awaits, last in first out."""
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Raises `SidecarError` or `OSError`, each saying what to do. Call `stop` afterwards whether it raised or not."""
        settings = self._settings
        metrics = Metrics(
            profiles=PROFILES,
            upstreams=settings.upstreams,
            kinds=("personal", "ci", "jwt", "refused"),
            issuers=settings.issuers,
            sinks=[_sink_name(sink.file) for sink in settings.audit],
            build=(__version__, os.environ.get("SIDECAR_REVISION", ""), platform.python_version()),
        )
        checks = Checks()
        tokens = await self._open_tokens()

        records = Records(_instance(), _install_key(settings))
        audit = AuditLog([_sink(sink, records) for sink in settings.audit], records, observer=metrics)
        await audit.open()
        self._closing.append(audit.close)

        verifiers, revocations = await self._verifiers(tokens, audit, records, metrics, checks)
        used = await self._last_used(tokens)
        identities = Identities(verifiers, revocations, settings.identity_cache, used=used, verified=metrics.verified)
        directory = await self._open_directory(checks)
        policies = await self._open_policies(audit, records, metrics, checks)
        upstreams = await self._open_upstreams()

        async def exists(route: Route, path: str) -> bool:
            return await upstreams[route.upstream].exists(path)

        gate = Gate(
            snapshot=lambda: policies.snapshot,
            profiles=PROFILES,
            identities=identities,
            directory=directory,
            existence=exists,
            token_headers=settings.carriers.headers,
            set_names=_names_that_we_set(upstreams),
        )
        plane = DataPlane(
            gate=gate,
            places={name: _place(settings.upstreams[name], upstream) for name, upstream in upstreams.items()},
            audit=audit,
            records=records,
            metrics=metrics,
            patience=settings.limits.body_timeout,
            draining=lambda: self._draining,
        )
        self._listener = listener = Listener(plane.handle, settings.limits, metrics.turned_away)
        checks.add("draining", lambda: "shutting down" if self._draining else None)
        checks.add("audit", audit.problem)
        readings.of_requests(metrics, listener, plane, identities)
        readings.of_audit(metrics, audit)

        ops = OpsServer(checks, metrics)
        await _listening(settings.ops, "ops", ops.start(settings.ops))
        self._closing.append(ops.stop)
        listener.start()
        self._sockets.append(await _listening(settings.listen, "listen", _bind(settings.listen, listener)))

    async def drain(self) -> None:
        """Not ready, accept a little longer, finish what runs, flush, end."""
        self._draining = True
        await asyncio.sleep(self._settings.limits.drain_delay)
        await self.stop(grace=self._settings.limits.grace)

    async def stop(self, grace: float) -> None:
        """Ends everything in the reverse order of its start; running requests have `grace` seconds."""
        self._draining = True
        for server in self._sockets:
            server.close()
        if self._listener is not None:
            await self._listener.drain(grace)
        while self._closing:
            try:
                await self._closing.pop()()
            except Exception:
                log.exception("a part did not end cleanly")

    async def _open_tokens(self) -> OpenStore | None:
        if self._settings.tokens is None:
            return None
        tokens = await open_token_store(self._settings.tokens)
        self._closing.append(tokens.store.close)
        return tokens

    async def _verifiers(
        self, tokens: OpenStore | None, audit: AuditLog, records: Records, metrics: Metrics, checks: Checks
    ) -> tuple[list[Verifier], Revocations]:
        verifiers: list[Verifier] = []
        revocations: Revocations = NothingRevoked()
        if tokens is not None:
            verifiers.append(tokens.verifier)

            async def record(event: TokenEvent) -> None:
                await audit.commit(readings.token_record(records, event))

            events = TokenEvents(tokens.store, record)
            feed = ChangeFeed(tokens.store, tokens.watch(), on_change=events.wake)
            await feed.start()
            self._closing.append(feed.stop)
            events.start()
            self._closing.append(events.stop)
            revocations = feed
            readings.of_token_state(metrics, checks, feed)
        if self._settings.issuers:
            sources = {name: keys_of(issuer) for name, issuer in self._settings.issuers.items()}
            for source in sources.values():
                await source.start()
                self._closing.append(source.close)
            verifiers.append(JwtVerifier([(issuer, sources[name]) for name, issuer in self._settings.issuers.items()]))
            readings.of_keys(metrics, checks, sources)
        return verifiers, revocations

    async def _last_used(self, tokens: OpenStore | None) -> Callable[[Principal, float], None]:
        if tokens is None:
            return lambda principal, now: None
        last_used = LastUsed(tokens.store)
        last_used.start()
        self._closing.append(last_used.stop)
        issued_here = (PrincipalKind.PERSONAL, PrincipalKind.CI)

        def used(principal: Principal, now: float) -> None:
            if principal.kind in issued_here:
                last_used.mark(principal.token_id, now)

        return used

    async def _open_directory(self, checks: Checks) -> DirectoryFile | None:
        if self._settings.directory is None:
            return None
        directory = DirectoryFile(self._settings.directory.file)
        directory.load_now()
        await directory.start()
        self._closing.append(directory.stop)
        checks.add("directory", lambda: readings.first_of(directory.problems), required=False)
        return directory

    async def _open_policies(self, audit: AuditLog, records: Records, metrics: Metrics, checks: Checks) -> PolicySource:
        settings = self._settings
        news = readings.PolicyNews(audit, records, metrics)
        policies = PolicySource(
            settings.policies,
            issuers=settings.issuers,
            upstreams=settings.upstreams,
            profiles=PROFILES,
            on_event=news.heard,
        )
        try:
            policies.load_now()
        except OSError as error:
            raise StartError(f"`policies: {settings.policies}` can't be read: {error.strerror}") from None
        await policies.start()
        self._closing.append(policies.stop)
        readings.of_policies(metrics, checks, policies, news)
        return policies

    async def _open_upstreams(self) -> dict[str, Upstream]:
        upstreams: dict[str, Upstream] = {}
        for name, settings in self._settings.upstreams.items():
            upstreams[name] = upstream = await _upstream(settings)
            self._closing.append(upstream.close)
        return upstreams


async def _upstream(settings: UpstreamSettings) -> Upstream:
    parts = urlsplit(settings.url)
    if parts.scheme != "file":
        return HttpUpstream(settings)
    store = FileStore(Path(unquote(parts.path)))
    await store.open()
    return store


def _place(settings: UpstreamSettings, upstream: Upstream) -> Place:
    parts = urlsplit(settings.url.lower())
    origin = "http://localhost" if parts.scheme == "unix" else f"{parts.scheme}://{parts.netloc}"
    return Place(upstream, (origin,), settings.redirects == "pass")


def _names_that_we_set(upstreams: dict[str, Upstream]) -> frozenset[str]:
    """Folded names of the headers that carry a store's credentials: a client's must not stand beside or instead of ours."""
    return frozenset(
        headers.fold(upstream.credential_name.decode())
        for upstream in upstreams.values()
        if isinstance(upstream, HttpUpstream) and upstream.credential_name
    )


def _sink_name(file: Path | None) -> str:
    return "stdout" if file is None else "file"


def _sink(settings: AuditSink, records: Records) -> Sink:
    if settings.file is None:
        return StdoutSink(required=settings.required)
    return FileSink(
        settings.file,
        records,
        required=settings.required,
        rotate_size=settings.rotate_size,
        keep=settings.keep,
        fsync=settings.fsync == "group",
    )


def _install_key(settings: Settings) -> bytes:
    """Under which unknown credentials are written down: from the pepper, or for this process alone where there is none."""
    if settings.tokens is None:
        return os.urandom(32)
    return hashlib.sha256(b"sidecar/audit/unknown-token\0" + settings.tokens.pepper_file.read_bytes()).digest()


def _instance() -> Instance:
    return Instance(
        pod=os.environ.get("POD_NAME") or socket.gethostname(),
        namespace=os.environ.get("POD_NAMESPACE"),
        node=os.environ.get("NODE_NAME"),
        version=__version__,
    )


async def _bind(listen: Listen, listener: Listener) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listen.unix is not None:
        return await loop.create_unix_server(listener, str(listen.unix))
    return await loop.create_server(listener, listen.host or None, listen.port, backlog=1024)


_T = TypeVar("_T")


async def _listening(listen: Listen, setting: str, binding: Awaitable[_T]) -> _T:
    """The outcome of `binding`; where the address can't be had, a `StartError` that says what to do."""
    try:
        return await binding
    except OSError as error:
        what = "is in use already" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        advice = "stop what listens there, or set another address"
        raise StartError(f"`{setting}: {listen}` {what}; {advice} in the configuration") from None
