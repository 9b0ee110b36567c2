"""Audit files, read back: their lines, which of these are records, and the parts of a record that are asked for.

Law: a file is as hostile as what was asked of the sidecar. A line takes no more memory than a record may, and one that is no
record is told apart and never raises.
"""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec
from msgspec import Struct, field

MAX_LINE = 64 * 1024
"""Bytes; a record has at most a quarter of it."""
_SCHEMAS = "sidecar.audit/"


class Actor(Struct):
    type: str | None = None
    token_id: str | None = None
    token_name: str | None = None
    owner: str | None = None
    principal: str | None = None
    groups: list[str] | None = None
    scopes: list[str] | None = None
    root_id: str | None = None
    parent: str | None = None
    blocks: list[str] | None = None
    claims: dict[str, str] | None = None


class Client(Struct):
    ip: str | None = None
    peer_ip: str | None = None


class Request(Struct):
    id: str | None = None
    protocol: str | None = None
    method: str | None = None
    path: str | None = None
    query: str | None = None
    user_agent: str | None = None
    operation: str | None = None


class Response(Struct):
    status: int | None = None
    upstream_status: int | None = None
    aborted: bool | None = None


class Resource(Struct):
    store: str | None = None
    container: str | None = None
    name: str | None = None
    digest: str | None = None
    path: str | None = None


class Decision(Struct):
    rule: str | None = None
    policy_sha256: str | None = None
    would_deny: str | None = None


class Changes(Struct):
    token_id: str | None = None
    parent: str | None = None
    destination: str | None = None


class Record(Struct):
    """As `schema` writes it; what isn't here nobody asks for."""

    v: str
    time: str
    kind: str
    action: str
    stage: str | None = None
    outcome: str | None = None
    reason: str | None = None
    workspace: str | None = None
    request: Request = field(default_factory=Request)
    response: Response = field(default_factory=Response)
    client: Client = field(default_factory=Client)
    actor: Actor = field(default_factory=Actor)
    resource: Resource = field(default_factory=Resource)
    decision: Decision = field(default_factory=Decision)
    changes: Changes | None = None


_DECODER = msgspec.json.Decoder(Record)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """A line that is longer than any record comes as several, none of which is one."""
    while line := file.readline(MAX_LINE):
        if stripped := line.strip():
            yield stripped


def record_of(line: bytes) -> Record | None:
    """`None` where the line is no audit record."""
    try:
        record = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if record.v.startswith(_SCHEMAS) else None
