"""What every sink is. The law: a sink takes a batch whole or raises; what it took is whole lines, in order.

Sinks run in the log's one writer thread, so they may block for as long as their own limit says. Each recovers by
itself: `write` tries again whatever had failed before.
"""

from collections.abc import Sequence
from typing import Protocol


class Sink(Protocol):
    @property
    def name(self) -> str:
        """The metric's label: `file` or `stdout`."""

    @property
    def required(self) -> bool: ...

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        """Records without newlines. With `durable` they are on the disk when it returns. Raises `OSError`: none was taken."""

    def close(self) -> None: ...
