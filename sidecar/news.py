"""What happens to the running parts: to the audit log, the metrics, and the process's own log.

The law: an event that several processes see is told by one of them.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from sidecar.audit.log import AuditLog
from sidecar.audit.record import Records
from sidecar.audit.schema import rfc3339
from sidecar.credentials.revocation_names import about
from sidecar.credentials.token_row import scope_as_json, scopes_of
from sidecar.directory.file import DirectoryEvent
from sidecar.metrics import Metrics
from sidecar.model import PrincipalKind
from sidecar.policy.files import PolicyEvent
from sidecar.store.token_store import TokenEvent
from sidecar.tokens import ChangeKind

log = logging.getLogger(__name__)

_AT_START = 1
"""The first snapshot's generation."""


class PolicyNews:
    """What becomes of policy files: to the audit log, the metrics and the process's log."""

    def __init__(self, audit: AuditLog, records: Records, metrics: Metrics, *, speaks: bool = True) -> None:
        """Of several processes that see the same files, one `speaks`: an edit is one event."""
        self._speaks = speaks
        self._audit = audit
        self._records = records
        self._metrics = metrics
        self.last_success = 0.0

    def heard(self, event: PolicyEvent) -> None:
        problems = tuple(str(problem) for problem in event.problems)
        now = time.time()
        if not problems:
            self.last_success = now
        if not self._speaks:
            return
        self._metrics.count("policy_reloads_total", "error" if problems else "ok")
        self._log(event, problems)
        self._audit.put(
            self._records.policy_event(
                event.kind,
                now,
                workspace=event.workspace or "",
                sha256=event.sha256 or "",
                generation=event.generation,
                problems=problems,
            )
        )

    def _log(self, event: PolicyEvent, problems: Sequence[str]) -> None:
        for problem in problems:
            log.warning("policy %s", problem)
        if problems:
            good = "the last good version stays in force"
            none = "there is no good version, so its workspace is refused"
            log.warning("policy %s: %s", event.file, good if event.sha256 else none)
        elif event.generation > _AT_START:  # at the start they are not told one by one
            log.info("policy %s: %s", event.file, event.kind)


def people_heard(event: DirectoryEvent) -> None:
    """A new version of the directory of people, to the process's log."""
    for problem in event.problems:
        log.warning("directory %s", problem)
    if event.accepted:
        log.info("directory: %d people", event.people)


def token_record(records: Records, event: TokenEvent) -> bytes:
    """A token event that the command line left in the store."""
    change, token = event.change, event.token
    workspaces = _names(token.workspaces) if token is not None else None
    kind, subject = (PrincipalKind(token.kind), token.subject) if token is not None else about(change.token_id)
    return records.token_event(
        change.kind,
        change.at,
        token_id=change.token_id,
        token_name=token.name if token is not None else "",
        kind=kind,
        subject=subject,
        by=change.actor,
        severity="warning" if change.kind == ChangeKind.REUSED else "info",
        workspace=workspaces[0] if kind is PrincipalKind.CI and workspaces else "",
        changes={
            "workspaces": workspaces,
            "permissions": _names(token.permissions) if token is not None else None,
            "path": token.path if token is not None else None,
            "scopes": _scopes(token.scopes) if token is not None else None,
            "parent": token.parent if token is not None else None,
            "expires_at": _date(token.expires_at) if token is not None else None,
        },
    )


def _names(stored: str | None) -> list[str] | None:
    return None if stored is None else stored.split()


def _scopes(stored: str | None) -> list[dict[str, Any]] | None:
    """Nothing has vouched for the row: what isn't a list of scopes is told as none."""
    try:
        scopes = None if stored is None else scopes_of(stored)
    except (ValueError, TypeError):
        scopes = None
    return None if scopes is None else [scope_as_json(scope) for scope in scopes]


def _date(at: int) -> str | None:
    """Nothing has vouched for the row, and a date that can't be written must not keep its event out of the audit log."""
    try:
        return rfc3339(at)
    except (ValueError, OverflowError, OSError):
        return None
