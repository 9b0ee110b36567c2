"""The body of DeleteObjects: up to 1,000 keys in XML, each of which has to be allowed.

The law: the store deletes what was judged here. So the XML is read in its plainest form only (no DTD, entity, comment,
attribute or other encoding, nothing unknown), and what is sent on is written anew from what was read.
Source: S3 API Reference, DeleteObjects.
"""

from collections.abc import Sequence
from xml.parsers import expat
from xml.sax.saxutils import escape

from msgspec import Struct

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.reasons import Reason
from sidecar.s3 import query
from sidecar.sigv4 import encode_path

MOST_BYTES = 2 * 1024 * 1024
"""More than 1,000 keys of 1,024 bytes take, with all of their markup."""
MOST_KEYS = 1000
LONGEST_KEY = 1024
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_LONGEST_TEXT = 4096
_ROOT, _OBJECT, _QUIET = ("Delete",), ("Delete", "Object"), ("Delete", "Quiet")
_FIELDS = ("Key", "VersionId", "ETag", "LastModifiedTime", "Size")


class Entry(Struct, frozen=True):
    key: str
    version_id: str = ""
    conditions: tuple[tuple[str, str], ...] = ()
    """`ETag`, `LastModifiedTime` and `Size` that the object must still have: they only narrow."""
    oddities: Oddity = Oddity.NONE
    """What the route's profile still has to agree to, as for a path."""


class MultiDelete(Struct, frozen=True):
    entries: tuple[Entry, ...]
    quiet: bool = False


def read(body: bytes) -> MultiDelete:
    """Raises `Refused`: `MALFORMED_BODY` for XML that isn't plain or says something else, `BAD_TARGET` for a key that can be read
    in two ways."""
    if len(body) > MOST_BYTES:
        raise Refused(Reason.MALFORMED_BODY, f"more than {MOST_BYTES} bytes of keys")
    reader = _Reader()
    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = parser.CommentHandler = parser.StartCdataSectionHandler = reader.refuse
    try:
        body.decode()  # expat follows a byte order mark into UTF-16, whatever it is told
        parser.Parse(body, True)
    except (UnicodeDecodeError, expat.ExpatError):
        raise Refused(Reason.MALFORMED_BODY, "not well-formed XML") from None
    if not reader.entries:
        raise Refused(Reason.MALFORMED_BODY, "no keys")
    return MultiDelete(tuple(reader.entries), reader.quiet == "true")


def write(asked: MultiDelete) -> bytes:
    """The body that says this. Its `Content-MD5` and checksums are the writer's to reckon: the client's are of another text."""
    entries = "".join(_written(entry) for entry in asked.entries)
    quiet = "<Quiet>true</Quiet>" if asked.quiet else ""
    return f'<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="{NAMESPACE}">{quiet}{entries}</Delete>'.encode()


def _written(entry: Entry) -> str:
    fields: Sequence[tuple[str, str]] = (("Key", entry.key), ("VersionId", entry.version_id), *entry.conditions)
    return f"<Object>{''.join(f'<{name}>{escape(text)}</{name}>' for name, text in fields if text)}</Object>"


class _Reader:
    """What the parser meets, in order; refuses at the first thing that isn't expected there."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.quiet = ""
        self._path: tuple[str, ...] = ()
        self._prefix: str | None = None
        self._fields: dict[str, str] = {}
        self._text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if self._prefix is None and namespace in ("", NAMESPACE):
            self._prefix = namespace
        path = (*self._path, local)
        expected = path in (_ROOT, _OBJECT) or (path == _QUIET and not self.quiet)
        expected = expected or (path[:-1] == _OBJECT and local in _FIELDS and local not in self._fields)
        if attributes or namespace != self._prefix or not expected:
            self.refuse()
        if path == _OBJECT and len(self.entries) >= MOST_KEYS:
            raise Refused(Reason.MALFORMED_BODY, f"more than {MOST_KEYS} keys")
        self._path, self._text = path, ""

    def end(self, name: str) -> None:
        path, text = self._path, self._text
        if path == _OBJECT:
            self.entries.append(_entry(self._fields))
            self._fields = {}
        elif path == _QUIET:
            if text not in ("true", "false"):
                self.refuse()
            self.quiet = text
        elif path != _ROOT:
            self._fields[path[-1]] = text
        self._path, self._text = path[:-1], ""

    def text(self, text: str) -> None:
        if self._path in (_ROOT, _OBJECT):
            if text.strip(" \t\r\n"):
                self.refuse()
            return
        self._text += text
        if len(self._text) > _LONGEST_TEXT:
            self.refuse()

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding is not None and encoding.lower() != "utf-8"):
            self.refuse()

    def refuse(self, *_: object) -> None:
        raise Refused(Reason.MALFORMED_BODY, "XML that no S3 client sends")


def _entry(fields: dict[str, str]) -> Entry:
    key = fields.get("Key", "")
    if not key or len(key.encode()) > LONGEST_KEY:
        raise Refused(Reason.MALFORMED_BODY, "a key that is missing or too long")
    if not query.is_id(fields.get("VersionId", "")):
        raise Refused(Reason.MALFORMED_BODY, "a VersionId that no store gives out")
    oddities = target.parse(f"/bucket/{encode_path(key)}").oddities
    conditions = tuple((name, fields[name]) for name in _FIELDS[2:] if name in fields)
    return Entry(key, fields.get("VersionId", ""), conditions, oddities)
