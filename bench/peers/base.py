"""What a peer is: a program that can be put in front of the store, and how to write its configuration."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.credentials import Credentials
from bench.load import Expect, fetch, render
from bench.process import BenchError, Process, find_program, free_port
from bench.store import Store

OK = frozenset({200})
PREFLIGHT = 100_000
"""Bytes of the object that is compared before anything is measured."""


class Missing(Exception):
    """The program isn't installed here; its column is left out and its name is said."""


class Site(Struct, frozen=True):
    """Where one peer is put. `directory` is in memory, `disk` is not: evidence belongs on a disk."""

    directory: Path
    disk: Path
    port: int
    store_port: int
    credentials: Credentials


class Peer(Struct, frozen=True):
    name: str
    title: str
    command: Callable[[Site], list[str]]
    """Writes the configuration and returns the command line. Raises `Missing`."""
    version: Callable[[], str]
    checks_tokens: bool = False
    bulk_only: bool = False
    """A variant that differs from its plain form for large bodies alone."""
    only: frozenset[str] = frozenset()
    """The rows that it is measured in; empty: all that fit."""


class Running(Struct, frozen=True):
    peer: Peer
    process: Process
    port: int


def require(program: str) -> str:
    path = find_program(program)
    if path is None:
        raise Missing(f"{program} isn't installed")
    return path


def first_line(command: list[str]) -> str:
    """What a program says about its version, on either stream."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def start(peer: Peer, core: int, memory: Path, disk: Path, store: Store, credentials: Credentials) -> Running:
    """Start it and compare one object, so that nothing is measured that doesn't work."""
    site = Site(memory / peer.name, disk / peer.name, free_port(), store.port, credentials)
    for directory in (site.directory, site.disk):
        directory.mkdir(exist_ok=True)
    process = Process(peer.title, peer.command(site), core, site.directory)
    try:
        process.wait_listening(site.port)
        path = store.object(PREFLIGHT)
        body = fetch(site.port, render("GET", path, credentials.reader, close=True), Expect(OK, PREFLIGHT))
        if body != store.file(path).read_bytes():
            raise BenchError(f"{peer.title} changes what it carries")
    except (BenchError, OSError) as error:
        said = process.log()
        process.stop()
        raise BenchError(f"{peer.title}: {error}\n{said}") from error
    except BaseException:
        process.stop()
        raise
    return Running(peer, process, site.port)
