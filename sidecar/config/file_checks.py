"""One file or folder that the configuration names: can it be read, and is it fit for what it is there for?

No message repeats a byte of a secret.
"""

import os
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from sidecar.credentials import jwk
from sidecar.directory.file import read_people
from sidecar.errors import DocumentError, Problem
from sidecar.policy.source import SUFFIXES
from sidecar.server.certificate import MAX_PEM, BadPair, load_pair
from sidecar.settings import (
    KiB,
    S3Credentials,
    TlsSettings,
)
from sidecar.upstream import own_files
from sidecar.yaml_tree import MAX_BYTES, Problems, lines_by_path, read_tree

MAX_SECRET: Final = 64 * KiB
MAX_CERTIFICATES: Final = 256 * KiB
_SQLITE: Final = b"SQLite format 3\0"
"""https://www.sqlite.org/fileformat2.html §1.3.1"""
_CONTENTS: Final = {
    "pepper_file": "the secret that tokens here were made under, or, where there are none yet, a random one (`openssl rand -hex 32`)",
    "previous_pepper_files": "the pepper from before, or take the line out once no token is under it",
    "access_key_master_file": "the secret that access keys are made of, or, where there are none yet, a random one (`openssl rand -hex 32`)",
    "previous_access_key_master_files": "the master key from before, or take the line out once no access key is of it",
    "secret_file": "the secret that the issuer signs with",
    "password_file": "the store's password",
    "bearer_file": "the store's token",
    "value_file": "the header's value",
    "access_key_id_file": "the id of the bucket's access key",
    "secret_access_key_file": "the secret of the bucket's access key",
    "session_token_file": "the session token that belongs to the keys",
    "jwks_file": "the issuer's key set (JSON)",
    "pem_file": "the issuer's public key (PEM)",
    "cert_file": "the certificate and its chain (PEM)",
    "key_file": "the certificate's key (PEM)",
    "ca_file": "the authority's certificates (PEM)",
    "client_certificate_file": "the sidecar's certificate for the store (PEM)",
    "client_key_file": "the key of the sidecar's certificate for the store (PEM)",
    "file": "the people, as `users: {ada@example.com: {groups: [web-team]}}`",
}
"""Setting -> what belongs into the file that it names."""


class FileReport(Struct, frozen=True):
    problems: list[Problem]
    """Any of these stops the start."""
    warnings: list[Problem]
    """It works, but should be mended."""
    unfit: list[Problem] = []
    """It starts, and picks the file up when it is mended; until then it refuses what depends on it."""


class FileCheck:
    """Gathers problems; each method looks at one thing."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._problems: list[tuple[str, str]] = []
        self._warnings: list[tuple[str, str]] = []
        self._unfit: list[tuple[str, str]] = []
        self._people: tuple[Problem, ...] = ()

    def report(self) -> FileReport:
        noted = (self._problems, self._warnings, self._unfit)
        lines = self._lines() if any(noted) else {}
        name = short(self._config)
        problems, warnings, unfit = (
            [Problem(name, lines.get(setting, 0), setting, message) for setting, message in found] for found in noted
        )
        for found in (problems, warnings, unfit):
            found.sort(key=lambda problem: problem.line)
        return FileReport(problems, warnings, [*unfit, *self._people])

    def _lines(self) -> dict[str, int]:
        try:
            return lines_by_path(read_tree(self._config.read_bytes(), Problems(str(self._config))))
        except OSError:
            return {}

    def written(self, *settings: str) -> str:
        """Of several ways to write the same, the one that stands in the file."""
        lines = self._lines()
        return next((setting for setting in settings if setting in lines), settings[-1])

    def _note(self, setting: str, file: Path, message: str) -> None:
        self._problems.append((setting, f"{short(file)}: {message}"))

    def _warn(self, setting: str, file: Path, message: str) -> None:
        self._warnings.append((setting, f"{short(file)}: {message}"))

    def content(self, setting: str, file: Path, most: int | None = None) -> bytes | None:
        """The bytes of a regular file, if it can be read."""
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                self._note(setting, file, "this is not a file")
                return None
            with file.open("rb") as opened:
                content = opened.read() if most is None else opened.read(most + 1)
        except FileNotFoundError:
            self._note(
                setting, file, f"no such file; put {_CONTENTS[setting.rpartition('.')[2].partition('[')[0]]} there"
            )
            return None
        except OSError as error:
            self._note(setting, file, _reason(error))
            return None
        if most is not None and len(content) > most:
            self._note(setting, file, f"larger than {most} bytes")
            return None
        return content

    def secret(self, setting: str, file: Path, flaw: Callable[[bytes], str | None]) -> None:
        content = self.content(setting, file, MAX_SECRET)
        if content is None:
            return
        if (message := flaw(content)) is not None:
            self._note(setting, file, message)
        self.private(setting, file)

    def bucket_keys(self, setting: str, keys: S3Credentials) -> None:
        named = {
            name: file
            for name in ("access_key_id_file", "secret_access_key_file", "session_token_file")
            if (file := getattr(keys, name)) is not None
        }
        before = len(self._problems)
        for name, file in named.items():
            self.secret(f"{setting}.{name}", file, header_flaw)
        if named and len(self._problems) == before:
            try:
                own_files.own_keys(keys, own_files.read(tuple(named.values())))
            except own_files.OwnFilesUnusable as error:
                self._problems.append((setting, str(error)))

    def private(self, setting: str, file: Path) -> None:
        # A warning only: Kubernetes mounts secrets with mode 0644 unless told otherwise, inside a container of one user.
        if file.stat().st_mode & stat.S_IROTH:
            self._warn(setting, file, "every user of this machine can read it; chmod 600")

    def keys(self, setting: str, file: Path, read: Callable[[bytes], jwk.KeySet]) -> None:
        content = self.content(setting, file, jwk.MAX_DOCUMENT)
        if content is None:
            return
        try:
            found = read(content)
        except jwk.BadKeys as error:
            self._note(setting, file, str(error))
            return
        if not found.keys:
            self._note(setting, file, f"no usable key: {'; '.join(found.ignored) or 'the set is empty'}")

    def certificates(self, setting: str, file: Path) -> None:
        if self.content(setting, file, MAX_CERTIFICATES) is None:
            return
        try:
            ssl.create_default_context(cafile=file)
        except (ssl.SSLError, OSError):
            self._note(setting, file, "no PEM certificates can be read from it")

    def client_certificate(self, setting: str, certificate: Path, key: Path) -> None:
        shown = self.content(f"{setting}.client_certificate_file", certificate, MAX_CERTIFICATES)
        secret = self.content(f"{setting}.client_key_file", key, MAX_CERTIFICATES)
        if shown is None or secret is None:
            return
        try:
            expires = own_files.expiry(shown)
            own_files.show(ssl.create_default_context(), shown, secret)
        except own_files.OwnFilesUnusable as error:
            self._note(f"{setting}.client_certificate_file", certificate, str(error))
            return
        if expires < time.time():
            self._warn(f"{setting}.client_certificate_file", certificate, "it has expired")
        self.private(f"{setting}.client_key_file", key)

    def pair(self, setting: str, tls: TlsSettings) -> None:
        certificate = self.content(f"{setting}.cert_file", tls.cert_file, MAX_PEM)
        key = self.content(f"{setting}.key_file", tls.key_file, MAX_PEM)
        if certificate is None or key is None:
            return
        try:
            served = load_pair(certificate, key, time.time())
        except BadPair as bad:
            self._note(f"{setting}.cert_file", tls.cert_file, str(bad))
            return
        if not served.names:
            self._warn(
                f"{setting}.cert_file", tls.cert_file, "it has no subject alternative name; no client will accept it"
            )
        self.private(f"{setting}.key_file", tls.key_file)

    def people(self, setting: str, file: Path) -> None:
        content = self.content(setting, file, MAX_BYTES)
        if content is None:
            return
        try:
            read_people(content, short(file))
        except DocumentError as error:
            self._people = error.problems

    def policies(self, setting: str, folder: Path) -> None:
        before = len(self._problems)
        self.folder(setting, folder)
        if len(self._problems) == before and not any(
            name.endswith(SUFFIXES) and not name.startswith(".") for name in os.listdir(folder)
        ):
            self._unfit.append((setting, f"{short(folder)}: no policy file (*.yaml, *.yml) is in it"))

    def database(self, setting: str, file: Path) -> None:
        """One that isn't there, or is empty, is made at the start."""
        self.parent(setting, file)
        if not file.is_file():
            return
        try:
            with file.open("rb") as opened:
                begins = opened.read(len(_SQLITE))
        except OSError as error:
            self._note(setting, file, _reason(error))
            return
        if begins not in (b"", _SQLITE):
            self._note(setting, file, "this is not an SQLite database")

    def folder(self, setting: str, folder: Path, *, writable: bool = False) -> None:
        if not folder.exists():
            self._note(setting, folder, "no such directory; make it")
        elif not folder.is_dir():
            self._note(setting, folder, "this is not a directory")
        elif not os.access(folder, os.R_OK | os.X_OK | (os.W_OK if writable else 0)):
            self._note(setting, folder, f"not {'writable' if writable else 'readable'} for this user")

    def parent(self, setting: str, file: Path) -> None:
        """For what is made when it is missing."""
        if file.is_dir() and not file.is_symlink():
            self._note(setting, file, "this is a directory")
        elif not file.parent.is_dir():
            self._note(setting, file, "its directory does not exist")
        elif not os.access(file if file.exists() else file.parent, os.W_OK):
            self._note(setting, file, "not writable for this user")


def short(file: Path) -> str:
    """As somebody would type it here: relative where it lies below this directory."""
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(file)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def header_flaw(content: bytes) -> str | None:
    """For what is sent to a store in a header; how strong it is, is the store's affair."""
    flaw = own_files.unsendable(content)
    return None if flaw is None else f"it {flaw}"
