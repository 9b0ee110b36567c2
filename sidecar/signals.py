"""What signals mean, to a single serving process and to each of several: SIGTERM and SIGINT end it, SIGHUP does nothing.

SIGHUP means "read your files again" to people and to supervisors alike, and whatever can be followed is followed without it.
"""

import asyncio
import logging
import signal
from collections.abc import Callable

ENDING = (signal.SIGTERM, signal.SIGINT)
HANGUP = "SIGHUP: policies, people and keys are followed by themselves; restart for sidecar.yaml"

log = logging.getLogger(__name__)


def listen_for_hangup(loop: asyncio.AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGHUP, log.info, HANGUP)


def listen_for_the_end(loop: asyncio.AbstractEventLoop, asked: Callable[[str], None]) -> None:
    """`asked` is called with the name of each signal that asks for the end."""
    for number in ENDING:
        loop.add_signal_handler(number, asked, number.name)
