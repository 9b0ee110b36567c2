"""A request from its head to its record: decide, record a write's intent, refuse or forward, record the end.

Nothing is decided here; the gate does that. Here is the order in which the world hears of a decision: evidence first, then
bytes (law 8).
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from sidecar import provenance
from sidecar.answers import EXPIRY_HEADER, AnswerRules
from sidecar.audit.access import Delivery
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.decision import Decision, store_path, upstream_path
from sidecar.errors import ClientGone, Refused
from sidecar.gate import Gate
from sidecar.metrics import Metrics
from sidecar.model import Quotas
from sidecar.ports import Downstream, HeaderList, Upstream
from sidecar.profiles import PROFILES, LocalAnswer, Profile, Work, s3_errors
from sidecar.reasons import REASONS, Reason
from sidecar.s3 import copying
from sidecar.s3.parts import Parts
from sidecar.s3.sending import makes_object, signed
from sidecar.server.allowances import Allowances
from sidecar.server.bucketed import PartsChecksum, bucketed
from sidecar.server.client import Incoming
from sidecar.server.errands import Errands, take_and_drop
from sidecar.server.evidence import Evidence, TokenState
from sidecar.server.exchange import Exchange
from sidecar.server.mapped import Mapped
from sidecar.server.running import Running
from sidecar.server.stores import STORE_FAILED, StoreState
from sidecar.server.taken import Taken, taken
from sidecar.server.through import Creating
from sidecar.settings import ProvenanceSettings

log = logging.getLogger(__name__)


class Place(Struct, frozen=True):
    """A store and what its answers may say."""

    upstream: Upstream
    origins: tuple[str, ...] = ()
    """As in `AnswerRules`."""
    pass_redirects: bool = False
    keeps_headers: bool = False
    """Whether it keeps an artifact's headers with it."""
    relay: Callable[[Downstream], Awaitable[None]] | None = None
    """What takes an S3 client's request in place of `upstream.forward`, where the store is an S3 one."""
    parts_checksum: PartsChecksum | None = None
    """Which checksum such a store wants with each part of an upload."""
    metadata: Callable[[str], Awaitable[HeaderList | None]] | None = None
    """What such a store says of an object besides its content, by its path; `None` of one that isn't there. Raises `Refused`."""
    keeps_provenance: bool = False
    """Whether it is told who writes, keeps that with the object, and tells no reader."""
    hashes: bool = False
    """Whether it then hashes what it takes, and says so in its answer. It is ours, and has room for all that is to be kept."""


class DataPlane:
    def __init__(
        self,
        *,
        gate: Gate,
        places: Mapping[str, Place],
        audit: AuditLog,
        records: Records,
        metrics: Metrics,
        token_state: Callable[[float], TokenState],
        patience: float,
        draining: Callable[[], bool],
        allowances: Allowances | None = None,
        running: Running | None = None,
        digests: ProvenanceSettings | None = None,
    ) -> None:
        """`places` by upstream name. `patience`: see `Exchange`. `running`: what ends requests of revoked tokens, if anything does."""
        self._gate = gate
        self._places = places
        self._errands = Errands(gate, [name for name, place in places.items() if place.keeps_headers])
        self._audit = audit
        self._records = records
        self._metrics = metrics
        self._token_state = token_state
        self._patience = patience
        self._draining = draining
        self._allowances = Allowances(Quotas()) if allowances is None else allowances
        self._running = running
        self._digest_up_to = (digests or ProvenanceSettings()).digest_up_to
        self._parts = Parts()
        self.in_flight = 0
        self.stores = {name: StoreState(name) for name in places}

    async def handle(self, incoming: Incoming) -> bool:
        """One request. Returns when its answer has left and its record is on its way; whether another may follow."""
        began, now = time.perf_counter(), time.time()
        exchange = Exchange(incoming, self._patience, self._draining())
        message, connection = incoming.message, incoming.connection
        if incoming.malformed is not None:
            decision = Decision(incoming.malformed)
            exchange.keep_alive = False
        else:
            decision = await self._gate.decide(
                message.method,
                message.path,
                message.raw_headers,
                connection.peer,
                now,
                last=connection.last_read,
                vouched=connection.vouched,
                body=exchange.read,
            )
        permit = None
        workspace = decision.workspace
        if self._allowances.general or (workspace is not None and workspace.quotas is not None):
            decision, permit = self._allowances.admit(decision, connection.peer, now)
        evidence = Evidence(self._audit, self._records, decision, incoming, self._token_state, now, began)
        reason, detail = decision.reason, ""
        self.in_flight += 1
        try:
            if decision.answer is not None:
                _send(exchange, _numbered(_noticed(decision.answer, decision), decision.profile, evidence))
            elif decision.allowed:
                await self._forward(exchange, decision, evidence)
            else:
                answer = _rendered(decision, reason, evidence)
                await evidence.refusal(answer, reason)
                _send(exchange, answer)
        except ClientGone:
            pass  # `exchange.aborted` says it
        except Exception as error:
            reason, detail = _what_happened(error)
            if not exchange.started:
                with contextlib.suppress(ClientGone):
                    _send(exchange, _rendered(decision, reason, evidence))
        finally:
            # Also where the client left and this task is being cancelled.
            self.in_flight -= 1
            ended = time.perf_counter()
            if exchange.cut:
                reason, detail = Reason.REVOKED, "cut off: the token was revoked while it ran"
            if permit is not None:
                permit.end(exchange.bytes_in + exchange.bytes_out, time.time())
            evidence.completion(exchange, reason, detail, ended)
            route = decision.route
            self._metrics.finished(
                "" if route is None else route.client,
                message.method,
                exchange.status,
                REASONS[reason].outcome,
                reason,
                ended - began,
                (exchange.handed_over_at or ended) - began,
                exchange.bytes_in,
                exchange.bytes_out,
            )
        return exchange.keep_alive if exchange.ended else await exchange.end()

    async def _forward(self, exchange: Exchange, decision: Decision, evidence: Evidence) -> None:
        """Raises `Refused` where it didn't end as it was decided."""
        route, head, profile = decision.route, decision.head, decision.profile
        assert route is not None
        assert head is not None
        assert profile is not None
        errand = decision.errand
        if errand is not None and errand.work is Work.ANSWER and errand.missing is not None:
            await take_and_drop(exchange)
            _send(exchange, _noticed(errand.missing, decision))
            return
        place = self._places[route.upstream]
        if evidence.delivery is Delivery.STRICT:
            began = time.perf_counter()
            await evidence.intent()
            self._metrics.stage("audit", time.perf_counter() - began)
            watched = (
                exchange.method == "PUT" and decision.sending is None and (errand is None or errand.sha256 is None)
            )
            if watched:
                exchange.watch_body(self._digest_up_to, store_tells=place.hashes)
        notice = decision.principal.expiry_notice if decision.principal is not None else b""
        public = not notice and self._gate.is_public(decision)
        rules = AnswerRules(route, place.origins, public, place.pass_redirects, profile.allowed, notice)
        client: Downstream = exchange
        upload: Taken | None = None
        sending = decision.sending
        if sending is not None and sending.passes:
            exchange.hand_over(sending.path, sending.headers, rules)
        elif sending is not None:
            if makes_object(sending.asked):
                if place.metadata is not None and (source := copying.source_path(sending)) is not None:
                    sending = copying.described(sending, await place.metadata(source) or ())
                sending = signed(sending, lambda room: _by(decision, evidence, room))
            upload = taken(sending.asked, self._parts, route.upstream, sending.path)
            exchange.hand_over(sending.path, sending.headers, rules)
            client = await bucketed(exchange, decision, sending, place.parts_checksum, upload, self._digest_up_to)
        elif decision.forward is not None:
            exchange.hand_over(upstream_path(route, head), decision.forward, rules)
            client = Mapped(exchange, route, place.origins, profile.allowed)
        else:
            forward: HeaderList = head.headers.forward if errand is None else errand.forward
            if decision.only_creates:
                forward = _creating(forward)
            if place.keeps_provenance and exchange.method == "PUT":
                forward = _signed(forward, decision, evidence, place)
            exchange.hand_over(store_path(decision), forward, rules)
            if decision.only_creates:
                client = Creating(exchange)
        store, failed = self.stores[route.upstream], False
        try:
            if upload is not None:
                upload.begin()
            if self._running is None:
                await self._way(decision, exchange, client, place)
            else:
                with self._running.entered(exchange, decision.principal):
                    await self._way(decision, exchange, client, place)
        except Refused as refusal:
            if not exchange.started:
                failed = refusal.reason in STORE_FAILED
                store.failed(refusal, time.perf_counter())
            raise
        finally:
            if upload is not None:
                # Here, since a client that closes as soon as it has its answer cancels what is left to do.
                told = exchange.upstream_status, exchange.body_sha256, exchange.tag
                evidence.digest = upload.end(*told, exchange.body_ended)
            # A client that left before the answer says nothing about the store.
            if exchange.started:
                store.answered()
            if exchange.started or failed:
                answered_at = exchange.started_at or time.perf_counter()
                status = exchange.status if exchange.started else None
                self._metrics.upstream_answered(route.upstream, status, answered_at - exchange.handed_over_at)

    def _way(self, decision: Decision, exchange: Exchange, client: Downstream, place: Place) -> Awaitable[None]:
        if decision.sending is not None and place.relay is not None:
            return place.relay(client)
        if decision.errand is None:
            return place.upstream.forward(client)
        assert decision.profile is not None
        return self._errands.carry(decision.errand, decision, decision.profile, exchange, place.upstream)


def _what_happened(error: Exception) -> tuple[Reason, str]:
    if isinstance(error, Refused):
        return error.reason, error.detail
    log.error("the exchange failed", exc_info=error)
    return Reason.INTERNAL_ERROR, type(error).__name__


def _creating(headers: HeaderList) -> HeaderList:
    """A store that knows conditional writes closes the gap between the question whether a key is there and the write."""
    kept = [pair for pair in headers if pair[0].lower() not in (b"if-none-match", b"if-match")]
    return [*kept, (b"If-None-Match", b"*")]


def _by(decision: Decision, evidence: Evidence, room: int) -> bytes:
    workspace, key = (decision.route.workspace if decision.route is not None else ""), decision.actions[0].key
    return provenance.header(decision.principal, evidence.request_id, room, workspace=workspace, key=key)


def _signed(headers: HeaderList, decision: Decision, evidence: Evidence, place: Place) -> HeaderList:
    """Only the sidecar says who writes."""
    kept = [pair for pair in headers if not pair[0].lower().startswith(provenance.PREFIX)]
    by = _by(decision, evidence, provenance.HEADER_LIMIT if place.hashes else provenance.room(kept))
    return [*kept, (provenance.HEADER, by)] if by else kept


def _send(exchange: Exchange, answer: LocalAnswer) -> None:
    exchange.answer(answer.status, answer.headers, answer.body, answer.phrase)


def _noticed(answer: LocalAnswer, decision: Decision) -> LocalAnswer:
    if decision.principal is None or not decision.principal.expiry_notice:
        return answer
    return replace(answer, headers=(*answer.headers, (EXPIRY_HEADER, decision.principal.expiry_notice)))


def _numbered(answer: LocalAnswer, profile: Profile | None, evidence: Evidence) -> LocalAnswer:
    """S3 clients tell their users the id of a request: ours is the audit record's."""
    if profile is None or profile.name != "s3":
        return answer
    return s3_errors.numbered(answer, evidence.request_id)


def _rendered(decision: Decision, reason: Reason, evidence: Evidence) -> LocalAnswer:
    profile = decision.profile or PROFILES["plain"]
    if decision.exists and reason is decision.reason and not decision.allowed and decision.known:
        reason = Reason.EXISTS  # what the client can do something with; the record says why it may not replace it
    challenge = reason is decision.reason and decision.status == 401
    workspace = decision.route.workspace if decision.route is not None else ""
    answer = _noticed(profile.deny(decision.head, reason, REASONS[reason].hint, challenge, workspace), decision)
    answer = _numbered(answer, profile, evidence)
    if not decision.retry_after or reason is not decision.reason or answer.status not in (429, 503):
        return answer  # a status that the client was given instead says nothing of when to come back
    others = (pair for pair in answer.headers if pair[0] != b"retry-after")
    return replace(answer, headers=(*others, (b"retry-after", b"%d" % decision.retry_after)))
