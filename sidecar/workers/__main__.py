"""`python -m sidecar.workers DESCRIPTOR`: the parent, which a serving process turns into where several workers are configured.

It loads no configuration reader, no policy, no token store, no upstream: each costs memory, and is the workers' matter.
"""

import signal

if __name__ == "__main__":
    # Before the imports that take long: whoever interrupts the start is not answered with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import sys

import uvloop

from sidecar import logs
from sidecar.workers.handover import handed_over
from sidecar.workers.supervisor import supervise


def main() -> None:
    """Exits as a single serving process does."""
    logs.set_up()
    settings = handed_over(int(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(supervise(settings)))


if __name__ == "__main__":
    main()
