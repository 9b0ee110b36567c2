"""From what is known of an event to its record: one line of JSON. A request that changes several keys has one for each of them."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from sidecar.audit import redact
from sidecar.audit.access import Access, Completion, Key
from sidecar.audit.frame import HOLE, THREE_DIGITS, Frame
from sidecar.audit.parties import Parties
from sidecar.audit.record_id import record_id
from sidecar.audit.schema import (
    ENCODER,
    RECORD_LIMIT,
    SCHEMA,
    STRING_LIMIT,
    Actor,
    Client,
    Decided,
    Instance,
    Record,
    Request,
    Resource,
    Response,
    Trace,
)
from sidecar.model import Action, Permission, PrincipalKind
from sidecar.reasons import Outcome

_STRENGTH = {permission: rank for rank, permission in enumerate(Permission)}
_ACTION_NAMES = {permission: f"object.{permission}" for permission in Permission}
_BRIEFLY = ((256, 16), (32, 4))
_BRIEF = 4096
"""Bytes of a further key's record, without the key."""
_SEVERITY = {Outcome.ALLOW: "info", Outcome.DENY: "info", Outcome.UNAUTHENTICATED: "info", Outcome.ERROR: "error"}
_NO_REQUEST, _NO_RESPONSE, _NO_CLIENT = Request(), Response(), Client()
_NO_RESOURCE, _NO_DECISION, _NO_TRACE = Resource(), Decided(), Trace()


def _name(action: Action) -> str:
    """The key; with a slash where it stands for all keys below, too."""
    return redact.text(f"{action.key}/" if action.below else action.key)


def _resource(key: Key) -> Resource:
    found = Resource(
        key.upstream or None, key.container or None, redact.text(key.name), path=redact.text(key.path) or None
    )
    whole: Resource = redact.fit(found, STRING_LIMIT, 0)
    return whole


def _decided(access: Access, detail: str) -> Decided:
    staleness = access.staleness
    return Decided(
        access.rule,
        access.policy_sha256 or None,
        access.policy_generation,
        access.token_state_seq,
        None if staleness is None else int(staleness * 1000),
        access.cache,
        redact.text(detail) if detail else None,
        access.would_deny,
    )


class Records:
    """Makes records, each one line of JSON without its newline. One per process; `install_key` is derived from the pepper."""

    def __init__(self, instance: Instance, install_key: bytes) -> None:
        """Raises `ValueError` for a key under 32 bytes."""
        self._instance = Raw(ENCODER.encode(instance))
        self._parties = Parties(install_key)
        self._second = (-1, "")

    def access(self, access: Access, now: float, end: Completion | None = None, *, follows: bool = False) -> bytes:
        """A request: its intent before the store is asked (`end` is `None`), or its completion. `now` in Unix seconds.

        The first record of a request has the request's id as its own; `follows` says that there was one before.
        """
        return self._encode(self._access(access, now, end, record_id(now) if follows else access.request_id))

    def further(self, access: Access, now: float, end: Completion | None = None) -> Iterator[bytes]:
        """The same of the request's other keys, one after another, and all with its id.

        Other texts than the key's are cut earlier in them: one request may have a thousand.
        """
        if not access.further:
            return
        record = self._access(access, now, end, access.request_id)
        for limit, items in _BRIEFLY:
            brief = redact.fit(record, limit, items)
            line = ENCODER.encode(
                msgspec.structs.replace(brief, id=HOLE, action=HOLE, workspace=HOLE, resource=HOLE, changes=None)
            )
            if len(line) <= _BRIEF:
                break
        a, b, c, d, e = line.split(b"\0")
        encode = ENCODER.encode
        for key in access.further:
            event_id, action, workspace = (
                encode(each) for each in (record_id(now), _ACTION_NAMES[key.permission], key.workspace or None)
            )
            yield b"".join((a, event_id, b, action, c, workspace, d, encode(_resource(key)), e))

    def frame(self, access: Access, now: float, end: Completion) -> Frame | None:
        """For the records of further requests that are like this one; see `framed`. `None` where it has to be shortened."""
        record, replace = self._access(access, now, end, access.request_id), msgspec.structs.replace
        cut = replace(
            record,
            id=HOLE,
            time=HOLE,
            duration_ms=HOLE,
            request=replace(record.request, id=HOLE, path=HOLE),
            response=replace(record.response, bytes=HOLE),
            resource=replace(record.resource, name=HOLE),
            decision=replace(record.decision, staleness_ms=HOLE),
        )
        try:
            return Frame(ENCODER.encode(cut))
        except UnicodeEncodeError:
            return None

    def framed(
        self, frame: Frame, now: float, duration: float, path: str, size: int, key: str, staleness: float | None
    ) -> bytes | None:
        """As `access` of a request with one action and no query, answered whole and without a body of its own.
        `None` where the long way has to be gone. `now` in Unix seconds, `duration` and `staleness` in seconds, `size` in bytes."""
        line = frame.fill(record_id(now), self._timestamp(now), duration, path, size, key, staleness)
        return line if line is not None and len(line) <= STRING_LIMIT else None

    def _access(self, access: Access, now: float, end: Completion | None, event_id: str) -> Record:
        actions = access.actions
        changes: Mapping[str, Any] | None = None
        if not actions:
            action, resource = "request", _NO_RESOURCE
        else:
            first = actions[0]
            strongest = first.permission
            if len(actions) > 1:
                strongest = max([item.permission for item in actions], key=_STRENGTH.__getitem__)
                changes = next(({"destination": _name(item)} for item in actions if item.creates), None)
            digest = None if end is None else end.digest
            action = _ACTION_NAMES[strongest]
            path_of_key = redact.text(access.key_path) or None
            resource = Resource(
                access.upstream or None, access.container or None, _name(first), None, digest, path_of_key
            )
        outcome, reason, bytes_in, duration_ms, response = access.outcome, access.reason, None, None, _NO_RESPONSE
        if end is not None:
            outcome, reason, bytes_in = end.outcome or outcome, end.reason or reason, end.bytes_in
            duration_ms = int(end.duration * 1_000_000) / 1000
            response = Response(end.status, end.bytes_out, end.upstream_status, end.upstream_request_id, end.aborted)
        host, path, agent = access.host, access.path, access.user_agent
        if redact.suspicious(f"{host} {path} {agent}"):
            host, path, agent = redact.text(host), redact.text(path), redact.text(agent)
        return Record(
            SCHEMA,
            event_id,
            self._timestamp(now),
            duration_ms,
            "access",
            action,
            "intent" if end is None else "complete",
            outcome,
            reason,
            _SEVERITY[outcome],
            access.workspace or None,
            Request(
                access.request_id,
                access.profile or None,
                redact.text(access.method),
                host or None,
                path,
                redact.query(access.query) or None,
                agent or None,
                bytes_in,
                access.operation or None,
            ),
            response,
            self._parties.client(access),
            self._parties.actor(access),
            resource,
            _decided(access, (end.detail if end is not None else "") or access.detail),
            changes,
            self._instance,
            access.trace,
        )

    def token_event(
        self,
        action: str,
        now: float,
        *,
        token_id: str,
        token_name: str = "",
        kind: PrincipalKind | None = None,
        subject: str = "",
        by: str = "",
        workspace: str = "",
        outcome: Outcome = Outcome.ALLOW,
        severity: str = "info",
        changes: Mapping[str, Any] | None = None,
    ) -> bytes:
        """What happened to one token: `created`, `rotated`, `reused`, `revoked`. `by` is who did it; the token is in `changes`."""
        what = {"token_id": token_id, "token_name": token_name or None, "token_kind": kind, "subject": subject or None}
        return self._event(
            "token",
            action,
            now,
            outcome,
            severity,
            workspace,
            Actor("operator", principal=by or None),
            {**what, **(changes or {})},
        )

    def policy_event(
        self,
        action: str,
        now: float,
        *,
        workspace: str,
        sha256: str,
        generation: int | None = None,
        problems: tuple[str, ...] = (),
    ) -> bytes:
        """`loaded`, `rejected` or `removed`, of one policy file; one with `problems` was refused, and `sha256` is of what is served."""
        outcome, severity = (Outcome.ERROR, "error") if problems else (Outcome.ALLOW, "info")
        decided = Decided(policy_sha256=sha256, policy_generation=generation)
        changes = {"problems": list(problems)} if problems else None
        return self._event("policy", action, now, outcome, severity, workspace, Actor("system"), changes, decided)

    def system(
        self, action: str, now: float, *, severity: str = "info", changes: Mapping[str, Any] | None = None
    ) -> bytes:
        """`start`, `stop`, `rotate`, `torn`, `gap`, `suppressed`: what the log says about itself."""
        return self._event("system", action, now, None, severity, "", Actor("system"), changes)

    def _timestamp(self, now: float) -> str:
        """RFC 3339 in UTC with microseconds. The part down to the second is formatted once a second."""
        whole, micros = divmod(int(now * 1_000_000), 1_000_000)
        second, text = self._second
        if second != whole:
            text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
            self._second = whole, text  # one assignment: the loop and the writer's thread both come here
        return f"{text}{THREE_DIGITS[micros // 1000]}{THREE_DIGITS[micros % 1000]}Z"

    def _event(
        self,
        kind: str,
        action: str,
        now: float,
        outcome: Outcome | None,
        severity: str,
        workspace: str,
        actor: Actor,
        changes: Mapping[str, Any] | None,
        decision: Decided = _NO_DECISION,
    ) -> bytes:
        return self._encode(
            Record(
                v=SCHEMA,
                id=record_id(now),
                time=self._timestamp(now),
                duration_ms=None,
                kind=kind,
                action=action,
                stage=None,
                outcome=outcome,
                reason=None,
                severity=severity,
                workspace=workspace or None,
                request=_NO_REQUEST,
                response=_NO_RESPONSE,
                client=_NO_CLIENT,
                actor=actor,
                resource=_NO_RESOURCE,
                decision=decision,
                changes=changes,
                instance=self._instance,
                trace=_NO_TRACE,
            )
        )

    def _encode(self, record: Record) -> bytes:
        """A short record can't hold a text that is too long, so nearly all are encoded once and returned."""
        try:
            line = ENCODER.encode(record)
            if len(line) <= STRING_LIMIT:
                return line
        except UnicodeEncodeError:
            pass
        whole, replace = redact.fit(record.resource, STRING_LIMIT, 0), msgspec.structs.replace
        for limit, items in ((STRING_LIMIT, 64), (256, 16), (32, 4)):
            # Which key it is stays: whoever asks could say so much else that it were lost.
            line = ENCODER.encode(replace(redact.fit(record, limit, items), resource=whole))
            if len(line) <= RECORD_LIMIT:
                return line
        return ENCODER.encode(redact.fit(replace(record, changes={redact.CUT: "truncated"}), 32, 4))
