"""One request's part in the audit log: what has been said of it, and what law 8 still asks for.

A write's intent is on record before the store is asked; a known caller's refusal before it is answered; a refusal of an unknown
caller once, then counted; all else when it has ended. Nothing is told twice.
"""

import time

from sidecar.audit.access import Access, Completion, Delivery, delivery
from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.errors import Refused
from sidecar.profiles import LocalAnswer
from sidecar.reasons import REASONS, Reason
from sidecar.server.exchange import Exchange


class Evidence:
    __slots__ = ("_access", "_audit", "_began", "_follows", "_now", "_records", "_told", "delivery")

    def __init__(self, audit: AuditLog, records: Records, access: Access, now: float, began: float) -> None:
        """`now` in Unix seconds, `began` from `time.perf_counter()`."""
        self._audit = audit
        self._records = records
        self._access = access
        self._now = now
        self._began = began
        self._follows = False
        self._told = False
        self.delivery = delivery(access)

    async def intent(self) -> None:
        """Before the store is asked for something strict. Raises `Unavailable(AUDIT_UNAVAILABLE)`: then it isn't asked."""
        self._follows = True
        await self._audit.commit(self._records.access(self._access, self._now))

    async def refusal(self, answer: LocalAnswer, reason: Reason) -> None:
        """Before a refusal is answered. Raises `Unavailable(AUDIT_UNAVAILABLE)`."""
        access = self._access

        def record() -> bytes:
            duration, outcome = time.perf_counter() - self._began, REASONS[reason].outcome
            end = Completion(status=answer.status, duration=duration, bytes_out=len(answer.body), outcome=outcome)
            return self._records.access(access, self._now, end)

        self._told = True  # even if we are cancelled meanwhile: the log has it by then
        if self.delivery is Delivery.COUNTED:
            self._audit.refused_unknown(record, access.peer)
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
        )
        if self.delivery is Delivery.COUNTED:
            self._audit.refused_unknown(lambda: self._records.access(self._access, self._now, end), self._access.peer)
        else:
            self._audit.put(self._records.access(self._access, self._now, end, follows=self._follows))
