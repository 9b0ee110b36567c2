"""The serving process: `python -m sidecar.serving CONFIG`, which is what `sidecar serve` turns into.

It loads nothing that serving doesn't need (no command line, no migrations): a sidecar's memory is paid for in every pod.
"""

import signal

if __name__ == "__main__":
    # Before the imports that take long: whoever interrupts the start is not answered with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Until it is listened for; what this process turns into, or starts, inherits it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import uvloop
from aiohttp import http_parser

from sidecar import config, logs, signals
from sidecar.errors import DocumentError, Exit, SidecarError
from sidecar.listening import in_the_way
from sidecar.settings import Listen, Settings
from sidecar.wiring import Sidecar
from sidecar.workers.channel import ChannelBroken
from sidecar.workers.handover import become_parent
from sidecar.workers.member import Member

log = logging.getLogger("sidecar.serving")  # as a program its `__name__` is another


def main() -> None:
    """Exits 0 after a clean end, 1 where it could not serve, 2 where the configuration is invalid, 3 where it is right but a
    file that it names is missing or unfit: as every command does."""
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]))
    if len(sys.argv) != 2:
        print("usage: python -m sidecar.serving CONFIG (people run: sidecar serve --config CONFIG)", file=sys.stderr)
        raise SystemExit(Exit.INVALID)
    logs.set_up()
    require_c_parser()
    try:
        settings = config.load(Path(sys.argv[1]))
    except DocumentError as error:
        print(error, file=sys.stderr)
        raise SystemExit(Exit.INVALID) from None
    if problems := config.check_files(settings):
        print(DocumentError(problems), file=sys.stderr)
        raise SystemExit(Exit.MISSING)
    if taken := list(in_the_way(_addresses(settings))):
        for problem in taken:
            print(f"sidecar can't start: {_said(problem, settings)}", file=sys.stderr)
        raise SystemExit(Exit.FAILED)
    if settings.workers > 1:
        become_parent(settings)
    raise SystemExit(run(settings))


def work(channel: int) -> NoReturn:
    """One of several workers: a serving process that gets its settings and sockets from its parent, by this descriptor."""
    logs.set_up()
    try:
        member = Member(channel)
    except (OSError, ChannelBroken) as error:
        raise SystemExit(f"a worker can't start by itself: {error}") from None
    logs.set_up(worker=member.index)
    raise SystemExit(run(member.settings, member=member))


def run(settings: Settings, started: Callable[[], None] = lambda: None, member: Member | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `started` is called once requests are accepted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings, started, member))


def require_c_parser() -> None:
    """aiohttp falls back to a pure-Python parser in silence, and that one has a history of request smuggling (law 10)."""
    if http_parser.HttpRequestParser is not getattr(http_parser, "HttpRequestParserC", None):
        raise SystemExit(
            "aiohttp's C parser is missing, and its Python one is not safe here: install a binary wheel of aiohttp"
        )


async def serve(settings: Settings, started: Callable[[], None], member: Member | None = None) -> int:
    loop = asyncio.get_running_loop()
    sidecar = Sidecar(settings, member.seat if member else None)
    try:
        await sidecar.start()
    except (SidecarError, OSError) as error:
        print(f"sidecar can't start: {_said(error, settings)}", file=sys.stderr)
        await sidecar.stop(grace=0)
        return Exit.FAILED
    asked: asyncio.Future[str] = loop.create_future()
    insisted = asyncio.Event()

    def stop(why: str) -> None:
        if asked.done():
            insisted.set()
        else:
            asked.set_result(why)

    signals.listen_for_hangup(loop)
    signals.listen_for_the_end(loop, stop)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    if member is not None:

        def abandon() -> None:
            stop("the parent process is gone")
            insisted.set()

        await member.join(sidecar.checks, sidecar.metrics, abandon)
    else:
        log.info("serving on %s, ops on %s", ", ".join(map(str, settings.listen)), settings.ops)
    started()
    why, limits = await asked, settings.limits
    # Endpoints are withdrawn while SIGTERM is already here: whoever still comes is served for a moment longer.
    log.info(
        "stopping (%s): no longer ready, accepting for %g s more, then up to %g s to finish",
        *(why, limits.drain_delay, limits.grace),
    )
    ending = loop.create_task(sidecar.drain())
    impatience = loop.create_task(insisted.wait())
    await asyncio.wait((ending, impatience), return_when=asyncio.FIRST_COMPLETED)
    impatience.cancel()
    if not ending.done():
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await sidecar.stop(grace=0)
    log.info("stopped")
    return Exit.OK


def _addresses(settings: Settings) -> list[tuple[str, Listen]]:
    return [*(("listen", each.address) for each in settings.listen), ("ops", settings.ops)]


def _said(error: Exception, settings: Settings) -> str:
    return f"{error}; see {settings.path}"


if __name__ == "__main__":
    main()
