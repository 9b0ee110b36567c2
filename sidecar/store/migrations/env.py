"""Alembic's entry: it runs the upgrade on the connection that `run.py` hands in."""

from alembic import context

from sidecar.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
