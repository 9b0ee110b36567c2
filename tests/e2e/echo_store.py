"""A store that remembers every byte: what it saw, headers included, is the oracle of the bypass tests.

It reads requests by the letter of RFC 9112 and takes whatever doesn't follow it for evidence.
"""

import socket
import threading

from msgspec import Struct

from tests.ports import free_port


class Seen(Struct, frozen=True):
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> list[bytes]:
        return [value for own, value in self.headers if own.lower() == name.lower()]


class EchoStore:
    """Answers everything with `200` and `body`. `seen` are complete requests in their order, `faults` what was no request."""

    def __init__(self, body: bytes = b"ok") -> None:
        self._body = body
        self.heads: list[bytes] = []
        """Request lines, also of requests whose body never came to its end."""
        self.seen: list[Seen] = []
        self.faults: list[bytes] = []
        self.port = free_port()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        try:
            while line := reader.readline():
                self.heads.append(line)
                request = self._read(line, reader)
                if request is None:
                    return
                self.seen.append(request)
                body = b"" if request.method == b"HEAD" else self._body
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._body) + body)
        except (OSError, EOFError):
            return  # the sidecar broke off, as it must when its client does
        except ValueError as error:
            self.faults.append(str(error).encode())
        finally:
            connection.close()

    def _read(self, line: bytes, reader: "socket.SocketIO") -> Seen | None:
        method, target, version = _line(line).split(b" ")
        if version != b"HTTP/1.1":
            raise ValueError(f"version {version!r}")
        headers: list[tuple[bytes, bytes]] = []
        while text := _line(reader.readline()):
            name, colon, value = text.partition(b":")
            if not colon or name != name.strip():
                raise ValueError(f"header line {text!r}")
            headers.append((name, value.strip()))
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        encodings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(encodings) > 1 or any(value != b"chunked" for value in encodings):
            raise ValueError(f"framing {lengths!r} {encodings!r}")
        size = int(lengths[0]) if lengths else 0
        return Seen(method, target, tuple(headers), _chunks(reader) if encodings else _exactly(reader, size))


def _line(line: bytes) -> bytes:
    if not line:
        raise EOFError
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise ValueError(f"line {line!r}")
    return line[:-2]


def _exactly(reader: "socket.SocketIO", size: int) -> bytes:
    data = reader.read(size)
    if data is None or len(data) < size:
        raise EOFError
    return data


def _chunks(reader: "socket.SocketIO") -> bytes:
    body = b""
    while size := int(_line(reader.readline()), 16):
        body += _exactly(reader, size)
        if _exactly(reader, 2) != b"\r\n":
            raise ValueError("chunk")
    if _line(reader.readline()):
        raise ValueError("trailer")
    return body
