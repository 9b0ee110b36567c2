"""Which concrete thing stands behind each port: the only file that names them all.

Read `start` for the order in which a process comes up, `drain` and `stop` for how it goes down.
"""

import asyncio
import logging
import os
import platform
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from sidecar import __version__, headers, news, readings, wiring_audit
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.sinks import Sink
from sidecar.credentials.failures import Failures
from sidecar.credentials.identities import Identities, NothingRevoked
from sidecar.credentials.legacy import OldPasswords
from sidecar.directory.file import DirectoryFile
from sidecar.gate import Gate
from sidecar.listening import StartError, address, bind_all
from sidecar.metrics import Metrics
from sidecar.model import Principal, PrincipalKind, Rate
from sidecar.policy.compiled import Route
from sidecar.policy.passwords import PasswordFiles
from sidecar.policy.source import PolicySource
from sidecar.ports import Upstream, Verifier
from sidecar.profiles import PROFILES
from sidecar.s3.place import Store
from sidecar.server.allowances import Allowances
from sidecar.server.client import Listener
from sidecar.server.data_plane import DataPlane, Place
from sidecar.server.ops import Checks, OpsServer
from sidecar.server.running import Running
from sidecar.settings import FailedCredentialSettings, Settings, UpstreamSettings
from sidecar.store.changes import ChangeFeed
from sidecar.store.last_used import LastUsed
from sidecar.store.open import OpenStore, open_token_store
from sidecar.store.token_events import TokenEvents
from sidecar.store.token_store import TokenEvent
from sidecar.tokens import ChangeKind
from sidecar.upstream.file import FileStore
from sidecar.upstream.http import HttpUpstream
from sidecar.upstream.own_files import OwnFilesUnusable
from sidecar.upstream.s3_relay import S3Relay
from sidecar.wiring_access_keys import access_keys
from sidecar.wiring_listeners import Entrances
from sidecar.wiring_verifiers import jwt_verifier

log = logging.getLogger(__name__)


class Seat(Struct, frozen=True):
    """What one worker of several is given by its parent, where a single process makes its own."""

    sockets: Sequence[Sequence[socket.socket]]
    """Of each listener of the settings, bound. The ops listener is the parent's."""
    sinks: Sequence[Sink]
    install_key: bytes
    first: bool
    """Whether this is the one that records what happens once, whoever sees it: token events and policy edits."""


class Sidecar:
    """One serving process. `start`, then `drain` (which ends in `stop`)."""

    def __init__(self, settings: Settings, seat: Seat | None = None) -> None:
        self._settings = settings
        self._seat = seat
        self._speaks_for_all = seat is None or seat.first
        self.checks = Checks()
        self.metrics = Metrics(
            profiles=PROFILES,
            upstreams=settings.upstreams,
            kinds=("personal", "ci", "jwt", "biscuit", "access_key", "refused"),
            issuers=settings.issuers,
            sinks=[wiring_audit.sink_name(sink) for sink in settings.audit],
            build=(__version__, os.environ.get("SIDECAR_REVISION", ""), platform.python_version()),
        )
        self._running = Running() if settings.revocation.running == "cut" else None
        self._draining = False
        self._entrances = Entrances(settings.listen, self.metrics, self.checks)
        self._closing: list[Callable[[], Awaitable[None]]] = []
        """What `stop` awaits, last in first out."""
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Raises `SidecarError` or `OSError`, each saying what to do. Call `stop` afterwards whether it raised or not."""
        settings, metrics, checks = self._settings, self.metrics, self.checks
        tokens = await self._open_tokens()
        audit, records = await self._open_audit()
        verifiers, revocations = await self._verifiers(tokens, audit, records)
        used = await self._last_used(tokens)
        identities = Identities(verifiers, revocations, settings.identity_cache, used=used, verified=metrics.verified)
        keys = access_keys(settings, tokens, revocations, used=used, verified=metrics.verified)
        directory = await self._open_directory()
        if tokens is not None and directory is not None:
            tokens.verifier.person_id = directory.id_of
        policies = await self._open_policies(audit, records)
        old_passwords = await self._open_old_passwords(policies)
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
            brand=settings.tokens.brand if settings.tokens is not None else None,
            failures=_failures(settings.failed_credentials),
            old_passwords=old_passwords,
            stores=_stores(settings.upstreams),
            access_keys=keys,
        )
        plane = DataPlane(
            gate=gate,
            places={name: _place(settings.upstreams[name], upstream) for name, upstream in upstreams.items()},
            audit=audit,
            records=records,
            metrics=metrics,
            token_state=revocations.state,
            patience=settings.limits.body_timeout,
            draining=lambda: self._draining,
            allowances=Allowances(settings.rate_limits, self._rate_limited),
            running=self._running,
            digests=settings.provenance,
        )
        self._listener = listener = Listener(plane.handle, settings.limits, metrics.turned_away)
        checks.add("draining", lambda: "shutting down" if self._draining else None)
        readings.of_audit(metrics, checks, audit)
        metrics.read("would_deny_total", lambda: {(reason,): count for reason, count in gate.let_through.items()})
        readings.of_requests(metrics, listener, plane, [identities, *([keys.identities] if keys is not None else [])])
        readings.of_stores(metrics, checks, plane.stores)
        await self._accept(listener)

    async def _accept(self, listener: Listener) -> None:
        """Last, when all that may be asked is there."""
        if self._seat is not None:
            sockets = self._seat.sockets
        else:
            ops = OpsServer(self.checks, self.metrics)
            with address(self._settings.ops, "ops"):
                await ops.start(self._settings.ops)
            self._closing.append(ops.stop)
            sockets = bind_all(self._settings.listen)
        await self._entrances.open()
        self._closing.append(self._entrances.stop)
        listener.start()
        await self._entrances.accept(sockets, listener)

    def _rate_limited(self, scope: str, limit: str) -> None:
        self.metrics.count("rate_limited_total", scope, limit)

    async def drain(self) -> None:
        """Not ready, accept a little longer, finish what runs, flush, end."""
        self._draining = True
        await asyncio.sleep(self._settings.limits.drain_delay)
        await self.stop(grace=self._settings.limits.grace)

    async def stop(self, grace: float) -> None:
        """Ends everything in the reverse order of its start; running requests have `grace` seconds."""
        self._draining = True
        await self._entrances.close()
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

    async def _open_audit(self) -> tuple[AuditLog, Records]:
        settings, seat = self._settings, self._seat
        records = wiring_audit.records(seat.install_key if seat else wiring_audit.install_key(settings))
        sinks = seat.sinks if seat else wiring_audit.sinks(settings, records)
        audit = AuditLog(sinks, records, observer=self.metrics)
        await audit.open()
        self._closing.append(audit.close)
        return audit, records

    async def _verifiers(
        self, tokens: OpenStore | None, audit: AuditLog, records: Records
    ) -> tuple[list[Verifier], ChangeFeed | NothingRevoked]:
        verifiers: list[Verifier] = []
        revocations: ChangeFeed | NothingRevoked = NothingRevoked()
        if tokens is not None:
            verifiers += tokens.verifier, tokens.biscuit_verifier

            async def record(event: TokenEvent) -> None:
                await audit.commit(news.token_record(records, event))
                if event.change.kind == ChangeKind.REUSED:
                    self.metrics.count("token_reuses_total")

            events = TokenEvents(tokens.store, record)
            running = self._running

            def changed() -> None:
                events.wake()
                if running is not None:
                    running.look()

            feed = tokens.feed(on_change=changed)
            if running is not None:
                running.revoked = feed.revoked
            await feed.start()
            self._closing.append(feed.stop)
            tokens.moves.start()
            self._closing.append(tokens.moves.stop)
            if self._speaks_for_all:
                events.start()
                self._closing.append(events.stop)
            revocations = feed
            readings.of_token_state(self.metrics, self.checks, feed)
        if self._settings.issuers:
            verifier, sources = await jwt_verifier(self._settings.issuers, self._closing.append)
            verifiers.append(verifier)
            readings.of_keys(self.metrics, self.checks, sources)
        return verifiers, revocations

    async def _last_used(self, tokens: OpenStore | None) -> Callable[[Principal, float], None]:
        if tokens is None:
            return lambda principal, now: None
        last_used = LastUsed(tokens.store)
        last_used.start()
        self._closing.append(last_used.stop)
        issued_here = (PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.BISCUIT, PrincipalKind.ACCESS_KEY)

        def used(principal: Principal, now: float) -> None:
            if principal.kind in issued_here:
                last_used.mark(principal.token_id, now)

        return used

    async def _open_directory(self) -> DirectoryFile | None:
        if self._settings.directory is None:
            return None
        directory = DirectoryFile(self._settings.directory.file, on_event=news.people_heard)
        await directory.load()
        await directory.start()
        self._closing.append(directory.stop)
        self.checks.add("directory", lambda: readings.first_of(directory.problems), required=False)
        return directory

    async def _open_policies(self, audit: AuditLog, records: Records) -> PolicySource:
        settings = self._settings
        told = news.PolicyNews(audit, records, self.metrics, speaks=self._speaks_for_all)
        policies = PolicySource(
            settings.policies,
            issuers=settings.issuers,
            upstreams=settings.upstreams,
            profiles=PROFILES,
            on_event=told.heard,
        )
        try:
            await policies.load()
        except OSError as error:
            raise StartError(f"`policies: {settings.policies}` can't be read: {error.strerror}") from None
        await policies.start()
        self._closing.append(policies.stop)
        readings.of_policies(self.metrics, self.checks, policies, told)
        return policies

    async def _open_old_passwords(self, policies: PolicySource) -> OldPasswords:
        files = PasswordFiles(self._settings.policies, lambda: policies.snapshot)
        await files.load()
        await files.start()
        self._closing.append(files.stop)
        old_passwords = OldPasswords(files.digest)
        readings.of_old_passwords(self.metrics, self.checks, files, old_passwords)
        return old_passwords

    async def _open_upstreams(self) -> dict[str, Upstream]:
        upstreams: dict[str, Upstream] = {}
        for name, settings in self._settings.upstreams.items():
            upstreams[name] = upstream = await _upstream(settings)
            self._closing.append(upstream.close)
        over_http = {name: upstream for name, upstream in upstreams.items() if isinstance(upstream, HttpUpstream)}
        readings.of_upstreams(self.metrics, self.checks, over_http)
        buckets = {name: upstream for name, upstream in upstreams.items() if isinstance(upstream, S3Relay)}
        readings.of_buckets(self.metrics, self.checks, buckets)
        embedded = {name: upstream for name, upstream in upstreams.items() if isinstance(upstream, FileStore)}
        readings.of_embedded_stores(self.metrics, embedded)
        return upstreams


async def _upstream(settings: UpstreamSettings) -> Upstream:
    parts = urlsplit(settings.url)
    if parts.scheme != "file":
        try:
            upstream = HttpUpstream(settings) if settings.s3 is None else S3Relay(settings)
            await upstream.open()
        except OwnFilesUnusable as error:
            raise StartError(f"`upstreams.{settings.name}`: {error}") from None
        return upstream
    store = FileStore(Path(unquote(parts.path)), max_size=settings.max_size)
    await store.open()
    return store


def _failures(settings: FailedCredentialSettings) -> Failures | None:
    return Failures(Rate(settings.per_minute / 60, settings.burst)) if settings.enabled else None


def _place(settings: UpstreamSettings, upstream: Upstream) -> Place:
    origins = tuple(_origin(url.lower()) for url in settings.urls or (settings.url,))
    ours = isinstance(upstream, FileStore)
    keeps = ours or isinstance(upstream, S3Relay)
    place = Place(
        upstream, origins, settings.redirects == "pass", keeps_headers=keeps, keeps_provenance=keeps, hashes=ours
    )
    if isinstance(upstream, S3Relay):
        return replace(
            place, relay=upstream.relay, parts_checksum=upstream.checksum_of_parts, metadata=upstream.metadata
        )
    return place


def _stores(upstreams: Mapping[str, UpstreamSettings]) -> dict[str, Store]:
    """Where S3 clients' keys lie, by upstream."""
    return {
        name: Store(
            settings.s3.bucket if settings.s3 is not None else "",
            frozenset(settings.urls or (settings.url,)),
            settings.s3 is None or settings.s3.conditional_writes,
        )
        for name, settings in upstreams.items()
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return "http://localhost" if parts.scheme == "unix" else f"{parts.scheme}://{parts.netloc}"


def _names_that_we_set(upstreams: dict[str, Upstream]) -> frozenset[str]:
    """Folded names of the headers that carry a store's credentials: a client's must not stand beside or instead of ours."""
    return frozenset(
        headers.fold(upstream.credential_name.decode())
        for upstream in upstreams.values()
        if isinstance(upstream, HttpUpstream) and upstream.credential_name
    )
