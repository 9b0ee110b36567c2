"""Tokens on their way from an earlier pepper to the current one, or to their owner's id: each moves at its first use, and no
request waits for that.

After a change of pepper all tokens in use move within minutes of one another, so they are written in batches.
"""

import asyncio
import logging

from sidecar.background import end
from sidecar.credentials.token_row import TokenRow
from sidecar.errors import Unavailable
from sidecar.store.token_store import TokenStore

PAUSE = 0.5
"""Seconds in which a batch gathers."""
BATCH = 500

log = logging.getLogger(__name__)


class PepperMoves:
    """What isn't written, for whatever reason, is found again at the token's next verification."""

    def __init__(self, store: TokenStore, *, pause: float = PAUSE) -> None:
        self._store = store
        self._pause = pause
        self._waiting: dict[str, tuple[TokenRow, TokenRow]] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, old: TokenRow, new: TokenRow) -> None:
        """`new` is to stand where `old` does."""
        if len(self._waiting) < BATCH:
            self._waiting[old.id] = old, new
            self._news.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="pepper-moves")

    async def stop(self) -> None:
        """Writes what is left."""
        await end(self._task)
        await self.flush()

    async def flush(self) -> None:
        """In one transaction."""
        taken, self._waiting = self._waiting, {}
        if not taken:
            return
        try:
            await self._store.move(list(taken.values()))
        except Unavailable as error:
            log.warning(
                "%d tokens stay under an earlier pepper, or without their owner's id, for now: %s",
                len(taken),
                error.detail,
            )

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(self._pause)
            try:
                await self.flush()
            except Exception:
                log.exception("tokens stay under an earlier pepper, or without their owner's id, for now")
