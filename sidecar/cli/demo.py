"""`sidecar demo`: a sidecar to try, with a store, a workspace and two tokens of its own, and lines to paste.

Law: it touches nothing but its own folder, which it makes anew each time, and listens on this machine alone.
"""

import asyncio
import errno
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from sidecar.cli.init import PRIVATE, PUBLIC, write_new
from sidecar.cli.options import Exit, complain
from sidecar.model import PrincipalKind, Secret
from sidecar.settings import DAY, TokenSettings
from sidecar.tokens import NewToken

HOST = "127.0.0.1"
FOLDER = Path(".demo")
_MARK = "# Made by `sidecar demo`, and made anew at its next run: keep nothing here."

CONFIG = f"""\
{_MARK}
listen: {HOST}:{{port}}
ops: {HOST}:{{ops_port}}
policies: ./policies
upstreams:
  local:
    url: file://./data            # the embedded store; for your own: http://127.0.0.1:3000
tokens:
  store: sqlite:///./sidecar.db
  pepper_file: ./pepper
audit:
  - file: ./audit.jsonl
limits:
  drain_delay: 0s                 # nobody is behind a load balancer here: Ctrl-C ends it at once
"""

POLICY = """\
# Edit it while the demo runs: it goes live within a second.
workspace: demo
routes:
  - path: /demo
    client: plain
    upstream: local

anonymous: none                   # callers without a token: none | read | read-write
ci_tokens: read-write             # CI tokens of this workspace; a token's own permissions narrow it

rules:
  - name: releases stay as they are
    deny: [overwrite, delete]
    path: releases/**
"""


class Tokens(Struct, frozen=True):
    read_write: Secret
    read_only: Secret


def demo(
    port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Where it serves, on 127.0.0.1.")] = 8080,
    ops_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Where its health and metrics are.")
    ] = 9090,
) -> None:
    """Try it: a sidecar, two tokens, and lines to paste.

    It makes the folder .demo in this directory, anew each time, and serves on 127.0.0.1 until Ctrl-C.
    The lines are a PUT, a GET, a refused PUT, the metrics, and the audit record that the refusal left.

    Look into .demo/sidecar.yaml and .demo/policies/demo.yaml: edit the policy while it runs, and try again.
    """
    taken = list(_taken(port, ops_port))
    if taken:
        complain(taken)
        raise typer.Exit(Exit.FAILED)
    folder = FOLDER.absolute()
    try:
        _make(folder, port, ops_port)
    except OSError as error:
        complain([f"{error.filename or folder}: {error.strerror or error}"])
        raise typer.Exit(Exit.FAILED) from None

    from sidecar import logs, serving  # loads the whole server: no other command needs it
    from sidecar.config import load

    settings = load(folder / "sidecar.yaml")
    assert settings.tokens is not None
    tokens = asyncio.run(_tokens(settings.tokens))
    logs.set_up()
    serving.require_c_parser()
    code = serving.run(settings, lambda: _show(folder, port, ops_port, tokens))
    if code == Exit.OK:
        typer.echo(f"Ended. What it wrote is still in {FOLDER}, until the next run.")
    raise typer.Exit(code)


def _taken(port: int, ops_port: int) -> Iterator[str]:
    if port == ops_port:
        yield f"--port and --ops-port are both {port}; choose two"
        return
    for number, option in ((port, "--port"), (ops_port, "--ops-port")):
        try:
            socket.create_server((HOST, number)).close()
        except OSError as error:
            other = number % 65535 + 1
            why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
            yield (
                f"{HOST}:{number} {why}. Stop what listens there, or take another port: "
                f'sidecar demo {option} {other}, or make demo ARGS="{option} {other}"'
            )


def _make(folder: Path, port: int, ops_port: int) -> None:
    """Raises `OSError`; also where a folder of that name is there which is not the demo's."""
    config = folder / "sidecar.yaml"
    if folder.is_symlink() or folder.exists():
        if folder.is_symlink() or not config.is_file() or not config.read_text(errors="replace").startswith(_MARK):
            raise FileExistsError(errno.EEXIST, "is there and was not made by this command; move it away", str(folder))
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    # First, so that a folder which was left half made is known for what it is.
    write_new(config, CONFIG.format(port=port, ops_port=ops_port), PUBLIC)
    (folder / "policies").mkdir()
    write_new(folder / "policies" / "demo.yaml", POLICY, PUBLIC)
    write_new(folder / "pepper", secrets.token_hex(32) + "\n", PRIVATE)


async def _tokens(settings: TokenSettings) -> Tokens:
    from sidecar.store.open import open_token_store

    opened = await open_token_store(settings)

    async def token(name: str, *permissions: str) -> Secret:
        wanted = NewToken(
            kind=PrincipalKind.CI, subject="demo", workspaces=("demo",), permissions=permissions, ttl=DAY, name=name
        )
        secret, _ = await opened.tokens.create(wanted, actor="sidecar demo", now=int(time.time()))
        return secret

    try:
        return Tokens(await token("read-write", "read", "write"), await token("read-only", "read"))
    finally:
        await opened.store.close()


def _show(folder: Path, port: int, ops_port: int, tokens: Tokens) -> None:
    for line in _text(folder, port, ops_port, tokens):
        typer.echo(line)


def _text(folder: Path, port: int, ops_port: int, tokens: Tokens) -> Sequence[str]:
    url = f"http://{HOST}:{port}/demo"
    read_write, read_only = tokens.read_write.reveal(), tokens.read_only.reveal()
    audit = shlex.quote(str(folder / "audit.jsonl"))
    return (
        "",
        f"Serving the workspace demo at {url}",
        "",
        f"  read-write token   {read_write}",
        f"  read-only token    {read_only}",
        "",
        "Paste into another terminal. Store something:",
        "",
        f"echo hello | curl -sS -w '%{{http_code}}\\n' -T - -H 'Authorization: Bearer {read_write}' {url}/hello.txt",
        "",
        "Fetch it, with the token that may only read:",
        "",
        f"curl -sS -H 'Authorization: Bearer {read_only}' {url}/hello.txt",
        "",
        "Try to replace it with that token, and be refused:",
        "",
        f"echo mine | curl -sS -w '%{{http_code}}\\n' -T - -H 'Authorization: Bearer {read_only}' {url}/hello.txt",
        "",
        "See what was counted:",
        "",
        f"curl -sS http://{HOST}:{ops_port}/metrics | grep '^sidecar_decisions_total.* [1-9]'",
        "",
        "Read the record that the refusal left:",
        "",
        f"grep token_limit {audit} | tail -n 1",
        "",
        f"The policy is {FOLDER}/policies/demo.yaml: edit it and try again. Ctrl-C ends the demo.",
        "",
    )
