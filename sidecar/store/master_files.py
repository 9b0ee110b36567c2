"""The files with the master keys of access keys. Read when something is to be made of them, and let go of at once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sidecar.credentials import master_key
from sidecar.credentials.master_key import MasterKey, MasterKeyUnusable
from sidecar.errors import Unavailable
from sidecar.model import Secret
from sidecar.reasons import Reason

LONGEST = 4096


class MasterFiles:
    def __init__(self, current: Path, previous: Sequence[Path] = ()) -> None:
        """`current`: what new access keys are made of. `previous`: those of others are believed as well."""
        self._files = (current, *previous)

    def current(self) -> MasterKey:
        """Raises `MasterKeyUnusable`."""
        return read_master_key(self._files[0])

    async def day_key(self, access_key_id: str, day: str) -> bytes | None:
        """As `access_key.DayKeyOf`. Raises `Unavailable(VERIFIER_UNAVAILABLE)` where a file can't be read."""
        return await asyncio.to_thread(self._day_key, access_key_id, day)

    def _day_key(self, access_key_id: str, day: str) -> bytes | None:
        named = master_key.parse(access_key_id)
        if named is None:
            return None
        try:
            for path in self._files:
                key = read_master_key(path)
                if key.version == named.version:
                    return key.day_key(access_key_id, day)
        except MasterKeyUnusable as error:
            raise Unavailable(Reason.VERIFIER_UNAVAILABLE, str(error)) from None
        return None

    def secret(self, access_key_id: str) -> Secret | None:
        """`None` where its master key isn't among them. Raises `MasterKeyUnusable`."""
        named = master_key.parse(access_key_id)
        for path in self._files:
            key = read_master_key(path)
            if named is not None and key.version == named.version:
                return key.secret(access_key_id)
        return None


def read_master_key(path: Path) -> MasterKey:
    """Raises `MasterKeyUnusable`."""
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise MasterKeyUnusable(
            f"access key master file {path}: {error.strerror}; `openssl rand -hex 32` makes its content"
        ) from None
    if len(content) > LONGEST:
        raise MasterKeyUnusable(f"access key master file {path}: larger than {LONGEST} bytes")
    try:
        return MasterKey(content)
    except MasterKeyUnusable as error:
        raise MasterKeyUnusable(f"access key master file {path}: {error}") from None
