"""What S3 tools' requests did to their keys, as the records tell: an upload in parts is many requests and one write, and tags write
nothing.

Law: the operation's name says it, and where a record has none a query that isn't whole hides nothing: then it was a write. Parts make
a digest only where each of them has one record or several that agree, and they are as many as the store says it put together. Memory
is bounded.
"""

import hashlib
from collections import OrderedDict
from urllib.parse import parse_qsl

from sidecar.audit import redact
from sidecar.audit.lines import Record
from sidecar.s3.operations import IGNORED

MOST_PARTS = 100_000
"""Of all uploads that are not put together yet; the oldest uploads go first."""
_SHA256, _TAG = "sha256:", "etag:"
_SAY_NOTHING = IGNORED | {"versionId"}
_CONTENT = frozenset({"renameObject"})
"""Parameters with which a write is one of the key's content."""
_DELETIONS = frozenset({"DeleteObject", "DeleteObjects"})
_WRITES = frozenset({"PutObject", "CopyObject", "RenameObject", "CompleteMultipartUpload"}) | _DELETIONS
"""What changes the content of its keys, whichever permission it takes."""
_PARTS = frozenset({"UploadPart", "UploadPartCopy"})

_Place = tuple[str | None, str | None, str]


class Uploads:
    def __init__(self, most: int = MOST_PARTS) -> None:
        self._most = most
        self._count = 0
        self._parts: OrderedDict[_Place, dict[int, str]] = OrderedDict()

    def changes(self, record: Record) -> bool:
        """Whether a write or deletion changes what the key holds; what a part of an upload is, is learnt."""
        operation = record.request.operation
        if record.request.protocol != "s3":
            return True
        if operation is not None:
            if operation in _PARTS and "uploadId" in (asked := _query(record)):
                self._learn(record, asked)
            return operation in _WRITES
        if record.action == "object.delete" or (record.request.query or "").endswith(redact.CUT):
            return True
        asked = _query(record)
        if "uploadId" in asked:
            if record.request.method == "PUT":
                self._learn(record, asked)
            return record.request.method == "POST"
        return all(name in _CONTENT or name in _SAY_NOTHING or name.lower().startswith("x-amz-") for name in asked)

    @staticmethod
    def deletes(record: Record) -> bool:
        """Whether a write takes its key away."""
        return record.action == "object.delete" or record.request.operation in _DELETIONS

    def digest(self, record: Record) -> str | None:
        """What is recorded; of an upload whose parts are known better, what they come to."""
        said, asked = record.resource.digest, _query(record)
        if record.request.protocol != "s3" or "uploadId" not in asked or said is None:
            return said
        parts = self._parts.pop(_place(record, asked), {})
        self._count -= len(parts)
        total = said.rpartition("-")[2] if said.startswith(_TAG) else ""  # S3's ETag of an upload ends in it
        if total != str(len(parts)) or not all(parts.values()):
            return said
        joined = b"".join(bytes.fromhex(parts[number]) for number in sorted(parts))
        return f"sha256-parts:{hashlib.sha256(joined).hexdigest()}-{total}"

    def _learn(self, record: Record, asked: dict[str, str]) -> None:
        number, taken = asked.get("partNumber", ""), record.response.upstream_status
        if record.stage != "complete" or taken is None or not 200 <= taken < 300 or not _is_number(number):
            return
        place = _place(record, asked)
        parts = self._parts.setdefault(place, {})
        self._parts.move_to_end(place)
        hexadecimal = (record.resource.digest or "").removeprefix(_SHA256)
        if not _is_sha256(hexadecimal):
            hexadecimal = ""
        self._count += int(number) not in parts
        parts[int(number)] = hexadecimal if parts.get(int(number), hexadecimal) == hexadecimal else ""
        while self._count > self._most:
            self._count -= len(self._parts.popitem(last=False)[1])


def _query(record: Record) -> dict[str, str]:
    return dict(parse_qsl(record.request.query or "", keep_blank_values=True))


def _place(record: Record, asked: dict[str, str]) -> _Place:
    return record.workspace, record.resource.name, asked["uploadId"]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(each in "0123456789abcdef" for each in text)
