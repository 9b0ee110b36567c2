"""`sidecar audit query`: which token was used when, from where and for what; what derives from it included."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sidecar.audit.query import Query, Use
from sidecar.audit.schema import rfc3339
from sidecar.cli.audit_files import configured, read, with_rotated
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, complain
from sidecar.cli.token_work import given, refused, seconds
from sidecar.credentials import master_key
from sidecar.credentials.opaque import TokenFormat
from sidecar.errors import CredentialRefused
from sidecar.model import Secret
from sidecar.reasons import REASONS
from sidecar.settings import Settings
from sidecar.tokens import TokenRequestError


def query(
    token: Annotated[
        str,
        typer.Option(
            metavar="ID|-",
            help="Its id, a JWT's jti, a Biscuit's or a block's id; - reads the token from standard input.",
        ),
    ],
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="Only as far back: 12h, 7d.")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused.")] = False,
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            help="An audit file; repeatable, the oldest first. - is standard input.",
            metavar="FILE",
            allow_dash=True,
            show_default="the configuration's, with all that were rotated",
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell when a token was used, from where, and for what.

    What derives from it is told as well: tokens that replaced it, Biscuits that were narrowed from it.
    """
    settings = None if audit and not config.exists() else _settings(config)
    try:
        first = "" if since is None else rfc3339(time.time() - seconds("since", since))
        wanted = named_id(token, settings)
    except TokenRequestError as error:
        raise refused(error) from None
    files = audit or with_rotated(configured(settings or _settings(config))[0])
    asked = Query(wanted, since=first, denied=denied)
    uses = found(asked, read(files, lambda text: complain([text])))
    if json:
        _as_json(wanted, asked, uses)
    else:
        _as_lines(asked, uses)


def found(asked: Query, lines: Iterable[bytes]) -> Iterator[Use]:
    for line in lines:
        use = asked.add(line)
        if use is not None:
            yield use
    yield from asked.unfinished()


def _settings(config: Path) -> Settings:
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    return load(config)


def named_id(token: str, settings: Settings | None) -> str:
    """The id of what stands for a token on the command line; any other text is taken as it is. Raises `TokenRequestError`.

    A whole token is never repeated in a message.
    """
    named = given(token)
    text = named.reveal()
    if not text:
        raise TokenRequestError(["--token: an id is needed, or - and the token on standard input"])
    if (access_key := master_key.parse(text)) is not None:
        return access_key.token_id
    if settings is None or len(text) <= _SHORT:
        return text
    from sidecar.credentials.pasted import recognise  # loads cryptography: `--help` doesn't need it

    spelling = TokenFormat("asc" if settings.tokens is None else settings.tokens.brand)
    try:
        whole = recognise(Secret(text), spelling, settings.issuers)
    except CredentialRefused as error:
        raise TokenRequestError([f"--token: {REASONS[error.reason].hint}"]) from None
    if whole is None:
        return text
    if not whole.token_id:
        raise TokenRequestError(["--token: this JWT has no jti, so the audit log has no name for it alone"])
    return whole.token_id


_SHORT = 40
"""Characters: no credential is as short."""


def _as_json(wanted: str, asked: Query, uses: Iterable[Use]) -> None:
    """One document, written as it is found: there may be more of it than memory."""
    typer.echo(b'{"token":' + msgspec.json.encode(wanted) + b',"uses":[', nl=False)
    for number, use in enumerate(uses):
        typer.echo((b"," if number else b"") + msgspec.json.encode(use), nl=False)
    derived = sorted(asked.ids - {wanted})
    rest = {"replaced_by": derived, "records": asked.records, "unreadable": asked.unreadable}
    typer.echo(b"]," + msgspec.json.encode(rest)[1:])


def _as_lines(asked: Query, uses: Iterable[Use]) -> None:
    count = refusals = told = 0
    last: str | None = None
    for use in uses:
        told += 1
        if use.kind == "access" and (use.request_id is None or use.request_id != last):
            last = use.request_id
            count += 1
            refusals += use.outcome != "allow"
        typer.echo(shown(line_of(use)))
    typer.echo(f"{count} request{'' if count == 1 else 's'}, {refusals} refused")
    if not told:
        complain(
            ["note: no record that was asked for names it; `sidecar token list --all` shows the ids that there are"]
        )
    if asked.unreadable:
        noise = (
            "1 line is no audit record" if asked.unreadable == 1 else f"{asked.unreadable} lines are no audit records"
        )
        complain([f"note: {noise}"])


def line_of(use: Use) -> str:
    """When, which one, what came of it, from where, for what."""
    which = use.token_id if use.block is None or not use.derived else f"{use.token_id}/{use.block[:12]}"
    if use.kind == "token":
        return f"{use.time[:19]}Z  {which}  {use.action} by {use.by or '?'}"
    came = "not known" if not use.finished else use.outcome if use.outcome == "allow" else f"{use.outcome} {use.reason}"
    what = f"{use.method or '?'} {use.workspace}:{use.key}" if use.key is not None else f"{use.method} {use.path}"
    agent = f"  {use.user_agent}" if use.user_agent else ""
    return f"{use.time[:19]}Z  {which}  {came}  {use.client or 'a unix socket'}  {what}{agent}"


def shown(text: str) -> str:
    """What callers sent must not reach the terminal as a control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
