"""`sidecar key`: the root keys that Biscuits are made under. Only public halves are ever shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, commands, complain
from sidecar.cli.token_text import iso
from sidecar.cli.token_work import actor, loaded, now, print_json, run
from sidecar.credentials.biscuit.key_row import RootKeyRow

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

HELP = "Create, list and retire the root keys of Biscuits."
_HEADINGS = ("ID", "STATUS", "CREATED", "BY", "PUBLIC KEY")

app = commands(HELP)


@app.callback(help=HELP)
def key() -> None: ...


@app.command()
def create(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Create a root key (Ed25519). New Biscuits are made under it; those under older keys go on until these are retired.

    Its private half becomes a file in the folder `tokens.biscuit_keys`; whoever has that can make tokens.
    """

    async def work(opened: "OpenStore") -> tuple[RootKeyRow, str]:
        row = await opened.root_keys.create(actor=actor(), now=now())
        return row, str(opened.root_keys.file(row.id))

    row, file = run(loaded(config)[1], work)
    if json:
        print_json({**_as_json(row, True), "file": file})
        return
    typer.echo(row.public_key)
    complain([f"Root key {row.id}. Its private half is in {file}: only what makes Biscuits needs it."])


@app.command(name="list")
def list_(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the root keys, with their public halves.

    `token attenuate` and other tools verify with these.
    """

    async def work(opened: "OpenStore") -> Sequence[tuple[RootKeyRow, bool]]:
        return await opened.root_keys.all()

    found = run(loaded(config)[1], work)
    if json:
        print_json([_as_json(row, sound) for row, sound in found])
    elif found:
        lines = [_HEADINGS, *(_cells(row, sound) for row, sound in found)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    else:
        complain(["no root keys; sidecar key create makes one"])


@app.command()
def retire(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="Its number, as key list shows it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Retire a root key and end every Biscuit under it, for good.

    Its private half is deleted. Every running sidecar on this store refuses them within half a second.
    """

    async def work(opened: "OpenStore") -> tuple[RootKeyRow, bool]:
        row, done = await opened.root_keys.retire(key_id, actor=actor(), now=now())
        revoked = await opened.revoking.root_key(key_id, actor=actor(), now=now())
        return row, done or revoked.changed

    row, done = run(loaded(config)[1], work)
    if json:
        print_json({**_as_json(row, True), "changed": done})
    elif done:
        typer.echo(f"Retired {row.id}. Every running sidecar on this store refuses its tokens within half a second.")
    else:
        typer.echo(f"{row.id} was retired before; nothing changed.")


def _status(row: RootKeyRow, sound: bool) -> str:
    return "altered" if not sound else "active" if row.retired_at is None else "retired"


def _as_json(row: RootKeyRow, sound: bool) -> dict[str, Any]:
    return {
        "id": row.id,
        "public_key": row.public_key,
        "status": _status(row, sound),
        "created_at": iso(row.created_at),
        "created_by": row.created_by,
        "retired_at": iso(row.retired_at),
        "retired_by": row.retired_by,
    }


def _cells(row: RootKeyRow, sound: bool) -> tuple[str, ...]:
    shown = (row.id, _status(row, sound), iso(row.created_at), row.created_by, row.public_key)
    return tuple("".join(each if each.isprintable() else "\ufffd" for each in str(cell)) for cell in shown)
