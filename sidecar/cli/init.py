"""`sidecar init`: a minimal configuration to start from, with fresh secrets made on the spot. It overwrites nothing."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sidecar.cli.options import Exit, JsonOption, complain

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
  access_key_master_file: ./secrets/access-key-master  # likewise, for the access keys of S3 tools (token create --s3)

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

cases:                            # what this policy must answer: sidecar policy test
  - {name: strangers read nothing, who: anonymous, ask: GET /example/a, expect: no_token}
  - {name: CI writes, who: {ci: example}, ask: PUT /example/a, expect: allow}
  - {name: CI deletes nothing, who: {ci: example}, ask: DELETE /example/a, expect: no_rule}
"""

IGNORED = """\
# What the sidecar keeps and writes. The configuration and the policies belong into version control; these don't.
secrets/
data/
*.db
*.db-*
audit.jsonl*
*.env
*token*.txt
"""

NEXT_STEPS = """\
Next{where}:
  sidecar serve
  sidecar token create --kind ci --subject build --workspace example --permission read --permission write
  curl -H "Authorization: Bearer TOKEN" -T FILE http://127.0.0.1:8080/example/FILE
Edit policies/example.yaml to say who may do what; it goes live without a restart."""

PRIVATE, PUBLIC = 0o600, 0o644


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write them.", show_default="this directory")
    ] = Path(),
    json: JsonOption = False,
) -> None:
    """Write a configuration to start from, with fresh secrets.

    That is: a minimal sidecar.yaml, the pepper and the access keys' master key, an example workspace, a directory for the embedded
    store, and a .gitignore for what doesn't belong into version control (an existing one stays as it is).

    Refuses to overwrite: if any of the files exists, nothing is written.
    """
    files = {
        folder / "secrets" / "pepper": (secrets.token_hex(32) + "\n", PRIVATE),
        folder / "secrets" / "access-key-master": (secrets.token_hex(32) + "\n", PRIVATE),
        folder / "policies" / "example.yaml": (POLICY, PUBLIC),
        folder / "sidecar.yaml": (CONFIG, PUBLIC),
    }
    existing = [path for path in files if path.exists() or path.is_symlink()]
    if existing:
        complain(f"{path} exists already and is not overwritten; nothing was written" for path in existing)
        raise typer.Exit(Exit.FAILED)
    ignored = folder / ".gitignore"
    if not (ignored.exists() or ignored.is_symlink()):
        files[ignored] = (IGNORED, PUBLIC)
    data = folder / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
        (folder / "policies").mkdir(exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        for path, (content, mode) in files.items():
            write_new(path, content, mode)
    except OSError as error:
        complain([f"{error.filename}: {error.strerror}"])
        raise typer.Exit(Exit.FAILED) from None
    if json:
        typer.echo(msgspec.json.encode({"written": list(map(str, files)), "store": str(data)}))
        return
    typer.echo(f"Wrote {', '.join(map(str, files))}, and made {data}{os.sep} for the embedded store.")
    typer.echo(NEXT_STEPS.format(where="" if folder == Path() else f", in {folder}"))


def write_new(path: Path, content: str, mode: int) -> None:
    """Created with its mode: at no moment is a secret readable by others."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)
