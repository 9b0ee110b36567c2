"""`sidecar audit who-wrote` and `sidecar audit written-by`: provenance, read out of the audit log."""

import time
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from sidecar.audit.schema import rfc3339
from sidecar.audit.writes import Write, Writes
from sidecar.cli.audit_files import configured, read, with_rotated
from sidecar.cli.options import DEFAULT_CONFIG, Exit, JsonOption, complain
from sidecar.cli.token_work import refused, seconds
from sidecar.tokens import TokenRequestError

_Audit = Annotated[
    list[Path] | None,
    typer.Option(
        help="An audit file; repeatable, the oldest first. - is standard input.",
        metavar="FILE",
        allow_dash=True,
        show_default="the configuration's, with all that were rotated",
    ),
]
_Config = Annotated[
    Path, typer.Option("--config", "-c", envvar="SIDECAR_CONFIG", help="The configuration file.", metavar="FILE")
]
_Workspace = Annotated[str | None, typer.Option(help="Only in this one.", metavar="NAME")]
_Since = Annotated[str | None, typer.Option(metavar="DURATION", help="Only as far back: 12h, 7d.")]


def who_wrote(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The key, or the path by which it is asked for, as /web/app.tgz.")
    ],
    workspace: _Workspace = None,
    since: _Since = None,
    audit: _Audit = None,
    config: _Config = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell who wrote a key, when, and with which digest.

    Exits 1 if nobody did, as far as the audit log goes.
    """
    _tell(Writes(key=key, workspace=workspace, since=_first(since)), {"key": key}, audit, config, json)


def written_by(
    who: Annotated[
        str,
        typer.Argument(
            metavar="WHO", help="A token's id, a JWT's jti, or a subject; - reads a token from standard input."
        ),
    ],
    workspace: _Workspace = None,
    since: _Since = None,
    audit: _Audit = None,
    config: _Config = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Tell which keys a token or a subject wrote.

    What derives from a token counts as its own: replacements, narrowed Biscuits. What somebody else has written or deleted
    since is told as changed. sidecar purge takes the output. Exits 1 if there is none.
    """
    from sidecar.cli.audit_query import named_id
    from sidecar.config import load

    try:
        who = named_id(who, None if audit and not config.exists() else load(config))
    except TokenRequestError as error:
        raise refused(error) from None
    _tell(Writes(by=who, workspace=workspace, since=_first(since)), {"by": who}, audit, config, json)


def _first(since: str | None) -> str:
    try:
        return "" if since is None else rfc3339(time.time() - seconds("since", since))
    except TokenRequestError as error:
        raise refused(error) from None


def _tell(asked: Writes, about: dict[str, str], audit: list[Path] | None, config: Path, json: bool) -> None:
    if not audit:
        from sidecar.config import load  # loads cryptography: `--help` doesn't need it

        audit = with_rotated(configured(load(config))[0])
    for line in read(audit, lambda text: complain([text])):
        asked.add(line)
    found = 0
    if json:
        start = msgspec.json.encode(about)[:-1]
        typer.echo(start + b',"writes":[', nl=False)
    for write in asked.results():
        if json:
            typer.echo((b"," if found else b"") + msgspec.json.encode(write), nl=False)
        else:
            typer.echo(line_of(write))
        found += 1
    if json:
        typer.echo(b'],"records":%d,"unreadable":%d,"beyond":%d}' % (asked.records, asked.unreadable, asked.beyond))
    if asked.beyond:
        complain([f"note: {asked.beyond} more are not told; --since or --workspace narrow it"])
    if asked.unreadable:
        lines = (
            "1 line is no audit record" if asked.unreadable == 1 else f"{asked.unreadable} lines are no audit records"
        )
        complain([f"note: {lines}"])
    if not found:
        complain(["nobody wrote it" if "key" in about else "nothing was written", "as far as this audit log goes"])
        raise typer.Exit(Exit.FAILED)


def line_of(write: Write) -> str:
    """Columns with two spaces between them: when, where, by which path, what it was, what became of it, who."""
    what = "deleted" if write.deleted else write.digest or "no digest"
    state = "current" if write.current else "deleted" if write.deleted else "changed since"
    if not write.certain:
        state += ", perhaps"
    token = f" ({write.token_name or 'token'} {write.token_id})" if write.token_id else ""
    issuer = f" of {write.owner}" if write.type == "jwt" and write.owner else ""
    claims = "  " + " ".join(f"{name}={value}" for name, value in write.claims.items()) if write.claims else ""
    who = f"{write.type or 'unknown'} {write.subject or ''}".rstrip()
    columns = [f"{write.time[:19]}Z", write.workspace or "-", write.path or f"key {quote(write.key)}", what, state]
    return "  ".join(_shown(column) for column in [*columns, f"{who}{issuer}{token}"]) + _shown(claims)


def _shown(text: str) -> str:
    """What callers sent must not reach the terminal as a control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
