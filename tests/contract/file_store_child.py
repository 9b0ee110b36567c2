"""A process of its own that writes to an embedded store, for the tests that kill it or bound its files.

`torn DIR`: begins a PUT of `key`, prints a line when half of it is on the disk, and then waits for ever.
`loop DIR`: prints a line, then replaces `key` again and again with one of two bodies.
`bound DIR`: may write no file beyond 1 MiB, PUTs 2 MiB and prints the reason of the refusal.
"""

import asyncio
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from sidecar.errors import Refused
from sidecar.upstream.file import FileStore
from tests.contract.fake_downstream import ask

BODIES = (b"a" * 300_000, b"b" * 400_000)


def tell(text: str) -> None:
    print(text, flush=True)


async def half_a_body(directory: Path) -> AsyncIterator[bytes]:
    for _ in range(16):
        yield b"x" * 64 * 1024
    while sum(file.stat().st_size for file in (directory / "tmp").iterdir()) < 512 * 1024:
        await asyncio.sleep(0.001)
    tell("half")
    await asyncio.Event().wait()
    yield b"never"


async def main(mode: str, directory: Path) -> None:
    store = FileStore(directory)
    await store.open()
    if mode == "torn":
        await ask(store, "PUT", "/key", body=half_a_body(directory), chunked=True)
    elif mode == "loop":
        tell("go")
        while True:
            for body in BODIES:
                await ask(store, "PUT", "/key", body=body)
    elif mode == "bound":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, 1024 * 1024))
        try:
            await ask(store, "PUT", "/key", body=[b"x" * 64 * 1024] * 32)
        except Refused as refusal:
            tell(refusal.reason)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
