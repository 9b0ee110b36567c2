"""aiohttp's server and client with nothing but a loop between them: what a sidecar costs if no one minds. The program is `plain_proxy.py`."""

import sys
from importlib.metadata import version
from pathlib import Path

from bench import plain_proxy
from bench.peers.base import Peer, Site


def _command(site: Site) -> list[str]:
    return [sys.executable, str(Path(plain_proxy.__file__)), str(site.port), str(site.store_port)]


def _version() -> str:
    return f"aiohttp {version('aiohttp')}, uvloop {version('uvloop')}"


PEERS = (Peer("aiohttp", "aiohttp, plain", _command, _version),)
