"""`sidecar policy test`: do the policies answer what their cases say?"""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigIfAnyOption, Exit, JsonOption, complain, telling_problems
from sidecar.errors import DocumentError, Problem, SidecarError

if TYPE_CHECKING:
    from sidecar.cli.policy_run import Outcome


def run_tests(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The policies.", show_default="the configuration's")
    ] = None,
    cases: Annotated[
        list[Path] | None,
        typer.Option(
            "--cases",
            help="A file of cases, or a directory of them; repeatable.",
            metavar="PATH",
            show_default="the directory cases in DIR, or beside it",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the results there, as JUnit XML.", metavar="FILE")
    ] = None,
    config: ConfigIfAnyOption = None,
    json: JsonOption = False,
) -> None:
    """Run the policies' cases, and explain each that doesn't hold.

    Cases stand in the policy files themselves, and in files of their own.

    With a configuration the names of issuers and upstreams are checked, too.

    Exits 0 if all hold, 1 if one doesn't, 2 if a policy or a file of cases is not right.
    """
    with telling_problems(json):
        outcomes = _outcomes(directory, cases, config)
    if junit is not None:
        _write(junit, outcomes)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if json:
        said = {"ok": not failed, "cases": len(outcomes), "failed": len(failed), "results": outcomes}
        typer.echo(msgspec.json.encode(said))
    else:
        _print(outcomes, failed)
    if failed:
        raise typer.Exit(Exit.FAILED)


def _outcomes(directory: Path | None, cases: list[Path] | None, config: Path | None) -> "list[Outcome]":
    """Raises `DocumentError` for what is not right, and where there is no case."""
    from sidecar.cli.policy_files import cases_beside, load_policies, own_cases, policy_folder, read_cases_at
    from sidecar.cli.policy_run import run_cases
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config or DEFAULT_CONFIG) if config is not None or directory is None else None
    folder = policy_folder(directory) if directory is not None else (settings.policies if settings else Path())
    policies = load_policies(folder, settings, guards=False)
    if policies.problems:
        raise DocumentError(policies.problems)
    issuers = settings.issuers if settings is not None else None
    sources = [*own_cases(policies.snapshot), *read_cases_at(cases or cases_beside(folder), issuers)]
    if settings is None and any(source.read.loads for source in sources):
        complain(["note: without --config, cases about loading are left out: they are about names in it"])
        sources = [source for source in sources if not source.read.loads]
    outcomes = asyncio.run(run_cases(sources, policies.snapshot, settings, time.time(), lambda text: complain([text])))
    if not outcomes:
        raise DocumentError(
            [Problem(str(folder), 0, "$", "there is no case; write some under 'cases' in a policy file")]
        )
    return outcomes


def _write(file: Path, outcomes: "list[Outcome]") -> None:
    from sidecar.cli.junit import junit

    try:
        file.write_bytes(junit(outcomes))
    except OSError as error:
        raise SidecarError(f"{file} can't be written: {error.strerror}") from None


def _print(outcomes: "list[Outcome]", failed: "list[Outcome]") -> None:
    """Colours only where a terminal reads them."""
    for outcome in failed:
        typer.echo(typer.style(f"{outcome.file}:{outcome.line} {outcome.name}", bold=True))
        for line in outcome.diff():
            typer.echo(f"  {typer.style(line, fg={'-': 'red', '+': 'green'}.get(line[0]))}")
        for line, style in outcome.explanation.lines() if outcome.explanation is not None else []:
            typer.echo(f"    {typer.style(line, **style) if style else line}")
        typer.echo()
    many = Counter(outcome.passed for outcome in outcomes)
    files = len({outcome.file for outcome in outcomes})
    typer.echo(
        f"{len(outcomes)} {'case' if len(outcomes) == 1 else 'cases'} in {files} {'file' if files == 1 else 'files'}: "
        f"{many[True]} passed, {many[False]} failed"
    )
