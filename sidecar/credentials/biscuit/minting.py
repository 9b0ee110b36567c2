"""New biscuits. The first block says whose it is, and narrows it in the same words that a later block would."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from msgspec import Struct

from sidecar.credentials.biscuit import narrowing, spelling
from sidecar.credentials.biscuit.meaning import utc
from sidecar.credentials.biscuit.verifier import Opened, RootKeys
from sidecar.model import Permissions, Secret

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.library import PrivateKey


class Wanted(Struct, frozen=True):
    token_id: str
    subject: str
    expires_at: int
    """Unix seconds."""
    created_at: int
    permissions: Permissions | None
    """`None`: all of them."""
    workspaces: Collection[str] = ()
    """None: it is bound to none, and rules alone grant it something."""
    path: str | None = None
    """A glob of rule 16."""
    owner: str | None = None
    """The directory's id of its person, which may be empty; `None` where it is nobody's."""


def mint(wanted: Wanted, key: "PrivateKey", key_id: int) -> tuple[Secret, Opened]:
    """The token, and how the sidecar reads it. Raises `Refusal` for what it would refuse, and `LibraryError`."""
    lines = [
        f"token_id({narrowing.quoted(wanted.token_id)})",
        f"subject({narrowing.quoted(wanted.subject)})",
        f"created_at({utc(wanted.created_at)})",
        narrowing.ends(wanted.expires_at),
    ]
    if wanted.owner is not None:
        lines.append(f"owner({narrowing.quoted(wanted.owner)})")
    if wanted.permissions is not None:
        lines.append(narrowing.permissions(wanted.permissions))
    if wanted.workspaces:
        lines.append(narrowing.workspaces(wanted.workspaces))
    if wanted.path is not None and wanted.path != "**":
        lines.append(narrowing.path(wanted.path))
    content = key.sign(";\n".join(lines) + ";", key_id)
    return Secret(spelling.encoded(content)), RootKeys({key_id: key.public}).open(content)
