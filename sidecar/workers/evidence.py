"""How the records of several workers reach sinks that one process writes (law 8). The law: a worker's `write` returns only when
the parent's sink has the batch; a parent that doesn't answer, or is gone, is a sink that fails.

A worker's audit log sees each configured sink as a `RemoteSink`, with the same name and the same `required`: what is strict,
what is dropped and which gaps are recorded is decided there, as in a single process. Each sink of each worker has a channel
of its own and in the parent a thread that serves it, so that one sink's trouble doesn't hold up another.
"""

import logging
import socket
import threading
import time
from collections.abc import Sequence

from sidecar.audit.sinks import Sink
from sidecar.workers.channel import Batch, ChannelBroken, Frames, Taken, frame

PATIENCE = 5.0
"""Seconds that a worker waits for the parent. A strict event has given up long before: the log waits 1 s for it."""
_RECEIVE = 256 * 1024

log = logging.getLogger(__name__)


class RemoteSink:
    """Implements `Sink` in a worker. At most one batch is under way."""

    def __init__(self, channel: socket.socket, *, name: str, required: bool, patience: float = PATIENCE) -> None:
        self.name = name
        self.required = required
        self._channel = channel
        self._patience = patience
        self._frames = Frames()
        self._unsent = b""
        self._waiting = False
        """A batch that was given up may still be written, and its answer still come."""

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        if self._waiting:
            self._exchange(0.0)
        self._unsent = frame(Batch(tuple(lines), durable))
        self._waiting = True
        error = self._exchange(self._patience).error
        if error:
            raise OSError(error)

    def close(self) -> None:
        self._channel.close()

    def _exchange(self, patience: float) -> Taken:
        """Sends what is unsent and returns the answer. Raises `OSError`; after a `TimeoutError` it goes on where it was."""
        deadline = time.monotonic() + patience
        try:
            while self._unsent:
                self._channel.settimeout(max(0.0, deadline - time.monotonic()))
                self._unsent = self._unsent[self._channel.send(self._unsent) :]
            while True:
                self._channel.settimeout(max(0.0, deadline - time.monotonic()))
                answers = self._answers()
                if answers:
                    self._waiting = False
                    return answers[0]
        except (TimeoutError, BlockingIOError):
            raise TimeoutError("the process that writes the audit log does not answer") from None

    def _answers(self) -> list[Taken]:
        data = self._channel.recv(4096)
        if not data:
            raise ConnectionError("the process that writes the audit log is gone")
        try:
            return [message for message in self._frames.feed(data) if isinstance(message, Taken)]
        except ChannelBroken as error:
            self._channel.close()
            raise ConnectionError(f"the audit channel is broken: {error}") from None


class _Entry:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.done = False
        self.error = ""


class SharedSink:
    """One real sink for the threads of many workers: whoever comes while it is busy is written with the next write."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._writing = threading.Lock()
        self._gathering = threading.Lock()
        self._gathered: list[_Entry] = []

    def write(self, batch: Batch) -> str:
        """Blocks until the batch is written; the error's text where it was refused."""
        entry = _Entry(batch)
        with self._gathering:
            self._gathered.append(entry)
        with self._writing:
            if not entry.done:
                self._write_gathered()
        return entry.error

    def close(self) -> None:
        """A sink that hangs is given up after 5 s."""
        if self._writing.acquire(timeout=PATIENCE):
            self._sink.close()
            self._writing.release()

    def _write_gathered(self) -> None:
        with self._gathering:
            entries, self._gathered = self._gathered, []
        lines = [line for entry in entries for line in entry.batch.lines]
        try:
            self._sink.write(lines, any(entry.batch.durable for entry in entries))
            error = ""
        except Exception as failed:  # whatever it is, the worker must hear that nothing was taken
            error = str(failed) or type(failed).__name__
        for entry in entries:
            entry.done, entry.error = True, error


def serve(channel: socket.socket, sink: SharedSink) -> threading.Thread:
    """Takes batches until the worker closes its end, and then closes this one."""
    thread = threading.Thread(target=_serve, args=(channel, sink), name="audit", daemon=True)
    thread.start()
    return thread


def _serve(channel: socket.socket, sink: SharedSink) -> None:
    frames = Frames()
    with channel:
        try:
            while data := channel.recv(_RECEIVE):
                for message in frames.feed(data):
                    if isinstance(message, Batch):
                        channel.sendall(frame(Taken(sink.write(message))))
        except (OSError, ChannelBroken) as error:
            log.warning("a worker's audit channel ended: %s", error)
