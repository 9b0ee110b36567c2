"""Token events on their way from the store, where the command line writes them, to the audit log, which one process writes.

Each reaches it once, in order; after a crash in between, perhaps twice. One that the log doesn't take is offered again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sidecar.background import end
from sidecar.errors import SidecarError
from sidecar.store.token_store import TokenEvent, TokenStore

RETRY = 1.0

log = logging.getLogger(__name__)


class TokenEvents:
    """Give `wake` to the change feed as its `on_change`. Only one process per store runs this."""

    def __init__(
        self, store: TokenStore, record: Callable[[TokenEvent], Awaitable[None]], *, retry: float = RETRY
    ) -> None:
        """`record` returns when the audit log has taken the event, and raises a `SidecarError` if it didn't."""
        self._store = store
        self._record = record
        self._retry = retry
        self._unmarked = 0
        """The last event that was recorded, while the store hasn't been told so."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self._news.set()

    def start(self) -> None:
        """Begins with what was left when the last process ended."""
        self._news.set()
        self._task = asyncio.create_task(self._run(), name="token-events")

    async def stop(self) -> None:
        """What has not been recorded waits in the store."""
        await end(self._task)

    async def _run(self) -> None:
        failing = False
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                while await self._page():
                    pass
            except Exception as error:
                # Whatever it was: a task that ended would lose every later event without a word.
                if not failing:
                    unforeseen = None if isinstance(error, SidecarError) else error
                    log.warning("token events can't be audited, they wait in the store: %s", error, exc_info=unforeseen)
                failing = True
                self._news.set()
                await asyncio.sleep(self._retry)
            else:
                failing = False

    async def _page(self) -> bool:
        await self._mark()
        events = await self._store.unaudited()
        try:
            for event in events:
                await self._record(event)
                self._unmarked = event.change.seq
        finally:
            await self._mark()
        return bool(events)

    async def _mark(self) -> None:
        if self._unmarked:
            await self._store.mark_audited(self._unmarked)
            self._unmarked = 0
