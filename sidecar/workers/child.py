"""The parent's view of one worker: its process, its answers, and what it has counted in all its lives."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from itertools import chain

from sidecar.metrics import Snapshot
from sidecar.settings import Settings
from sidecar.workers import evidence, merge
from sidecar.workers.channel import Ask, ChannelBroken, Frames, Report, Seating, Up, frame

ANSWER_TIMEOUT = 0.5
"""Seconds that a probe or a scrape waits for a worker."""
_END_TIMEOUT = 10.0
"""Seconds that a process may live on after its channel has ended."""
_RECEIVE = 256 * 1024

log = logging.getLogger(__name__)


class Child:
    """One of several workers; each life is a process of its own."""

    def __init__(
        self,
        index: int,
        settings: Settings,
        install_key: bytes,
        listening: Sequence[Sequence[socket.socket]],
        sinks: Sequence[evidence.SharedSink],
    ) -> None:
        self.index = index
        self._settings = settings
        self._install_key = install_key
        self._listening = listening
        self._sinks = sinks
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        """Set while it accepts requests and answers."""
        self.came_up = False
        """Whether it ever was set."""
        self._asks = 0
        self._asked: dict[int, asyncio.Future[Report]] = {}
        self._former: Snapshot = {}
        self._last: Snapshot = {}

    @property
    def pid(self) -> int | None:
        """`None` while there is no process."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def counted(self) -> Snapshot:
        """Counters and histograms of all its lives, each as of the last scrape that it answered."""
        return merge.summed([self._former, self._last])

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)

    async def live(self, came_up: Callable[[], None]) -> int:
        """One life, to its end: the exit status, negative for a signal. `came_up` is called once it accepts requests.

        Raises `OSError` where no process can be made.
        """
        ours, theirs = socket.socketpair()
        audit = [socket.socketpair() for _ in self._sinks]
        given = [theirs, *(end for _, end in audit)]
        seating = Seating(
            index=self.index,
            settings=self._settings,
            install_key=self._install_key,
            listening=tuple(tuple(each.fileno() for each in sockets) for sockets in self._listening),
            audit=tuple(end.fileno() for _, end in audit),
        )
        for (kept, _), sink in zip(audit, self._sinks, strict=True):
            evidence.serve(kept, sink)
        try:
            # In a session of its own: Ctrl-C at a terminal is for the parent, which tells the workers.
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "sidecar.serving", "--worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *seating.audit, *chain(*seating.listening)),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            for end in given:
                end.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            writer.write(frame(seating))
            await self._hear(reader, writer, came_up)
        except (OSError, ChannelBroken) as error:
            log.error("the channel to worker %d broke: %s", self.index, error)
        finally:
            self._writer = None
            writer.close()
            self._former, self._last = self.counted, {}
        return await self._end_of(process)

    async def ask(self, *, metrics: bool) -> Report | None:
        """`None` from one that isn't up or doesn't answer in time."""
        if self._writer is None:
            return None
        self._asks += 1
        number = self._asks
        self._asked[number] = answer = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(frame(Ask(number, metrics)))
            return await asyncio.wait_for(answer, ANSWER_TIMEOUT)
        except TimeoutError:
            return None
        finally:
            del self._asked[number]

    async def _hear(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came_up: Callable[[], None]
    ) -> None:
        frames = Frames()
        while data := await reader.read(_RECEIVE):
            for message in frames.feed(data):
                if isinstance(message, Up):
                    self._writer = writer
                    self.came_up = True
                    came_up()
                elif isinstance(message, Report):
                    self._take(message)

    def _take(self, report: Report) -> None:
        if report.metrics is not None:  # kept even if it comes too late for the scrape that asked
            self._last = report.metrics
        answer = self._asked.get(report.number)
        if answer is not None and not answer.done():
            answer.set_result(report)

    async def _end_of(self, process: asyncio.subprocess.Process) -> int:
        try:
            return await asyncio.wait_for(process.wait(), _END_TIMEOUT)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await process.wait()
