"""Where the audit records of one process, or of several, are kept: for the serving process and for the parent of several."""

import hashlib
import os
import socket
from collections.abc import Sequence

from sidecar import __version__
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance
from sidecar.audit.sinks import FileSink, Sink, StdoutSink
from sidecar.settings import AuditSink, Settings


def records(install_key: bytes) -> Records:
    """A maker of records that says where this process runs."""
    return Records(
        Instance(
            pod=os.environ.get("POD_NAME") or socket.gethostname(),
            namespace=os.environ.get("POD_NAMESPACE"),
            node=os.environ.get("NODE_NAME"),
            version=__version__,
        ),
        install_key,
    )


def install_key(settings: Settings) -> bytes:
    """Under which unknown credentials are written down: from the pepper, or for this run alone where there is none."""
    if settings.tokens is None:
        return os.urandom(32)
    return hashlib.sha256(b"sidecar/audit/unknown-token\0" + settings.tokens.pepper_file.read_bytes()).digest()


def sinks(settings: Settings, records: Records) -> Sequence[Sink]:
    """One for each entry of `audit:`, in its order. Nothing is opened before the first write."""
    return [_sink(each, records) for each in settings.audit]


def sink_name(settings: AuditSink) -> str:
    return StdoutSink.name if settings.file is None else FileSink.name


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
