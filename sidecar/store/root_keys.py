"""The root keys of Biscuits, as rows; each change is announced like those of tokens, and running sidecars read them anew."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from sidecar.credentials import revocation_names
from sidecar.credentials.biscuit.key_row import RootKeyRow
from sidecar.store.engine import Database
from sidecar.store.tables import changes, root_keys
from sidecar.store.token_store import NEVER
from sidecar.tokens import ChangeKind

_COLUMNS = [root_keys.c[name] for name in RootKeyRow.__struct_fields__]


class RootKeyStore:
    """Every method raises `Unavailable(TOKEN_STORE_UNAVAILABLE)` where the database can't answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[RootKeyRow]:
        """The oldest first."""
        query = select(*_COLUMNS).order_by(root_keys.c.id)
        return await self._database.read(lambda connection: [RootKeyRow(*found) for found in connection.execute(query)])

    async def create(self, row: RootKeyRow) -> bool:
        """False, and nothing happened, where somebody else has taken the id."""

        def statements(connection: Connection) -> bool:
            try:
                connection.execute(insert(root_keys).values(_values(row)))
            except IntegrityError:
                return False
            _announce(connection, row.id, ChangeKind.KEY_CREATED, row.created_at, row.created_by)
            return True

        return await self._database.write(statements)

    async def retire(self, old: RootKeyRow, new: RootKeyRow, at: int, actor: str) -> bool:
        """False, and nothing happened, if the row isn't `old` any more."""

        def statements(connection: Connection) -> bool:
            unchanged = (root_keys.c.id == old.id, root_keys.c.mac == old.mac)
            if connection.execute(update(root_keys).where(*unchanged).values(_values(new))).rowcount != 1:
                return False
            _announce(connection, new.id, ChangeKind.KEY_RETIRED, at, actor)
            return True

        return await self._database.write(statements)

    async def reseal(self, old: RootKeyRow, new: RootKeyRow) -> None:
        """The same under another pepper, unless it has changed meanwhile. Nothing is announced."""

        def statements(connection: Connection) -> None:
            unchanged = (root_keys.c.id == old.id, root_keys.c.mac == old.mac)
            connection.execute(update(root_keys).where(*unchanged).values(_values(new)))

        await self._database.write(statements)


def _values(row: RootKeyRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in RootKeyRow.__struct_fields__}


def _announce(connection: Connection, key_id: int, kind: ChangeKind, at: int, actor: str) -> None:
    name = revocation_names.root_key(key_id)
    connection.execute(insert(changes).values(token_id=name, kind=str(kind), at=at, actor=actor, expires_at=NEVER))
