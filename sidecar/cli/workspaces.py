"""Which workspaces the policy files speak of, for a hint: read as text, since a file with a mistake elsewhere names its own too."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

_NAME = re.compile(
    r"""^(["']?)workspace\1[ \t]*:[ \t]*(["']?)([A-Za-z0-9][A-Za-z0-9._-]{0,63})\2[ \t]*(?:[#\r].*)?$""", re.MULTILINE
)


def unknown(wanted: Iterable[str], policies: Path) -> list[str]:
    """A note for each of the names that no policy file has; none where the files can't be read."""
    try:
        known = _named(policies)
    except OSError:
        return []
    return [
        f"note: no policy in {policies} has the workspace {name!r}{_near(name, known)}"
        for name in wanted
        if name not in known
    ]


def _named(policies: Path) -> set[str]:
    from sidecar.policy.source import MAX_FILE, SUFFIXES  # loads the policies' compiler: few commands need it

    names: set[str] = set()
    for file in policies.iterdir():
        if file.suffix in SUFFIXES and file.is_file():
            with file.open(encoding="utf-8", errors="replace") as opened:
                names.update(found[3] for found in _NAME.finditer(opened.read(MAX_FILE)))
    return names


def _near(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
