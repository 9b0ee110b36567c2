"""What the parts of uploads hashed to, and what an upload comes to when its parts are put together: `sha256-parts:HEX-N`, the
SHA-256 over the N parts' own, one after the other.

The law: it is said only of a list of parts that can be read in one way, and each of which passed here whole, under the ETag that
the list gives it. Of anything else it isn't known, and nothing is guessed. Pure; memory is bounded by `MOST` parts.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from xml.parsers import expat

from sidecar.s3.multi_delete import NAMESPACE

MOST = 20_000
"""Parts of all uploads together; an upload has 10,000 at most (S3 User Guide, "Multipart upload limits")."""
_MOST_BYTES = 4 * 1024 * 1024
"""Of a list: more than 10,000 parts take with their checksums. Whoever sends more keeps the parser busy, and nothing else."""
_LONGEST_TEXT = 1024
_ROOT, _PART = ("CompleteMultipartUpload",), ("CompleteMultipartUpload", "Part")

Known = tuple[str, bytes]
"""A part's ETag, without its quotes, and its SHA-256; empty where two bodies had that ETag."""


def upload(store: str, path: str, upload_id: str) -> bytes:
    """What stands for an upload: its key's path and its id may be long."""
    return hashlib.sha256("\0".join((store, path, upload_id)).encode()).digest()


class Parts:
    """Those of the uploads that were under way last, each by what `upload()` makes of it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._count = 0
        self._uploads: OrderedDict[bytes, dict[int, Known]] = OrderedDict()

    def add(self, upload: bytes, number: int, tag: str, sha256: bytes) -> None:
        """A part that the store took. One with the same number takes its place."""
        known = self._uploads.setdefault(upload, {})
        self._uploads.move_to_end(upload)
        before = known.get(number)
        self._count += before is None
        ambiguous = before is not None and before[0] == tag and before[1] != sha256
        known[number] = tag, b"" if ambiguous else sha256
        while self._count > self._most:
            self._count -= len(self._uploads.popitem(last=False)[1])

    def of(self, upload: bytes) -> Mapping[int, Known]:
        return self._uploads.get(upload, {})

    def forget(self, upload: bytes) -> None:
        self._count -= len(self._uploads.pop(upload, {}))


class Listed:
    """The body of CompleteMultipartUpload, read as it passes: which parts make the object."""

    def __init__(self, known: Mapping[int, Known]) -> None:
        self._known = known
        self._parser = parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._said
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._refuse
        parser.ProcessingInstructionHandler = parser.CommentHandler = parser.StartCdataSectionHandler = self._refuse
        self._hash = hashlib.sha256()
        self._path: tuple[str, ...] = ()
        self._fields: dict[str, str] = {}
        self._text = ""
        self._last = self._count = self._size = 0
        self._unknown = False

    def feed(self, data: bytes) -> None:
        """Whatever it is: what the store makes of it is the store's to say."""
        self._size += len(data)
        # expat reads UTF-16, whatever it is told
        if self._unknown or self._size > _MOST_BYTES or b"\0" in data:
            self._unknown = True
            return
        try:
            self._parser.Parse(data, False)
        except (expat.ExpatError, _Odd):
            self._unknown = True

    def digest(self) -> str | None:
        """In the form above, when all has passed; `None` where it isn't known."""
        if not self._unknown:
            try:
                self._parser.Parse(b"", True)
            except (expat.ExpatError, _Odd):
                self._unknown = True
        known = not self._unknown and self._count
        return f"sha256-parts:{self._hash.hexdigest()}-{self._count}" if known else None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        path = (*self._path, local)
        fits = path in (_ROOT, _PART) or (path[:-1] == _PART and local not in self._fields)
        if attributes or namespace not in ("", NAMESPACE) or not fits:
            raise _Odd
        self._path, self._text = path, ""

    def _end(self, name: str) -> None:
        if self._path == _PART:
            self._part(self._fields)
            self._fields = {}
        elif len(self._path) > len(_PART):
            self._fields[self._path[-1]] = self._text
        self._path, self._text = self._path[:-1], ""

    def _part(self, fields: Mapping[str, str]) -> None:
        number = fields.get("PartNumber", "")
        if not (number.isascii() and number.isdecimal()) or int(number) <= self._last:
            raise _Odd
        self._last = int(number)
        tag, sha256 = self._known.get(self._last, ("", b""))
        if not sha256 or fields.get("ETag", "").strip('"') != tag:
            raise _Odd
        self._hash.update(sha256)
        self._count += 1

    def _said(self, text: str) -> None:
        if len(self._path) > len(_PART):
            self._text += text
            if len(self._text) > _LONGEST_TEXT:
                raise _Odd
        elif text.strip(" \t\r\n"):
            raise _Odd

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding is not None and encoding.lower() != "utf-8"):
            raise _Odd

    def _refuse(self, *_: object) -> None:
        raise _Odd


class _Odd(Exception):
    """Read otherwise by others, or about a part that didn't pass here."""
