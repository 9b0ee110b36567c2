"""`sidecar migrate`: find passwords and old remote caches in a repository's files, show the change, make it.

Laws. What is read is hostile: no link is followed, nothing but regular files of a bounded size within the directory is opened, and a
name or a line reaches the terminal without control characters. A secret that was found is shown nowhere. A file is replaced whole,
with its mode, and only if it still is what was read.
"""

import contextlib
import difflib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from sidecar.cli.migrate_files import Finding, rule_for
from sidecar.cli.options import Exit, JsonOption, complain

MAX_SIZE = 1024 * 1024
"""Bytes of one file; a longer one is told as skipped."""
MAX_FILES = 1_000_000
"""That are looked at by name."""
_NOT_ENTERED = frozenset({".git", ".hg", ".svn", "node_modules", ".venv", "__pycache__", ".nx", ".gradle"})
TAKEN_OUT = "REDACTED"
_SECRETISH = re.compile(
    r"""(?im)((?:token|passw|pwd|secret|auth|api-?key|credential)[\w-]*["']?[ \t]*[=:][ \t]*["']?)(?!REDACTED|\$|System\.getenv)[^\s"'|]+"""
)
"""What looks like one in the lines around a change."""
_HEADER = re.compile(r"""(?i)(--[a-z_-]*header[= ]["']?[\w-]+=)[^\s"']+""")
_IN_URL = re.compile(r"""(://)[^\s/@"']+(?=@)""")
"""Who somebody is, as a part of a URL."""


class Found(Struct, frozen=True):
    file: str
    line: int
    client: str
    what: str
    kind: str
    change: str


class Skipped(Struct, frozen=True):
    file: str
    why: str


class _File(Struct, frozen=True):
    name: str
    """Within the directory, with slashes."""
    content: bytes
    new: bytes
    findings: list[Finding]
    mode: int


class _Skip(Exception):
    pass


def migrate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The repository.")],
    write: Annotated[bool, typer.Option("--write", help="Make the change. Without it, it is only shown.")] = False,
    json: JsonOption = False,
) -> None:
    """Find tokens and old remote caches in a repository.

    Shows how its files read without them, and writes them so with --write.

    Exits 1 if something was found; with --write, if something is left for a person to do.
    """
    if not directory.is_dir():
        raise typer.BadParameter(f"{directory}: no directory", param_hint="DIR")
    skipped: list[Skipped] = []
    files = list(_read(directory, skipped))
    diff = "".join(_diff(file) for file in files if file.new != file.content)
    left = 0
    for file in files:
        left += sum(finding.change == "none" for finding in file.findings)
        if write and file.new != file.content:
            try:
                _write(directory, file)
            except OSError as error:
                skipped.append(Skipped(_shown(file.name), f"not written: {error.strerror}"))
                left += 1
    findings = [
        Found(_shown(file.name), each.line, each.client, _shown(each.what), each.kind, each.change)
        for file in files
        for each in file.findings
    ]
    if json:
        said = {"findings": findings, "skipped": skipped, "diff": diff, "written": write}
        typer.echo(msgspec.json.encode(said))
    else:
        _tell(findings, skipped, diff, write)
    if left or (findings and not write):
        raise typer.Exit(Exit.FAILED)


def _read(directory: Path, skipped: list[Skipped]) -> Iterator[_File]:
    count = 0
    for folder, folders, names in os.walk(directory):  # follows no link
        folders[:] = sorted(name for name in folders if name not in _NOT_ENTERED)
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                skipped.append(Skipped(".", f"more than {MAX_FILES} files; migrate its folders one by one"))
                return
            path = os.path.relpath(os.path.join(folder, name), directory).replace(os.sep, "/")
            rule = rule_for(path)
            if rule is None:
                continue
            try:
                content, mode = _content(os.path.join(folder, name))
            except _Skip as why:
                skipped.append(Skipped(_shown(path), str(why)))
                continue
            changed = rule(content.decode("utf-8", "surrogateescape"))
            if changed.findings:
                new = changed.text.encode("utf-8", "surrogateescape")
                yield _File(path, content, new, sorted(changed.findings, key=lambda each: each.line), mode)


def _content(path: str) -> tuple[bytes, int]:
    """Of a regular file that is no link. Opened without waiting: a pipe has no end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _Skip("a symbolic link" if error.errno == errno.ELOOP else error.strerror) from None
    with os.fdopen(fd, "rb") as opened:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise _Skip("no regular file")
        content = opened.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise _Skip(f"larger than {MAX_SIZE // 1024 // 1024} MiB")
    if b"\0" in content:
        raise _Skip("no text")
    return content, stat.S_IMODE(about.st_mode)


def _write(directory: Path, file: _File) -> None:
    """Raises `OSError`."""
    path = str(directory / file.name)
    try:
        now, _ = _content(path)
    except _Skip as why:
        raise OSError(errno.ESTALE, f"it is {why} now") from None
    if now != file.content:
        raise OSError(errno.ESTALE, "it changed meanwhile")
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as opened:
            opened.write(file.new)
            os.fchmod(fd, file.mode)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _diff(file: _File) -> str:
    """Unified, with every secret of the file taken out of every line, so it is for reading and not for `patch`."""
    name = _shown(file.name)
    hidden = sorted({each.secret for each in file.findings if each.secret}, key=len, reverse=True)

    def lines(content: bytes) -> list[str]:
        text = content.decode("utf-8", "replace")
        for secret in hidden:
            text = text.replace(secret.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), TAKEN_OUT)
        for secretish in (_SECRETISH, _HEADER, _IN_URL):
            text = secretish.sub(rf"\1{TAKEN_OUT}", text)
        return [_shown(line.removesuffix("\r")) + "\n" for line in text.removesuffix("\n").split("\n")]

    return "".join(difflib.unified_diff(lines(file.content), lines(file.new), f"a/{name}", f"b/{name}"))


def _tell(findings: list[Found], skipped: list[Skipped], diff: str, written: bool) -> None:
    for found in findings:
        what = "a token in plain sight" if found.kind == "token" else "an old remote cache"
        change = {"none": "left to you"}.get(found.change, found.change if written else f"to be {found.change}")
        typer.echo(f"{found.file}:{found.line}: {found.client}: {found.what}: {what}, {change}")
    if diff:
        typer.echo("")
        typer.echo(diff, nl=False)
    complain(f"skipped: {each.file}: {each.why}" for each in skipped)
    if not findings:
        typer.echo("nothing found")
        return
    if any(found.kind == "token" for found in findings):
        complain(["Revoke the tokens at their issuer: whoever has the repository's history has them."])
    clients = sorted({found.client for found in findings})
    complain([f"sidecar client-config {client} prints what takes their place." for client in clients])
    if diff and not written:
        complain(["Nothing is changed yet; --write does it."])


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() or each == "\t" else "\N{REPLACEMENT CHARACTER}" for each in text)
