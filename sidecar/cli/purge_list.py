"""What `sidecar purge` is to delete: paths, from whatever form a list of writes has.

Each line is one of: a line of `sidecar audit written-by` or `who-wrote`; the JSON document that they print; a write out of it; a path
that begins with a slash. Law: what isn't the path of exactly one object is not deleted and is told, and keeps nothing else from being
deleted: whoever wrote the rest may have written it for that. A file that is no list is refused.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from sidecar import target
from sidecar.errors import Refused

MOST = 1_000_000
_SHOWN = 300
"""Characters of what is no path."""
_LINE = re.compile(
    r"[0-9]{4}-[0-9T:-]{14,15}Z  (\S+)  (\S+|key \S+)  (\S+|no digest)  (current|changed since|deleted)(, perhaps)?  .*"
)


class Item(Struct, frozen=True):
    path: str
    skip: str = ""
    """Why it is left alone; empty where it goes."""
    problem: str = ""
    """Why it can't be deleted; then `path` is what was read, shortened."""


class Unreadable(Exception):
    """Of the line, which isn't repeated whole."""


def items(lines: Iterable[str]) -> list[Item]:
    """Raises `Unreadable` where it is no list, naming the line. Each path comes once, and is left alone only if every line says so."""
    known: dict[str, Item] = {}
    lines = _one_document(list(lines))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            for item in _items(line.rstrip("\r\n")):
                if item.path not in known or known[item.path].skip:
                    known[item.path] = item
        except Unreadable as error:
            raise Unreadable(f"line {number}: {error}") from None
        if len(known) > MOST:
            raise Unreadable(f"line {number}: more than {MOST} paths; purge them in parts")
    return list(known.values())


def _one_document(lines: list[str]) -> list[str]:
    """A JSON document may be laid out over many lines."""
    if len(lines) > 1 and lines[0].startswith("{"):
        try:
            return [msgspec.json.encode(msgspec.json.decode("".join(lines))).decode()]
        except (msgspec.DecodeError, RecursionError):
            return lines
    return lines


def _items(line: str) -> Iterator[Item]:
    if line.startswith("{"):
        try:
            document = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable("no JSON") from None
        writes = document.get("writes", [document])
        if not isinstance(writes, list):
            raise Unreadable("`writes` is no list")
        for write in writes:
            yield _write(write)
    elif (found := _LINE.fullmatch(line)) is not None:
        place, skip = found[2], "" if found[4] == "current" else found[4]
        yield _without_path(place.removeprefix("key "), skip) if place.startswith("key ") else _item(place, skip)
    else:
        yield _item(line, "")


def _write(write: Any) -> Item:
    if not isinstance(write, dict) or not isinstance(path := write.get("path"), str | None):
        raise Unreadable("a write without a path")
    current = write.get("current", True)
    skip = "" if current is True else "deleted" if write.get("deleted") is True else "changed since"
    if path is None:
        if not isinstance(key := write.get("key"), str):
            raise Unreadable("a write without a path and a key")
        return _without_path(quote(key), skip)
    return _item(path, skip)


def _without_path(key: str, skip: str) -> Item:
    """`key` is percent-encoded."""
    problem = "" if skip else "the audit log has no whole path of this key: give its path"
    return Item(f"key {_short(key)}", skip, problem)


def _item(path: str, skip: str) -> Item:
    problem = "" if skip else _problem(path)
    return Item(_short(path) if problem else path, skip, problem)


def _problem(path: str) -> str:
    if not path.startswith("/"):
        return "it is no path: that begins with a slash, as /web/app.tgz"
    if path.endswith("/"):
        return "it ends with a slash: that would be a whole folder"
    if "?" in path or "#" in path:
        return "it has more than a path"
    try:
        target.parse(path)
    except Refused as refusal:
        return refusal.detail or str(refusal.reason)
    return ""


def _short(text: str) -> str:
    """What stands in a file of whatever kind must not reach the terminal whole, nor as a control character."""
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
