"""The key behind every token issued here. From it come a key for token digests and a key for row MACs, never itself used.
While it is being exchanged there are two: each row names the one that it is under.

With the database alone nobody can plant a token or widen one, and with a copy of it nobody can find a token. Whoever can write to
it can put a row's older state back, as it was before its revocation for example: a key here says nothing of time.
"""

import hashlib
import hmac
from collections.abc import Iterable

from sidecar.errors import SidecarError

SHORTEST = 32
_DISTINCT = 10
"""A random pepper of 32 bytes in hexadecimal has about 14 distinct characters; a typed placeholder has fewer."""


class PepperUnusable(SidecarError):
    """The pepper file's content can't serve as a key. The text says what to do and never shows the content."""


class Pepper:
    """Keyed functions; the key itself can't be read back out or printed."""

    __slots__ = ("_digest_key", "_row_key", "id")

    def __init__(self, content: bytes) -> None:
        """`content` is the file as read; white space at its ends doesn't count. Raises `PepperUnusable`."""
        key = content.strip()
        if len(key) < SHORTEST:
            raise PepperUnusable(
                f"the pepper has {len(key)} bytes and needs at least {SHORTEST} random ones; `sidecar init` makes one"
            )
        if len(set(key)) < _DISTINCT:
            raise PepperUnusable("the pepper is a placeholder, not random; `sidecar init` makes one")
        self.id = _derive(key, b"sidecar/pepper/id/v1").hex()[:8]
        """Names the key beside what it made, so that a change of pepper is told from a forgery."""
        self._digest_key = _derive(key, b"sidecar/opaque/digest/v1")
        self._row_key = _derive(key, b"sidecar/opaque/row/v1")

    def __repr__(self) -> str:
        return f"<pepper {self.id}>"

    def digest(self, token: str) -> str:
        """What is stored instead of a token, in hexadecimal. 256 random bits need no slow hash."""
        return hmac.digest(self._digest_key, token.encode(), "sha256").hex()

    def mac(self, values: Iterable[object]) -> str:
        """Over the values in their order, in hexadecimal. Each carries its type and length, so that no two lists are alike."""
        return hmac.digest(self._row_key, b"".join(map(_canonical, values)), "sha256").hex()


class Peppers:
    """The pepper that new tokens are made under, and the others whose tokens are believed as well."""

    __slots__ = ("_known", "current")

    def __init__(self, current: Pepper, *others: Pepper) -> None:
        self.current = current
        self._known = {pepper.id: pepper for pepper in (*others, current)}

    def named(self, pepper_id: object) -> Pepper | None:
        """`pepper_id` as a database hands it back: of any type."""
        return self._known.get(pepper_id) if isinstance(pepper_id, str) else None

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all, the current one's last."""
        return tuple(self._known)


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose, "sha256")


def _canonical(value: object) -> bytes:
    # A database hands back whatever type somebody wrote into it: SQLite's columns hold any. `1` is not `"1"` here.
    text = b"" if value is None else value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return b"%s:%d:%s;" % (type(value).__name__.encode(), len(text), text)


def same(stored: object, computed: str) -> bool:
    """Constant in time; false for a stored value of another type than the one written."""
    return isinstance(stored, str) and hmac.compare_digest(stored.encode("utf-8", "surrogatepass"), computed.encode())


def nobody() -> str:
    """A digest to compare with where there is no row, so that an unknown id costs what a wrong secret costs."""
    return hashlib.sha256(b"nobody").hexdigest()
