"""What commands share: exit codes, the `--config` option, how problems are said, how help looks."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from sidecar.audit import redact
from sidecar.document import nearest
from sidecar.errors import DocumentError
from sidecar.errors import Exit as Exit

DEFAULT_CONFIG = Path("sidecar.yaml")

_CONFIG = typer.Option("--config", "-c", envvar="SIDECAR_CONFIG", help="The configuration file.", metavar="FILE")

ConfigOption = Annotated[Path, _CONFIG]
"""For a parameter `config: ConfigOption = DEFAULT_CONFIG`."""

ConfigIfAnyOption = Annotated[Path | None, _CONFIG]
"""For a parameter `config: ConfigIfAnyOption = None`, of a command that may go without."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


_NOT_ONE = re.compile(r"""Value error, (?P<given>(['"]).*\2) is not one of (?P<choices>'.*')\.""")
"""Typer's words, with those of what it checks values by before them."""


class _Commands(TyperGroup):
    """Tells of a bad choice as of one in a file: what there is, and what may have been meant."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = redact.text(error.message)
            if (found := _NOT_ONE.fullmatch(error.message)) is not None:
                choices = re.findall("'([^']*)'", found["choices"])
                near = nearest(found["given"][1:-1], choices)
                meant = "" if near is None else f"; did you mean {near!r}?"
                error.message = f"{found['given']} is not one of {', '.join(choices)}{meant}"
            raise


def commands(help: str, name: str | None = None) -> typer.Typer:
    """A group of commands. Help and mistakes are plain text, as wide as the terminal up to 100 columns: they are read in
    logs and searched with grep as often as on a screen."""
    return typer.Typer(
        name=name,
        cls=_Commands,
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        # A traceback with local variables would show tokens and keys.
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def complain(problems: Iterable[object]) -> None:
    """One line each to standard error. A token that was given where something else belongs is not repeated: logs keep these."""
    taken_out = False
    for problem in problems:
        said = str(problem)
        typer.echo(kept := redact.text(said), err=True)
        taken_out = taken_out or kept != said
    if taken_out:
        typer.echo(
            "note: a token was given where something else belongs; whoever saw this command line has it", err=True
        )


@contextmanager
def telling_problems(json: bool) -> Iterator[None]:
    """With `--json`, files that are not right are told as JSON too: `{"ok": false, "problems": [...]}`, and exit 2."""
    try:
        yield
    except DocumentError as error:
        if not json:
            raise
        typer.echo(msgspec.json.encode({"ok": False, "problems": error.problems}))
        raise typer.Exit(Exit.INVALID) from None
