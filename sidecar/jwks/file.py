"""An issuer's keys from a file on this machine: its key set, a public key in PEM, or a shared secret."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.background import end
from sidecar.credentials import jwk
from sidecar.credentials.jwk import MAX_DOCUMENT, BadKeys, Key, KeySet
from sidecar.errors import DocumentError, Problem
from sidecar.jwks.source import Pace, Source, said
from sidecar.settings import IssuerSettings

_log = logging.getLogger(__name__)


class FileKeys(Source):
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
        await end(self._loop)

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
            message = said(problem)
            if message != self._last_error:
                self._failures += 1
                _log.warning("keys of issuer %s: %s: %s", self._settings.name, self._path, message)
            self._last_error = message
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


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise BadKeys(f"more than {MAX_DOCUMENT} bytes")
    return content
