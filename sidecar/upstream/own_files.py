"""What the sidecar shows to one store and what it trusts there: credentials and certificates, from their files, followed.

Laws. A change counts as a whole: all files are read twice, alike, 200 ms apart, so that a certificate and its key come from one
generation of a mounted Secret (`..data`). What can't be used changes nothing: the last good version stays in force, and is told of.
Verification can't be turned off. Neither a secret nor a part of one is in a message.
"""

import base64
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from sidecar.background import Follower
from sidecar.settings import KiB, UpstreamSettings

MAX_BYTES = 256 * KiB
INTERVAL, SETTLE = 0.5, 0.2
"""Seconds between two looks at the files, and until a change is looked at again."""

log = logging.getLogger(__name__)

Contents = Mapping[Path, bytes]


class OwnFilesUnusable(ValueError):
    """What is wrong with one of the files, said for the operator."""


class Material(Struct, frozen=True):
    """What is in force."""

    credential: tuple[bytes, bytes] | None = None
    """A header's name and value."""
    tls: ssl.SSLContext | None = None
    expires: float | None = None
    """When the client certificate ends, in Unix seconds."""


def files_of(settings: UpstreamSettings) -> tuple[Path, ...]:
    credentials = settings.credentials
    named = [settings.ca_file, settings.client_certificate_file, settings.client_key_file]
    if credentials is not None:
        named.append(credentials.bearer_file)
        named.append(credentials.basic.password_file if credentials.basic is not None else None)
        named.append(credentials.header.value_file if credentials.header is not None else None)
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
    return Material(credential_header(settings, contents), tls, expires)


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
    secret = contents[path].rstrip(b"\r\n")
    if not secret.strip():
        raise OwnFilesUnusable(f"{path.name} is empty")
    if any(byte < 0x20 or byte > 0x7E for byte in secret):  # a line break in it would be a header of its own
        raise OwnFilesUnusable(f"{path.name} can't be sent in a header: only printable ASCII on one line can")
    return secret


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
