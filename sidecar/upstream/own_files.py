"""What the sidecar shows to one store and what it trusts there: credentials and certificates, from their files, followed.

Laws. A change counts as a whole: all files are read twice, alike, 200 ms apart, so that a certificate and its key come from one
generation of a mounted Secret (`..data`). What can't be used changes nothing: the last good version stays in force, and is told of.
Verification can't be turned off. Neither a secret nor a part of one is in a message.
"""

import base64
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from sidecar.background import Follower
from sidecar.model import Secret
from sidecar.settings import KiB, S3Credentials, UpstreamSettings

_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
MAX_BYTES = 256 * KiB
INTERVAL, SETTLE = 0.5, 0.2
"""Seconds between two looks at the files, and until a change is looked at again."""

_ACCESS_KEY_ID = re.compile(r"[!-+.0-~-]{1,256}")
"""It stands in a list of `Credential=ID/...,`: no comma, slash or space."""
_SECRET = re.compile(r"[!-~]+")

log = logging.getLogger(__name__)

Contents = Mapping[Path, bytes]


class OwnFilesUnusable(ValueError):
    """What is wrong with one of the files, said for the operator."""


class Keys(Struct, frozen=True):
    """A pair for S3, with the session's token where it is a temporary one."""

    access_key_id: str
    secret: Secret
    session_token: Secret | None = None


class Material(Struct, frozen=True):
    """What is in force."""

    credential: tuple[bytes, bytes] | None = None
    """A header's name and value."""
    tls: ssl.SSLContext | None = None
    expires: float | None = None
    """When the client certificate ends, in Unix seconds."""
    keys: Keys | None = None


NOTHING = Material()


def files_of(settings: UpstreamSettings) -> tuple[Path, ...]:
    credentials = settings.credentials
    named = [settings.ca_file, settings.client_certificate_file, settings.client_key_file]
    if credentials is not None:
        named.append(credentials.bearer_file)
        named.append(credentials.basic.password_file if credentials.basic is not None else None)
        named.append(credentials.header.value_file if credentials.header is not None else None)
    if settings.s3 is not None:
        keys = settings.s3.credentials
        named += [keys.access_key_id_file, keys.secret_access_key_file, keys.session_token_file]
    return tuple(path for path in named if path is not None)


def read(paths: tuple[Path, ...]) -> Contents:
    """Raises `OSError`, and `OwnFilesUnusable` for one that is too large."""
    contents = {}
    for path in paths:
        with path.open("rb") as file:
            contents[path] = file.read(MAX_BYTES + 1)
        if len(contents[path]) > MAX_BYTES:
            raise OwnFilesUnusable(f"{path.name} has more than {MAX_BYTES} bytes")
    return contents


def material(settings: UpstreamSettings, contents: Contents) -> Material:
    """Raises `OwnFilesUnusable`."""
    tls = context(settings, contents) if settings.url.startswith("https:") else None
    certificate = settings.client_certificate_file
    expires = expiry(contents[certificate]) if certificate is not None else None
    keys = own_keys(settings.s3.credentials, contents) if settings.s3 is not None else None
    return Material(credential_header(settings, contents), tls, expires, keys)


def own_keys(credentials: S3Credentials, contents: Contents) -> Keys | None:
    """From the files or the environment; `None` where somebody else finds them. Raises `OwnFilesUnusable`."""
    if credentials.source == "environment":
        found = [os.environ.get(name, "") for name in _VARIABLES]
        for name, text in zip(_VARIABLES[:2], found, strict=False):
            if not text:
                raise OwnFilesUnusable(f"the variable {name} is not set")
        return checked_keys(*found)
    if credentials.access_key_id_file is None or credentials.secret_access_key_file is None:
        return None
    token = credentials.session_token_file
    return checked_keys(
        _secret(credentials.access_key_id_file, contents).decode(),
        _secret(credentials.secret_access_key_file, contents).decode(),
        _secret(token, contents).decode() if token is not None else "",
    )


def checked_keys(access_key_id: str, secret: str, session_token: str) -> Keys:
    """Raises `OwnFilesUnusable` for what can't be keys. An empty `session_token` is none."""
    if _ACCESS_KEY_ID.fullmatch(access_key_id) is None:
        raise OwnFilesUnusable("the access key id holds what none does: a space, a comma, a slash")
    if _SECRET.fullmatch(secret) is None or (session_token and _SECRET.fullmatch(session_token) is None):
        raise OwnFilesUnusable("the secret access key, or the session token, holds what none does: a space")
    return Keys(access_key_id, Secret(secret), Secret(session_token) if session_token else None)


def credential_header(settings: UpstreamSettings, contents: Contents) -> tuple[bytes, bytes] | None:
    """The header that the store asks for; trailing line ends are not part of a secret."""
    credentials = settings.credentials
    if credentials is None:
        return None
    if credentials.basic is not None:
        pair = credentials.basic.username.encode() + b":" + _secret(credentials.basic.password_file, contents)
        return b"Authorization", b"Basic " + base64.b64encode(pair)
    if credentials.bearer_file is not None:
        return b"Authorization", b"Bearer " + _secret(credentials.bearer_file, contents)
    assert credentials.header is not None
    return credentials.header.name.encode(), _secret(credentials.header.value_file, contents)


def _secret(path: Path, contents: Contents) -> bytes:
    if (flaw := unsendable(contents[path])) is not None:
        raise OwnFilesUnusable(f"{path.name} {flaw}")
    return contents[path].rstrip(b"\r\n")


def unsendable(content: bytes) -> str | None:
    """What is wrong with a file whose content a header carries, without its name; `None` where nothing is."""
    secret = content.rstrip(b"\r\n")
    if not secret.strip():
        return "is empty"
    if any(byte < 0x20 or byte > 0x7E for byte in secret):  # a line break in it would be a header of its own
        return "can't be sent in a header: only printable ASCII on one line can"
    return None


def context(settings: UpstreamSettings, contents: Contents) -> ssl.SSLContext:
    """Raises `OwnFilesUnusable`. Names are always verified (`create_default_context`), TLS 1.2 is the oldest."""
    ca, certificate, key = settings.ca_file, settings.client_certificate_file, settings.client_key_file
    if ca is None:
        made = ssl.create_default_context()
    else:
        # Comments in it may be in any script. Empty data would mean the system's authorities.
        trusted = contents[ca].decode("ascii", "ignore")
        try:
            if "-----BEGIN " not in trusted:
                raise ValueError
            made = ssl.create_default_context(cadata=trusted)
        except (ssl.SSLError, ValueError):
            raise OwnFilesUnusable(f"no PEM certificates can be read from {ca.name}") from None
        # Whatever is in the file is trusted: an intermediate's certificate or the store's own, too, as Python 3.13 has it by itself.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.set_alpn_protocols(["http/1.1"])
    if certificate is not None and key is not None:
        show(made, contents[certificate], contents[key])
    return made


def show(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have this context show the certificate (PEM, with its chain). Raises `OwnFilesUnusable`."""
    try:
        # From the bytes that were read and compared, not from names that may mean another generation by now.
        with _file_of(certificate) as first, _file_of(key) as second:
            tls.load_cert_chain(first, second, password=_no_password)
    except ssl.SSLError as error:
        why = "don't belong together" if error.reason == "KEY_VALUES_MISMATCH" else "can't be read as PEM"
        raise OwnFilesUnusable(f"the client certificate and its key {why}") from None


def expiry(certificate: bytes) -> float:
    """When a certificate (PEM) ends, in Unix seconds. Raises `OwnFilesUnusable`."""
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError:
        raise OwnFilesUnusable("the client certificate can't be read as PEM") from None


def _no_password() -> str:
    """OpenSSL would ask at the terminal."""
    raise OwnFilesUnusable("the client certificate's key is locked by a password; take it off")


@contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """A name under which OpenSSL finds these bytes: it takes no others. In memory, so that a key is never on a disk."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class OwnFiles:
    """`start()` follows the files; `changed` is called in the loop with what is in force from then on."""

    def __init__(
        self,
        settings: UpstreamSettings,
        changed: Callable[[Material], None],
        interval: float = INTERVAL,
        settle: float = SETTLE,
    ) -> None:
        """Reads them, blocking. Raises `OSError` or `OwnFilesUnusable` where that fails."""
        self._settings = settings
        self._changed = changed
        self._interval, self._settle = interval, settle
        self._paths = files_of(settings)
        self._contents = read(self._paths)
        self._pending: Contents | str | None = None
        """Seen once: the files, or why they can't be read."""
        self._refused: Contents | str | None = None
        self.in_force = material(settings, self._contents)
        self.problem: str | None = None
        """What is wrong with the files as they are on disk now."""
        self.reloads = self.failures = 0
        name = f"files of {settings.name}"
        self._follower = Follower(name, look=self._look, publish=self._publish, pause=self._pause)

    async def start(self) -> None:
        if self._paths:
            await self._follower.start()

    async def stop(self) -> None:
        if self._paths:
            await self._follower.stop()

    def _pause(self, took: float) -> float:
        return self._settle if self._pending is not None else self._interval

    def _look(self) -> Material | str | None:
        """In the follower's thread: what is new, or what is wrong with it; `None` where nothing is."""
        try:
            seen: Contents | str = read(self._paths)
        except OSError as error:
            seen = f"{Path(str(error.filename)).name}: {(error.strerror or type(error).__name__).lower()}"
        except OwnFilesUnusable as error:
            seen = str(error)
        before, self._pending = self._pending, None
        if seen == self._contents:
            self._refused = None
            return self.in_force if self.problem is not None else None
        if seen == self._refused:
            return None
        if seen != before:
            self._pending = seen
            return None
        found = self._judged(seen)
        if isinstance(found, str):
            self._refused = seen
        elif not isinstance(seen, str):
            self._contents, self._refused = seen, None
        return found

    def _judged(self, seen: Contents | str) -> Material | str:
        if isinstance(seen, str):
            return seen
        try:
            found = material(self._settings, seen)
        except OwnFilesUnusable as error:
            return str(error)
        if found.expires is not None and found.expires < time.time():
            return "the client certificate has expired"
        return found

    def _publish(self, found: Material | str | None) -> None:
        name = self._settings.name
        if found is None:
            return
        if isinstance(found, str):
            self.problem = found
            self.failures += 1
            log.warning("the upstream %s keeps what it last read of its files: %s", name, found)
            return
        self.problem = None
        if found is not self.in_force:
            self.in_force = found
            self.reloads += 1
            log.info("the upstream %s: its files were read again", name)
            self._changed(found)
