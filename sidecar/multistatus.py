"""The body of a 207 (RFC 4918 §13), with every `DAV:href` as the client must ask for it: read, judged and written anew. Pure.

A store's XML is as hostile as any of its answers. Nothing of it passes through: what leaves here was written here, in UTF-8,
without doctype, entities, processing instructions or comments, so that no client reads in it what we did not.

- A `response` whose href leaves the route is dropped: the client has no way to ask for it, and no business to know of it.
- Another href that leaves it (in a property: an owner, a principal) loses its text.
- Memory is bounded by one `response`. Time is linear: input is parsed in pieces of `PIECE`, and no token may be longer
  than `TOKEN` (expat reads an unfinished token again with every piece).
"""

from collections.abc import Callable
from xml.parsers import expat

from sidecar.errors import Refused
from sidecar.ports import HeaderList
from sidecar.reasons import Reason

PIECE = 16 * 1024
TOKEN = 256 * 1024
"""Bytes without the end of a tag, a comment or the like."""
RESPONSE = 1024 * 1024
"""Characters of one `response`, written."""
DEPTH = 64
NAMES = 64
"""Attributes and namespaces of one element."""
HREF = 16 * 1024

_DAV = "DAV:"
_WHITESPACE = " \t\r\n"
_OF_THE_OLD_BODY = frozenset({
    b"etag", b"last-modified", b"content-type", b"content-encoding", b"content-md5", b"content-digest", b"repr-digest",
    b"digest", b"accept-ranges", b"content-range", b"transfer-encoding", b"content-length",
})  # fmt: skip
"""Headers that are about the store's bytes."""

_Scope = dict[str, str]
"""Prefix -> namespace; "" is the default one."""


def head(headers: HeaderList) -> HeaderList:
    """The store's header lines for the body that is written anew. Raises `Refused` for one that is compressed."""
    kept = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise _broken("it is compressed, which it was not asked to be")
        if lower not in _OF_THE_OLD_BODY:
            kept.append((name, value))
    return [*kept, (b"Content-Type", b"application/xml; charset=utf-8")]


class Multistatus:
    """`feed` it the store's body, then `close`; both return what the client gets next and raise `Refused(UPSTREAM_BROKEN)`.

    `to_client` maps one href, or says `None` where it leaves the route.
    """

    def __init__(self, to_client: Callable[[str], str | None]) -> None:
        self._to_client = to_client
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.ProcessingInstructionHandler = _refuse_instruction
        parser.CommentHandler = self._comment
        self._waiting = bytearray()
        self._quiet = 0
        """Bytes parsed since the parser last said something."""
        self._open: list[tuple[str, _Scope]] = []
        self._written: list[str] = ['<?xml version="1.0" encoding="utf-8"?>\n']
        self._response: list[str] = []
        """What is written of the root's child that is open."""
        self._size = 0
        self._leaves = False
        """Whether an href of the open `response` leaves the route."""
        self._href: list[str] | None = None
        self._href_size = 0

    def feed(self, data: bytes) -> bytes:
        self._waiting += data
        while len(self._waiting) >= PIECE:
            piece = bytes(self._waiting[:PIECE])
            del self._waiting[:PIECE]
            self._parse(piece, final=False)
        return self._take()

    def close(self) -> bytes:
        self._parse(bytes(self._waiting), final=True)
        self._waiting.clear()
        return self._take()

    def _parse(self, piece: bytes, *, final: bool) -> None:
        self._quiet += len(piece)
        if b"\0" in piece:  # expat reads UTF-16 whatever it is told
            raise _broken("its encoding is not UTF-8")
        try:
            self._parser.Parse(piece, final)
        except expat.ExpatError as error:
            raise _broken(f"not XML: {expat.ErrorString(error.code)}") from None
        if self._quiet > TOKEN:
            raise _broken("a tag or comment is too long")

    def _take(self) -> bytes:
        written = "".join(self._written).encode()
        self._written.clear()
        return written

    def _write(self, text: str) -> None:
        if len(self._open) < 2:
            self._written.append(text)
            return
        self._response.append(text)
        self._size += len(text)
        if self._size > RESPONSE:
            raise _broken("one response is too large")

    # --- what expat tells -------------------------------------------------------------------------------------------------

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self._quiet = 0
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
            raise _broken("its encoding is not UTF-8")

    def _start(self, name: str, attributes: list[str]) -> None:
        self._quiet = 0
        if len(self._open) >= DEPTH or len(attributes) > 2 * NAMES:
            raise _broken("it is nested too deeply, or an element has too many attributes")
        if self._href is not None:
            raise _broken("an element in an href")
        scope = self._open[-1][1] if self._open else {}
        pairs = list(zip(attributes[::2], attributes[1::2], strict=True))
        declared = {_prefix(key): value for key, value in pairs if key == "xmlns" or key.startswith("xmlns:")}
        if declared:
            scope = {**scope, **declared}
        if len(scope) > NAMES:
            raise _broken("too many namespaces")
        what = _meaning(name, scope)
        if not self._open and what != "multistatus":
            raise _broken("its root is not a DAV: multistatus")
        for key, _ in pairs:
            if ":" in key and not key.startswith("xmlns:"):
                _meaning(key, scope)
        self._open.append((what, scope))
        self._write("".join([f"<{name}", *(f' {key}="{_attribute(value)}"' for key, value in pairs), ">"]))
        if what == "href":
            self._href, self._href_size = [], 0

    def _end(self, name: str) -> None:
        self._quiet = 0
        if self._href is not None:
            self._write(_text(self._mapped("".join(self._href).strip(_WHITESPACE))))
            self._href = None
        self._write(f"</{name}>")
        what, _ = self._open.pop()
        if len(self._open) == 1:
            if what != "response" or not self._leaves:
                self._written += self._response
            self._response.clear()
            self._size, self._leaves = 0, False

    def _mapped(self, href: str) -> str:
        path = self._to_client(href)
        if path is None:
            if len(self._open) == 3 and self._open[1][0] == "response":
                self._leaves = True
            return ""
        return path

    def _text(self, text: str) -> None:
        self._quiet = 0
        if self._href is None:
            self._write(_text(text))
            return
        self._href.append(text)
        self._href_size += len(text)
        if self._href_size > HREF:
            raise _broken("an href is too long")

    def _comment(self, comment: str) -> None:
        self._quiet = 0


def _meaning(name: str, scope: _Scope) -> str:
    """The local name of what is DAV:'s own, empty for all else. Raises `Refused` for a name that no namespace gives a meaning."""
    prefix, colon, local = name.rpartition(":")
    if not local or (colon and not prefix) or ":" in prefix or prefix == "xmlns":
        raise _broken("a name with a misplaced colon")
    if prefix == "xml":
        return ""
    namespace = scope.get(prefix)
    if prefix and not namespace:
        raise _broken("a prefix without a namespace")
    return local if namespace == _DAV else ""


def _prefix(key: str) -> str:
    prefix = key[6:]
    if (key != "xmlns" and not prefix) or ":" in prefix or prefix in ("xml", "xmlns"):
        raise _broken("a namespace that can't be declared")
    return prefix


def _refuse_doctype(name: str, system: str | None, public: str | None, internal: int) -> None:
    raise _broken("a doctype")


def _refuse_instruction(target: str, data: str) -> None:
    raise _broken("a processing instruction")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _attribute(value: str) -> str:
    return _text(value).replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")


def _broken(what: str) -> Refused:
    return Refused(Reason.UPSTREAM_BROKEN, f"the store's multistatus: {what}")
