"""`sidecar token`: the tokens that are issued here.

A token is printed once, alone, on standard output, so that `TOKEN=$(sidecar token create ...)` holds it and nothing else.
"""

import asyncio
import os
import pwd
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, commands, complain
from sidecar.cli.people import stranger
from sidecar.cli.token_text import as_json, lines, table
from sidecar.cli.workspaces import unknown
from sidecar.credentials.opaque import ID_LENGTH
from sidecar.credentials.token_row import TokenRow
from sidecar.credentials.pepper import PepperUnusable
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import PrincipalKind, Secret
from sidecar.reasons import REASONS
from sidecar.settings import TokenSettings
from sidecar.tokens import NewToken, Status, TokenFilter, TokenRequestError, UnknownToken

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

T = TypeVar("T")

app = commands("Create, list, show and revoke personal and CI tokens.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_INPUT = 4096
LIST_WIDTH = 100
"""Columns of a list where there is no terminal to measure."""


class Kind(StrEnum):
    personal = "personal"
    ci = "ci"


@app.callback()
def token() -> None:
    """Create, list, show and revoke personal and CI tokens."""


@app.command()
def create(
    kind: Annotated[Kind, typer.Option(help="Of a person, or of one workspace's builds.")],
    subject: Annotated[str, typer.Option(help="Who it belongs to: for a personal token the name in `members`.")],
    workspace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Repeatable. A CI token belongs to exactly one. Without it a personal token opens every workspace of its person.",
        ),
    ] = None,
    permission: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Repeatable: read, write, read-write, overwrite, delete, admin. It only narrows what the workspace's policy "
            "grants; without it the token may do all that the policy grants.",
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only keys that match: releases/** or */linux/*.zip")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="12h, 30d; the configuration's default_ttl if left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="A note for lists and the audit log: where is it used?")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Create a token and print it, once: it can't be shown again."""

    async def work(opened: "OpenStore") -> tuple[Secret, TokenRow]:
        try:
            wanted = NewToken(
                kind=PrincipalKind(kind.value),
                subject=subject,
                workspaces=tuple(workspace or ()),
                permissions=tuple(permission or ()),
                path=path,
                ttl=None if ttl is None else _seconds(ttl),
                name=name,
            )
            return await opened.tokens.create(wanted, actor=_actor(), now=_now())
        except TokenRequestError as error:
            raise TokenRequestError([f"--{problem}" for problem in error.problems]) from None

    secret, row = _run(config, work)

    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config)
    complain(unknown(workspace or (), settings.policies))
    if kind is Kind.personal and settings.directory is not None:
        complain(stranger(subject, settings.directory.file))
    if json:
        _print_json({"token": secret.reveal(), **as_json(row, Status.ACTIVE)})
        return
    typer.echo(secret.reveal())
    complain(
        [
            *lines(row, Status.ACTIVE, _now()),
            "This is the only time that the token is shown.",
            f"To revoke it: sidecar token revoke {row.id}",
        ]
    )


@app.command(name="list")
def list_(
    kind: Annotated[Kind | None, typer.Option(help="Only these.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this person's or build's.")] = None,
    workspace: Annotated[str | None, typer.Option(metavar="NAME", help="Only those bound or narrowed to it.")] = None,
    ended: Annotated[bool, typer.Option("--all", help="Expired and revoked ones too.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 100,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Continue behind this one.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List tokens, newest first. The tokens themselves are not stored and can't be listed."""
    now = _now()

    async def work(opened: "OpenStore") -> list[tuple[TokenRow, Status]]:
        wanted = TokenFilter(
            kind=None if kind is None else PrincipalKind(kind.value),
            subject=subject,
            workspace=workspace,
            ended=ended,
            after=after,
            limit=limit + 1,
        )
        return [(row, opened.tokens.status(row, now)) for row in await opened.tokens.list(wanted, now=now)]

    found = _run(config, work)
    shown = found[:limit]
    if json:
        _print_json([as_json(row, status) for row, status in shown])
    elif shown:
        for line in table(shown, now, shutil.get_terminal_size((LIST_WIDTH, 24)).columns):
            typer.echo(line)
    else:
        complain(["no tokens" if ended else "no active tokens; --all lists expired and revoked ones too"])
    if len(found) > limit:
        complain([f"there are more: --after {shown[-1][0].id}"])


@app.command()
def show(
    token_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show everything that is known of a token."""

    async def work(opened: "OpenStore") -> tuple[TokenRow, Status]:
        row = await opened.tokens.show(token_id)
        return row, opened.tokens.status(row, _now())

    row, status = _run(config, work)
    if json:
        _print_json(as_json(row, status))
    else:
        for line in lines(row, status, _now()):
            typer.echo(line)


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|-", help="Its id; or - to read the token from standard input.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Revoke a token for good.

    Every running sidecar on this store refuses it within half a second.
    """
    given = Secret((sys.stdin.read(_LONGEST_INPUT) if which == "-" else which).strip())

    async def work(opened: "OpenStore") -> tuple[TokenRow, Status, bool]:
        named = _id_of(opened, given)
        row, done = await opened.tokens.revoke(named, actor=_actor(), now=_now())
        return row, opened.tokens.status(row, _now()), done

    row, status, done = _run(config, work)
    if json:
        _print_json({**as_json(row, status), "changed": done})
    elif done:
        typer.echo(f"Revoked {row.id}. Every running sidecar on this store refuses it within half a second.")
    else:
        typer.echo(f"{row.id} was revoked before; nothing changed.")


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Upgrade the token store to this version's tables. Stop the sidecar and copy the file first."""
    from sidecar.store.engine import Database, StoreUnusable, create_file, sqlite_path
    from sidecar.store.migrations.run import migrate as run  # loads Alembic: no other command needs it
    from sidecar.store.tables import VERSION

    try:
        path = sqlite_path(_settings(config).store)
        create_file(path)
        database = Database(path)
        run(database)
    except StoreUnusable as error:
        complain([error])
        raise typer.Exit(Exit.MISSING) from None
    if json:
        _print_json({"store": str(path), "schema": VERSION})
    else:
        typer.echo(f"{path} is up to date.")


def _id_of(opened: "OpenStore", given: Secret) -> str:
    """An id is taken as it is; whatever else was given must be a whole token, and is never repeated in a message."""
    text = given.reveal()
    return text if re.fullmatch(rf"[0-9A-Za-z]{{{ID_LENGTH}}}", text) else opened.tokens.id_of(given)


def _run(config: ConfigOption, work: Callable[["OpenStore"], Awaitable[T]]) -> T:
    from sidecar.store.engine import StoreUnusable  # loads SQLAlchemy: `--help` doesn't need it
    from sidecar.store.open import open_token_store

    settings = _settings(config)

    async def opened_and_closed() -> T:
        opened = await open_token_store(settings)
        try:
            return await work(opened)
        finally:
            await opened.store.close()

    try:
        return asyncio.run(opened_and_closed())
    except TokenRequestError as error:
        code, problems = Exit.INVALID, list[object](error.problems)
    except CredentialRefused as error:
        code, problems = Exit.INVALID, [REASONS[error.reason].hint]
    except (StoreUnusable, PepperUnusable) as error:
        code, problems = Exit.MISSING, [error]
    except UnknownToken as error:
        code, problems = Exit.FAILED, [f"{error}; sidecar token list --all shows those that there are"]
    except Unavailable as error:
        code, problems = Exit.FAILED, [error.detail or REASONS[error.reason].hint]
    complain(problems)
    raise typer.Exit(code)


def _settings(config: ConfigOption) -> TokenSettings:
    from sidecar.config import load

    settings = load(config)
    if settings.tokens is None:
        complain([f"{config}: it has no `tokens:`, so no tokens are issued here"])
        raise typer.Exit(Exit.INVALID)
    return settings.tokens


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise TokenRequestError([f"ttl {text!r}: a duration such as 30s, 5m, 12h or 90d"])
    return float(int(found[1]) * _SECONDS[found[2]])


def _actor() -> str:
    """The account that the kernel knows, not what the environment claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _now() -> int:
    return int(time.time())


def _print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value))
