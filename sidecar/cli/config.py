"""`sidecar config check`: is the file right, and are the files that it names there?"""

from collections.abc import Sequence

import msgspec
import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, commands, complain
from sidecar.errors import DocumentError, Problem

app = commands("Look at the configuration file.")


@app.callback()
def config() -> None:
    """Look at the configuration file."""


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Tell everything that is wrong with the configuration.

    The files that it names are looked at, too.

    Exits 2 if the file itself is not right, 3 if a file that it names is missing or unfit, 0 otherwise.
    Policies have a check of their own: sidecar policy check.
    """
    from sidecar.config import inspect_files, load  # loads cryptography: `--help` doesn't need it

    try:
        report = inspect_files(load(config))
    except DocumentError as error:
        _say(error.problems, (), (), json)
        raise typer.Exit(Exit.INVALID) from None
    missing = [*report.problems, *report.unfit]
    _say((), missing, report.warnings, json)
    if missing:
        raise typer.Exit(Exit.MISSING)
    if not json:
        typer.echo(f"{config}: ok")


def _say(invalid: Sequence[Problem], missing: Sequence[Problem], warnings: Sequence[Problem], json: bool) -> None:
    if json:
        said = {"ok": not invalid and not missing, "invalid": invalid, "missing": missing, "warnings": warnings}
        typer.echo(msgspec.json.encode(said))
        return
    complain((*invalid, *missing, *(f"warning: {warning}" for warning in warnings)))
