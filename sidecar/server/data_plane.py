"""A request from its head to its record: decide, record a write's intent, refuse or forward, record the end.

Nothing is decided here; the gate does that. Here is the order in which the world hears of a decision: evidence first, then
bytes (law 8).
"""

import logging
import time
from collections.abc import Callable, Mapping

from msgspec import Struct

from sidecar.answers import AnswerRules, passed_on
from sidecar.audit.access import Access, Completion, Delivery, delivery
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records, record_id
from sidecar.errors import ClientGone, Refused
from sidecar.gate import Decision, Gate, upstream_path
from sidecar.metrics import Metrics
from sidecar.model import Permission
from sidecar.ports import Upstream
from sidecar.profiles import PROFILES, LocalAnswer
from sidecar.reasons import REASONS, Outcome, Reason
from sidecar.server.client import Incoming
from sidecar.server.exchange import Exchange

log = logging.getLogger(__name__)


class Place(Struct, frozen=True):
    """A store and what its answers may say."""

    upstream: Upstream
    origins: tuple[str, ...] = ()
    """As in `AnswerRules`."""
    pass_redirects: bool = False


class DataPlane:
    def __init__(
        self,
        *,
        gate: Gate,
        places: Mapping[str, Place],
        audit: AuditLog,
        records: Records,
        metrics: Metrics,
        patience: float,
        draining: Callable[[], bool],
    ) -> None:
        """`places` by upstream name. `patience`: see `Exchange`."""
        self._gate = gate
        self._places = places
        self._audit = audit
        self._records = records
        self._metrics = metrics
        self._patience = patience
        self._draining = draining
        self.in_flight = 0
        self.upstream_up: dict[tuple[str, ...], float] = {}
        """Upstream -> 1 if it answered when it was last asked."""

    async def handle(self, incoming: Incoming) -> bool:
        """One request. Returns when its answer has left and its record is on its way; whether another may follow."""
        began, now = time.perf_counter(), time.time()
        exchange = Exchange(incoming, self._patience, self._draining())
        message = incoming.message
        if incoming.malformed is not None:
            decision = Decision(incoming.malformed)
            exchange.keep_alive = False
        else:
            decision = await self._gate.decide(
                message.method,
                message.path,
                message.raw_headers,
                incoming.connection.peer,
                now,
                last=incoming.connection.last_read,
            )
        self._metrics.stage("decide", time.perf_counter() - began)
        access = _access(decision, incoming, now)
        ending: Reason | None = None
        recorded = False
        self.in_flight += 1
        try:
            if decision.answer is not None:
                _send(exchange, decision.answer)
            elif decision.allowed:
                ending = await self._forward(exchange, decision, access, now)
            else:
                recorded, ending = await self._refuse(exchange, decision, access, now, began)
        except ClientGone:
            pass  # `exchange.aborted` says it
        except Exception:
            log.exception("the exchange failed")
            ending = Reason.INTERNAL_ERROR
            if not exchange.started:
                _send(exchange, _rendered(decision, ending))
        finally:
            # Also where the client left and this task is being cancelled.
            self.in_flight -= 1
            ended = time.perf_counter()
            outcome = REASONS[ending or decision.reason].outcome
            if not recorded:
                self._audit.put(
                    self._records.access(access, now, _completion(exchange, ended - began, ending, outcome))
                )
            self._metrics.finished(
                profile=access.profile,
                method=message.method,
                status=exchange.status,
                outcome=outcome,
                reason=ending or decision.reason,
                duration=ended - began,
                overhead=(exchange.handed_over_at or ended) - began,
                bytes_in=exchange.bytes_in,
                bytes_out=exchange.bytes_out,
            )
        return await exchange.end()

    async def _forward(self, exchange: Exchange, decision: Decision, access: Access, now: float) -> Reason | None:
        """The reason why it ended otherwise than it was decided, if it did."""
        route, head, workspace = decision.route, decision.head, decision.workspace
        assert route is not None
        assert head is not None
        assert workspace is not None
        assert decision.profile is not None
        place = self._places[route.upstream]
        rules = AnswerRules(
            route,
            place.origins,
            Permission.READ in workspace.anonymous,
            place.pass_redirects,
            decision.profile.allowed,
        )
        try:
            if delivery(access) is Delivery.STRICT:
                began = time.perf_counter()
                await self._audit.commit(self._records.access(access, now))
                self._metrics.stage("audit", time.perf_counter() - began)
            exchange.hand_over(
                upstream_path(route, head),
                head.headers.forward,
                lambda status, headers: passed_on(rules, status, headers),
            )
            await place.upstream.forward(exchange)
        except Refused as refusal:
            self._note(route.upstream, exchange)
            if not exchange.started:
                _send(exchange, _rendered(decision, refusal.reason))
            return refusal.reason
        self._note(route.upstream, exchange)
        return None

    def _note(self, upstream: str, exchange: Exchange) -> None:
        """How the store answered, if it was asked at all."""
        if not exchange.handed_over_at:
            return
        answered_at = exchange.started_at or time.perf_counter()
        status = exchange.status if exchange.started else None
        self._metrics.upstream_answered(upstream, status, answered_at - exchange.handed_over_at)
        self.upstream_up[(upstream,)] = float(exchange.started)

    async def _refuse(
        self, exchange: Exchange, decision: Decision, access: Access, now: float, began: float
    ) -> tuple[bool, Reason | None]:
        """Whether it is on record already, and the reason if it became another one."""
        answer = _rendered(decision, decision.reason)
        outcome = REASONS[decision.reason].outcome

        def record() -> bytes:
            duration = time.perf_counter() - began
            end = Completion(status=answer.status, duration=duration, bytes_out=len(answer.body), outcome=outcome)
            return self._records.access(access, now, end)

        if delivery(access) is Delivery.COUNTED:
            self._audit.refused_unknown(record, access.peer)
        else:
            try:
                await self._audit.commit(record())
            except Refused as refusal:
                _send(exchange, _rendered(decision, refusal.reason))
                return False, refusal.reason
        _send(exchange, answer)
        return True, None


def _send(exchange: Exchange, answer: LocalAnswer) -> None:
    exchange.answer(answer.status, answer.headers, answer.body)


def _rendered(decision: Decision, reason: Reason) -> LocalAnswer:
    profile = decision.profile or PROFILES["plain"]
    challenge = reason is decision.reason and decision.status == 401
    workspace = decision.route.workspace if decision.route is not None else ""
    return profile.deny(decision.head, reason, REASONS[reason].hint, challenge, workspace)


def _completion(exchange: Exchange, duration: float, reason: Reason | None, outcome: Outcome) -> Completion:
    return Completion(
        status=exchange.status,
        duration=duration,
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        aborted=exchange.aborted,
        reason=reason,
        outcome=outcome,
    )


def _access(decision: Decision, incoming: Incoming, now: float) -> Access:
    message, head, route, workspace = incoming.message, decision.head, decision.route, decision.workspace
    if head is not None:
        path, query = head.target.raw_path, head.target.raw_query
        host, user_agent = head.headers.values.get("host", ""), head.headers.values.get("user-agent", "")
    else:
        path, _, query = message.path.partition("?")
        host, user_agent = "", ""
    return Access(
        request_id=record_id(now),
        method=message.method,
        path=path,
        query=query,
        host=host,
        user_agent=user_agent,
        peer=incoming.connection.peer,
        profile=route.client if route is not None else "",
        workspace=route.workspace if route is not None else "",
        upstream=route.upstream if route is not None else "",
        actions=decision.actions,
        principal=decision.principal,
        unknown_token=decision.token if decision.principal is None else None,
        reason=decision.reason,
        outcome=REASONS[decision.reason].outcome,
        rule=decision.rule,
        policy_sha256=workspace.sha256 if workspace is not None else "",
        policy_generation=decision.generation,
        cache=decision.cache,
    )
