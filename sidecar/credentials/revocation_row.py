"""What is stored of a revocation that has no token's row to stand in, and its seal.

Law: a row that isn't intact is believed where it refuses: its expiry, which would end it, is not. A MAC here can't hinder whoever
writes to the database from deleting a revocation, as little as that of a token's row hinders them from putting it back.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, Peppers, same


class RevocationRow(Struct, frozen=True):
    """As stored. Times are whole Unix seconds."""

    name: str
    """As `revocation_names` writes it."""
    before: int | None
    """Of an identity: what was issued then or earlier. `None` for everything else."""
    at: int
    actor: str
    expires_at: int
    """By then everything that it is about has expired."""
    pepper_id: str
    mac: str


def sealed(row: RevocationRow, pepper: Pepper) -> RevocationRow:
    row = replace(row, pepper_id=pepper.id)
    return replace(row, mac=pepper.mac(_covered(row)))


def intact(row: RevocationRow, peppers: Peppers) -> bool:
    pepper = peppers.named(row.pepper_id)
    return pepper is not None and same(row.mac, pepper.mac(_covered(row)))


def _covered(row: RevocationRow) -> Iterator[Any]:
    yield "revocation"
    for name in RevocationRow.__struct_fields__:
        if name != "mac":
            yield name
            yield getattr(row, name)
