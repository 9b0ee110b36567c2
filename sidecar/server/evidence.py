"""One request's part in the audit log: what has been said of it, and what law 8 still asks for.

A write's intent is on record before the store is asked, of each key that it changes; a known caller's refusal before it is answered;
a refusal of an unknown caller once, then counted; all else when it has ended. Nothing is told twice.
"""

import time
from collections.abc import Callable

from sidecar.audit.access import Access, Completion, Delivery, Key, delivery
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.record_id import record_id
from sidecar.decision import Decision
from sidecar.errors import Refused
from sidecar.model import Action, Permission
from sidecar.policy.buckets import CLIENT
from sidecar.policy.compiled import Route
from sidecar.profiles import LocalAnswer
from sidecar.reasons import REASONS, Reason
from sidecar.s3.request import MULTI_DELETE
from sidecar.server.client import Incoming
from sidecar.server.exchange import Exchange
from sidecar.server.taken import by_tag
from sidecar.sigv4 import encode_path

TokenState = tuple[int | None, float | None]
"""The last change of the token store that has been applied, and how many seconds ago it was known to be the last."""

_STRENGTH = {permission: rank for rank, permission in enumerate(Permission)}


class Evidence:
    __slots__ = (
        "_audit",
        "_began",
        "_decision",
        "_follows",
        "_incoming",
        "_known",
        "_now",
        "_records",
        "_token_state",
        "_told",
        "delivery",
        "digest",
    )

    def __init__(
        self,
        audit: AuditLog,
        records: Records,
        decision: Decision,
        incoming: Incoming,
        token_state: Callable[[float], TokenState],
        now: float,
        began: float,
    ) -> None:
        """`now` in Unix seconds, `began` from `time.perf_counter()`."""
        self._audit = audit
        self._records = records
        self._decision = decision
        self._incoming = incoming
        self._token_state = token_state(now)
        self._now = now
        self._began = began
        self._follows = False
        self._told = False
        self._known: Access | None = None
        self.digest: str | None = None
        """Of what the store has taken, where that isn't the request's body."""
        reason = decision.reason
        self.delivery = delivery(
            REASONS[reason].outcome, reason, decision.principal or decision.holder, decision.actions
        )

    @property
    def request_id(self) -> str:
        """By which the records of the request are found."""
        return self._access().request_id

    async def intent(self) -> None:
        """Before the store is asked for something strict. Raises `Unavailable(AUDIT_UNAVAILABLE)`: then it isn't asked."""
        self._follows = True
        access = self._access()
        await self._audit.commit(self._records.access(access, self._now), *self._records.further(access, self._now))

    async def refusal(self, answer: LocalAnswer, reason: Reason) -> None:
        """Before a refusal is answered. Raises `Unavailable(AUDIT_UNAVAILABLE)`."""

        def record() -> bytes:
            duration, outcome = time.perf_counter() - self._began, REASONS[reason].outcome
            end = Completion(status=answer.status, duration=duration, bytes_out=len(answer.body), outcome=outcome)
            return self._records.access(self._access(), self._now, end)

        self._told = True  # even if we are cancelled meanwhile: the log has it by then
        if self.delivery is Delivery.COUNTED:
            self._audit.refused_unknown(record, self._incoming.connection.peer)
            return
        try:
            await self._audit.commit(record())
        except Refused:
            self._told = False
            raise

    def completion(self, exchange: Exchange, reason: Reason, detail: str, ended: float) -> None:
        """When the request has ended, whichever way; `reason` is what it came to, `detail` why if it wasn't decided so."""
        if self._told:
            return
        plain = self.delivery is Delivery.RELAXED and reason is self._decision.reason and not detail
        if plain and not exchange.bytes_in and not exchange.aborted and self._told_like_the_last(exchange, ended):
            return
        end = Completion(
            status=exchange.status,
            duration=ended - self._began,
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            upstream_status=exchange.upstream_status,
            aborted=exchange.aborted,
            reason=reason,
            outcome=REASONS[reason].outcome,
            detail=detail,
            digest=self._digest(exchange),
        )
        if self.delivery is Delivery.COUNTED:
            peer = self._incoming.connection.peer
            self._audit.refused_unknown(lambda: self._records.access(self._access(), self._now, end), peer)
        else:
            access = self._access()
            self._audit.put(self._records.access(access, self._now, end, follows=self._follows))
            for record in self._records.further(access, self._now, end):
                self._audit.put(record)

    def _digest(self, exchange: Exchange) -> str | None:
        """Of what the store has taken: its SHA-256, else what the store calls it."""
        if self.digest is not None:
            return self.digest
        if exchange.upstream_status is None or not 200 <= exchange.upstream_status < 300:
            return None
        errand = self._decision.errand
        known = errand.sha256 if errand is not None else None  # the body was held to it
        found = known or exchange.body_sha256
        return by_tag(exchange.tag) if found is None else f"sha256:{found}"

    def _told_like_the_last(self, exchange: Exchange, ended: float) -> bool:
        """Most requests of a connection are for other keys and the same in all else: then the last one's record serves as a frame."""
        decision = self._decision
        head = decision.head
        if head is None or len(decision.actions) != 1 or decision.forward or head.target.raw_query or decision.detail:
            return False
        action = decision.actions[0]
        if action.below:  # named by another text than its key
            return False
        seq, staleness = self._token_state
        # Everything that `_access` reads and `Frame.fill` doesn't take, or what that is read from.
        likeness = (
            decision.generation,
            seq,
            exchange.status,
            exchange.upstream_status,
            head.method,
            action.permission,
            decision.reason,
            decision.rule,
            decision.cache,
            head.headers.values.get("host"),
            head.headers.values.get("user-agent"),
            decision.carrier,
            decision.principal,
            decision.route,
            decision.workspace,
            _operation(decision),
        )
        last = self._incoming.connection.last_record
        if last.likeness != likeness:
            last.likeness, last.frame = likeness, None
            return False
        if last.frame is None:
            end = Completion(
                status=exchange.status, duration=0.0, upstream_status=exchange.upstream_status, reason=decision.reason
            )
            last.frame = self._records.frame(self._access(), self._now, end)
            if last.frame is None:
                return False
        path, duration = head.target.raw_path, ended - self._began
        record = self._records.framed(last.frame, self._now, duration, path, exchange.bytes_out, action.key, staleness)
        if record is None:
            return False
        self._audit.put(record)
        return True

    def _access(self) -> Access:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> Access:
        decision, message, route = self._decision, self._incoming.message, self._decision.route
        head, workspace = decision.head, decision.workspace
        if head is not None:
            path, query = head.target.raw_path, head.target.raw_query
            host, user_agent = head.headers.values.get("host", ""), head.headers.values.get("user-agent", "")
        else:
            path, _, query = message.path.partition("?")
            host, user_agent = "", ""
        seq, staleness = self._token_state
        operation = _operation(decision)
        further = _further(decision) if self.delivery is Delivery.STRICT and decision.allowed else ()
        return Access(
            request_id=record_id(self._now),
            method=message.method,
            path=path,
            query=query,
            host=host,
            user_agent=user_agent,
            peer=self._incoming.connection.peer,
            tls=self._incoming.connection.tls,
            profile=route.client if route is not None else "",
            workspace=route.workspace if route is not None else "",
            upstream=route.upstream if route is not None else "",
            container=_container(route),
            actions=decision.actions,
            principal=decision.principal or decision.holder,
            carrier=decision.carrier,
            unknown_token=decision.token if decision.principal is None else None,
            reason=decision.reason,
            outcome=REASONS[decision.reason].outcome,
            rule=decision.rule,
            policy_sha256=workspace.sha256 if workspace is not None else "",
            policy_generation=decision.generation,
            token_state_seq=seq,
            staleness=staleness,
            cache=decision.cache,
            detail=decision.detail,
            would_deny=decision.would_deny,
            operation=operation or "",
            key_path=_path(route, decision.actions[0].key) if operation == MULTI_DELETE and route is not None else "",
            further=further,
        )


def _operation(decision: Decision) -> str | None:
    """As AWS calls it, of an S3 tool's request."""
    sending = decision.sending
    return None if sending is None else sending.asked.operation.name


def _further(decision: Decision) -> tuple[Key, ...]:
    """What it changes besides its first key and the destination of a COPY or MOVE, which that key's record names."""
    route, actions = decision.route, decision.actions
    if route is None or not actions:
        return ()
    changed: dict[str, Action] = {}
    for action in actions[1:]:
        if action.key != actions[0].key and not action.creates and action.permission is not Permission.READ:
            known = changed.get(action.key)
            if known is None or _STRENGTH[known.permission] < _STRENGTH[action.permission]:
                changed[action.key] = action
    found = [_key(route, each.permission, f"{each.key}/" if each.below else each.key) for each in changed.values()]
    if decision.removed is not None:
        found.append(_key(decision.removed[0], Permission.DELETE, decision.removed[1]))
    return tuple(found)


def _key(route: Route, permission: Permission, name: str) -> Key:
    return Key(permission, name, _path(route, name), route.workspace, route.upstream, _container(route))


def _container(route: Route | None) -> str:
    return route.segments[0] if route is not None and route.client == CLIENT else ""


def _path(route: Route, key: str) -> str:
    return "/" + encode_path("/".join((*route.segments, key)))
