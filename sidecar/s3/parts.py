"""What the parts of uploads hashed to, and what an upload comes to when its parts are put together: `sha256-parts:HEX-N`, the
SHA-256 over the N parts' own, one after the other.

The law: it is said only of a list of parts that can be read in one way, and each of which passed here whole, under the ETag that
the list gives it, and with nothing else that the store could have in its place: an ETag alone tells no two bodies apart (it is an
MD5 at most). Of anything else it isn't known, and nothing is guessed. Pure; memory is bounded by `MOST` parts.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from xml.parsers import expat

from msgspec import Struct

from sidecar.s3.multi_delete import NAMESPACE

MOST = 20_000
"""Parts of all uploads together, but for those of one alone."""
MOST_NUMBER = 10_000
"""Of an upload's parts (S3 User Guide, "Multipart upload limits")."""
_MOST_BYTES = 4 * 1024 * 1024
"""Of a list: more than 10,000 parts take with their checksums. Whoever sends more keeps the parser busy, and nothing else."""
_LONGEST_TEXT = 1024
_ROOT, _PART = ("CompleteMultipartUpload",), ("CompleteMultipartUpload", "Part")

_OUT_OF_RANGE = -1

Known = tuple[str, bytes]
"""A part's ETag, without its quotes, and its SHA-256."""


def upload(store: str, path: str, upload_id: str) -> bytes:
    """What stands for an upload: its key's path and its id may be long. To some stores `a//b` and `a/` are `a/b` and `a`."""
    plain = "/".join(filter(None, path.split("/")))
    return hashlib.sha256("\0".join((store, plain, upload_id)).encode()).digest()


class _Part(Struct):
    tag: str = ""
    sha256: bytes | None = None
    """`None` of nothing, empty of what isn't known."""
    writes: tuple[object, ...] = ()
    """Under way."""
    lost: bool = False
    """One went to the store, and what became of it wasn't heard: it may be there, or come to be."""

    def may_hold(self, sha256: bytes) -> None:
        self.sha256 = sha256 if self.sha256 in (None, sha256) else b""


class Parts:
    """Those of the uploads that were under way last, each by what `upload()` makes of it."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._count = 0
        self._uploads: OrderedDict[bytes, dict[int, _Part]] = OrderedDict()

    def begin(self, upload: bytes, number: int, write: object) -> None:
        """Before the store is asked to put something in a part's place: what was there is known no more."""
        part = self._part(upload, number)
        if not part.writes and not part.lost:
            part.tag, part.sha256 = "", None
        part.writes += (write,)

    def took(self, upload: bytes, number: int, write: object, tag: str, sha256: bytes) -> None:
        """The store took what began. `sha256`: empty where it isn't known."""
        part = self._ended(upload, number, write)
        part.tag = tag
        part.may_hold(sha256)

    def lost(self, upload: bytes, number: int, write: object, sha256: bytes) -> None:
        """The store had all of what began, and nobody heard what it made of it."""
        part = self._ended(upload, number, write)
        part.lost = True
        part.may_hold(sha256)

    def refused(self, upload: bytes, number: int, write: object) -> None:
        """The store didn't take what began."""
        if self._ended(upload, number, write) == _Part():
            del self._uploads[upload][number]
            self._count -= 1

    def doubt(self, upload: bytes) -> None:
        """Some part is written, and which one is the store's to say."""
        self._part(upload, _OUT_OF_RANGE)

    def of(self, upload: bytes) -> Mapping[int, Known]:
        parts = self._uploads.get(upload, {})
        if _OUT_OF_RANGE in parts:
            return {}
        return {
            number: (part.tag, part.sha256)
            for number, part in parts.items()
            if part.tag and part.sha256 and not part.writes
        }

    def forget(self, upload: bytes) -> None:
        self._count -= len(self._uploads.pop(upload, {}))

    def _ended(self, upload: bytes, number: int, write: object) -> _Part:
        part = self._part(upload, number)
        part.writes = tuple(each for each in part.writes if each is not write)
        return part

    def _part(self, upload: bytes, number: int) -> _Part:
        parts = self._uploads.setdefault(upload, {})
        self._uploads.move_to_end(upload)
        part = parts.get(number)
        if part is None:
            part = parts[number] = _Part()
            self._count += 1
            while self._count > self._most and len(self._uploads) > 1:
                self._count -= len(self._uploads.popitem(last=False)[1])
        return part


class Listed:
    """The body of CompleteMultipartUpload, read as it passes: which parts make the object."""

    def __init__(self) -> None:
        self._parser = parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._said
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = self._refuse
        parser.ProcessingInstructionHandler = parser.CommentHandler = parser.StartCdataSectionHandler = self._refuse
        self._parts: list[tuple[int, str]] = []
        self._path: tuple[str, ...] = ()
        self._fields: dict[str, str] = {}
        self._text = ""
        self._last = self._size = 0
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

    def digest(self, known: Mapping[int, Known]) -> str | None:
        """In the form above, when all has passed; `None` where it isn't known. `known`: when the store has put them together."""
        if not self._unknown:
            try:
                self._parser.Parse(b"", True)
            except (expat.ExpatError, _Odd):
                self._unknown = True
        hashes = [known[number][1] for number, tag in self._parts if number in known and known[number][0] == tag]
        if self._unknown or not hashes or len(hashes) < len(self._parts):
            return None
        return f"sha256-parts:{hashlib.sha256(b''.join(hashes)).hexdigest()}-{len(hashes)}"

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
        self._parts.append((self._last, fields.get("ETag", "").strip('"')))

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
    """Read otherwise by others."""
