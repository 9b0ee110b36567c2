"""Stores behind the sidecar, one file per kind."""
