"""An issuer's keys from a URL.

Laws: one fetch at a time, shielded from the clients that wait for it; what an unauthenticated caller sends (a `kid`) costs
the issuer at most one fetch per 30 s; start-up waits for no issuer.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable

import aiohttp
from cachetools import TTLCache
from yarl import URL

from sidecar.background import end
from sidecar.credentials import jwk
from sidecar.credentials.jwk import MAX_DOCUMENT, BadKeys, Key, KeySet
from sidecar.credentials.jws import Malformed, strict_json
from sidecar.jwks.source import Pace, Source, said
from sidecar.settings import IssuerSettings

MAX_MISSING = 256
"""How many unknown `kid`s are remembered."""

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})\b", re.IGNORECASE)
_UNCACHED = re.compile(r"\bno-(?:store|cache)\b", re.IGNORECASE)

_log = logging.getLogger(__name__)


class RemoteKeys(Source):
    """Keys from `jwks_url`, or from where the issuer's discovery document says. A `KeySource`."""

    def __init__(
        self, settings: IssuerSettings, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(settings, pace, clock)
        self._usable_until = self._attempted_at = float("-inf")
        self._wait = self._retry = self._pace.retry
        self._missing: TTLCache[str, bool] = TTLCache(MAX_MISSING, self._pace.missing, clock)
        self._flight: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        if self._usable() is None:
            await self._refresh_if_due(self._pace.retry)
        keys = self._required()
        found = keys.find(kid, algorithm)
        if found is not None or kid is None or keys.knows(kid) or kid in self._missing:
            return found
        asked = await self._refresh_if_due(self._pace.miss)
        keys = self._required()
        if keys.knows(kid):
            return keys.find(kid, algorithm)
        if self._last_error:
            raise self._unavailable()
        if asked:
            self._missing[kid] = True
        return None

    async def start(self) -> None:
        """Begins to fetch, and to keep what was fetched fresh, in the background."""
        self._loop = asyncio.create_task(self._keep_fresh(), name=f"keys of {self._settings.name}")

    async def close(self) -> None:
        await end(self._loop, self._flight)

    def _usable(self) -> KeySet | None:
        return self._keys if self._clock() < self._usable_until else None

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.shield(self._begin())
            await asyncio.sleep(self._wait)

    async def _refresh_if_due(self, interval: float) -> bool:
        """Joins the fetch under way, or begins one if none was tried for `interval`. False: neither."""
        flying = self._flight is not None and not self._flight.done()
        if not flying and self._clock() - self._attempted_at < interval:
            return False
        await asyncio.shield(self._begin())
        return True

    def _begin(self) -> asyncio.Task[None]:
        if self._flight is None or self._flight.done():
            self._attempted_at = self._clock()
            self._flight = asyncio.create_task(self._refresh(), name=f"fetch keys of {self._settings.name}")
        return self._flight

    async def _refresh(self) -> None:
        try:
            keys, max_age = await self._fetch()
        except Exception as problem:
            # Whatever a hostile or broken issuer makes us stumble over must not end the task that keeps its keys fresh.
            self._failed(problem)
            return
        self._fetches += 1
        self._wait = min(max(0.8 * max_age, self._pace.soonest), self._pace.latest)
        self._retry = self._pace.retry
        self._read_at = self._clock()
        self._usable_until = self._read_at + self._wait + self._pace.stale
        if self._last_error:
            _log.info("keys of issuer %s: fetched again", self._settings.name)
        self._last_error = ""
        if self._swap(keys):
            self._missing.clear()

    def _failed(self, problem: Exception) -> None:
        if not self._last_error:
            _log.warning("keys of issuer %s: %s", self._settings.name, said(problem))
        self._failures += 1
        self._last_error = said(problem)
        self._wait = self._retry
        self._retry = min(2 * self._retry, self._pace.retry_latest)

    async def _fetch(self) -> tuple[KeySet, float]:
        trust: ssl.SSLContext | bool = True
        if self._settings.ca_file is not None:
            trust = await asyncio.to_thread(ssl.create_default_context, cafile=str(self._settings.ca_file))
            trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate's is enough
        # A session for each fetch: they are minutes apart, and a CA file that was replaced is read again.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust),
            timeout=aiohttp.ClientTimeout(total=self._pace.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            url = self._settings.jwks_url or await self._discover(session)
            document, max_age = await _get(session, url)
        return jwk.from_jwks(document, self._allowed), max_age

    async def _discover(self, session: aiohttp.ClientSession) -> str:
        # OpenID Connect Discovery 1.0 §4.1 and §4.3: the document must name the very issuer that it was asked for.
        issuer = self._settings.issuer
        document, _ = await _get(session, issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            found = strict_json(document)
        except Malformed as problem:
            raise BadKeys(f"discovery document: {problem}") from None
        if not isinstance(found, dict) or found.get("issuer") != issuer:
            raise BadKeys("discovery document: it is of another issuer")
        url = found.get("jwks_uri")
        schemes = ("https", "http") if URL(issuer).scheme == "http" else ("https",)
        if not isinstance(url, str) or URL(url).scheme not in schemes:
            raise BadKeys(f"discovery document: no jwks_uri with {' or '.join(schemes)}")
        return url


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[bytes, float]:
    """A document and its max-age in seconds (0 where it names none)."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        if response.status != 200:
            raise BadKeys(f"{URL(url).host} answered {response.status}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise BadKeys(f"{URL(url).host} answered with a compressed body")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_DOCUMENT:
                raise BadKeys(f"{URL(url).host} answered with more than {MAX_DOCUMENT} bytes")
        cache_control = ",".join(response.headers.getall("Cache-Control", []))
        max_age = None if _UNCACHED.search(cache_control) else _MAX_AGE.search(cache_control)
        return bytes(body), float(max_age.group(1)) if max_age else 0.0
