"""What the kinds of destination share."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.errors import SidecarError
from sidecar.model import Secret

KEY_ID, KEY_SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
"""As the SDKs read them from the environment."""


class DeliveryError(SidecarError):
    """The token can't go there. The text says why, and never holds the token."""


class Wish(Struct, frozen=True):
    """What was said of the destination on the command line; `None` leaves it to the kind."""

    secret: str | None = None
    key: str | None = None
    namespace: str | None = None
    file: Path | None = None
    environment: Mapping[str, str] = {}

    def values(self, default_key: str, token: Secret, pair: AccessKey | None) -> dict[str, str]:
        """What goes there, by name. Where there is an access key that is it, by AWS's names, and the token only by a `key`."""
        named = {} if pair is None else {KEY_ID: pair.id, KEY_SECRET: pair.secret.reveal()}
        if pair is None or self.key is not None:
            named[self.key or default_key] = token.reveal()
        return named

    def refuse(self, *options: str) -> None:
        """Raises `DeliveryError` for the first of these that was given: it would do nothing there."""
        for option in options:
            if getattr(self, option) is not None:
                raise DeliveryError(f"--{option}: it says nothing here; leave it out")


class Destination(Protocol):
    """Made before the token is, so that what is wrong is known before."""

    def put(self, token: Secret, row: TokenRow, pair: AccessKey | None = None) -> None:
        """Raises `DeliveryError`."""

    @property
    def where(self) -> str:
        """For a person: where it is now."""

    @property
    def manifest(self) -> str | None:
        """What belongs on standard output, where the destination is whoever reads that."""


def expires(row: TokenRow) -> str:
    return datetime.datetime.fromtimestamp(row.expires_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
