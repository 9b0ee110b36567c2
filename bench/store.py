"""The store behind every proxy: nginx with files in memory and WebDAV's PUT. It never asks who is there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench import nginx
from bench.process import BenchError, Process, find_program, free_port

FOLDER = "bench"
"""Everything lies below it: the path of the one route that the proxies serve."""


class Store:
    """`files` is the directory that becomes `/bench/`; bigger objects are written once and kept."""

    def __init__(self, directory: Path, core: int) -> None:
        program = find_program(nginx.PROGRAM)
        if program is None:
            raise BenchError(
                "nginx isn't installed: it is the store behind every proxy (Debian: apt-get install nginx)"
            )
        self.files = directory / "root" / FOLDER
        self.files.mkdir(parents=True)
        self.port = free_port()
        http = f"""
    sendfile on;
    server {{
        listen 127.0.0.1:{self.port} backlog=1024;
        root {directory}/root;
        location / {{
            dav_methods PUT DELETE;
            create_full_put_path on;
        }}
    }}"""
        self._process = Process("the store", [program, *nginx.write_config(directory, http)], core, directory)
        self.stop = self._process.stop
        self._process.wait_listening(self.port)

    def object(self, size: int) -> str:
        """The path of an object of `size` bytes."""
        name = f"object-{size}"
        if not (self.files / name).exists():
            piece = bytes(range(256)) * 4096
            with (self.files / name).open("wb") as out:
                for start in range(0, size, len(piece)):
                    out.write(piece[: size - start])
        return f"/{FOLDER}/{name}"

    def file(self, path: str) -> Path:
        return self.files.parent / path.lstrip("/")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A store that takes nothing and answers nothing for a while."""
        self._process.pause()
        try:
            yield
        finally:
            self._process.resume()
