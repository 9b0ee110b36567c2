"""Where a new token goes, for each command that makes one: to the terminal, or to whom `--to` names.

Law: the options are declared in `place_of` alone, and whatever makes a token hands it out here.
"""

import contextlib
import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from sidecar.cli.delivery import DeliveryError, Destination, To, Wish, destination
from sidecar.cli.delivery.destination import KEY_ID, KEY_SECRET
from sidecar.cli.options import Exit, complain
from sidecar.cli.token_text import as_json, lines
from sidecar.cli.token_work import now, print_json
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import Secret
from sidecar.tokens import Deliver, Status


def place_of(
    to: Annotated[
        To | None, typer.Option(help="Hand it to a secret manager instead of printing it; then it is shown nowhere.")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --to: the Kubernetes Secret's name, or MOUNT/PATH in Vault."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --to: the key that holds the token; in a file, the variable."),
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="With --to k8s-secret: its namespace.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="With --to env-file: which.")] = None,
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


def delivering(command: Callable[..., None]) -> Callable[..., None]:
    """For a command with a parameter `place: Destination | None`: in its stead it has the options of `place_of`."""
    options = signature(place_of).parameters
    own = signature(command)
    parameters: list[Parameter] = []
    for parameter in own.parameters.values():
        parameters += options.values() if parameter.name == "place" else [parameter]

    @wraps(command)
    def asked(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        command(place=place_of(**chosen), **given)

    asked.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362's; typing knows no such attribute
    return asked


def handing_out(place: Destination | None, json: bool) -> Deliver:
    """Hands a new token to `place`, or prints it or its access key. A token that nobody got is to be revoked at once: whoever
    reads standard output may be gone, or its disk full."""

    def deliver(token: Secret, row: TokenRow, pair: AccessKey | None) -> None:
        if place is not None:
            place.put(token, row, pair)
        try:
            _print(token, row, pair, place, json)
        except OSError as error:
            with contextlib.suppress(
                OSError
            ):  # what is left in the buffer would be written, and fail, once more at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise DeliveryError(f"the token couldn't be printed: {error.strerror}") from None

    return deliver


def _print(token: Secret, row: TokenRow, pair: AccessKey | None, place: Destination | None, json: bool) -> None:
    if place is not None and place.manifest is not None:
        if json:
            import yaml  # few need it

            print_json(yaml.safe_load(place.manifest))
        else:
            typer.echo(place.manifest, nl=False)
    elif place is None:
        if json:
            print_json({**_in_json(token, pair), **as_json(row, Status.ACTIVE)})
        elif pair is not None:
            typer.echo(f"{KEY_ID}={pair.id}\n{KEY_SECRET}={pair.secret.reveal()}")
        else:
            typer.echo(token.reveal())


def tell(row: TokenRow, pair: AccessKey | None, place: Destination | None, json: bool, *further: str) -> None:
    """What there is to know of a token that was handed out. `further` lines come last, for a person."""
    if json:
        if place is not None and place.manifest is None:
            print_json({"written_to": place.where, **as_json(row, Status.ACTIVE)})
        return
    what = "token" if pair is None else "secret access key"
    last = f"This is the only time that the {what} is shown." if place is None else f"Written: {place.where}."
    complain([*lines(row, Status.ACTIVE, now()), last, f"To revoke it: sidecar token revoke {row.id}", *further])


def _in_json(token: Secret, pair: AccessKey | None) -> dict[str, str]:
    shown = {"token": token.reveal()}
    return shown if pair is None else {**shown, "access_key_id": pair.id, "secret_access_key": pair.secret.reveal()}
