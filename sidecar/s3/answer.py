"""A store's XML, with buckets and keys as the client calls them: read whole, and written anew. Pure.

Only where a route and its store call them differently; all else passes untouched. What lists a key that isn't the route's is
dropped. Memory is bounded by `MOST`: a list holds 1,000 keys at most. Whether keys are percent-encoded is told in the middle
of the document (`EncodingType`), so names are written when all of it has been read.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote_plus
from xml.parsers import expat

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.s3.place import Place

MOST = 16 * 1024 * 1024
"""Bytes read."""
DEPTH = 16

_BUCKETS = frozenset({"Name", "Bucket", "BucketName"})
_KEYS = frozenset({"Key", "NextMarker", "NextKeyMarker", "Prefix"})
_PATHS = frozenset({"Location", "Resource"})
"""Where bucket and key stand as a path or URL."""
_SAID = {"Prefix": "prefix", "Marker": "marker", "StartAfter": "start-after", "KeyMarker": "key-marker"}
"""What a list repeats of its own query."""
_LISTED = frozenset({"Contents", "CommonPrefixes", "Version", "DeleteMarker", "Upload", "Deleted", "Error"})
ROOTS = frozenset({
    "ListBucketResult", "ListVersionsResult", "ListMultipartUploadsResult", "ListPartsResult",
    "InitiateMultipartUploadResult", "CompleteMultipartUploadResult", "DeleteResult", "Error",
})  # fmt: skip
"""The documents that name buckets or keys. In others a `Key` is a tag's."""

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


class _Name:
    """A text whose form depends on what is read later."""

    __slots__ = ("said", "text")

    def __init__(self, text: str, said: bool) -> None:
        self.text = text
        self.said = said
        """It is the client's own word, not the store's."""


class Answer:
    """`feed` it the store's body, then `close`; both raise `Refused(UPSTREAM_BROKEN)`."""

    def __init__(self, place: Place, bucket: str, key: str, query: Mapping[str, str]) -> None:
        """`bucket`, `key` and `query` as the client asked for them."""
        self._place, self._bucket, self._key, self._query = place, bucket, key, query
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._refuse
        parser.ProcessingInstructionHandler = self._refuse
        self._size = 0
        self._path: list[str] = []
        self._written: list[str | _Name | list[str | _Name]] = []
        """In it, each entry of a list is a list of its own: whether it stays is told at the end."""
        self._open: list[str | _Name] | None = None
        """The entry that is being read."""
        self._name: list[str] = []
        self._known = False
        self._encoded = False

    @property
    def begun(self) -> bool:
        """Whether something was said. Until then a store sends spaces, while it puts a large object together."""
        return bool(self._path or self._written)

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST:
            raise _broken("too large")
        if b"\0" in data:  # expat reads UTF-16, whatever it is told
            raise _broken("its encoding is not UTF-8")
        self._parse(data, False)

    def close(self) -> bytes:
        """The document as the client gets it; empty where the store said nothing."""
        if not self._size:
            return b""
        self._parse(b"", True)
        return DECLARATION + "".join([self._spelled(part) for part in self._written]).encode()

    def _parse(self, data: bytes, final: bool) -> None:
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise _broken(f"not XML: {expat.ErrorString(error.code)}") from None

    def _start(self, tag: str, attributes: list[str]) -> None:
        local = tag.rpartition(":")[2]
        if len(self._path) >= DEPTH:
            raise _broken("nested too deeply")
        if not self._path:
            self._known = local in ROOTS
        self._path.append(local)
        if len(self._path) == 2 and local in _LISTED:
            self._open = []
            self._written.append(self._open)
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        said = "".join([f' {name}="{_escaped(value)}"' for name, value in pairs])
        self._write(f"<{tag}{said}>")
        self._name = []

    def _text(self, text: str) -> None:
        if self._known and len(self._path) > 1:
            self._name.append(text)
        else:
            self._write(_escaped(text))

    def _end(self, tag: str) -> None:
        local, text = self._path[-1], "".join(self._name)
        if self._known and (text or local in _SAID):
            self._write(self._meant(local, text))
        self._name = []
        self._write(f"</{tag}>")
        self._path.pop()
        if len(self._path) == 1:
            self._open = None

    def _write(self, part: str | _Name) -> None:
        (self._written if self._open is None else self._open).append(part)

    def _meant(self, local: str, text: str) -> str | _Name:
        depth = len(self._path)
        if local == "EncodingType" and depth == 2:
            self._encoded = text == "url"
        if local in _BUCKETS and depth == 2:
            return _escaped(self._bucket)
        if local in _PATHS and depth == 2:
            return _escaped(f"/{self._bucket}/{quote(self._key)}" if self._key else f"/{self._bucket}")
        if local in _SAID and depth == 2:
            return _Name(self._query.get(_SAID[local], ""), True)
        if local in _KEYS:
            return _Name(text, False)
        return _escaped(text)

    def _client_key(self, name: _Name) -> str | None:
        if not self._encoded:
            return self._place.to_client(name.text)
        try:
            return self._place.to_client(unquote_plus(name.text, errors="strict"))
        except UnicodeDecodeError:
            return None

    def _spelled(self, part: str | _Name | list[str | _Name]) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, list):
            foreign = any(isinstance(each, _Name) and self._client_key(each) is None for each in part)
            return "" if foreign else "".join([self._spelled(each) for each in part])
        key = part.text if part.said else self._client_key(part) or ""
        return _escaped(quote(key, safe="/-._~") if self._encoded else key)

    def _refuse(self, *_: object) -> None:
        raise _broken("more than elements and text")


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("\r", "&#13;")


def _broken(what: str) -> Refused:
    return Refused(Reason.UPSTREAM_BROKEN, f"the store's XML: {what}")
