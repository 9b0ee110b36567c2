"""`sidecar token create`: who it is for, what it may, for how long, and where it goes."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.delivery import DeliveryError, Destination, To, Wish, destination
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.people import PeopleUnreadable, owner_id, stranger
from sidecar.cli.token_scopes import scopes
from sidecar.cli.token_text import as_json, lines
from sidecar.cli.token_work import actor, life, loaded, now, print_json, refused, run
from sidecar.cli.workspaces import unknown
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind, Secret
from sidecar.settings import Settings
from sidecar.tokens import NewToken, Status, TokenRequestError

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

TtlOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="12h, 30d; the configuration's default_ttl if left out.")
]
TtlSecondsOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="The same, in seconds.")]
ToOption = Annotated[
    To | None, typer.Option(help="Hand it to a secret manager instead of printing it; then it is shown nowhere.")
]
SecretOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="With --to: the Kubernetes Secret's name, or MOUNT/PATH in Vault."),
]
KeyOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --to: the key that holds the token; in a file, the variable.")
]
NamespaceOption = Annotated[str | None, typer.Option(metavar="NAME", help="With --to k8s-secret: its namespace.")]
FileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="With --to env-file: which.")]


class Kind(StrEnum):
    personal = "personal"
    ci = "ci"


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
            "--permission",
            "-p",
            metavar="NAME",
            help="Repeatable: read, write, read-write, overwrite, delete, admin (or store:read and so on). It only narrows what "
            "the workspace's policy grants; without it the token may do all that the policy grants.",
        ),
    ] = None,
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
    ttl: TtlOption = None,
    ttl_seconds: TtlSecondsOption = None,
    name: Annotated[str, typer.Option(help="A note for lists and the audit log: where is it used?")] = "",
    to: ToOption = None,
    secret: SecretOption = None,
    key: KeyOption = None,
    namespace: NamespaceOption = None,
    file: FileOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Create a token and print it, once: it can't be shown again."""
    settings, token_settings = loaded(config)
    place = place_of(to, secret, key, namespace, file)
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
        )
    except TokenRequestError as error:
        raise refused(error) from None

    async def work(opened: "OpenStore") -> tuple[Secret, TokenRow]:
        try:
            deliver = None if place is None else place.put
            return await opened.tokens.create(wanted, actor=actor(), now=now(), deliver=deliver)
        except TokenRequestError as error:
            raise TokenRequestError([f"--{problem}" for problem in error.problems]) from None

    token, row = run(token_settings, work)
    complain(unknown((row.workspaces or "").split(), settings.policies))
    if kind is Kind.personal and settings.directory is not None:
        complain(stranger(subject, settings.directory.file))
    hand_out(token, row, place, json)


def owner(settings: Settings, kind: PrincipalKind, subject: str) -> str:
    """The directory's id of a personal token's owner; empty where there is none. Ends the program where it can't be learnt."""
    if kind is not PrincipalKind.PERSONAL or settings.directory is None:
        return ""
    try:
        return owner_id(subject, settings.directory.file)
    except PeopleUnreadable as error:
        complain([error])
        raise typer.Exit(Exit.MISSING) from None


def place_of(
    to: To | None, secret: str | None, key: str | None, namespace: str | None, file: Path | None
) -> Destination | None:
    """Ends the program for what can't be served."""
    wish = Wish(secret, key, namespace, file, os.environ)
    try:
        if to is not None:
            return destination(to, wish)
        wish.refuse("secret", "key", "namespace", "file")
    except DeliveryError as error:
        complain([f"{error} (--to {to.value})" if to is not None else f"{error}, or say --to"])
        raise typer.Exit(Exit.INVALID) from None
    return None


def hand_out(token: Secret, row: TokenRow, place: Destination | None, json: bool, *further: str) -> None:
    """Prints the token, or says where it went. `further` lines come last, for a person."""
    if place is not None and place.manifest is not None:
        if json:
            import yaml  # few need it

            print_json(yaml.safe_load(place.manifest))
            return
        typer.echo(place.manifest, nl=False)
    elif json:
        shown = {"token": token.reveal()} if place is None else {"written_to": place.where}
        print_json({**shown, **as_json(row, Status.ACTIVE)})
        return
    elif place is None:
        typer.echo(token.reveal())
    last = "This is the only time that the token is shown." if place is None else f"Written: {place.where}."
    complain([*lines(row, Status.ACTIVE, now()), last, f"To revoke it: sidecar token revoke {row.id}", *further])
