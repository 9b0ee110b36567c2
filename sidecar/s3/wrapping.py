"""A body wrapped anew, with its checksum behind it: `aws-chunked`, unsigned, for the store. Pure.

A store that was told at an upload's beginning which checksum its parts will have refuses a part without. The client's came behind
its body, so ours does, too. Source: S3 API Reference, "Signature calculations ... including trailing headers".
"""

from collections.abc import Sequence

from sidecar.checksums import PREFIX
from sidecar.ports import HeaderList

CHUNK = 1024 * 1024
"""Bytes. Servers take from 8 KiB to some MiB in one."""
_VALUE = {
    "crc32": 8, "crc32c": 8, "crc64nvme": 12, "sha1": 28, "sha256": 44, "md5": 24, "sha512": 88,
    "xxhash64": 12, "xxhash3": 12, "xxhash128": 24,
}  # fmt: skip
"""Characters of each checksum, in base64."""


class Wrapping:
    """One body of `length` bytes, at least one. `name`: the checksum's header."""

    def __init__(self, length: int, name: str) -> None:
        self._left = length
        self._in_chunk = 0
        self._decoded = length
        self._name = name
        whole, rest = divmod(length, CHUNK)
        frames = whole * (len(_frame(CHUNK)) + 2) + (len(_frame(rest)) + 2 if rest else 0)
        value = _VALUE[name.removeprefix(PREFIX)]
        self.length = length + frames + len(b"0\r\n\r\n\r\n") + len(name) + 1 + value
        """Of all that is sent, in bytes."""

    def headers(self, headers: HeaderList) -> list[tuple[bytes, bytes]]:
        """Those of the object, and what is said of the wrapping."""
        kept = [pair for pair in headers if pair[0].lower() != b"content-encoding"]
        coding = b",".join([b"aws-chunked", *(value for name, value in headers if name.lower() == b"content-encoding")])
        return [
            *kept,
            (b"Content-Encoding", coding),
            (b"x-amz-decoded-content-length", b"%d" % self._decoded),
            (b"x-amz-trailer", self._name.encode()),
        ]

    def wrap(self, pieces: Sequence[bytes]) -> list[bytes]:
        wrapped: list[bytes] = []
        for piece in pieces:
            at = 0
            while at < len(piece):
                if not self._in_chunk:
                    self._in_chunk = min(CHUNK, self._left)
                    wrapped.append(_frame(self._in_chunk))
                taken = piece[at : at + self._in_chunk]
                wrapped.append(taken)
                at += len(taken)
                self._in_chunk -= len(taken)
                self._left -= len(taken)
                if not self._in_chunk:
                    wrapped.append(b"\r\n")
        return wrapped

    def end(self, value: str) -> bytes:
        """After the last piece: the checksum, as the client said it and as it was found right."""
        return f"0\r\n{self._name}:{value}\r\n\r\n".encode()


def _frame(size: int) -> bytes:
    return b"%x\r\n" % size
