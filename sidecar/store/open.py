"""From the `tokens:` section to an open store: for the serving process and the command line alike."""

import asyncio
from pathlib import Path

from msgspec import Struct

from sidecar.credentials.opaque import OpaqueVerifier, TokenFormat
from sidecar.credentials.pepper import Pepper, PepperUnusable
from sidecar.settings import TokenSettings
from sidecar.store.engine import Database, create_file, sqlite_path
from sidecar.store.token_store import TokenStore
from sidecar.store.watch import SqliteWatch
from sidecar.tokens import Tokens


class OpenStore(Struct, frozen=True):
    """Close it with `await opened.store.close()`."""

    store: TokenStore
    tokens: Tokens
    verifier: OpaqueVerifier
    spelling: TokenFormat
    path: Path

    def watch(self) -> SqliteWatch:
        """A watch of one's own, for a `ChangeFeed`."""
        return SqliteWatch(self.path)


async def open_token_store(settings: TokenSettings) -> OpenStore:
    """Makes the file and its tables at first use. Raises `StoreUnusable` or `PepperUnusable`, which say what to do."""
    pepper = read_pepper(settings.pepper_file)
    spelling = TokenFormat(settings.brand)
    path = sqlite_path(settings.store)
    create_file(path)
    database = Database(path)
    try:
        await asyncio.to_thread(database.prepare_schema)
    except BaseException:
        await database.close()
        raise
    store = TokenStore(database)
    return OpenStore(
        store=store,
        tokens=Tokens(store, spelling, pepper, default_ttl=settings.default_ttl, max_ttl=settings.max_ttl),
        verifier=OpaqueVerifier(spelling, pepper, store),
        spelling=spelling,
        path=path,
    )


def read_pepper(path: Path) -> Pepper:
    """Raises `PepperUnusable`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PepperUnusable(f"pepper file {path}: {error.strerror}; `sidecar init` makes one") from error
    try:
        return Pepper(content)
    except PepperUnusable as error:
        raise PepperUnusable(f"pepper file {path}: {error}") from error
