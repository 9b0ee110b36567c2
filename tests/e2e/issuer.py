"""An issuer of JWTs on loopback: OIDC discovery and a set of keys, which can be changed, and which can be out of order."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests import jose

AUDIENCE = "artifact-cache"


def token(issuer: str, *, key: str = "k1", **claims: Any) -> str:
    """Signed with ES256 by the key of that name; a claim given as `None` is left out."""
    now = int(time.time())
    body = {"iss": issuer, "aud": AUDIENCE, "sub": "somebody", "iat": now, "exp": now + 600, **claims}
    header = {"alg": "ES256", "kid": key, "typ": "JWT"}
    return jose.sign(
        header,
        {name: value for name, value in body.items() if value is not None},
        jose.private_key("ES256", key),
        "ES256",
    )


def key_set(*keys: str) -> bytes:
    return jose.key_set(*(jose.jwk(jose.private_key("ES256", key), key, alg="ES256") for key in keys))


class Issuer:
    """Serves the public halves of `keys`, or answers 500 while it is `down`."""

    def __init__(self, *keys: str) -> None:
        self.keys = list(keys)
        self.down = False
        self.asked: list[str] = []
        """The paths that were asked for."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                status, body = issuer._answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, path: str) -> tuple[int, bytes]:
        if self.down:
            return 500, b""
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return (200, key_set(*self.keys)) if path == "/keys" else (404, b"")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
