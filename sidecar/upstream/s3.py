"""A bucket of an S3-compatible store, for clients that know nothing of S3.

Laws. What reaches the bucket is signed by the sidecar's own keys and made anew: the key in S3's one spelling, headers of an
allow-list, no query at all. No request is ever about the bucket itself: without a key, S3 reads a GET as a list, a PUT as its
creation and a DELETE as its end. Bodies pass as they come: S3 wants their length first, so one without is refused before it is
invited, and what is signed of it is that it isn't (`UNSIGNED-PAYLOAD`; over https TLS vouches for it).
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from msgspec.structs import replace

from sidecar.errors import Refused, Unavailable
from sidecar.ports import Downstream, HeaderList
from sidecar.reasons import Reason
from sidecar.settings import KiB, S3Settings, UpstreamSettings
from sidecar.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, Signer
from sidecar.upstream.address import Address, Lookup, look_up
from sidecar.upstream.aws_chain import AwsChain
from sidecar.upstream.conditions import parse_date
from sidecar.upstream.file_format import Meta
from sidecar.upstream.file_properties import NOT_LISTED, XML, listing
from sidecar.upstream.http import HttpUpstream
from sidecar.upstream.own_files import Keys, Material
from sidecar.upstream.request import Question, head
from sidecar.upstream.s3_errors import TOO_SKEWED, Said, Told, told
from sidecar.upstream.s3_exchange import S3Exchange
from sidecar.upstream.s3_headers import to_delete, to_read, to_write, unheeded

_CANONICAL = re.compile(r"/[A-Za-z0-9/._~-]*")
"""A path that has one spelling only."""
_STRONG_TAG = re.compile(rb'"[\x21\x23-\x7e]*"')
_SKEW_HEEDED = 30.0
"""Seconds. S3 takes what was signed within 15 minutes, and a `Date` says no more than whole seconds."""
_PROPFIND_SIZE = 8 * KiB

_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
_NOTHING_THERE = Told(404, (_TEXT,), b"NoSuchKey\n")
_NOT_ALLOWED: Final = Told(405, (_TEXT, (b"Allow", b"GET, HEAD, PUT, DELETE, PROPFIND, MKCOL")), b"not in a bucket\n")
_UNHEEDED = Told(501, (_TEXT,), b"S3 doesn't know this condition for writing\n")
_EXISTS = Told(412, (_TEXT,), b"PreconditionFailed\n")

log = logging.getLogger(__name__)


class S3Upstream(HttpUpstream):
    """`clock` gives Unix seconds. `open()` it first: keys that the AWS chain finds are asked for there."""

    def __init__(
        self, settings: UpstreamSettings, lookup: Lookup = look_up, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises `OSError` or `OwnFilesUnusable` where the keys, or another file, can't be used."""
        assert settings.s3 is not None
        self._s3 = settings.s3
        self._prefix = f"/{settings.s3.bucket}" if settings.s3.addressing == "path" else ""
        self._clock = clock
        self.skew = 0.0
        """What the store's clock says beyond ours, in seconds."""
        self._last_date = b""
        self._signer: Signer | None = None
        super().__init__(_addressed(settings, settings.s3), lookup)
        self._take(self.files.in_force.keys)
        self.chain = AwsChain(settings.name, self._take) if settings.s3.credentials.source == "aws" else None

    async def open(self) -> None:
        """Raises `OwnFilesUnusable` where the chain finds no keys."""
        if self.chain is not None:
            await self.chain.start()
        await super().open()

    async def close(self) -> None:
        if self.chain is not None:
            await self.chain.stop()
        await super().close()

    def _renew(self, material: Material) -> None:
        super()._renew(material)
        self._take(material.keys)

    def _take(self, keys: Keys | None) -> None:
        if keys is not None:
            self._signer = Signer(keys.access_key_id, keys.secret, self._s3.region, session_token=keys.session_token)

    # --- the ports -------------------------------------------------------------------------------------------------------

    async def forward(self, exchange: Downstream) -> None:
        method, path = exchange.method, self._path(exchange.upstream_path)
        if path is None and method != "PROPFIND" and method != "MKCOL":
            answer: Told | None = _NOTHING_THERE if method == "GET" or method == "HEAD" else _NOT_ALLOWED
        elif method == "GET" or method == "HEAD":
            answer = await self._read(exchange, path or "")
        elif method == "PUT":
            answer = await self._write(exchange, path or "")
        elif method == "DELETE":
            answer = _UNHEEDED
            if not unheeded(method, exchange.headers):
                answer = await self._ask(exchange, path or "", to_delete(exchange.headers))
        elif method == "PROPFIND":
            answer = await self._properties(exchange, path)
        elif method == "MKCOL":
            answer = Told(201, (), b"")  # a bucket has no folders: each is there
        else:
            answer = _NOT_ALLOWED
        if answer is not None:
            _send(exchange, answer)

    async def exists(self, upstream_path: str) -> bool:
        path = self._path(upstream_path)
        try:
            async with asyncio.timeout(self._settings.timeouts.first_byte):
                return path is not None and await self._meta(path) is not None
        except (Refused, TimeoutError) as error:
            raise Unavailable(Reason.EXISTENCE_UNKNOWN, str(error) or "the store did not answer in time") from None

    # --- what is asked of the bucket -------------------------------------------------------------------------------------

    async def _read(self, exchange: Downstream, path: str) -> Told | None:
        headers = to_read(exchange.headers)
        tag = next((value for name, value in exchange.headers if name.lower() == b"if-range"), None)
        if tag is None or exchange.method == "HEAD":
            return await self._ask(exchange, path, headers)
        # RFC 9110 §13.1.5: the range if the tag still holds, else the whole. S3 doesn't promise to know If-Range; If-Match it knows.
        whole = [pair for pair in headers if pair[0].lower() != b"range"]
        if len(whole) == len(headers) or _STRONG_TAG.fullmatch(tag) is None or _has(whole, b"if-match"):
            return await self._ask(exchange, path, whole)
        error = await self._try(exchange, path, [*headers, (b"If-Match", tag)])
        if error is not None and error.status == 412:
            return await self._ask(exchange, path, whole)
        return self._told(error)

    async def _write(self, exchange: Downstream, path: str) -> Told | None:
        given = exchange.headers
        if exchange.content_length is None:
            raise Refused(Reason.LENGTH_REQUIRED)
        if _has(given, b"content-range"):
            raise Refused(Reason.BAD_REQUEST, "a part would be stored as the whole")
        if unheeded("PUT", given):
            return _UNHEEDED
        headers = to_write(given)
        if not self._s3.conditional_writes and (_has(headers, b"if-none-match") or _has(headers, b"if-match")):
            if (b"if-none-match", b"*") not in headers or _has(headers, b"if-match"):
                return _UNHEEDED
            if await self._meta(path) is not None:
                return _EXISTS
            headers.remove((b"if-none-match", b"*"))
        return await self._ask(exchange, path, headers)

    async def _properties(self, exchange: Downstream, path: str | None) -> Told:
        """Of one resource, as WebDAV clients ask for it before they write (RFC 4918 §9.1). Every folder is there, and none is
        shown."""
        asked = 0
        while piece := await exchange.read():
            asked += len(piece)
            if asked > _PROPFIND_SIZE:
                raise Refused(Reason.BAD_REQUEST, "a PROPFIND with a long body")
        meta = None
        if path is not None and not path.endswith("/"):
            meta = await self._meta(path)
            if meta is None:
                return _NOTHING_THERE
        elif all(name.lower() != b"depth" or value != b"0" for name, value in exchange.headers):
            return Told(403, (XML,), NOT_LISTED)
        return Told(207, (XML,), listing(exchange.upstream_path.partition("?")[0], meta))

    async def _meta(self, path: str) -> Meta | None:
        """What is stored there. Raises `Refused`."""
        question = _Head(path)
        answer = await self._ask(question, path, ())
        if answer is not None:
            if answer.status == 404:
                return None
            raise Refused(Reason.UPSTREAM_ERROR, f"the store answered HEAD with {answer.status}")
        return question.meta

    # --- asking -----------------------------------------------------------------------------------------------------------

    async def _ask(self, exchange: Downstream, path: str, headers: HeaderList) -> Told | None:
        """`None` where the client has its answer."""
        return self._told(await self._try(exchange, path, headers))

    async def _try(self, exchange: Downstream, path: str, headers: HeaderList) -> Said | None:
        """What the store said where it isn't what was asked for."""
        skew = self.skew
        asked = S3Exchange(exchange, path, headers, self.hear)
        await super().forward(asked)
        error = asked.error
        # A HEAD isn't told the code.
        if error is not None and error.status == 403 and error.code in ("", TOO_SKEWED):
            self._last_date = b""  # it may be our clock that was moved, within the second
            self.hear(error.header(b"date"))
            if self.skew != skew and exchange.content_length == 0:
                asked = S3Exchange(exchange, path, headers, self.hear)
                await super().forward(asked)
                error = asked.error
        return error

    def _told(self, error: Said | None) -> Told | None:
        return None if error is None else told(error, self._s3.bucket, self._s3.region)

    def _payload_of_body(self, exchange: Downstream) -> str:
        """What the signature says of the body. Where its hash is known before, the store holds it to that as well: VersityGW keeps
        an unsigned body that breaks off (seen with 1.8.0)."""
        return getattr(exchange, "sha256", None) or UNSIGNED_PAYLOAD

    def _written(self, exchange: Downstream, address: Address) -> bytes:
        if self._signer is None:
            raise Refused(Reason.UPSTREAM_CREDENTIALS, "no keys were found yet")
        path, _, query = exchange.upstream_path.partition("?")
        signed = self._signer.lines(
            exchange.method,
            path,
            query,
            exchange.headers,
            self._clock() + self.skew,
            host=address.site.authority,
            payload=self._payload_of_body(exchange) if exchange.content_length else EMPTY_SHA256,
        )
        return head(exchange, address.preamble + signed)

    def _path(self, upstream_path: str) -> str | None:
        """What to ask S3 for: with the bucket, in the one spelling that is signed, without the query. `None`: no key."""
        path = upstream_path.partition("?")[0]
        if _CANONICAL.fullmatch(path) is None:
            path = quote_from_bytes(unquote_to_bytes(path), safe="/-._~")
        # Some servers take doubled slashes for one: a key of nothing else would be the bucket.
        return self._prefix + path if path.strip("/") else None

    def hear(self, date: bytes) -> None:
        """The store's `Date`: its clock, which is the one that counts."""
        if date == self._last_date:
            return
        self._last_date = date
        said = parse_date(date.decode("latin-1"))
        if said is None:
            return
        skew = said + 0.5 - self._clock()
        if abs(skew - self.skew) >= _SKEW_HEEDED:
            log.warning(
                "the upstream %s: its clock is %+.0f s from ours; requests are signed by its", self._settings.name, skew
            )
            self.skew = skew


class _Head(Question):
    """A HEAD of our own, and what it found."""

    meta: Meta | None = None

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        super().start(status, headers, length)
        values = {name.lower(): value.decode("latin-1") for name, value in headers}
        modified = parse_date(values.get(b"last-modified", "")) or 0
        self.meta = Meta(self.upstream_path.encode(), length or 0, values.get(b"etag", ""), modified)


def _has(headers: HeaderList, name: bytes) -> bool:
    return any(own.lower() == name for own, _ in headers)


def _send(exchange: Downstream, answer: Told) -> None:
    exchange.start(answer.status, answer.headers, len(answer.body))
    if answer.body and exchange.method != "HEAD":
        exchange.write(answer.body)
    exchange.finish()


def _addressed(settings: UpstreamSettings, s3: S3Settings) -> UpstreamSettings:
    """In virtual-hosted style the bucket is part of the name, for the resolver and the certificate as well."""
    if s3.addressing == "path":
        return settings
    return replace(
        settings,
        url=_with_bucket(settings.url, s3.bucket),
        urls=tuple(_with_bucket(url, s3.bucket) for url in settings.urls),
    )


def _with_bucket(url: str, bucket: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{bucket}.{parts.netloc}"
