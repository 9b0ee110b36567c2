"""From the `tokens:` section to an open store: for the serving process and the command line alike."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from sidecar.biscuits import Biscuits
from sidecar.credentials.access_key import AccessKeyVerifier
from sidecar.credentials.biscuit.verifier import BiscuitVerifier, RootKeys
from sidecar.credentials.opaque import OpaqueVerifier, TokenFormat
from sidecar.credentials.pepper import Pepper, Peppers, PepperUnusable
from sidecar.credentials.revocation_row import RevocationRow, intact
from sidecar.revoking import Revoking
from sidecar.root_keys import RootKeyring
from sidecar.settings import TokenSettings
from sidecar.store.changes import ChangeFeed
from sidecar.store.engine import Database, create_file, sqlite_path
from sidecar.store.master_files import MasterFiles
from sidecar.store.pepper_moves import PepperMoves
from sidecar.store.root_keys import RootKeyStore
from sidecar.store.token_store import TokenStore
from sidecar.store.watch import SqliteWatch
from sidecar.tokens import Tokens

BISCUIT_KEYS = "biscuit-keys"
"""The folder of private keys where no other is named: beside the pepper."""


class OpenStore(Struct, frozen=True):
    """Close it with `await opened.store.close()`."""

    store: TokenStore
    tokens: Tokens
    revoking: Revoking
    verifier: OpaqueVerifier
    moves: PepperMoves
    """What the verifier has found under an earlier pepper: the serving process starts and stops it."""
    spelling: TokenFormat
    peppers: Peppers
    path: Path
    root_keys: RootKeyring
    biscuits: Biscuits
    biscuit_verifier: BiscuitVerifier
    """It believes no key before `read_root_keys`."""
    masters: MasterFiles | None
    """What access keys are made of, where they are."""
    access_key_verifier: AccessKeyVerifier

    async def read_root_keys(self) -> None:
        """For a `ChangeFeed`, or once. Raises `Unavailable`."""
        self.biscuit_verifier.believe(RootKeys(await self.root_keys.believed()))

    def reread(self) -> None:
        """A token's life has been made shorter: what was said of tokens must be looked up again."""
        self.verifier.reread()
        self.access_key_verifier.reread()

    def onlooker(self) -> OpaqueVerifier:
        """Judges as `verifier` does, and leaves no trace: for whoever asks what would be."""
        return OpaqueVerifier(self.spelling, self.peppers, self.store)

    def intact(self, row: RevocationRow) -> bool:
        """Whether a revocation is as it was written here: for a `ChangeFeed`."""
        return intact(row, self.peppers)

    def watch(self) -> SqliteWatch:
        """A watch of one's own, for a `ChangeFeed`."""
        return SqliteWatch(self.path)

    def feed(self, on_change: Callable[[], None] = lambda: None) -> ChangeFeed:
        """A feed of one's own, not yet started, from which the verifiers here learn what they must know."""
        return ChangeFeed(
            self.store,
            self.watch(),
            on_change=on_change,
            on_shortened=self.reread,
            intact=self.intact,
            on_keys=self.read_root_keys,
        )


async def open_token_store(settings: TokenSettings) -> OpenStore:
    """Makes the file and its tables at first use. Raises `StoreUnusable` or `PepperUnusable`, which say what to do."""
    peppers = read_peppers(settings)
    masters = _masters(settings)
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
    tokens = Tokens(
        store,
        spelling,
        peppers,
        default_ttl=settings.default_ttl,
        max_ttl=settings.max_ttl,
        revoke_reused=settings.reuse == "revoke_family",
        master_key=None if masters is None else masters.current,
    )
    moves = PepperMoves(store)
    folder = settings.biscuit_keys or settings.pepper_file.parent / BISCUIT_KEYS
    root_keys = RootKeyring(RootKeyStore(database), peppers, folder)
    return OpenStore(
        store=store,
        tokens=tokens,
        revoking=Revoking(store, tokens, peppers, max_ttl=settings.max_ttl),
        verifier=OpaqueVerifier(spelling, peppers, store, moved=moves.add, reused=tokens.reused),
        moves=moves,
        spelling=spelling,
        peppers=peppers,
        path=path,
        root_keys=root_keys,
        biscuits=Biscuits(tokens, root_keys, peppers, max_ttl=settings.max_ttl),
        biscuit_verifier=BiscuitVerifier(),
        masters=masters,
        access_key_verifier=AccessKeyVerifier(peppers, store),
    )


def _masters(settings: TokenSettings) -> MasterFiles | None:
    if settings.access_key_master_file is None:
        return None
    return MasterFiles(settings.access_key_master_file, settings.previous_access_key_master_files)


def read_peppers(settings: TokenSettings) -> Peppers:
    """The one that new tokens are made under, and the others. Raises `PepperUnusable`."""
    return Peppers(read_pepper(settings.pepper_file), *map(read_pepper, settings.previous_pepper_files))


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
