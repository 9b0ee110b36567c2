"""The parent's life: binds, starts the workers, starts dead ones again, ends when it is told to and they have ended."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from itertools import chain

from sidecar import signals, wiring_audit
from sidecar.errors import Exit, SidecarError
from sidecar.listening import address, bind_all
from sidecar.server.ops import OpsServer
from sidecar.settings import Settings
from sidecar.workers.child import Child
from sidecar.workers.evidence import SharedSink
from sidecar.workers.view import View

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a dead worker is started again; doubled each time that it didn't live long."""
LATITUDE = 10.0
"""Seconds over and above what the settings allow that workers may take to end."""

log = logging.getLogger(__name__)


async def supervise(settings: Settings) -> int:
    """Serve with several workers until SIGTERM or SIGINT; the exit status, as of a single serving process."""
    try:
        supervisor = Supervisor(settings)
        await supervisor.bind()
    except (SidecarError, OSError) as error:
        print(f"sidecar can't start: {error}; see {settings.path}", file=sys.stderr)
        return Exit.FAILED
    return await supervisor.run()


class Supervisor:
    def __init__(self, settings: Settings) -> None:
        """Raises `OSError` where the pepper can't be read."""
        self._settings = settings
        self._listening: list[list[socket.socket]] = []
        key = wiring_audit.install_key(settings)
        self._sinks = [SharedSink(sink) for sink in wiring_audit.sinks(settings, wiring_audit.records(key))]
        self._children = [
            Child(index, settings, key, self._listening, self._sinks) for index in range(settings.workers)
        ]
        self._view = View(self._children)
        self._ops = OpsServer(self._view, self._view, prepare=self._view.prepare)
        self._any_came_up = asyncio.Event()
        self._stopping = asyncio.Event()

    async def bind(self) -> None:
        """Raises `StartError`."""
        with address(self._settings.ops, "ops"):
            await self._ops.start(self._settings.ops)
        self._listening += bind_all(self._settings.listen)

    async def run(self) -> int:
        """The exit status: 0 if all workers ended well after a signal, 1 if they didn't or never came up."""
        loop = asyncio.get_running_loop()
        signals.listen_for_hangup(loop)
        signals.listen_for_the_end(loop, self._stop)
        # What hinders one worker hinders all, and is said once; the first also makes the token store's tables.
        first, *others = self._children
        lives = [loop.create_task(self._keep(first))]
        came_up = loop.create_task(self._any_came_up.wait())
        await asyncio.wait((lives[0], came_up), return_when=asyncio.FIRST_COMPLETED)
        if came_up.done():
            lives += [loop.create_task(self._keep(each)) for each in others]
            listen = ", ".join(map(str, self._settings.listen))
            log.info("serving on %s, ops on %s, %d workers", listen, self._settings.ops, len(lives))
        came_up.cancel()
        gc.collect()
        gc.freeze()
        ended_well = all(await asyncio.gather(*lives))
        await self._ops.stop()
        for sink in self._sinks:
            sink.close()
        log.info("stopped")
        return Exit.OK if ended_well else Exit.FAILED

    def _stop(self, name: str) -> None:
        """At the first signal the workers drain, at the second they end at once."""
        if not self._stopping.is_set():
            log.info("stopping (%s): no longer ready, the workers finish what they do", name)
            self._stopping.set()
            self._view.draining = True
            for listening in chain(*self._listening):  # the workers' own copies are still open
                listening.close()
            limits = self._settings.limits
            loop = asyncio.get_running_loop()
            loop.call_later(limits.drain_delay + limits.grace + LATITUDE, self._tell_all, signal.SIGKILL)
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: int) -> None:
        for child in self._children:
            child.signal(number)

    async def _keep(self, child: Child) -> bool:
        """One life after another until the end; whether the last one ended well. Before any worker came up, the first is the last."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = loop.time()
            status = await self._live(child)
            if self._stopping.is_set():
                return status in (0, -signal.SIGTERM)  # the latter: it was told before it had learned to listen
            if not self._any_came_up.is_set():
                return False
            pause = FIRST_PAUSE if loop.time() - began > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
            log.error("worker %d ended with status %d; another one starts in %g s", child.index, status, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        return True

    async def _live(self, child: Child) -> int:
        def came_up() -> None:
            self._any_came_up.set()
            if self._stopping.is_set():  # it was not there yet to be told
                child.signal(signal.SIGTERM)

        try:
            return await child.live(came_up)
        except OSError as error:
            log.error("worker %d can't be started: %s", child.index, error)
            return Exit.FAILED
