"""The data plane's certificate, followed while it is served by. The law: a pair that can't serve never replaces one that does.

Facts behind the choices:
- A certificate and its key are two files that change at two moments. In Kubernetes both are new with one rename of `..data`, so
  they are read through where it points now; elsewhere a change counts once two reads agree, and once the two fit together.
- `SSLContext.load_cert_chain` isn't transactional: given a pair that doesn't fit it raises, and every later handshake fails. Nor
  does it replace: beside a new ECDSA certificate the old RSA one would still be served. So each version has a context of its own.
- It reads files, not bytes, so what was judged could be another version than what is loaded. The bytes are handed over in memory.
"""

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from sidecar.errors import SidecarError
from sidecar.settings import KiB, TlsSettings
from sidecar.settled import FollowedFiles, Reading

MAX_PEM = 256 * KiB
_FOREIGN_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""How OpenSSL names a key that doesn't fit; the last is for a key of another kind."""
_CERTIFICATE, _KEY = "certificate", "key"


class BadPair(SidecarError):
    """The text says what is wrong, and holds nothing of the key."""


class Served(Struct, frozen=True, eq=False):
    """One version."""

    context: ssl.SSLContext
    not_after: float
    """Unix seconds."""
    names: tuple[str, ...]


def load_pair(certificate: bytes, key: bytes, now: float) -> Served:
    """Raises `BadPair`: not PEM, no pair, an encrypted key, or a certificate that isn't valid at `now`."""
    try:
        leaf, *_ = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise BadPair("the certificate file holds no PEM certificate") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _in_memory(certificate) as first, _in_memory(key) as second:
            # The password: without one OpenSSL would ask for it at the terminal.
            context.load_cert_chain(first, second, password=lambda: b"")
    except ssl.SSLError as error:
        foreign = error.reason in _FOREIGN_KEY
        why = "the key is another certificate's" if foreign else "the key can't be read, or is encrypted"
        raise BadPair(why) from None
    begins, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if not begins <= now < ends:
        word, moment = ("expired", ends) if now >= ends else ("is not valid before", begins)
        raise BadPair(f"the certificate {word} {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC")
    return Served(context, ends, _names(leaf))


class Certificate(FollowedFiles[str | None]):
    """`on_event` is called in the loop for each new version, with what is wrong with it or an empty text, and must not raise."""

    def __init__(
        self,
        settings: TlsSettings,
        on_event: Callable[[str], None] = lambda problem: None,
        *,
        interval: float = 1.0,
        settle: float = 0.2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("certificate", MAX_PEM, interval=interval, settle=settle)
        self._settings = settings
        self._on_event = on_event
        self._clock = clock
        self._content: dict[str, bytes | None] = {}
        self._errors: dict[str, str] = {}
        self._unjudged = False
        self._served: Served | None = None
        self.problem = ""
        """What is wrong with the files as they are now; empty where they are what is served."""
        self.loaded = self.failed = 0

    @property
    def served(self) -> Served:
        """What a handshake that begins now is made with. Only after a cold start."""
        if self._served is None:
            raise BadPair("no certificate was loaded")
        return self._served

    def _paths(self) -> Mapping[str, str]:
        """Where to read both, in one generation of a Kubernetes volume."""
        files = _files(self._settings)
        folders = {path.parent: os.path.realpath(path.parent / "..data") for path in files.values()}
        return {
            name: os.path.join(folders[path.parent], path.name)
            if os.path.isdir(folders[path.parent]) and _is_mounted(path)
            else str(path)
            for name, path in files.items()
        }

    def _load(self) -> str | None:
        """The first one is no news. Raises `BadPair` where there is nothing to serve by."""
        super()._load()
        if self._served is None:
            raise BadPair(self.problem or "its files keep changing")
        return None

    def _publish(self, problem: str | None) -> None:
        if problem is not None:
            self._on_event(problem)

    def _take(self, changed: Mapping[str, Reading]) -> str | None:
        """`None`: nothing is new. Otherwise what is wrong with what is new, or an empty text."""
        for name, reading in changed.items():
            self._content[name], self._errors[name] = reading.content, reading.error
            self._unjudged = True
        if self._settled.waiting or not self._unjudged:  # waiting: the other half may be on its way
            return None
        self._unjudged = False
        certificate, key = self._content.get(_CERTIFICATE), self._content.get(_KEY)
        try:
            if certificate is None or key is None:
                missing = _CERTIFICATE if certificate is None else _KEY
                error = self._errors.get(missing) or "the file is gone"
                raise BadPair(f"{_files(self._settings)[missing]}: {error}")
            # One assignment: a handshake in the loop begins with the old version or with the new one.
            self._served = load_pair(certificate, key, self._clock())
        except BadPair as bad:
            self.problem = str(bad)
            self.failed += 1
        else:
            self.problem = ""
            self.loaded += 1
        return self.problem


def _files(settings: TlsSettings) -> dict[str, Path]:
    return {_CERTIFICATE: settings.cert_file, _KEY: settings.key_file}


def _is_mounted(path: Path) -> bool:
    """Whether it is one of a Kubernetes volume's links, `tls.crt -> ..data/tls.crt`."""
    try:
        return os.readlink(path) == f"..data/{path.name}"
    except OSError:
        return False


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path to a file of this content that no disk ever holds."""
    with ExitStack() as opened:
        descriptor = os.memfd_create("pem")
        opened.callback(os.close, descriptor)
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
