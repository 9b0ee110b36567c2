"""`sidecar` and `python -m sidecar`."""

import signal

# Before the imports that take long: whoever interrupts a command is not answered with a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from sidecar.cli.root import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
