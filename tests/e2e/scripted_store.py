"""A store that does as it is told, byte for byte, and remembers what it was sent."""

import contextlib
import socket
import threading
from collections.abc import Callable

from msgspec import Struct, field

from tests.ports import free_port


class Asked(Struct):
    """One request as it arrived."""

    head: bytes
    body: bytearray = field(default_factory=bytearray)
    """As sent, chunk framing included."""
    connection: int = 0
    """Which connection it came on, counted from 0."""
    cut: bool = False
    """The sender broke off before the body was complete."""
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    def header(self, name: str) -> bytes | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode().lower():
                return value.strip()
        return None


Script = Callable[[socket.socket, Asked], bool | None]
"""Answers one request on its connection, reading the body itself if it wants to; `False` ends the connection."""


def answer(data: bytes) -> Script:
    def script(connection: socket.socket, asked: Asked) -> None:
        read_body(connection, asked)
        connection.sendall(data)

    return script


OK = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def read_body(connection: socket.socket, asked: Asked) -> None:
    """The rest of the body; `asked.cut` where it ends early."""
    length, coding = asked.header("content-length"), asked.header("transfer-encoding")
    try:
        while (length is not None and len(asked.body) < int(length)) or (
            coding is not None and not asked.body.endswith(b"0\r\n\r\n")
        ):
            data = connection.recv(1 << 20)
            if not data:
                asked.cut = True
                break
            asked.body += data
    except OSError:
        asked.cut = True
    asked.done.set()


class ScriptedStore:
    def __init__(self, script: Script = OK, *, unix: str | None = None, port: int | None = None) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.connections: list[socket.socket] = []
        if unix is None:
            self.port = free_port() if port is None else port
            self._listening = socket.create_server(("127.0.0.1", self.port))
        else:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(unix)
            self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # else the thread that accepts takes one more
        self._listening.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection, len(self.connections) - 1), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        data = b""
        with contextlib.suppress(OSError), connection:
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(1 << 20)
                    if not more:
                        return
                    data += more
                head, _, rest = data.partition(b"\r\n\r\n")
                asked = Asked(head, bytearray(rest), number)
                self.asked.append(asked)
                if self.script(connection, asked) is False:
                    return
                data = b""
