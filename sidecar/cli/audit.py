"""`sidecar audit`: what the audit log knows."""

from sidecar.cli.audit_query import query
from sidecar.cli.options import commands

app = commands("Ask the audit log.")
app.command()(query)


@app.callback()
def audit() -> None:
    """Ask the audit log."""
