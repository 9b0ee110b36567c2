"""What an S3 store took of a write that isn't one body: the parts of an upload, what they are put together to, a copy.

The law: it is the audit record's `resource.digest`, so it says what passed here or what the store called it, and which of the two.
Who closes its connection too early changes nothing of that: `end` goes by what was heard until then.
A store may answer 200 and say in the body that it failed (S3 API Reference, CompleteMultipartUpload, CopyObject); then it took nothing.
"""

import re

from sidecar.s3.parts import MOST_NUMBER, Listed, Parts, upload
from sidecar.s3.request import Asked

_MEANT = frozenset({"UploadPart", "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "UploadPartCopy"})
_PARTS = frozenset({"UploadPart", "UploadPartCopy"})
_ANSWER = 8 * 1024
"""Bytes; what is read of them says it near their beginning."""
_RESULT = re.compile(rb"<(?:[\w.-]{1,32}:)?(?:CompleteMultipartUpload|CopyObject|CopyPart)Result[\s>]")
_TAG = re.compile(rb"<(?:[\w.-]{1,32}:)?ETag>\s*([^<]{1,256})")
_NUMBER = re.compile(r"[0-9]{1,5}")
"""Stores read others too: Go's parser `+1`."""
_FORM = re.compile(r"[!-~]{1,128}")


class Taken:
    """One such write: told of what passes, and asked at its end."""

    def __init__(self, asked: Asked, parts: Parts, store: str, path: str) -> None:
        """`path`: the key's in the store, with the query."""
        self._name = asked.operation.name
        self._parts = parts
        self._upload = upload(store, path.partition("?")[0], asked.query.get("uploadId", ""))
        number = asked.query.get("partNumber", "")
        self._number = int(number) if _NUMBER.fullmatch(number) is not None and int(number) <= MOST_NUMBER else None
        self.listed = Listed() if self._name == "CompleteMultipartUpload" else None
        """Is to be fed the request's body."""
        self._answer = b""

    def begin(self) -> None:
        """Before the store is asked; `end` must follow."""
        if self._name not in _PARTS:
            return
        if self._number is None:
            self._parts.doubt(self._upload)
        else:
            self._parts.begin(self._upload, self._number, self)

    def said(self, data: bytes) -> None:
        """A piece of the store's answer."""
        if len(self._answer) < _ANSWER:
            # It keeps the connection awake with spaces until it is done.
            self._answer = (self._answer + data).lstrip()[:_ANSWER]

    def end(self, status: int | None, sha256: str | None, tag: str | None, whole: bool = True) -> str | None:
        """What is to be recorded, or `None`. `status`: what the store answered, if it was heard. `sha256` of the body in hex, `tag` the
        answer's `ETag`, where there are such. `whole`: whether the body came to its end."""
        took = status is not None and 200 <= status < 300
        if self._name in _PARTS:
            self._part_ended(status, sha256 if self._name == "UploadPart" else None, tag, whole)
        if not took:
            return None
        if self._name == "UploadPart":
            return f"sha256:{sha256}" if sha256 is not None else by_tag(tag)
        if self._name == "AbortMultipartUpload":
            self._parts.forget(self._upload)
            return None
        if _RESULT.search(self._answer) is None:
            return None
        found = None
        if self.listed is not None:
            found = self.listed.digest(self._parts.of(self._upload))
            self._parts.forget(self._upload)
        named = _TAG.search(self._answer)
        text = named[1].decode("latin-1").replace("&quot;", '"').replace("&#34;", '"') if named is not None else None
        return found or by_tag(text)

    def _part_ended(self, status: int | None, sha256: str | None, tag: str | None, whole: bool) -> None:
        if self._number is None:
            self._parts.doubt(self._upload)
            return
        write, known = (self._upload, self._number, self), bytes.fromhex(sha256 or "")
        if status is not None and 200 <= status < 300:
            self._parts.took(*write, (tag or "").strip('"'), known if by_tag(tag) is not None else b"")
        elif whole and (status is None or status >= 500):
            self._parts.lost(*write, known)
        else:
            self._parts.refused(*write)


def taken(asked: Asked, parts: Parts, store: str, path: str) -> Taken | None:
    """`None` for what is one body, or writes nothing."""
    return Taken(asked, parts, store, path) if asked.operation.name in _MEANT else None


def by_tag(tag: str | None) -> str | None:
    """`etag:` and what the store calls it; it says nothing of the content by itself."""
    plain = (tag or "").removeprefix("W/").strip(' "')
    return f"etag:{plain}" if _FORM.fullmatch(plain) is not None else None
