"""`sidecar token rotate`: a new token in the place of an old one, with time to exchange them."""

from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.delivery import Destination
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from sidecar.cli.token_create import TtlSecondsOption, owner
from sidecar.cli.token_delivery import delivering, handing_out, tell
from sidecar.cli.token_work import actor, given, id_of, life, loaded, now, refused, run, seconds
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind
from sidecar.tokens import TokenRequestError

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore


@delivering
def rotate(
    which: Annotated[
        str, typer.Argument(metavar="ID|-", help="Its id; or - (or stdin) to read the token from standard input.")
    ],
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the old one goes on beside the new one: 0s, 30m, 24h.")
    ] = "24h",
    ttl: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The new one's life; what the old one was made for if left out."),
    ] = None,
    ttl_seconds: TtlSecondsOption = None,
    place: Destination | None = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Make a token that replaces another, and print it, once.

    It may what the old one may, and has an access key if that has one. Both work until the overlap ends; who uses the old
    one after that leaves an event in the audit log.
    """
    settings, token_settings = loaded(config)
    try:
        lasting, asked = life(ttl, ttl_seconds), seconds("overlap", overlap)
    except TokenRequestError as error:
        raise refused(error) from None
    named = given(which)

    async def work(opened: "OpenStore") -> tuple[TokenRow, TokenRow, AccessKey | None]:
        old = await opened.tokens.show(id_of(opened, named))
        personal = old.kind == PrincipalKind.PERSONAL and old.owner_id is None
        try:
            _, row, ending = await opened.tokens.rotate(
                old.id,
                overlap=asked,
                ttl=lasting,
                actor=actor(),
                now=now(),
                owner_id=owner(settings, PrincipalKind.PERSONAL, old.subject) if personal else "",
                deliver=handing_out(place, json),
            )
            return row, ending, opened.tokens.access_key(row)
        except TokenRequestError as error:
            raise TokenRequestError([f"--{problem}" for problem in error.problems]) from None

    row, ending, pair = run(token_settings, work)
    left = ending.expires_at - now()
    tell(row, pair, place, json, f"The old one, {ending.id}, works for another {max(0, left)} s.")
