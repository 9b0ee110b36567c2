"""A file of `NAME=value` lines, as Docker, systemd and shells read it: `SIDECAR_TOKEN=asc_ci_...`.

Law: only its owner can read it, at every moment, and at no moment is it half written. Other lines stay as they are.
"""

import os
import re
import secrets
from pathlib import Path

from sidecar.cli.delivery.destination import DeliveryError, Wish
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import Secret

DEFAULT_FILE, DEFAULT_KEY = Path("sidecar-token.env"), "SIDECAR_TOKEN"
PRIVATE = 0o600
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LONGEST = 1024 * 1024


class EnvFile:
    manifest = None

    def __init__(self, wish: Wish) -> None:
        wish.refuse("secret", "namespace")
        self._wish = wish
        self._file, self._key = wish.file or DEFAULT_FILE, wish.key or DEFAULT_KEY
        if _KEY.fullmatch(self._key) is None:
            raise DeliveryError(f"--key {self._key!r}: letters, digits and '_', a digit not at the beginning")
        self._names: tuple[str, ...] = (self._key,)
        self._others()
        if not self._file.parent.is_dir() or not os.access(self._file.parent, os.W_OK | os.X_OK):
            raise DeliveryError(f"--file {self._file}: its directory is not there, or not writable for this user")

    @property
    def where(self) -> str:
        return f"{', '.join(self._names)} in {self._file}"

    def put(self, token: Secret, row: TokenRow, pair: AccessKey | None = None) -> None:
        values = self._wish.values(self._key, token, pair)
        self._names = tuple(values)
        content = self._others() + "".join(f"{name}={value}\n" for name, value in values.items()).encode()
        beside = self._file.with_name(f".{self._file.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise DeliveryError(f"{self._file}: {error.strerror}") from None

    def _others(self) -> bytes:
        """The lines that are there already, without these. Raises `DeliveryError`."""
        try:
            if self._file.exists() and not self._file.is_file():
                raise DeliveryError(f"--file {self._file}: this is not a file")
            with self._file.open("rb") as file:
                content = file.read(_LONGEST + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DeliveryError(f"--file {self._file}: {error.strerror}") from None
        if len(content) > _LONGEST:
            raise DeliveryError(f"--file {self._file}: larger than {_LONGEST} bytes, which no file of variables is")
        ours = re.compile(rb"[ \t]*(?:export[ \t]+)?(?:" + "|".join(self._names).encode() + rb")[ \t]*=")
        kept = b"".join(line for line in content.splitlines(keepends=True) if ours.match(line) is None)
        return kept if not kept or kept.endswith(b"\n") else kept + b"\n"
