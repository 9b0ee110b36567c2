"""`sidecar serve`: becomes the serving process and leaves nothing of the command line behind in its memory."""

import os
import sys

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption


def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Serve until SIGTERM or Ctrl-C.

    The data plane is on `listen`, health and metrics are on `ops`.

    Policies and people are picked up when they change; a changed configuration needs a restart.
    """
    # -P: without it Python would look for modules in the working directory first, and run what it finds there.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "sidecar.serving", str(config)])  # noqa: S606 - own interpreter
