"""From the process that read the configuration to the parent that it turns into: the settings go along, not the memory."""

import os
import sys
from typing import NoReturn

from sidecar.settings import Settings
from sidecar.workers.channel import pack, unpack


def become_parent(settings: Settings) -> NoReturn:
    """Replaces this process by `python -m sidecar.workers`; its number stays."""
    descriptor = os.memfd_create("settings", 0)  # without the flag that closes it
    os.write(descriptor, pack(settings))
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "sidecar.workers", str(descriptor)])  # noqa: S606 - own interpreter


def handed_over(descriptor: int) -> Settings:
    with open(descriptor, "rb") as file:
        return unpack(file.read())
