"""Asks one thing over HTTP as a client would, and shows all of the answer."""

import base64
import contextlib
import http.client
from collections.abc import Iterator, Mapping

from msgspec import Struct


class Answer(Struct):
    status: int
    headers: list[tuple[str, str]]
    """Names in lower case, in the order of arrival."""
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def reason(self) -> str | None:
        """The sidecar's reason, where it refused."""
        return self.header("sidecar-reason")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterator[bytes] | None = None,
) -> Answer:
    """On a connection of its own. A `body` of pieces is sent in chunks."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        chunked = body is not None and not isinstance(body, bytes)
        sent = {"Transfer-Encoding": "chunked"} if chunked else {}
        connection.request(method, path, body=body, headers={**(headers or {}), **sent}, encode_chunked=chunked)
        return _read(connection.getresponse())


def _read(response: http.client.HTTPResponse) -> Answer:
    body = response.read()
    return Answer(response.status, [(name.lower(), value) for name, value in response.getheaders()], body)
