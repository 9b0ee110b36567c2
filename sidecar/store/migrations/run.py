"""Upgrading a store to this program's tables. Importing this loads Alembic: only the command line does, when asked to."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from sidecar.store.engine import Database, StoreUnusable


def migrate(database: Database) -> None:
    """To the newest revision; nothing happens if it is that already. Raises `StoreUnusable`."""
    upgrade_to(database, "head")


def upgrade_to(database: Database, revision: str) -> None:
    """To this one and no further. Raises `StoreUnusable`."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    try:
        database.upgrade(upgrade)
    except CommandError as error:  # its own words are about a revision that it can't locate
        raise StoreUnusable(
            f"token store {database.path}: a newer version of this program has upgraded it; run that one, or put a copy from "
            "before back"
        ) from error
