"""What runs beside the requests, from its owner's start to its stop."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancels them and returns when each has ended. One that had failed is told of here, and doesn't raise: whoever ends
    several things goes on with the next."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    for task, outcome in zip(running, await asyncio.gather(*running, return_exceptions=True), strict=True):
        if isinstance(outcome, Exception):
            log.error("the background task %s had failed", task.get_name(), exc_info=outcome)


class Follower(Generic[T]):
    """Looks at something on the disk again and again, in a thread of its own, and brings home to the loop what it found."""

    def __init__(
        self,
        what: str,
        *,
        look: Callable[[], T],
        publish: Callable[[T], None],
        pause: Callable[[float], float],
    ) -> None:
        """`look` may block. `publish` is called in the loop. `pause`: from the seconds that a look took to those until the next."""
        self._what = what
        self._look = look
        self._publish = publish
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._what.replace(" ", "-"))
        self._task = asyncio.create_task(self._follow(self._thread), name=self._what)

    async def stop(self) -> None:
        """A look that is under way is not waited for."""
        await end(self._task)
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def _follow(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = time.monotonic()
            try:
                self._publish(await loop.run_in_executor(thread, self._look))
            except Exception:
                log.exception("a look at the %s failed; what was found before stands", self._what)
            await asyncio.sleep(self._pause(time.monotonic() - began))
