"""Upgrades of the token store's tables, run by `sidecar token migrate` and never by the serving process, which doesn't
load Alembic. `versions/` has one file for each change of `tables.py`."""
