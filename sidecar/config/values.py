"""Values that several parts of the configuration file share: paths, names, header names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sidecar.document import Value
from sidecar.yaml_tree import quoted

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")


class Folder:
    """Where the configuration file stands."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, value: Value) -> Path:
        """A path, absolute. Nothing is expanded: no `~`, no `$HOME`."""
        return self.resolve(value.text(), value)

    def resolve(self, text: str, value: Value) -> Path:
        """The same for a path that stands within `value`."""
        if text.startswith("~") or "$" in text:
            value.problem("neither ~ nor $ is expanded here; write the path out")
        elif "://" in text or text.startswith("unix:"):
            value.problem(f"expected a path, not the URL {quoted(text)}")
        return self._path / text


def names(value: Value, what: str, read: Callable[[str, Value], T]) -> dict[str, T]:
    """A mapping from names to what `read` makes of each; at least one. `what` is its noun with an article."""
    found: dict[str, T] = {}
    for name, inner in value.block().entries():
        if not _NAME.fullmatch(name):
            inner.problem(
                f"{what}'s name has up to 63 lower-case letters, digits, - and _, and starts and ends with none of the last two"
            )
        found[name] = read(name, inner)
    if value.is_mapping and not found:
        value.problem(f"{what} is needed here")
    return found


def header_name(value: Value) -> str:
    """A header's name as written: letters, digits and `-`. Others can be folded to the same name by a store behind us."""
    text = value.text()
    if text and not _HEADER.fullmatch(text):
        value.problem(f"{quoted(text)} is not a header's name: letters, digits and - only")
    return text


def within(low: float, high: float) -> Callable[[Value], float]:
    """Reads a duration between the two, in seconds."""
    return lambda value: value.duration(low, high)
