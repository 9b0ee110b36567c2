"""How a biscuit is written: base64 for URLs, with or without its padding; and what in a text may be one."""

import base64
import re

from sidecar.credentials.biscuit.wire import first_field

MAX_BYTES = 4096
_SHAPE = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_FIRST = ("C", "E")
"""Of base64: a first byte 0x08 (the key's id) or 0x12 (the first block). No JWT and no token of a brand begins so."""


class TooLong(ValueError):
    """More than `MAX_BYTES`."""


def looks_like(text: str) -> bool:
    """Whether it may be a biscuit, and can be nothing else that is sent as a token."""
    return text.startswith(_FIRST) and _SHAPE.fullmatch(text) is not None


def decoded(text: str) -> bytes | None:
    """`None`: not a biscuit. Raises `TooLong`."""
    if not looks_like(text):
        return None
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise TooLong
    bare = text.rstrip("=")
    try:
        content = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except ValueError:
        return None
    if first_field(content) is None:
        return None
    if len(content) > MAX_BYTES:
        raise TooLong
    return content


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()
