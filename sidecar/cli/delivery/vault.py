"""A secret in Vault's (or OpenBao's) key-value engine, version 2, over its HTTP API.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#create-update-secret: `POST /v1/MOUNT/data/PATH` with the values
under `data` makes a new version of the whole secret, as `vault kv put` does. Where and as whom: `VAULT_ADDR`, `VAULT_TOKEN`,
`VAULT_NAMESPACE` and `VAULT_CACERT`, as Vault's own command has them. Redirects are not followed: they would carry the token on.
"""

import http.client
import re
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sidecar.cli.delivery.destination import DeliveryError, Wish, expires
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import Secret

DEFAULT_SECRET, DEFAULT_KEY = "secret/sidecar-token", "token"
TIMEOUT = 10.0
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST_ANSWER = 64 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Vault:
    manifest = None

    def __init__(self, wish: Wish) -> None:
        wish.refuse("file", "namespace")
        environment = wish.environment
        self._wish = wish
        self._secret, self._key = wish.secret or DEFAULT_SECRET, wish.key or DEFAULT_KEY
        self._names: tuple[str, ...] = (self._key,)
        segments = self._secret.split("/")
        if len(segments) < 2 or not all(map(_SEGMENT.fullmatch, segments)):
            raise DeliveryError(
                f"--secret {self._secret!r}: MOUNT/PATH, as secret/ci/cache: letters, digits, '-', '_' and '.', without `data/`"
            )
        if _SEGMENT.fullmatch(self._key) is None or self._key in _DESCRIBING:
            raise DeliveryError(
                f"--key {self._key!r}: letters, digits, '-', '_' and '.', and none of {', '.join(_DESCRIBING)}"
            )
        address = environment.get("VAULT_ADDR", "")
        try:
            parts = urlsplit(address)
        except ValueError:
            parts = urlsplit("")
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise DeliveryError("VAULT_ADDR: set it to where Vault is, as https://vault.example.com:8200")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise DeliveryError("VAULT_ADDR: over plain http the token would be anybody's; use https")
        self._authority = parts.hostname
        self._url = f"{address.rstrip('/')}/v1/{segments[0]}/data/{'/'.join(segments[1:])}"
        self._headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
        if (credential := environment.get("VAULT_TOKEN", "").strip()) == "":
            raise DeliveryError("VAULT_TOKEN: set it to a token of Vault's that may write this secret")
        if not (credential + environment.get("VAULT_NAMESPACE", "")).isascii() or not credential.isprintable():
            raise DeliveryError("VAULT_TOKEN, VAULT_NAMESPACE: not sendable in a header")
        self._headers["X-Vault-Token"] = credential
        if namespace := environment.get("VAULT_NAMESPACE", "").strip():
            self._headers["X-Vault-Namespace"] = namespace
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_trust(environment.get("VAULT_CACERT") or None)))
        else:
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy would read what is in clear text
        self._opener = urllib.request.build_opener(*handlers)

    def __repr__(self) -> str:
        return f"<Vault {self._secret}>"

    @property
    def where(self) -> str:
        return f"{', '.join(self._names)} in Vault's secret {self._secret} at {self._authority}"

    def put(self, token: Secret, row: TokenRow, pair: AccessKey | None = None) -> None:
        secret = self._wish.values(self._key, token, pair)
        self._names = tuple(secret)
        values = {**secret, **{name: describe(row) for name, describe in _DESCRIBING.items()}}
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url, msgspec.json.encode({"data": values}), self._headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                answer.read(_LONGEST_ANSWER)
                status = answer.status
        except urllib.error.HTTPError as error:
            said = _said(error, tuple(secret.values()))
            error.close()
            hint = "; is it mounted, and version 2 of the key-value engine?" if error.code == 404 else ""
            raise DeliveryError(f"Vault answered {error.code} for {self._secret}{said}{hint}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else type(error).__name__
            raise DeliveryError(f"Vault at {self._authority} can't be asked: {reason}") from None
        if status == 204:
            # What version 1 answers, having written it all under `data/`, below the name that nobody will read.
            raise DeliveryError(
                f"{self._secret.split('/')[0]} is version 1 of Vault's key-value engine; version 2 is needed"
            )


_DESCRIBING = {
    "token_id": lambda row: row.id,
    "expires_at": expires,
}
"""What stands beside the token, so that whoever finds it can tell which it is."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise DeliveryError(f"VAULT_CACERT: no certificates can be read from {ca_file}") from None


def _said(error: urllib.error.HTTPError, secrets: tuple[str, ...]) -> str:
    """Vault's own words (`{"errors": [...]}`), as far as they are printable and hold none of what was sent."""
    try:
        found = msgspec.json.decode(error.read(_LONGEST_ANSWER), type=dict[str, Any]).get("errors")
        text = "; ".join(map(str, found)) if isinstance(found, list) else ""
    except (OSError, ValueError, http.client.HTTPException):
        text = ""
    text = "".join(character if character.isprintable() else " " for character in text)[:300].strip()
    return f": {text}" if text and not any(secret in text for secret in secrets) else ""
