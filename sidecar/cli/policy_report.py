"""`sidecar policy report`: who would have been refused while report mode let them through, and which rule would fit them."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer
from msgspec import Struct

from sidecar.audit.lines import lines_of
from sidecar.audit.summary import OldPasswordUse, Refusals, Summary
from sidecar.cli.audit_files import configured, read, with_rotated
from sidecar.cli.options import DEFAULT_CONFIG, JsonOption, complain
from sidecar.errors import SidecarError
from sidecar.policy.advice import Advice, Asker, advise
from sidecar.policy.compiled import Workspace
from sidecar.policy.rules import Issuers
from sidecar.settings import Settings

_STDIN = Path("-")


class CallerLine(Struct, frozen=True):
    """One caller's requests that were let through, and what would fit it."""

    workspace: str
    kind: str
    issuer: str | None
    principal: str | None
    groups: list[str]
    permissions: list[str]
    reason: str
    count: int
    first: str
    last: str
    below: str
    """The folder that all keys are in; empty for the whole workspace."""
    keys: list[str]
    peers: dict[str, int]
    more_peers: int
    fits: list[Advice]


class Report(Struct, frozen=True):
    records: int
    unreadable: int
    first: str | None
    last: str | None
    would_deny: list[CallerLine]
    legacy: list[OldPasswordUse]
    not_told_apart: int
    """Requests of callers or peers beyond those that are listed."""


def report(
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            help="An audit file; repeatable. - is standard input.",
            metavar="FILE",
            allow_dash=True,
            show_default="the configuration's, with all that were rotated",
        ),
    ] = None,
    workspace: Annotated[str | None, typer.Option(help="Only this one.", metavar="NAME")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many callers, and so many peers.")] = 50,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="SIDECAR_CONFIG",
            help="The configuration file.",
            metavar="FILE",
            show_default=f"{DEFAULT_CONFIG}, if there is one",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Sum up who would have been refused.

    That is: who got through only because report mode lets them, and which rule would fit them, one that is there or a new one.

    Also: who still uses a workspace's old shared password.

    With a configuration the policies as they are now are looked at, too.
    """
    settings = _settings(config, needed=not audit)
    workspaces, issuers = _policies(settings)
    summary = Summary()
    for record in _named(audit) if audit or settings is None else _configured(settings):
        summary.add(record)
    if not summary.records:
        where = "there is no audit record in --audit: name the file of" if audit else "there is no audit record yet in"
        raise SidecarError(f"{where} the configuration's `audit`")
    said = _report(summary, workspaces, issuers, workspace, limit)
    if json:
        typer.echo(msgspec.json.encode(said))
        return
    for line in _lines(said):
        typer.echo(_shown(line))
    if said.unreadable:
        noise = "1 line is no audit record" if said.unreadable == 1 else f"{said.unreadable} lines are no audit records"
        complain([f"note: {noise}"])


def _configured(settings: Settings) -> Iterator[bytes]:
    return read(with_rotated(configured(settings)[0]), lambda text: complain([text]))


def _named(files: Iterable[Path] | None) -> Iterator[bytes]:
    for file in files or ():
        try:
            with _opened(file) as opened:
                yield from lines_of(opened)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--audit") from None


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file == _STDIN:
        yield sys.stdin.buffer
        return
    with file.open("rb") as opened:
        yield opened


def _settings(config: Path | None, *, needed: bool) -> Settings | None:
    """`None` where there is no configuration, and nobody needs it."""
    if config is None and not needed and not DEFAULT_CONFIG.exists():
        return None
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    return load(config or DEFAULT_CONFIG)


def _policies(settings: Settings | None) -> tuple[dict[str, Workspace], Issuers]:
    """The policies as they are now; none where there is no configuration."""
    if settings is None:
        return {}, None
    from sidecar.policy.source import PolicySource
    from sidecar.profiles import PROFILES

    source = PolicySource(
        settings.policies, issuers=settings.issuers, upstreams=settings.upstreams, profiles=PROFILES, settle=0.0
    )
    try:
        source.load_now()
    except OSError as error:
        complain([f"note: {settings.policies} can't be read: {error.strerror}; rules that are there are not looked at"])
    return dict(source.snapshot.workspaces), settings.issuers


def _report(
    summary: Summary, workspaces: dict[str, Workspace], issuers: Issuers, wanted: str | None, limit: int
) -> Report:
    callers = [each for each in summary.callers.values() if wanted in (None, each.caller.workspace)]
    callers.sort(key=lambda each: (-each.count, each.first))
    uses = [use for use in summary.old_passwords.values() if wanted in (None, use.workspace)]
    uses.sort(key=lambda use: (use.workspace, -use.count, use.peer))
    beyond = sum(each.count for each in callers[limit:]) + sum(use.count for use in uses[limit:])
    return Report(
        records=summary.records,
        unreadable=summary.unreadable,
        first=summary.first or None,
        last=summary.last or None,
        would_deny=[_caller(each, workspaces.get(each.caller.workspace), issuers) for each in callers[:limit]],
        legacy=uses[:limit],
        not_told_apart=summary.not_told_apart + beyond,
    )


def _caller(found: Refusals, workspace: Workspace | None, issuers: Issuers) -> CallerLine:
    who, groups, folder = found.caller, found.groups or frozenset(), found.common or ()
    asker = Asker(who.kind, who.issuer, who.principal, groups, frozenset(found.permissions), folder, found.keys)
    return CallerLine(
        workspace=who.workspace,
        kind=who.kind,
        issuer=who.issuer or None,
        principal=who.principal or None,
        groups=sorted(groups),
        permissions=sorted(found.permissions),
        reason=who.reason,
        count=found.count,
        first=found.first,
        last=found.last,
        below="/".join(folder),
        keys=found.keys,
        peers=dict(sorted(found.peers.items(), key=lambda peer: -peer[1])),
        more_peers=found.more_peers,
        fits=list(advise(asker, workspace, issuers)),
    )


def _lines(said: Report) -> Iterator[str]:
    span = f", {_when(said.first)} to {_when(said.last)}" if said.first and said.last else ""
    yield f"{said.records} audit records{span}"
    yield ""
    total = sum(line.count for line in said.would_deny)
    if said.would_deny:
        yield f"Report mode let through {_times(total)} that will be refused:"
    else:
        yield "Nobody would have been refused: no record says would_deny."
    for line in said.would_deny:
        yield ""
        yield from _caller_lines(line)
    if said.legacy:
        yield ""
        yield "Who still uses an old shared password:"
        yield ""
    for use in said.legacy:
        refused = f", {use.refused} refused" if use.refused else ""
        agent = f", {use.user_agent}" if use.user_agent else ""
        yield f"  {use.workspace}  {use.peer}  {_times(use.count)}{refused}, {_when(use.first)} to {_when(use.last)}{agent}"
    if said.not_told_apart:
        yield ""
        yield f"{_times(said.not_told_apart)} of further callers are not listed; --limit lists more."


def _caller_lines(line: CallerLine) -> Iterator[str]:
    issuer = f" of issuer {line.issuer}" if line.issuer else ""
    groups = f", groups {', '.join(line.groups)}" if line.groups else ""
    who = f"{line.kind} {line.principal}" if line.principal else line.kind
    yield f"{line.workspace}: {who}{issuer}{groups}"
    yield (
        f"  {_times(line.count)} to {' and '.join(line.permissions)}, {_when(line.first)} to {_when(line.last)}: {line.reason}"
    )
    yield f"  keys   {'below ' + line.below + ', such as ' if line.below else ''}{', '.join(line.keys) or 'none'}"
    peers = ", ".join(f"{peer} ({count})" for peer, count in line.peers.items())
    yield f"  from   {peers}{f', others ({line.more_peers})' if line.more_peers else ''}"
    for advice in line.fits:
        yield f"  fits   {advice.text}"
        if advice.kind == "rule" and advice.yaml is not None:
            for part in advice.yaml.splitlines():
                yield f"           {part}"


def _times(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"


def _when(time: str | None) -> str:
    """To the second."""
    return f"{(time or '')[:19]}Z"


def _shown(text: str) -> str:
    """What callers sent must not reach the terminal as a control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
