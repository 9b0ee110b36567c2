"""A bucket of an S3-compatible store, for clients that speak S3 themselves as well as for those that don't.

What such a client asks was written anew already (`s3.sending`); here the bucket's name and the signature come to it, and nothing
is taken away. Answers pass as they come. Of errors the body is read first: a refusal of the sidecar's own keys or clock must
not reach the client as one of its own.
"""

import re
from collections.abc import Awaitable

from cachetools import LRUCache

from sidecar.errors import Refused
from sidecar.ports import Downstream, HeaderList
from sidecar.reasons import Reason
from sidecar.settings import UpstreamSettings
from sidecar.sigv4 import encode
from sidecar.upstream.address import Lookup, look_up
from sidecar.upstream.http import HttpUpstream
from sidecar.upstream.request import Question
from sidecar.upstream.s3 import S3Upstream
from sidecar.upstream.s3_errors import MAX_BODY, TOO_SKEWED
from sidecar.upstream.s3_exchange import S3Exchange

_OURS = frozenset({
    "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "NotSignedUp",
    "SignatureDoesNotMatch", "TokenRefreshRequired", "XAdminUserNotFound",
})  # fmt: skip
"""Codes that speak of who signed: that is the sidecar. `AccessDenied` isn't among them, since it may be about an object's lock."""

_ALGORITHM = re.compile(rb"<ChecksumAlgorithm>([A-Z0-9]{1,16})</ChecksumAlgorithm>")
_MOST_UPLOADS = 1024


class S3Relay(S3Upstream):
    def __init__(self, settings: UpstreamSettings, lookup: Lookup = look_up) -> None:
        super().__init__(settings, lookup)
        self._uploads: LRUCache[tuple[str, str], str] = LRUCache(_MOST_UPLOADS)
        """The checksum of each upload's parts, as S3 calls it; empty for none."""

    def relay(self, exchange: Downstream) -> Awaitable[None]:
        """Carries an S3 client's request to its end; its path is the key's, or `/` for the bucket. Raises as `forward` does."""
        if exchange.content_length is None:
            raise Refused(Reason.LENGTH_REQUIRED)
        path = exchange.upstream_path
        if path != "/" and not path.startswith("/?"):
            path = self._prefix + path
        elif self._prefix:
            path = self._prefix + path[1:]
        return HttpUpstream.forward(self, _Relayed(exchange, path, exchange.headers, self.hear))

    async def checksum_of_parts(self, path: str, upload_id: str) -> str:
        """Which checksum the store wants with each part of an upload, as `CRC32`; empty for none, or where it doesn't say.

        `path` is the key's. Raises as `forward` does."""
        upload = path, upload_id
        known = self._uploads.get(upload)
        if known is None:
            question = _Listed(f"{path}?max-parts=1&uploadId={encode(upload_id)}")
            await self.relay(question)
            found = _ALGORITHM.search(question.body) if question.status == 200 else None
            known = found[1].decode() if found is not None else ""
            if question.status == 200:
                self._uploads[upload] = known
        return known

    async def metadata(self, path: str) -> HeaderList | None:
        """An object's head, as the store tells it; `None` where it tells none. Raises as `forward` does."""
        question = _Described(path)
        await self.relay(question)
        return question.told if question.status == 200 else None

    def _payload_of_body(self, exchange: Downstream) -> str:
        payload: str | None = getattr(exchange, "payload", None)
        return super()._payload_of_body(exchange) if payload is None else payload


class _Described(Question):
    told: HeaderList = ()

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        super().start(status, headers, length)
        self.told = headers


class _Listed(Question):
    """The beginning of a list of an upload's parts."""

    method = "GET"

    def __init__(self, upstream_path: str) -> None:
        super().__init__(upstream_path)
        self.body = b""

    def write(self, data: bytes) -> None:
        if len(self.body) < MAX_BODY:
            self.body += data


class _Relayed(S3Exchange):
    """What the client gets is the store's own word; only an error is read first."""

    __slots__ = ()

    @property
    def payload(self) -> str | None:
        """What the signature is to say of the body, where the client's side knows."""
        return getattr(self._client, "payload", None)

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        for name, value in headers:
            if len(name) == 4 and name.lower() == b"date":
                self._heard(value)
                break
        if status < 300 or status == 304:
            self._client.start(status, headers, None if status == 304 else length)
        else:
            self._collect_error(status, headers)

    def _ended(self) -> None:
        """Raises `Refused` for what speaks of the sidecar's own keys, clock or configuration."""
        super()._ended()
        said, client = self.error, self._client
        assert said is not None
        code = said.code
        if code in _OURS or said.status in (401, 407):
            raise Refused(Reason.UPSTREAM_CREDENTIALS, f"the store answered {said.status} {code}".rstrip())
        if code == TOO_SKEWED:
            raise Refused(
                Reason.UPSTREAM_ERROR, "the store's clock differs from ours; the difference is heeded from now on"
            )
        if 300 <= said.status < 400:
            why = f"the store answered {said.status} {code}: mend `s3.region` and `url`"
            raise Refused(Reason.UPSTREAM_REDIRECT, why)
        client.start(said.status, said.headers, None if client.method == "HEAD" else len(said.body))
        if client.method != "HEAD" and said.body:
            client.write(said.body)
        client.finish()
