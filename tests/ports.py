"""TCP ports for servers that a test starts by number.

Facts behind the choice:
- A port that was asked of the kernel and let go is anybody's: it is one of those that outgoing connections get, too, and one of
  these may have it when the server comes up, or still have it when a server that was stopped comes up again.
- Several runs of the suite may go on beside one another.

So they are taken from below the kernel's range for outgoing connections. Each run has a block of its own, held for as long as
it lives by a name that ends with it, and goes round in it: what was given is given again as late as can be.
"""

import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path

_FIRST, _LAST, _BLOCK = 10240, 65536, 500


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones, on which nobody listens."""
    _, ports = _held()
    found = list(islice((port for port in islice(ports, _BLOCK) if _is_free(port)), count))
    assert len(found) == count, f"{len(found)} ports of this run's {_BLOCK} are free; {count} are wanted"
    return found


@cache
def _held() -> tuple[socket.socket, Iterator[int]]:
    """The name that holds the block, and its ports in turn, without an end."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = lowest if lowest > _FIRST + _BLOCK else _LAST  # a machine that gives them all away leaves no better ones
    for first in range(_FIRST, end - _BLOCK + 1, _BLOCK):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0sidecar-tests-ports-{first}")  # abstract: it is gone with its process
        except OSError:
            claim.close()
            continue
        return claim, cycle(range(first, first + _BLOCK))
    raise AssertionError(f"no block of {_BLOCK} ports is left between {_FIRST} and {end}")


def _is_free(port: int) -> bool:
    """Bound, and never listened on: who asks there meanwhile is refused, and not cut off."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
