"""`sidecar policy diff`: whose access would an edit change?"""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sidecar.cli.options import ConfigIfAnyOption, Exit, JsonOption, complain, telling_problems
from sidecar.errors import DocumentError, SidecarError
from sidecar.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.cli.policy_compare import Comparison
    from sidecar.directory.file import DirectoryFile
    from sidecar.policy.compiled import Case
    from sidecar.policy.routes import Snapshot
    from sidecar.settings import Settings


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The policies as they are: a directory, or one file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The policies as they would be.")],
    cases: Annotated[
        list[Path] | None,
        typer.Option(
            "--cases",
            help="Ask these cases: a file, or a directory; repeatable.",
            metavar="PATH",
            show_default="those of OLD and of NEW",
        ),
    ] = None,
    audit: Annotated[
        list[Path] | None,
        typer.Option("--audit", help="Ask what was asked, by an audit log; repeatable.", metavar="FILE"),
    ] = None,
    config: ConfigIfAnyOption = None,
    json: JsonOption = False,
) -> None:
    """Tell whose access an edit of the policies changes.

    That is: who, what, from which answer to which, and by which rule.

    With --audit, who asked is known as far as the log tells. JWTs' claims are not in it: their
    callers are taken to claim what the rule that decided asks for.

    With a configuration the names of issuers and upstreams are checked, and people's groups known.

    Exits 0 if nobody's access changes, 1 if somebody's does, 2 if a policy or a file of cases is not right.
    """
    if cases and audit:
        raise typer.BadParameter("say either --cases or --audit: what shall be asked?")
    with telling_problems(json):
        found, notes = _compared(old, new, cases or [], audit or [], config)
    if json:
        said = {
            "changes": found.changes,
            "asked": found.asked,
            "unsure": found.unsure,
            "assumed_claims": found.assumed,
            "notes": notes,
        }
        typer.echo(msgspec.json.encode(said))
    else:
        _print(found, notes)
    if found.changes:
        raise typer.Exit(Exit.FAILED)


def _compared(
    old: Path, new: Path, cases: list[Path], audit: list[Path], config: Path | None
) -> "tuple[Comparison, list[str]]":
    """The comparison, and notes on it. Raises `DocumentError` for what is not right."""
    from sidecar.cli.policy_compare import compare_cases
    from sidecar.cli.policy_files import cases_beside, load_policies, own_cases, policy_folder, read_cases_at
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config) if config is not None else None
    versions = [load_policies(policy_folder(path), settings, guards=False) for path in (old, new)]
    problems = [problem for version in versions for problem in version.problems]
    if problems:
        raise DocumentError(problems)
    before, after = (version.snapshot for version in versions)
    if audit:
        return _replayed(audit, before, after, settings)
    issuers = settings.issuers if settings is not None else None
    if cases:
        sources = read_cases_at(cases, issuers)
    else:
        beside = [file for path in (old, new) for file in cases_beside(policy_folder(path))]
        sources = [*own_cases(before), *own_cases(after), *read_cases_at(beside, issuers)]
    asked = _each_once(case for source in sources for case in source.read.cases)
    if not asked:
        where = "--cases" if cases else "OLD and NEW; say --cases, or --audit"
        raise SidecarError(f"there is no case in {where}")
    return asyncio.run(compare_cases(asked, before, after, time.time(), lambda text: complain([text]))), []


def _each_once(cases: "Iterable[Case]") -> "list[Case]":
    """Both versions may have the same case, and expect different answers of it: it is one question."""
    asked: dict[str, Case] = {}
    for case in cases:
        expect = case.expect if case.expect is Reason.WOULD_DENY else Reason.GRANTED  # that one says when it is asked
        asked.setdefault(repr(msgspec.structs.replace(case, line=0, expect=expect, rule=None)), case)
    return list(asked.values())


def _replayed(
    audit: list[Path], before: "Snapshot", after: "Snapshot", settings: "Settings | None"
) -> "tuple[Comparison, list[str]]":
    """The comparison over what was asked, and what the log doesn't tell."""
    from sidecar.audit.lines import lines_of
    from sidecar.cli.policy_compare import compare_requests
    from sidecar.cli.policy_run import Progress
    from sidecar.cli.replay import read_audit

    reading = Progress(None, "lines of the log read", lambda text: complain([text]))

    def lines() -> "Iterator[bytes]":
        for file in audit:
            with file.open("rb") as opened:
                for line in lines_of(opened):
                    yield line
                    reading.step()

    try:
        replay = read_audit(lines(), before, _directory(settings))
    except OSError as error:
        raise SidecarError(f"{error.filename} can't be read: {error.strerror}") from None
    if not replay.questions:
        raise SidecarError("there is no request of a known caller in --audit")
    found = asyncio.run(compare_requests(replay.questions, before, after, time.time(), lambda text: complain([text])))
    told = [
        (found.assumed, "of JWTs: their claims are not in the log; taken to be what the rule that decided asks for"),
        (
            found.unsure,
            "not compared: OLD itself would answer them otherwise, so the log doesn't hold all that counted",
        ),
        (replay.unknown, "not compared: of callers who were not identified"),
        (replay.beyond, "not compared: they are beyond what is told apart"),
    ]
    notes = [f"{count} {'request' if count == 1 else 'requests'} {what}" for count, what in told if count]
    if replay.unreadable:
        notes.append(f"{replay.unreadable} lines of the log could not be read")
    return found, notes


def _directory(settings: "Settings | None") -> "DirectoryFile | None":
    if settings is None or settings.directory is None:
        return None
    from sidecar.directory.file import DirectoryFile

    directory = DirectoryFile(settings.directory.file, settle=0.0)
    directory.load_now()
    return directory


def _print(found: "Comparison", notes: list[str]) -> None:
    """Colours only where a terminal reads them."""
    for change in found.changes:
        head, *rest = map(_shown, change.lines())
        typer.echo(typer.style(head, bold=True, fg="green" if change.gains else "red"))
        for line in rest:
            typer.echo(line)
    complain(f"note: {note}" for note in notes)
    gains = sum(change.gains for change in found.changes)
    losses = len(found.changes) - gains
    if found.changes:
        typer.echo(
            f"{gains} {'gains' if gains == 1 else 'gain'} access, {losses} {'loses' if losses == 1 else 'lose'} it"
        )
    else:
        typer.echo(f"nobody's access changes ({found.asked} asked)")


def _shown(text: str) -> str:
    """What callers sent must not reach the terminal as a control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
