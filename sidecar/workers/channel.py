"""What the parent and a worker say to each other. The law: a frame is its length (4 bytes, big-endian) and so many bytes of
MessagePack; what is too long or means nothing breaks the channel, and a broken channel is never used again.
"""

import struct

import msgspec
from msgspec import Struct

from sidecar.errors import SidecarError
from sidecar.metrics import Snapshot
from sidecar.server.ops import Result
from sidecar.settings import MiB, Settings

LIMIT = 16 * MiB
"""Bytes of one frame: far above a batch of audit records (256 KiB) or a report (50 KiB)."""
_LENGTH = struct.Struct(">I")


class ChannelBroken(SidecarError):
    """The other side sent what no message is."""


class Seating(Struct, frozen=True, tag=True):
    """Parent to worker, first: the configuration as the parent read it, so that all workers serve by the same one."""

    index: int
    settings: Settings
    install_key: bytes
    listening: tuple[tuple[int, ...], ...]
    """For each listener of the settings the descriptors of its bound sockets."""
    audit: tuple[int, ...]
    """For each audit sink of the settings the descriptor of a channel for `Batch` and `Taken`."""


class Up(Struct, frozen=True, tag=True):
    """Worker to parent, once: it accepts connections."""


class Ask(Struct, frozen=True, tag=True):
    """Parent to worker: report how you are."""

    number: int
    metrics: bool
    """Whether numbers are wanted, too: they cost the worker's loop some milliseconds."""


class Report(Struct, frozen=True, tag=True):
    """Worker to parent: the answer to the `Ask` of the same number."""

    number: int
    checks: tuple[Result, ...]
    policy: str
    """The digest of the policy in force."""
    metrics: Snapshot | None = None


class Batch(Struct, frozen=True, tag=True):
    """Worker to parent: audit records for one sink. The next batch follows when this one has its `Taken`."""

    lines: tuple[bytes, ...]
    durable: bool


class Taken(Struct, frozen=True, tag=True):
    """Parent to worker: the sink has the batch, or `error` says why it took none of it."""

    error: str = ""


Message = Seating | Up | Ask | Report | Batch | Taken

# A path is written as its text; `Settings` says where the text is a path.
_ENCODER = msgspec.msgpack.Encoder(enc_hook=str)
_DECODER = msgspec.msgpack.Decoder(Message, dec_hook=lambda kind, text: kind(text))
_SETTINGS = msgspec.msgpack.Decoder(Settings, dec_hook=lambda kind, text: kind(text))


def pack(settings: Settings) -> bytes:
    return _ENCODER.encode(settings)


def unpack(packed: bytes) -> Settings:
    return _SETTINGS.decode(packed)


def frame(message: Message) -> bytes:
    content = _ENCODER.encode(message)
    return _LENGTH.pack(len(content)) + content


class Frames:
    """Takes bytes in whatever pieces they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are now complete, in order. Raises `ChannelBroken`."""
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > LIMIT:
                raise ChannelBroken(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            try:
                messages.append(_DECODER.decode(memoryview(self._buffer)[start + _LENGTH.size : end].tobytes()))
            except msgspec.MsgspecError as error:
                raise ChannelBroken(f"not a message: {error}") from None
            start = end
        del self._buffer[:start]
        return messages
