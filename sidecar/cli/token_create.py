"""`sidecar token create`: who it is for, what it may, and for how long. Where it goes: `token_delivery.py`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.delivery import Destination
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.people import PeopleUnreadable, owner_id, person, stranger
from sidecar.cli.token_delivery import delivering, handing_out, tell
from sidecar.cli.token_scopes import scopes
from sidecar.cli.token_work import actor, life, loaded, now, refused, run
from sidecar.cli.workspaces import unknown
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind
from sidecar.settings import Settings
from sidecar.tokens import Deliver, NewToken, TokenRequestError

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

TtlOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="12h, 30d; the configuration's default_ttl if left out.")
]
TtlSecondsOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="The same, in seconds.")]


class Kind(StrEnum):
    personal = "personal"
    ci = "ci"
    biscuit = "biscuit"


@delivering
def create(
    kind: Annotated[
        Kind, typer.Option(help="Of a person, of one workspace's builds, or one that its holder can narrow offline.")
    ],
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
            "--permission",
            "-p",
            metavar="NAME",
            help="Repeatable: read, write, read-write, overwrite, delete, admin (or store:read and so on). It only narrows what "
            "the workspace's policy grants; without it the token may do all that the policy grants.",
        ),
    ] = None,
    all_permissions: Annotated[
        bool, typer.Option("--all-permissions", help="All that the policy grants. A Biscuit says this, or which.")
    ] = False,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only keys that match: releases/** or */linux/*.zip")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="Repeatable, instead of the three above: workspace=web,path=releases/**,permissions=read+write",
        ),
    ] = None,
    scope_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML list of such scopes: {workspace, path, permissions} each."),
    ] = None,
    s3: Annotated[
        bool,
        typer.Option("--s3", help="With an access key, for S3 tools: its id and secret are printed, not the token."),
    ] = False,
    ttl: TtlOption = None,
    ttl_seconds: TtlSecondsOption = None,
    name: Annotated[str, typer.Option(help="A note for lists and the audit log: where is it used?")] = "",
    place: Destination | None = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Create a token and print it, once: it can't be shown again."""
    settings, token_settings = loaded(config)
    try:
        wanted = NewToken(
            kind=PrincipalKind(kind.value),
            subject=subject,
            workspaces=tuple(workspace or ()),
            permissions=tuple(permission or ()),
            path=path,
            ttl=life(ttl, ttl_seconds),
            name=name,
            scopes=scopes(scope or (), scope_file),
            owner_id=owner(settings, PrincipalKind(kind.value), subject),
            all_permissions=all_permissions,
            owned=kind is Kind.biscuit and is_person(settings, subject),
            s3=s3,
        )
    except TokenRequestError as error:
        raise refused(error) from None

    row, pair = run(token_settings, lambda opened: _created(opened, wanted, handing_out(place, json)))
    complain(unknown((row.workspaces or "").split(), settings.policies))
    if kind is Kind.personal and settings.directory is not None:
        complain(stranger(subject, settings.directory.file))
    tell(row, pair, place, json)


async def _created(opened: "OpenStore", wanted: NewToken, deliver: Deliver) -> tuple[TokenRow, AccessKey | None]:
    try:
        if wanted.kind is PrincipalKind.BISCUIT:
            _, row = await opened.biscuits.create(
                wanted, actor=actor(), now=now(), deliver=deliver, key_made=_tell_of_key
            )
            return row, None
        _, row = await opened.tokens.create(wanted, actor=actor(), now=now(), deliver=deliver)
        return row, opened.tokens.access_key(row)
    except TokenRequestError as error:
        raise TokenRequestError([f"--{problem}" for problem in error.problems]) from None


def owner(settings: Settings, kind: PrincipalKind, subject: str) -> str:
    """The directory's id of a personal token's owner; empty where there is none. Ends the program where it can't be learnt."""
    if kind is PrincipalKind.CI or settings.directory is None:
        return ""
    try:
        return owner_id(subject, settings.directory.file)
    except PeopleUnreadable as error:
        complain([error])
        raise typer.Exit(Exit.MISSING) from None


def is_person(settings: Settings, subject: str) -> bool:
    """Whether the directory knows the subject. Ends the program where it can't be learnt."""
    try:
        return settings.directory is not None and person(subject, settings.directory.file) is not None
    except PeopleUnreadable as error:
        complain([error])
        raise typer.Exit(Exit.MISSING) from None


def _tell_of_key(key_id: int) -> None:
    complain([f"note: there was no root key, so {key_id} was made; `sidecar key list` shows its public half"])
