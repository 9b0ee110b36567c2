"""What the sources of an issuer's keys have in common: a set of keys, how old it is, and what went wrong last."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from sidecar.credentials import jwk
from sidecar.credentials.jwk import Key, KeySet
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.settings import DAY, IssuerSettings


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


class Source:
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


def said(problem: Exception) -> str:
    """For the operator. Key material never stands in these: the parsers name positions and types only."""
    return f"{type(problem).__name__}: {problem}"[:300].rstrip(": ")
