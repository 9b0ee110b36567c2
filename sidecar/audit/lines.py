"""Audit files, read back: their lines, and which of these are records.

Law: a file is as hostile as what was asked of the sidecar. A line takes no more memory than a record may, and one that is no
record is told apart and never raises.
"""

from collections.abc import Iterator
from typing import BinaryIO, Generic, Protocol, TypeVar

import msgspec

MAX_LINE = 64 * 1024
"""Bytes; a record has at most a quarter of it."""
_SCHEMAS = "sidecar.audit/"


class Versioned(Protocol):
    @property
    def v(self) -> str: ...


Shape = TypeVar("Shape", bound=Versioned)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """A line that is longer than any record comes as several, none of which is one."""
    while line := file.readline(MAX_LINE):
        if stripped := line.strip():
            yield stripped


class RecordReader(Generic[Shape]):
    """Reads records as far as `shape`, a `Struct`, has fields for them."""

    def __init__(self, shape: type[Shape]) -> None:
        self._decoder = msgspec.json.Decoder(shape)

    def read(self, line: bytes) -> Shape | None:
        """`None` where the line is no audit record."""
        try:
            record = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return record if record.v.startswith(_SCHEMAS) else None
