"""`sidecar token list`: which there are, which end soon, which nobody uses."""

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, complain
from sidecar.cli.token_create import Kind
from sidecar.cli.token_text import as_json, table
from sidecar.cli.token_work import loaded, now, print_json, refused, run, seconds
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind
from sidecar.tokens import Status, TokenFilter, TokenRequestError

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

LIST_WIDTH = 100
"""Columns of a list where there is no terminal to measure."""


def list_(
    kind: Annotated[Kind | None, typer.Option(help="Only these.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this person's or build's.")] = None,
    workspace: Annotated[str | None, typer.Option(metavar="NAME", help="Only those bound or narrowed to it.")] = None,
    created_by: Annotated[str | None, typer.Option(metavar="NAME", help="Only those that this account made.")] = None,
    expiring: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only those that end within this time: 7d.")
    ] = None,
    unused: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only those neither made nor used for as long: 90d.")
    ] = None,
    ended: Annotated[bool, typer.Option("--all", help="Expired and revoked ones too.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 100,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Continue behind this one.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List tokens, newest first. The tokens themselves are not stored and can't be listed."""
    at = now()
    try:
        wanted = TokenFilter(
            kind=None if kind is None else PrincipalKind(kind.value),
            subject=subject,
            workspace=workspace,
            ended=ended,
            after=after,
            limit=limit + 1,
            created_by=created_by,
            expiring_by=None if expiring is None else at + int(seconds("expiring", expiring)),
            unused_since=None if unused is None else at - int(seconds("unused", unused)),
        )
    except TokenRequestError as error:
        raise refused(error) from None

    async def work(opened: "OpenStore") -> list[tuple[TokenRow, Status]]:
        return [(row, opened.tokens.status(row, at)) for row in await opened.tokens.list(wanted, now=at)]

    found = run(loaded(config)[1], work)
    shown = found[:limit]
    if json:
        print_json([as_json(row, status) for row, status in shown])
    elif shown:
        for line in table(shown, at, shutil.get_terminal_size((LIST_WIDTH, 24)).columns):
            typer.echo(line)
    else:
        complain(["no tokens" if ended else "no active tokens; --all lists expired and revoked ones too"])
    if len(found) > limit:
        complain([f"there are more: --after {shown[-1][0].id}"])
