"""`sidecar audit`: what the audit log knows."""

from sidecar.cli.audit_query import query
from sidecar.cli.audit_writes import who_wrote, written_by
from sidecar.cli.options import commands

app = commands("Ask the audit log.")
app.command()(query)
app.command("who-wrote")(who_wrote)
app.command("written-by")(written_by)


@app.callback()
def audit() -> None:
    """Ask the audit log."""
