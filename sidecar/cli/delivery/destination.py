"""What the kinds of destination share."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from sidecar.credentials.token_row import TokenRow
from sidecar.errors import SidecarError
from sidecar.model import Secret


class DeliveryError(SidecarError):
    """The token can't go there. The text says why, and never holds the token."""


class Wish(Struct, frozen=True):
    """What was said of the destination on the command line; `None` leaves it to the kind."""

    secret: str | None = None
    key: str | None = None
    namespace: str | None = None
    file: Path | None = None
    environment: Mapping[str, str] = {}

    def refuse(self, *options: str) -> None:
        """Raises `DeliveryError` for the first of these that was given: it would do nothing there."""
        for option in options:
            if getattr(self, option) is not None:
                raise DeliveryError(f"--{option}: it says nothing here; leave it out")


class Destination(Protocol):
    """Made before the token is, so that what is wrong is known before."""

    def put(self, token: Secret, row: TokenRow) -> None:
        """Raises `DeliveryError`."""

    @property
    def where(self) -> str:
        """For a person: where it is now."""

    @property
    def manifest(self) -> str | None:
        """What belongs on standard output, where the destination is whoever reads that."""


def expires(row: TokenRow) -> str:
    return datetime.datetime.fromtimestamp(row.expires_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
