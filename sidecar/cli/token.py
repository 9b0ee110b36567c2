"""`sidecar token`: the tokens that are issued here.

A token is printed once, alone, on standard output, so that `TOKEN=$(sidecar token create ...)` holds it and nothing else.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, commands, complain
from sidecar.cli.token_attenuate import attenuate
from sidecar.cli.token_create import create
from sidecar.cli.token_inspect import inspect
from sidecar.cli.token_leaked import leaked
from sidecar.cli.token_list import list_
from sidecar.cli.token_revoke import revoke
from sidecar.cli.token_rotate import rotate
from sidecar.cli.token_rules import rules
from sidecar.cli.token_text import as_json, lines
from sidecar.cli.token_work import loaded, now, print_json, run
from sidecar.credentials.token_row import TokenRow
from sidecar.tokens import Status

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

app = commands("Create, list, show, rotate and revoke tokens.")
app.command()(create)
app.command()(attenuate)
app.command()(inspect)
app.command(name="list")(list_)
app.command()(rotate)
app.command()(revoke)
app.command()(leaked)
app.command()(rules)


@app.callback()
def token() -> None:
    """Create, list, show, rotate and revoke tokens."""


@app.command()
def show(
    token_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show everything that is known of a token."""

    async def work(opened: "OpenStore") -> tuple[TokenRow, Status]:
        row = await opened.tokens.show(token_id)
        return row, opened.tokens.status(row, now())

    row, status = run(loaded(config)[1], work)
    if json:
        print_json(as_json(row, status))
    else:
        for line in lines(row, status, now()):
            typer.echo(line)


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Upgrade the token store to this version's tables. Stop the sidecar and copy the file first."""
    from sidecar.store.engine import Database, StoreUnusable, create_file, sqlite_path
    from sidecar.store.migrations.run import migrate as upgrade  # loads Alembic: no other command needs it
    from sidecar.store.tables import VERSION

    try:
        path = sqlite_path(loaded(config)[1].store)
        create_file(path)
        database = Database(path)
        upgrade(database)
    except StoreUnusable as error:
        complain([error])
        raise typer.Exit(Exit.MISSING) from None
    if json:
        print_json({"store": str(path), "schema": VERSION})
    else:
        typer.echo(f"{path} is up to date.")
