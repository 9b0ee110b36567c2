"""`sidecar config check`: is the file right, and are the files that it names there?"""

import msgspec
import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.config import FileReport, inspect_files, load
from sidecar.errors import DocumentError, Problem

app = typer.Typer(no_args_is_help=True, help="Look at the configuration file.")


@app.callback()
def config() -> None:
    """Look at the configuration file."""


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Tell everything that is wrong with the configuration, and with the files that it names.

    Exits 2 if the file itself is not right, 3 if a file that it names is missing or unfit, 0 otherwise.
    Policies have a check of their own: sidecar policy check.
    """
    try:
        report = inspect_files(load(config))
    except DocumentError as error:
        _say(error.problems, FileReport([], []), json)
        raise typer.Exit(Exit.INVALID) from None
    _say((), report, json)
    if report.problems:
        raise typer.Exit(Exit.MISSING)
    if not json:
        typer.echo(f"{config}: ok")


def _say(invalid: tuple[Problem, ...], report: FileReport, json: bool) -> None:
    if json:
        said = {
            "ok": not invalid and not report.problems,
            "invalid": invalid,
            "missing": report.problems,
            "warnings": report.warnings,
        }
        typer.echo(msgspec.json.encode(said))
        return
    complain((*invalid, *report.problems, *(f"warning: {warning}" for warning in report.warnings)))
