"""When each token was last used, written once a minute and never by a request."""

import asyncio
import logging

from sidecar.background import end
from sidecar.errors import Unavailable
from sidecar.store.token_store import TokenStore

INTERVAL = 60.0
RESOLUTION = 60
"""Seconds: what is stored is the beginning of the minute."""

log = logging.getLogger(__name__)


class LastUsed:
    """Holds at most one entry for each token that was used since the last flush."""

    def __init__(self, store: TokenStore, *, interval: float = INTERVAL) -> None:
        self._store = store
        self._interval = interval
        self._used: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def mark(self, token_id: str, now: float) -> None:
        self._used[token_id] = now

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="last-used")

    async def stop(self) -> None:
        """Flushes what is left."""
        await end(self._task)
        await self.flush()

    async def flush(self) -> None:
        """In one transaction. If the store can't take it, it is kept for the next flush."""
        taken, self._used = self._used, {}
        try:
            await self._store.touch_last_used(
                {token_id: int(now) // RESOLUTION * RESOLUTION for token_id, now in taken.items()}
            )
        except Unavailable as error:
            log.warning("last use of %d tokens is not yet written: %s", len(taken), error.detail)
            self._used = {**taken, **self._used}

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.flush()
            except Exception:  # a task that ended would be a silent one: the next flush tries again
                log.exception("last use of tokens could not be written")
