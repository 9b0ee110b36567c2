"""What is stored of a root key: its public half, and since when it counts no more. The private half is a file (`sidecar.root_keys`).

Law: a key whose row is not intact is not believed: whoever can write to the database could put a key of his own there.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, Peppers, same


class RootKeyRow(Struct, frozen=True):
    """As stored. Times are whole Unix seconds."""

    id: int
    """What tokens name it by; never given again."""
    public_key: str
    """`ed25519/` and 64 hexadecimal digits."""
    created_at: int
    created_by: str
    retired_at: int | None
    retired_by: str | None
    pepper_id: str
    mac: str


def sealed(row: RootKeyRow, pepper: Pepper) -> RootKeyRow:
    row = replace(row, pepper_id=pepper.id)
    return replace(row, mac=pepper.mac(_covered(row)))


def intact(row: RootKeyRow, peppers: Peppers) -> bool:
    pepper = peppers.named(row.pepper_id)
    return pepper is not None and same(row.mac, pepper.mac(_covered(row)))


def _covered(row: RootKeyRow) -> Iterator[Any]:
    yield "root key"
    for name in RootKeyRow.__struct_fields__:
        if name != "mac":
            yield getattr(row, name)
