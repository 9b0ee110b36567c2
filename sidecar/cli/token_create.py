"""`sidecar token create`: who it is for, what it may, for how long, and where it goes."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.delivery import DeliveryError, Destination, To, Wish, destination
from sidecar.cli.delivery.destination import KEY_ID, KEY_SECRET
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.people import PeopleUnreadable, owner_id, person, stranger
from sidecar.cli.token_scopes import scopes
from sidecar.cli.token_text import as_json, lines
from sidecar.cli.token_work import actor, life, loaded, now, print_json, refused, run
from sidecar.cli.workspaces import unknown
from sidecar.credentials.master_key import AccessKey
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
    biscuit = "biscuit"


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
            all_permissions=all_permissions,
            owned=kind is Kind.biscuit and is_person(settings, subject),
            s3=s3,
        )
    except TokenRequestError as error:
        raise refused(error) from None

    async def work(opened: "OpenStore") -> tuple[Secret, TokenRow, AccessKey | None]:
        try:
            deliver = None if place is None else place.put
            if wanted.kind is PrincipalKind.BISCUIT:
                token, row = await opened.biscuits.create(
                    wanted, actor=actor(), now=now(), deliver=deliver, key_made=_tell_of_key
                )
                return token, row, None
            token, row = await opened.tokens.create(wanted, actor=actor(), now=now(), deliver=deliver)
            return token, row, opened.tokens.access_key(row)
        except TokenRequestError as error:
            raise TokenRequestError([f"--{problem}" for problem in error.problems]) from None

    token, row, pair = run(token_settings, work)
    complain(unknown((row.workspaces or "").split(), settings.policies))
    if kind is Kind.personal and settings.directory is not None:
        complain(stranger(subject, settings.directory.file))
    hand_out(token, row, pair, place, json)


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


def hand_out(
    token: Secret, row: TokenRow, pair: AccessKey | None, place: Destination | None, json: bool, *further: str
) -> None:
    """Prints the token or its access key, or says where they went. `further` lines come last, for a person."""
    if place is not None and place.manifest is not None:
        if json:
            import yaml  # few need it

            print_json(yaml.safe_load(place.manifest))
            return
        typer.echo(place.manifest, nl=False)
    elif json:
        shown = _in_json(token, pair) if place is None else {"written_to": place.where}
        print_json({**shown, **as_json(row, Status.ACTIVE)})
        return
    elif place is None and pair is not None:
        typer.echo(f"{KEY_ID}={pair.id}\n{KEY_SECRET}={pair.secret.reveal()}")
    elif place is None:
        typer.echo(token.reveal())
    what = "token" if pair is None else "secret access key"
    last = f"This is the only time that the {what} is shown." if place is None else f"Written: {place.where}."
    complain([*lines(row, Status.ACTIVE, now()), last, f"To revoke it: sidecar token revoke {row.id}", *further])


def _in_json(token: Secret, pair: AccessKey | None) -> dict[str, str]:
    shown = {"token": token.reveal()}
    return shown if pair is None else {**shown, "access_key_id": pair.id, "secret_access_key": pair.secret.reveal()}
