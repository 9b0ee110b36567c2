"""Keeps the keys of an issuer at hand: one object per issuer, from a URL or from a file.

Laws: one fetch at a time, shielded from the clients that wait for it; a set of keys is swapped whole, and a failed
fetch never takes one away; what an unauthenticated caller sends (a `kid`) costs the issuer at most one fetch per
30 s; an issuer that is down is an outage (503), never a verdict on a token. Start-up waits for no issuer.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from cachetools import TTLCache
from msgspec import Struct
from yarl import URL

from sidecar.credentials import jwk
from sidecar.credentials.jwk import BadKeys, Key, KeySet
from sidecar.credentials.jws import Malformed, strict_json
from sidecar.errors import DocumentError, Problem, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import DAY, IssuerSettings, KiB

MAX_BODY = 256 * KiB
"""Of a discovery document, a set of keys or a key file."""
MAX_MISSING = 256
"""How many unknown `kid`s are remembered."""

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})\b", re.IGNORECASE)
_UNCACHED = re.compile(r"\bno-(?:store|cache)\b", re.IGNORECASE)

_log = logging.getLogger(__name__)


class Pace(Struct, frozen=True):
    """How often an issuer is asked. Seconds."""

    timeout: float = 5.0
    """For one request, from the connection to the body's last byte."""
    soonest: float = 300.0
    latest: float = DAY
    """A set is fetched again at 80 % of its max-age, but not sooner and not later than these."""
    retry: float = 1.0
    retry_latest: float = 60.0
    """After a failure; doubled each time up to the second."""
    stale: float = DAY
    """How long a set is believed past the moment when it should have been fetched again."""
    miss: float = 30.0
    """Between two fetches that an unknown `kid` asked for."""
    missing: float = 60.0
    """How long an unknown `kid` asks for nothing more."""
    poll: float = 1.0
    """Between two looks at a key file."""


class KeyStatus(Struct, frozen=True):
    """For metrics and `/readyz`."""

    issuer: str
    usable: bool
    """False: tokens of this issuer are answered with 503."""
    keys: int
    ignored: int
    """Keys of the source that were left out: another use, a weak key, an algorithm that isn't allowed."""
    age: float | None
    """Seconds since the keys were last read from their source; `None` if they never were."""
    fetches: int
    """Sets that were fetched, or read anew from a changed file."""
    failures: int
    """Attempts that brought none."""
    last_error: str
    """Empty when the last attempt succeeded."""


class _Source:
    """What is common to both: a set of keys, how old it is, and what went wrong last."""

    def __init__(self, settings: IssuerSettings, pace: Pace | None, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._allowed = jwk.algorithms_of(settings)
        self._pace = pace or Pace()
        self._clock = clock
        self.generation = 0
        self._keys: KeySet | None = None
        self._read_at = float("-inf")
        self._fetches = self._failures = 0
        self._last_error = ""
        self._loop: asyncio.Task[None] | None = None

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        keys = self._usable()
        return keys.find(kid, algorithm) if keys is not None else None

    def status(self) -> KeyStatus:
        keys = self._keys
        return KeyStatus(
            issuer=self._settings.name,
            usable=self._usable() is not None,
            keys=len(keys.keys) if keys is not None else 0,
            ignored=len(keys.ignored) if keys is not None else 0,
            age=self._clock() - self._read_at if keys is not None else None,
            fetches=self._fetches,
            failures=self._failures,
            last_error=self._last_error,
        )

    def _swap(self, keys: KeySet) -> bool:
        changed = self._keys is None or self._keys.digest != keys.digest
        self._keys = keys
        self.generation += changed
        return changed

    def _usable(self) -> KeySet | None:
        return self._keys

    def _required(self) -> KeySet:
        keys = self._usable()
        if keys is None:
            raise self._unavailable()
        return keys

    def _unavailable(self) -> Unavailable:
        return Unavailable(Reason.VERIFIER_UNAVAILABLE, f"keys of issuer {self._settings.name}: {self._last_error}")


class RemoteKeys(_Source):
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
        await _end(self._loop, self._flight)

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
            _log.warning("keys of issuer %s: %s", self._settings.name, _said(problem))
        self._failures += 1
        self._last_error = _said(problem)
        self._wait = self._retry
        self._retry = min(2 * self._retry, self._pace.retry_latest)

    async def _fetch(self) -> tuple[KeySet, float]:
        trust: ssl.SSLContext | bool = True
        if self._settings.ca_file is not None:
            trust = await asyncio.to_thread(ssl.create_default_context, cafile=str(self._settings.ca_file))
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


class FileKeys(_Source):
    """Keys from `jwks_file`, `pem_file` or `secret_file`, read again when the file's content changes. A `KeySource`."""

    def __init__(
        self, settings: IssuerSettings, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        path = settings.secret_file or settings.pem_file or settings.jwks_file
        if path is None:
            raise ValueError(f"issuer {settings.name} has no key file")
        super().__init__(settings, pace, clock)
        self._path: Path = path
        self._content: bytes | None = None

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        if self._keys is None:
            await self._read()
        return self._required().find(kid, algorithm)

    async def start(self) -> None:
        """Reads the file and goes on to watch it. Raises `DocumentError` if it can't be used."""
        await self._read()
        if self._last_error:
            raise DocumentError([Problem(str(self._path), 1, "$", self._last_error)])
        self._loop = asyncio.create_task(self._watch(), name=f"keys of {self._settings.name}")

    async def close(self) -> None:
        await _end(self._loop)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._pace.poll)
            await self._read()

    async def _read(self) -> None:
        try:
            content = await asyncio.to_thread(_content, self._path)
            if content != self._content:
                self._swap(self._parse(content))
                self._content = content
                self._fetches += 1
        except (OSError, BadKeys) as problem:
            said = _said(problem)
            if said != self._last_error:
                self._failures += 1
                _log.warning("keys of issuer %s: %s: %s", self._settings.name, self._path, said)
            self._last_error = said
            return
        self._read_at = self._clock()
        self._last_error = ""

    def _parse(self, content: bytes) -> KeySet:
        if self._settings.secret_file is not None:
            return jwk.from_secret(content)
        if self._settings.pem_file is not None:
            return jwk.from_pem(content, self._allowed)
        keys = jwk.from_jwks(content, self._allowed)
        if not keys.keys:
            raise BadKeys("key set: " + ("; ".join(keys.ignored) or "it is empty"))
        return keys


IssuerKeys = RemoteKeys | FileKeys


def keys_of(settings: IssuerSettings) -> IssuerKeys:
    """The source of keys that an issuer's settings ask for, not yet started."""
    if settings.secret_file or settings.pem_file or settings.jwks_file:
        return FileKeys(settings)
    return RemoteKeys(settings)


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
            if len(body) > MAX_BODY:
                raise BadKeys(f"{URL(url).host} answered with more than {MAX_BODY} bytes")
        cache_control = ",".join(response.headers.getall("Cache-Control", []))
        max_age = None if _UNCACHED.search(cache_control) else _MAX_AGE.search(cache_control)
        return bytes(body), float(max_age.group(1)) if max_age else 0.0


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BODY + 1)
    if len(content) > MAX_BODY:
        raise BadKeys(f"more than {MAX_BODY} bytes")
    return content


def _said(problem: Exception) -> str:
    """For the operator. Key material never stands in these: the parsers name positions and types only."""
    return f"{type(problem).__name__}: {problem}"[:300].rstrip(": ")


async def _end(*tasks: asyncio.Task[None] | None) -> None:
    started = [task for task in tasks if task is not None]
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)
