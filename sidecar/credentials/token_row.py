"""What is stored of a token that was issued here, and the seal that makes it believable.

Law: nothing in a row is believed before `intact` has said so. The MAC covers every column but itself and `last_used_at`, which
grants nothing and is written often. Columns that later versions added are covered by name, where they hold something: a row of
an earlier version keeps its MAC, and neither filling nor emptying such a column goes unseen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials.pepper import Pepper, Peppers, same
from sidecar.model import Limits, Permission, Permissions, Scope


class TokenRow(Struct, frozen=True):
    """As stored. Times are whole Unix seconds."""

    id: str
    kind: str
    """A `PrincipalKind`: `personal` or `ci`."""
    subject: str
    name: str
    workspaces: str | None
    """Names, sorted, a space between; `None` doesn't narrow. A CI token has exactly one."""
    permissions: str | None
    """Likewise, of `Permission`."""
    path: str | None
    created_at: int
    created_by: str
    expires_at: int
    revoked_at: int | None
    revoked_by: str | None
    pepper_id: str
    digest: str
    mac: str
    last_used_at: int | None = None
    owner_id: str | None = None
    """Of a personal token: its person's id in the directory when it was made."""
    scopes: str | None = None
    """JSON, as `scopes_text` writes it. `workspaces` are then theirs, and `permissions` and `path` are `None`."""
    parent: str | None = None
    """The token that this one was made to replace."""
    family: str | None = None
    """The first token of the line that it belongs to; `None` for the first itself."""
    rotated_at: int | None = None
    """When another was made to replace it; it goes on to its `expires_at`."""
    reused_at: int | None = None
    """When it was last used after its replacement had taken over, as far as that was reported."""
    access_key: str | None = None
    """The id of its access key for S3 tools, where it was made with one."""
    root_key: int | None = None
    """Of a Biscuit: the id of the key that it was made under, and ends with."""

    @property
    def limits(self) -> Limits:
        """What the token narrows to (rules 6 and 13). Raises `ValueError` for what nobody here understands."""
        return Limits(
            workspaces=None if self.workspaces is None else frozenset(self.workspaces.split()),
            permissions=None if self.permissions is None else frozenset(map(Permission, self.permissions.split())),
            path=self.path,
            scopes=None if self.scopes is None else scopes_of(self.scopes),
        )


_ADDED = ("owner_id", "scopes", "parent", "family", "rotated_at", "reused_at", "access_key", "root_key")
_FIRST = tuple(name for name in TokenRow.__struct_fields__ if name not in ("mac", "last_used_at", *_ADDED))


def sealed(row: TokenRow, pepper: Pepper) -> TokenRow:
    """The row under its MAC. It binds a row to itself, not to time: whoever can write to the database and kept a row's whole
    old state can put that back. A process that has heard of the revocation goes on refusing the token; one that starts later
    refuses it only if the change is still recorded in the same database, where it can be deleted as well."""
    return replace(row, mac=pepper.mac(_covered(row)))


def intact(row: TokenRow, peppers: Peppers) -> bool:
    """Whether the row is as a holder of its pepper wrote it: no column edited, none taken from another row."""
    pepper = peppers.named(row.pepper_id)
    return pepper is not None and same(row.mac, pepper.mac(_covered(row)))


def _covered(row: TokenRow) -> Iterator[Any]:
    for name in _FIRST:
        yield getattr(row, name)
    for name in _ADDED:
        if (value := getattr(row, name)) is not None:
            yield name
            yield value


def scope_as_json(scope: Scope) -> dict[str, Any]:
    """For people and for logs; what doesn't narrow is null."""
    return {"workspace": scope.workspace, "path": scope.path, "permissions": _names(scope.permissions)}


class _Stored(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    workspace: str
    path: str | None = None
    permissions: list[str] | None = None


def scopes_text(scopes: Sequence[Scope]) -> str:
    """For the column `scopes`."""
    return msgspec.json.encode(
        [_Stored(scope.workspace, scope.path, _names(scope.permissions)) for scope in scopes]
    ).decode()


def scopes_of(text: str) -> tuple[Scope, ...]:
    """Raises `ValueError` for what a later version, or somebody else, has written."""
    return tuple(
        Scope(
            each.workspace,
            None if each.permissions is None else frozenset(map(Permission, each.permissions)),
            each.path,
        )
        for each in msgspec.json.decode(text, type=list[_Stored])
    )


def _names(permissions: Permissions | None) -> list[str] | None:
    return None if permissions is None else sorted(permissions)
