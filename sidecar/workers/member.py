"""A worker's side of its parent. The law: a worker whose parent is gone ends; nobody would write its evidence."""

import asyncio
import logging
import socket
from collections.abc import Callable

from sidecar import wiring_audit
from sidecar.metrics import Metrics
from sidecar.server.ops import Checks
from sidecar.settings import Settings
from sidecar.wiring import Seat
from sidecar.workers.channel import Ask, ChannelBroken, Frames, Report, Seating, Up, frame
from sidecar.workers.evidence import RemoteSink

_RECEIVE = 64 * 1024

log = logging.getLogger(__name__)


class Member:
    settings: Settings
    seat: Seat

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: the inherited channel. Waits for what the parent says first; raises `ChannelBroken` if it is gone."""
        self._channel = socket.socket(fileno=descriptor)
        self._frames = Frames()
        seating = self._first_message()
        self.index = seating.index
        self.settings = seating.settings
        self.seat = Seat(
            sockets=[[socket.socket(fileno=inherited) for inherited in sockets] for sockets in seating.listening],
            sinks=[
                RemoteSink(socket.socket(fileno=inherited), name=wiring_audit.sink_name(sink), required=sink.required)
                for sink, inherited in zip(seating.settings.audit, seating.audit, strict=True)
            ],
            install_key=seating.install_key,
            first=seating.index == 0,
        )

    def _first_message(self) -> Seating:
        while data := self._channel.recv(_RECEIVE):
            for message in self._frames.feed(data):
                if isinstance(message, Seating):
                    return message
        raise ChannelBroken("the parent process is gone")

    async def join(self, checks: Checks, metrics: Metrics, orphaned: Callable[[], None]) -> None:
        """Tells the parent that requests are accepted, and answers it from now on. `orphaned` is called when it is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=self._channel)
        self._answering = asyncio.create_task(self._answer(reader, writer, checks, metrics, orphaned))
        writer.write(frame(Up()))
        log.info("worker %d accepts requests", self.index)

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        checks: Checks,
        metrics: Metrics,
        orphaned: Callable[[], None],
    ) -> None:
        try:
            while data := await reader.read(_RECEIVE):
                for message in self._frames.feed(data):
                    if isinstance(message, Ask):
                        writer.write(frame(report(message, checks, metrics)))
                await writer.drain()
        except (OSError, ChannelBroken) as error:
            log.error("the channel to the parent process broke: %s", error)
        else:
            log.error("the parent process is gone")
        orphaned()


def report(asked: Ask, checks: Checks, metrics: Metrics) -> Report:
    return Report(
        number=asked.number,
        checks=tuple(checks.run()),
        policy=" ".join(digest for (digest,) in metrics.series("policy_info")),
        metrics=metrics.snapshot() if asked.metrics else None,
    )
