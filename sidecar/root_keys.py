"""The life of the root keys that Biscuits are made under: create, list, retire; and which of them a sidecar believes.

The law: the private half never leaves the file that it was made into, and a serving sidecar never opens that; it reads the public
halves from the store, each under its seal. Keys are Ed25519 and nothing else.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from sidecar.credentials.biscuit.key_row import RootKeyRow, intact, sealed
from sidecar.credentials.pepper import Peppers
from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.library import PrivateKey

log = logging.getLogger(__name__)


class RootKeyError(SidecarError):
    """What was asked of a key can't be. The text says why."""


class RootKeyStore(Protocol):
    """Each method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)`; creating and retiring are announced."""

    async def all(self) -> Sequence[RootKeyRow]: ...

    async def create(self, row: RootKeyRow) -> bool: ...

    async def retire(self, old: RootKeyRow, new: RootKeyRow, at: int, actor: str) -> bool: ...

    async def reseal(self, old: RootKeyRow, new: RootKeyRow) -> None: ...


class RootKeyring:
    """`actor` is who asks, `now` whole Unix seconds, as in `tokens.Tokens`. `folder` is where private keys lie."""

    def __init__(self, store: RootKeyStore, peppers: Peppers, folder: Path) -> None:
        self._store = store
        self._peppers = peppers
        self._folder = folder

    def file(self, key_id: int) -> Path:
        """Of a private key."""
        return self._folder / f"{key_id}.pem"

    async def create(self, *, actor: str, now: int) -> RootKeyRow:
        """New tokens are made under it from now on. Raises `RootKeyError` where its file can't be written."""
        from sidecar.credentials.biscuit.library import PrivateKey

        key = PrivateKey.fresh()
        while True:
            key_id = max((row.id for row in await self._store.all()), default=0) + 1
            while self.file(key_id).exists():  # of a creation that was broken off
                key_id += 1
            self._write(key_id, key.pem)
            row = sealed(RootKeyRow(key_id, key.public, now, actor, None, None, "", ""), self._peppers.current)
            if await self._store.create(row):
                return row

    def _write(self, key_id: int, pem: bytes) -> None:
        file = self.file(key_id)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(pem)
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise RootKeyError(
                f"root key file {file}: {error.strerror} (tokens.biscuit_keys names the folder)"
            ) from error

    async def all(self) -> Sequence[tuple[RootKeyRow, bool]]:
        """The oldest first; with each, whether its row is as it was written here."""
        return [(row, intact(row, self._peppers)) for row in await self._store.all()]

    async def retire(self, key_id: int, *, actor: str, now: int) -> tuple[RootKeyRow, bool]:
        """The row, and whether this call retired it. Its private key's file is deleted. Raises `RootKeyError`."""
        while True:
            row = next((row for row in await self._store.all() if row.id == key_id), None)
            if row is None:
                raise RootKeyError(f"no root key has the id {key_id}; `sidecar key list` shows those that there are")
            if row.retired_at is not None and intact(row, self._peppers):
                return row, False
            pepper = self._peppers.named(row.pepper_id) or self._peppers.current
            retired = sealed(replace(row, retired_at=now, retired_by=actor), pepper)
            if await self._store.retire(row, retired, now, actor):
                self.file(key_id).unlink(missing_ok=True)
                return retired, True

    async def newest(self) -> tuple[int, "PrivateKey"] | None:
        """What tokens are made under: the newest key that isn't retired. `None` where there is none.

        Raises `RootKeyError` where its private half isn't here.
        """
        from sidecar.credentials.biscuit.library import LibraryError, PrivateKey

        rows = [row for row, sound in await self.all() if sound and row.retired_at is None]
        if not rows:
            return None
        row, file = rows[-1], self.file(rows[-1].id)
        try:
            key = PrivateKey.of_pem(file.read_bytes())
        except OSError as error:
            raise RootKeyError(
                f"root key file {file}: {error.strerror} (tokens.biscuit_keys names the folder)"
            ) from error
        except LibraryError:
            raise RootKeyError(f"root key file {file}: not an Ed25519 key in PEM") from None
        if key.public != row.public_key:
            raise RootKeyError(f"root key file {file}: it isn't the key {row.id} of this token store")
        return row.id, key

    async def believed(self) -> Mapping[int, str]:
        """The public keys that count, by id. Those under an earlier pepper move to the current one on the way."""
        found = {}
        for row, sound in await self.all():
            if not sound:
                log.warning("the root key %s is not as it was written here: no token under it is believed", row.id)
                continue
            if row.pepper_id != self._peppers.current.id:
                await self._store.reseal(row, sealed(row, self._peppers.current))
            if row.retired_at is None:
                found[row.id] = row.public_key
        return found
