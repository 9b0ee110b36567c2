"""Checks for what people ask for: permissions, a path, an end, workspaces. Each is Datalog of the published subset.

The law: a check from here lets through what the same limit of an opaque token lets through, and nothing else
(a property holds the globs to `policy.glob`).
"""

import re
from collections.abc import Iterable

from sidecar.credentials.biscuit.facts import PREFIX
from sidecar.credentials.biscuit.meaning import utc
from sidecar.model import Permission, Permissions

_META = re.compile(r"[\\.+*?()|\[\]{}^$#&~-]")


def permissions(wanted: Permissions) -> str:
    """Only what these permit."""
    names = ", ".join(f'"{PREFIX}{permission}"' for permission in sorted(wanted))
    check = f"check if operations($operations), {{{names}}}.contains($operations)"
    if Permission.OVERWRITE in wanted and Permission.WRITE not in wanted:
        # To replace needs both, so neither set would hold the other.
        check += f' or operations($operations), $operations.contains("{PREFIX}{Permission.OVERWRITE}")'
    return check


def workspaces(names: Iterable[str]) -> str:
    return f"check if workspace($workspace), {{{', '.join(map(quoted, sorted(set(names))))}}}.contains($workspace)"


def ends(at: int) -> str:
    """`at` in Unix seconds: from then on it is refused."""
    return f"check if time($time), $time < {utc(at)}"


def path(glob: str) -> str:
    """Keys that match a glob of rule 16. `glob` is sound and isn't `**`, which narrows nothing."""
    folder = glob.removesuffix("/**")
    if "*" not in glob:
        return f"check if path({quoted(glob)})"
    if folder != glob and "*" not in folder:
        # Both are prefixes as the tree operations know them: what holds of a folder holds of all below it.
        return (
            f"check if path($path), $path == {quoted(folder)} or path($path), $path.starts_with({quoted(folder + '/')})"
        )
    return f"check if path($path), $path.matches({quoted(_expression(glob))})"


def quoted(text: str) -> str:
    """A text as Datalog writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _expression(glob: str) -> str:
    """As `policy.glob` reads it: every segment with a slash behind it, the key's last one too."""
    segments: list[str] = []
    for segment in glob.split("/"):
        if segment != "**" or segments[-1:] != ["**"]:
            segments.append(segment)
    *before, last = segments
    found = ""
    for segment in before:
        found += "([^/]*/)*" if segment == "**" else _segment(segment) + "/"
    if last != "**":
        return f"^{found}{_segment(last)}$"
    return f"^{found.removesuffix('/')}(/.*)?$" if before and before[-1] != "**" else "^.*$"


def _segment(segment: str) -> str:
    return "[^/]*".join(_META.sub(r"\\\g<0>", piece) for piece in segment.split("*"))
