"""The root of the command line: which commands there are, and how mistakes are told."""

from typing import Annotated

import typer

from sidecar import __version__
from sidecar.cli import audit, config, key, policy, store, token
from sidecar.cli.client_config import client_config
from sidecar.cli.demo import demo
from sidecar.cli.init import init
from sidecar.cli.migrate import migrate
from sidecar.cli.options import Exit, commands, complain
from sidecar.cli.purge import purge
from sidecar.cli.serve import serve
from sidecar.errors import DocumentError, SidecarError

HELP = """
An auth sidecar for stores that know no users: artifact stores, build caches, buckets.

It knows who asks (a verified token), what for (an operation on a key) and whether the workspace's policy grants it; \
then it streams the request to the store, and leaves a metric and an audit record.

Try sidecar demo. Begin with sidecar init, look it over with sidecar config check, run sidecar serve.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or an invalid file, 3 a named file is missing or unfit.
"""

app = commands(HELP, "sidecar")
app.command()(demo)
app.command()(init)
app.command()(serve)
app.command()(purge)
app.command("client-config")(client_config)
app.command()(migrate)
app.add_typer(audit.app, name="audit")
app.add_typer(config.app, name="config")
app.add_typer(key.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(store.app, name="store")
app.add_typer(token.app, name="token")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sidecar {__version__}")
        raise typer.Exit


@app.callback(help=HELP)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """A person's mistake is told in one line each; only a defect of the program shows a traceback."""
    try:
        app()
    except DocumentError as error:
        complain(error.problems)
        raise SystemExit(Exit.INVALID) from None
    except SidecarError as error:
        complain([f"error: {error}"])
        raise SystemExit(Exit.FAILED) from None
