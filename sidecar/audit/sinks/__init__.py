"""Where audit records are kept. A new kind of sink is a file here and a line in `wiring_audit`."""

from sidecar.audit.sinks.file import FileSink
from sidecar.audit.sinks.sink import Sink
from sidecar.audit.sinks.stdout import StdoutSink

__all__ = ["FileSink", "Sink", "StdoutSink"]
