"""`sidecar init`: a minimal configuration to start from, with a pepper made on the spot. It overwrites nothing."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.options import Exit, complain

CONFIG = """\
# Where it listens, what stands behind it, what it keeps and writes. Relative paths are relative to this file.
listen: 127.0.0.1:8080            # data plane
ops: 127.0.0.1:9090               # /livez /readyz /metrics
policies: ./policies              # one file per workspace, picked up when it changes

upstreams:
  local:
    url: file://./data            # the embedded store; for your own: http://127.0.0.1:3000

tokens:
  store: sqlite:///./sidecar.db
  pepper_file: ./secrets/pepper   # keep it: without it no token that was made here is valid

audit:
  - file: ./audit.jsonl
"""

POLICY = """\
# One workspace. Nothing is allowed that no line here allows.
workspace: example
routes:
  - path: /example
    client: plain
    upstream: local

anonymous: none                   # callers without a token: none | read | read-write
members:
  users: []                       # people whose personal tokens open this workspace
personal_tokens: read             # what those tokens may do: none | read | read-write
ci_tokens: read-write             # the same for CI tokens of this workspace
"""

NEXT_STEPS = """\
Next:
  sidecar serve --config {config}
  sidecar token create --config {config} --kind ci --subject build --workspace example --permission read --permission write
  curl -H "Authorization: Bearer TOKEN" -T FILE http://127.0.0.1:8080/example/FILE
Edit {policies} to say who may do what; it goes live without a restart."""

PRIVATE, PUBLIC = 0o600, 0o644


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write them.", show_default="this directory")
    ] = Path(),
) -> None:
    """Write a minimal sidecar.yaml, a fresh pepper, an example workspace and a directory for the embedded store.

    Refuses to overwrite: if any of the files exists, nothing is written.
    """
    files = {
        folder / "secrets" / "pepper": (secrets.token_hex(32) + "\n", PRIVATE),
        folder / "policies" / "example.yaml": (POLICY, PUBLIC),
        folder / "sidecar.yaml": (CONFIG, PUBLIC),
    }
    existing = [path for path in files if path.exists() or path.is_symlink()]
    if existing:
        complain(f"{path} exists already and is not overwritten; nothing was written" for path in existing)
        raise typer.Exit(Exit.FAILED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "data").mkdir(mode=0o700, exist_ok=True)
        for path, (content, mode) in files.items():
            write_new(path, content, mode)
    except OSError as error:
        complain([f"{error.filename}: {error.strerror}"])
        raise typer.Exit(Exit.FAILED) from None
    typer.echo(f"Wrote {', '.join(str(path) for path in files)}.")
    typer.echo(NEXT_STEPS.format(config=folder / "sidecar.yaml", policies=folder / "policies"))


def write_new(path: Path, content: str, mode: int) -> None:
    """Created with its mode: at no moment is a secret readable by others."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)
