"""One object of the embedded store as one file, and how it is read.

    body, from offset 0 | Meta as MessagePack | length of the Meta, 4 bytes | its CRC-32, 4 bytes | MAGIC, 8 bytes

One file, so one rename replaces body and headers together. The body comes first, so that its length needn't be known
when it begins, and a descriptor with an offset is all that it takes to send it.

Law: a file is served only if its own description names the key that was asked for and accounts for every byte.
"""

import logging
import os
import threading
import zlib

import msgspec
from msgspec import Struct

logger = logging.getLogger(__name__)

SMALL = 64 * 1024
"""A file up to this size (bytes) is read whole at once. A `Meta` is smaller, too."""

_TAIL = 4096
_FOOTER = 16
_MAGIC = b"asc\x00obj\x01"


class Meta(Struct, frozen=True, array_like=True, gc=False):
    """What is kept beside a body. New fields go to the end, with a default, so that older files stay readable."""

    key: bytes
    size: int
    """Of the body, in bytes."""
    etag: str
    """Strong, with its quotes; drawn at random for every upload, so one never names two bodies."""
    modified: int
    """Unix seconds."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Lower-case name and value, in the order received."""


class Damaged(Exception):
    """A file under `objects/` isn't the object that its name promises."""


class Stored:
    """An object that is open for reading: it stays what it was, whatever happens to its name."""

    __slots__ = ("_body", "_fd", "_lock", "meta")

    def __init__(self, fd: int, meta: Meta, body: bytes | None) -> None:
        self.meta = meta
        self._fd = fd
        self._body = body
        # A reader whose client left is closed while a read may be running; the descriptor's number could be another
        # file's by the time that the read looks at it.
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes of the body from `offset`; fewer than asked for means that there is no going on."""
        size = min(size, self.meta.size - offset)
        if self._body is not None:
            return self._body[offset : offset + size]
        with self._lock:
            if self._fd < 0:
                return b""
            try:
                return os.pread(self._fd, size, offset)
            except OSError as error:
                logger.warning("embedded store: the body of an object can't be read: %s", error.strerror)
                return b""

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    __del__ = close
    """For the caller that was cancelled between the opening and its result."""


def open_object(fd: int, key: bytes) -> Stored:
    """Takes the descriptor over. Raises `Damaged` or `OSError`, and then it is closed."""
    try:
        size = os.fstat(fd).st_size
        meta, small = _read_meta(fd, size, key)
    except BaseException:
        os.close(fd)
        raise
    if small is None:
        return Stored(fd, meta, None)
    os.close(fd)
    return Stored(-1, meta, small)


def tail_of(meta: Meta) -> bytes:
    """What follows the body."""
    packed = msgspec.msgpack.encode(meta)
    return packed + len(packed).to_bytes(4, "big") + zlib.crc32(packed).to_bytes(4, "big") + _MAGIC


def _read_meta(fd: int, size: int, key: bytes) -> tuple[Meta, bytes | None]:
    """And the body, where the file is small. `size` is the file's, in bytes."""
    tail = os.pread(fd, size, 0) if size <= SMALL else os.pread(fd, _TAIL, size - _TAIL)
    length = int.from_bytes(tail[-_FOOTER:-12], "big")
    if tail[-8:] != _MAGIC or length + _FOOTER > min(size, SMALL):
        raise Damaged("no end mark")
    if length + _FOOTER > len(tail):
        tail = os.pread(fd, length + _FOOTER, size - length - _FOOTER)
    packed = tail[-_FOOTER - length : -_FOOTER]
    if zlib.crc32(packed) != int.from_bytes(tail[-12:-8], "big"):
        raise Damaged("wrong checksum")
    try:
        meta = _decode(packed)
    except msgspec.DecodeError as error:
        raise Damaged("unreadable description") from error
    if meta.key != key or meta.size + length + _FOOTER != size:
        raise Damaged("another key's object, or another length")
    return meta, tail[: meta.size] if size <= SMALL else None


_decode = msgspec.msgpack.Decoder(Meta).decode
