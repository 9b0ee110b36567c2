"""`sidecar.audit/v1` as types. The law: every record has exactly the same keys; what isn't known is null.

Columnar readers infer stable types from that. `changes` alone has keys of its own, one set for each kind of event.
Fields and their meaning are described in `docs/audit.md`; a field is added at its struct's end, none is renamed.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

SCHEMA = "sidecar.audit/v1"

STRING_LIMIT = 2048
"""Characters of one text."""
RECORD_LIMIT = 16 * 1024
"""Bytes of one record."""


def _unwritable(value: object) -> str:
    """A type that JSON doesn't have, a `Secret` above all, is named and never looked into."""
    return f"<{type(value).__name__.lower()}>"


ENCODER = msgspec.json.Encoder(enc_hook=_unwritable)


def rfc3339(now: float) -> str:
    """In UTC with microseconds. `now` in Unix seconds; raises `ValueError` or `OverflowError` where it has no date."""
    whole = int(now)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((now - whole) * 1_000_000):06d}Z"


class Request(Struct, frozen=True, gc=False):
    id: str | None = None
    protocol: str | None = None
    method: str | None = None
    host: str | None = None
    path: str | None = None
    query: str | None = None
    user_agent: str | None = None
    bytes: int | None = None
    operation: str | None = None


class Response(Struct, frozen=True, gc=False):
    status: int | None = None
    bytes: int | None = None
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    aborted: bool | None = None


class Tls(Struct, frozen=True, gc=False):
    version: str | None = None
    cert_sha256: str | None = None


NO_TLS = Tls()


class Client(Struct, frozen=True, gc=False):
    ip: str | None = None
    peer_ip: str | None = None
    forwarded: tuple[str, ...] | None = None
    tls: Tls = NO_TLS


class Actor(Struct, frozen=True, gc=False):
    type: str | None = None
    token_id: str | None = None
    token_name: str | None = None
    owner: str | None = None
    principal: str | None = None
    groups: list[str] | None = None
    auth_method: str | None = None
    scopes: list[str] | None = None
    token_expires: str | None = None
    unknown_token_hmac: str | None = None
    root_id: str | None = None
    parent: str | None = None
    blocks: tuple[str, ...] | None = None
    jti: str | None = None
    claims: dict[str, str] | None = None


class Resource(Struct, frozen=True, gc=False):
    store: str | None = None
    container: str | None = None
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    path: str | None = None


class Decided(Struct, frozen=True, gc=False):
    rule: str | None = None
    policy_sha256: str | None = None
    policy_generation: int | None = None
    token_state_seq: int | None = None
    staleness_ms: int | None = None
    cache: str | None = None
    detail: str | None = None
    would_deny: str | None = None


class Instance(Struct, frozen=True):
    """Which process speaks. In Kubernetes the first three come from the downward API."""

    pod: str | None = None
    namespace: str | None = None
    node: str | None = None
    version: str | None = None
    replica: str | None = None


class Trace(Struct, frozen=True, gc=False):
    trace_id: str | None = None
    span_id: str | None = None


class Record(Struct, frozen=True, gc=False):
    v: str
    id: str
    time: str
    duration_ms: float | None
    kind: str
    action: str
    stage: str | None
    outcome: str | None
    reason: str | None
    severity: str
    workspace: str | None
    request: Request
    response: Response
    client: Client | Raw
    actor: Actor | Raw
    resource: Resource
    decision: Decided
    changes: Mapping[str, Any] | None
    instance: Raw
    trace: Trace
    chain: None = None
