"""`sidecar purge`: delete what a list of writes names, through the data plane of a running sidecar.

Through the data plane, because there each deletion is decided by the policy, recorded before it happens and after, and seen by the
same locks and limits as any other: a program that went to the store itself would need the store's credentials, would have no say
in who may delete what, and would write into an audit log that another process owns. So the operator needs a token that may delete.
"""

import http.client
import json as json_module
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TextIO
from urllib.parse import unquote, urlsplit

import typer

from sidecar import __version__
from sidecar.cli.options import DEFAULT_CONFIG, Exit, JsonOption, complain
from sidecar.cli.purge_list import Item, Unreadable, items
from sidecar.errors import SidecarError
from sidecar.model import Secret

_TRIES, _WAIT = 4, 0.5
_PATIENCE = 30.0
_TELL_EVERY = 2.0
_STDIN = Path("-")
_SHOWN = 20
"""Failures that are told one by one."""


class PurgeFailed(SidecarError):
    """It can't go on; what has been deleted stays deleted."""


def purge(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="FILE",
            allow_dash=True,
            help="What to delete: the output of sidecar audit written-by, or paths. - is standard input.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, it is only told what would be.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The running sidecar: http://HOST:PORT, https://HOST or unix:/PATH.",
            show_default="the configuration's first listener",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A token that may delete.", show_default="the variable SIDECAR_TOKEN"),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to check the sidecar's by.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Remember here what is done, and go on from there the next time."),
    ] = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", envvar="SIDECAR_CONFIG", help="The configuration file.", metavar="FILE")
    ] = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Delete what somebody wrote, with a dry run first.

    Nothing is deleted unless --yes is given.

    Each deletion is a request to the running sidecar with your token, so that the policy decides on it and the audit log has it.
    What has been written anew since is left alone.
    """
    try:
        wanted = _read(source)
    except Unreadable as error:
        complain([f"{source}: {error}; nothing was deleted"])
        raise typer.Exit(Exit.INVALID) from None
    done = _done(state)
    left = [item for item in wanted if not item.skip and not item.problem and item.path not in done]
    failures: list[dict[str, object]] = [
        {"path": item.path, "status": None, "message": item.problem} for item in wanted if item.problem
    ]
    tally = {"listed": len(wanted), "skipped": sum(bool(item.skip) for item in wanted), "to_delete": len(left)}
    failed = len(failures)
    tally |= {"done_before": tally["listed"] - tally["skipped"] - failed - len(left)}
    tally |= {"deleted": 0, "gone": 0, "failed": failed}
    if not yes:
        _tell_plan(wanted, done, tally, json)
        if failures:
            raise typer.Exit(Exit.FAILED)
        return
    sidecar = _Sidecar(url or _listener(config), _token(token_file), ca_file)
    with _remembering(state) as remember:
        try:
            _delete(sidecar, left, tally, failures, remember)
        finally:
            sidecar.close()
            _tell_end(tally, failures, json)
    if failures:
        raise typer.Exit(Exit.FAILED)


def _delete(
    sidecar: "_Sidecar",
    left: list[Item],
    tally: dict[str, int],
    failures: list[dict[str, object]],
    remember: TextIO | None,
) -> None:
    complain([f"deleting {len(left)} objects"])
    told = time.monotonic()
    for number, item in enumerate(left, 1):
        status, refused, text = sidecar.delete(item.path)
        if status == 401:
            raise PurgeFailed(f"the sidecar doesn't accept the token: {text}")
        if 200 <= status < 300 or (status in (404, 410) and not refused):
            tally["deleted" if status < 300 else "gone"] += 1
            if remember is not None:
                remember.write(item.path + "\n")
                remember.flush()
        else:
            tally["failed"] += 1
            failures.append({"path": item.path, "status": status or None, "message": text})
            if status == 0:
                raise PurgeFailed(f"the sidecar can't be reached: {text}; run it again to go on")
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            complain(
                [f"{number} of {len(left)}: {tally['deleted']} deleted, {tally['gone']} gone, {tally['failed']} failed"]
            )


class _Sidecar:
    """One connection, made anew where it breaks."""

    def __init__(self, url: str, token: Secret, ca_file: Path | None) -> None:
        parts = urlsplit(url)
        self._parts = parts
        self._context = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        elif parts.scheme not in ("http", "unix"):
            raise PurgeFailed(
                f"{url}: a URL of the running sidecar, as http://127.0.0.1:8080 or unix:/run/sidecar.sock"
            )
        if parts.username is not None or (parts.path.strip("/") and parts.scheme != "unix"):
            raise PurgeFailed("the sidecar's URL has neither credentials nor a path: each deletion's own path follows")
        self._headers = {
            "Authorization": f"Bearer {token.reveal()}",
            "User-Agent": f"sidecar-purge/{__version__}",
            "Content-Length": "0",
        }
        self._connection: http.client.HTTPConnection | None = None

    def delete(self, path: str) -> tuple[int, bool, str]:
        """The status, whether it is the sidecar's own and not the store's, and what it says, shortened; a status of 0 where
        there is none. An outage is tried again."""
        status, refused, text = 0, False, ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_WAIT * 2**attempt)
            try:
                status, refused, text = self._ask(path)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                status, refused, text = 0, False, str(error) or type(error).__name__
                continue
            if status < 500 and status != 429:
                break
        return status, refused, text

    def _ask(self, path: str) -> tuple[int, bool, str]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("DELETE", path, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read(4096).decode("utf-8", "replace").strip()
        if not answer.isclosed() or answer.will_close:
            self.close()
        refused = answer.getheader("sidecar-reason") is not None
        return answer.status, refused, "".join(each if each.isprintable() else " " for each in text)[:300]

    def _connect(self) -> http.client.HTTPConnection:
        parts = self._parts
        if parts.scheme == "unix":
            return _UnixConnection(unquote(parts.path))
        host, port = parts.hostname or "127.0.0.1", parts.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=_PATIENCE)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def _read(source: Path) -> list[Item]:
    if source == _STDIN:
        return items(sys.stdin)
    try:
        with source.open(encoding="utf-8", errors="replace") as opened:
            return items(opened)
    except OSError as error:
        raise typer.BadParameter(f"{source}: {error.strerror}", param_hint="--from") from None


def _done(state: Path | None) -> set[str]:
    if state is None or not state.exists():
        return set()
    text = state.read_text(errors="replace")
    return set(text[: text.rfind("\n") + 1].splitlines())  # a last line without its end was cut


@contextmanager
def _remembering(state: Path | None) -> Iterator[TextIO | None]:
    if state is None:
        yield None
        return
    with os.fdopen(os.open(state, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as opened:
        opened.write("\n")  # after a line that was cut
        yield opened


def _token(file: Path | None) -> Secret:
    text = os.environ.get("SIDECAR_TOKEN", "") if file is None else file.read_text()
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise PurgeFailed("a token that may delete is needed: --token-file FILE, or the variable SIDECAR_TOKEN")
    return Secret(text)


def _listener(config: Path) -> str:
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    listener = load(config).listen[0]
    address = listener.address
    if address.unix is not None:
        return f"unix:{address.unix}"
    host = address.host
    with suppress(ValueError):  # a name
        if ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
    return f"http{'s' if listener.tls else ''}://{f'[{host}]' if ':' in host else host}:{address.port}"


def _tell_plan(wanted: list[Item], done: set[str], tally: dict[str, int], json: bool) -> None:
    if json:
        paths = [
            {
                "path": item.path,
                "skip": item.skip or ("done before" if item.path in done and not item.problem else None),
                "problem": item.problem or None,
            }
            for item in wanted
        ]
        typer.echo(json_module.dumps({"dry_run": True, **tally, "paths": paths}))
        return
    for item in wanted:
        if item.problem:
            typer.echo(f"cannot  {item.path}  ({item.problem})")
            continue
        why = item.skip or ("done before" if item.path in done else "")
        typer.echo(f"{'keep  ' if why else 'delete'}  {item.path}{f'  ({why})' if why else ''}")
    kept, failed = tally["skipped"] + tally["done_before"], tally["failed"]
    cannot = f", {failed} cannot be" if failed else ""
    typer.echo(f"dry run: {tally['to_delete']} would be deleted, {kept} kept{cannot}; --yes deletes")


def _tell_end(tally: dict[str, int], failures: list[dict[str, object]], json: bool) -> None:
    if json:
        typer.echo(json_module.dumps({"dry_run": False, **tally, "failures": failures}))
        return
    complain(
        f"failed: {each['path']}: {each['status'] or 'not deleted:'} {each['message']}" for each in failures[:_SHOWN]
    )
    if len(failures) > _SHOWN:
        complain([f"and {len(failures) - _SHOWN} more"])
    typer.echo(
        f"{tally['deleted']} deleted, {tally['gone']} gone before, {tally['skipped'] + tally['done_before']} kept, "
        f"{tally['failed']} failed"
    )
