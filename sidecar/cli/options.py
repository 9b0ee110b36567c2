"""What commands share: exit codes, the `--config` option, how problems are said."""

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    """Refused, or it did not work."""
    INVALID = 2
    """Wrong usage, or a file that is not right."""
    MISSING = 3
    """A file that a setting names is missing or unfit."""


DEFAULT_CONFIG = Path("sidecar.yaml")

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="SIDECAR_CONFIG", help="The configuration file.", metavar="FILE"),
]
"""For a parameter `config: ConfigOption = DEFAULT_CONFIG`."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def complain(problems: Iterable[object]) -> None:
    """One line each to standard error."""
    for problem in problems:
        typer.echo(str(problem), err=True)
