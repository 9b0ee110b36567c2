"""`sidecar token revoke`: one token, with what derives from it; all of somebody's; all under a key."""

import datetime
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, complain
from sidecar.cli.token_text import as_json
from sidecar.cli.token_work import actor, given, loaded, now, print_json, refused, run
from sidecar.credentials.token_row import TokenRow
from sidecar.model import PrincipalKind, Secret
from sidecar.revoking import Revoked
from sidecar.settings import Settings
from sidecar.tokens import TokenRequestError, UnknownToken

if TYPE_CHECKING:
    from sidecar.credentials.pasted import Pasted
    from sidecar.store.open import OpenStore

TAKES_EFFECT = "Every running sidecar on this store refuses it within half a second."


def revoke(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="ID|TOKEN|-",
            help="Its id, or the whole token; - (or stdin) reads that from standard input, which is where a token belongs.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="SUBJECT", help="Everything that was issued to this person or build until now."),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --subject or --jti: of this issuer alone; sidecar: of what is issued here."
        ),
    ] = None,
    issued_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --subject: what was issued then or earlier: 2026-11-22T08:00:00Z."),
    ] = None,
    jti: Annotated[str | None, typer.Option(metavar="JTI", help="With --issuer: the JWT with this jti.")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Everything under a key: a Biscuit root key's id, or a pepper's as list shows it."
        ),
    ] = None,
    derived: Annotated[
        bool,
        typer.Option("--derived", help="Those that replaced it (token rotate), too; of a Biscuit they always are."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Revoke tokens for good.

    Of a Biscuit: its last block, and all that was derived from it; never its parent. Every running sidecar on this store refuses
    it within half a second.
    """
    settings, token_settings = loaded(config)
    try:
        _check(settings, which, subject, issuer, issued_before, jti, key, derived)
        before = None if issued_before is None else _time(issued_before)
    except TokenRequestError as error:
        raise refused(error) from None
    named = None if which is None else given(which)

    async def work(opened: "OpenStore") -> Revoked | list[tuple[TokenRow, bool]]:
        by, at = actor(), now()
        if named is not None:
            return await _one(opened, settings, named, derived, by, at)
        if jti is not None:
            from sidecar.credentials.jwt import (
                revocation_id as jwt_name,
            )  # loads cryptography: `--help` doesn't need it

            return await opened.revoking.name(jwt_name(issuer or "", jti), actor=by, now=at)
        if subject is not None:
            only = "" if issuer == _HERE else issuer
            return await opened.revoking.identity(subject, actor=by, now=at, issuer=only, before=before)
        return await _key(opened, key or "", by, at)

    done = run(token_settings, work)
    if isinstance(done, Revoked):
        _tell(done, json)
        if subject is not None and issuer in (None, _HERE) and not done.tokens:
            complain(
                [f"note: no token that was issued here and is active has the subject {subject!r}; is it spelt so?"]
            )
    else:
        _tell_rows(done, json)


_HERE = "sidecar"


def _check(
    settings: Settings,
    which: str | None,
    subject: str | None,
    issuer: str | None,
    issued_before: str | None,
    jti: str | None,
    key: str | None,
    derived: bool,
) -> None:
    """Raises `TokenRequestError`."""
    problems = []
    if sum(each is not None for each in (which, subject, jti, key)) != 1:
        problems.append(
            "say what to revoke: an id or a token (- reads it from standard input), or one of --subject, --jti, --key"
        )
    if issued_before is not None and subject is None:
        problems.append("--issued-before: it goes with --subject")
    if issuer is not None and subject is None and jti is None:
        problems.append("--issuer: it goes with --subject or --jti")
    if jti is not None and issuer is None:
        problems.append("--jti: say whose with --issuer; two issuers may use the same")
    if issuer is not None and issuer not in settings.issuers and not (issuer == _HERE and subject is not None):
        known = ", ".join([*settings.issuers, *([_HERE] if subject is not None else [])])
        problems.append(f"--issuer {issuer!r}: there are {known or 'none'}")
    if derived and which is None:
        problems.append("--derived: it goes with an id or a token")
    if problems:
        raise TokenRequestError(problems)


def _time(text: str) -> int:
    """Unix seconds. Raises `TokenRequestError`."""
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise TokenRequestError([f"--issued-before {text!r}: a time such as 2026-11-22T08:00:00Z"]) from None
    return int((found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)).timestamp())


async def _one(
    opened: "OpenStore", settings: Settings, named: Secret, derived: bool, by: str, at: int
) -> Revoked | list[tuple[TokenRow, bool]]:
    from sidecar.credentials.pasted import recognise  # loads cryptography: `--help` doesn't need it

    found = recognise(named, opened.spelling, settings.issuers)
    if found is None:
        brand = opened.spelling.brand
        raise TokenRequestError(
            [
                f"that is neither an id nor a token that is known here: {brand}_..., a JWT of a configured issuer, a Biscuit"
            ]
        )
    if not found.name and found.kind is not PrincipalKind.JWT:
        rows = [await opened.tokens.revoke(found.token_id, actor=by, now=at)]
        if derived:
            further = await opened.revoking.derived(found.token_id)
            rows += [await opened.tokens.revoke(row.id, actor=by, now=at) for row in further]
        return rows
    return await revoke_pasted(opened, found, by, at)


async def revoke_pasted(opened: "OpenStore", found: "Pasted", by: str, at: int) -> Revoked:
    """What has no row of its own. A JWT without `jti` takes along what its subject was issued by then."""
    if found.root_id:
        await _mark_root(opened, found, by, at)
    if found.name:
        return await opened.revoking.name(found.name, actor=by, now=at, expires_at=found.expires_at)
    return await opened.revoking.identity(
        found.subject, actor=by, now=at, issuer=found.issuer, before=at if found.issued_at is None else found.issued_at
    )


async def _mark_root(opened: "OpenStore", found: "Pasted", by: str, at: int) -> None:
    """The row of a Biscuit that nobody has narrowed is revoked with it, where it is that one's."""
    try:
        row = await opened.tokens.show(found.root_id)
    except UnknownToken:
        return
    if row.digest == found.token_id:
        await opened.tokens.revoke(row.id, actor=by, now=at)


async def _key(opened: "OpenStore", key: str, by: str, at: int) -> Revoked:
    if opened.peppers.named(key) is not None:
        if opened.peppers.current.id == key:
            complain(
                [
                    "note: new tokens are made under this pepper; name another as tokens.pepper_file, or they are refused, too"
                ]
            )
        return await opened.revoking.pepper(key, actor=by, now=at)
    if re.fullmatch(r"[0-9]{1,10}", key):
        revoked = await opened.revoking.root_key(int(key), actor=by, now=at)
        if any(row.id == int(key) for row, _ in await opened.root_keys.all()):
            await opened.root_keys.retire(int(key), actor=by, now=at)  # or the next Biscuit would be made under it
        return revoked
    peppers = ", ".join(opened.peppers.ids)
    raise TokenRequestError(
        [f"--key {key!r}: neither a pepper (there are {peppers}) nor the number of a Biscuit root key"]
    )


def _tell(done: Revoked, json: bool) -> None:
    if json:
        print_json({"name": done.name, "changed": done.changed, "tokens": done.tokens, "count": done.count})
        return
    typer.echo(
        f"Revoked {done.name}. {TAKES_EFFECT}" if done.changed else f"{done.name} was revoked before; nothing changed."
    )
    for token_id in done.tokens:
        typer.echo(f"  {token_id}")
    if done.count and not done.tokens:
        typer.echo(f"  {done.count} tokens")


def _tell_rows(done: list[tuple[TokenRow, bool]], json: bool) -> None:
    (row, changed), further = done[0], done[1:]
    if json:
        from sidecar.tokens import Status

        shown: dict[str, Any] = {**as_json(row, Status.REVOKED), "changed": changed}
        if further:
            shown["derived"] = [{"id": other.id, "changed": fresh} for other, fresh in further]
        print_json(shown)
        return
    for each, fresh in done:
        typer.echo(f"Revoked {each.id}. {TAKES_EFFECT}" if fresh else f"{each.id} was revoked before; nothing changed.")
