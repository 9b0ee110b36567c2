"""What `sidecar purge` is to delete: paths, from whatever form a list of writes has.

Each line is one of: a line of `sidecar audit written-by` or `who-wrote`; the JSON document that they print; a write out of it; a path
that begins with a slash. Law: what can't be read as the path of exactly one object is a problem, and then nothing is deleted.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from sidecar import target
from sidecar.errors import Refused

MOST = 1_000_000
_LINE = re.compile(
    r"[0-9]{4}-[0-9T:-]{14,15}Z  (\S+)  (\S+|key .+?)  (\S+|no digest)  (current|changed since|deleted)(, perhaps)?  .*"
)


class Item(Struct, frozen=True):
    path: str
    skip: str = ""
    """Why it is left alone; empty where it goes."""


class Unreadable(Exception):
    """Of the line, which isn't repeated whole."""


def items(lines: Iterable[str]) -> Iterator[Item]:
    """Raises `Unreadable`, naming the line. Each path comes once."""
    known: set[str] = set()
    lines = _one_document(list(lines))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            for item in _items(line.rstrip("\r\n")):
                if item.path not in known:
                    known.add(item.path)
                    yield item
        except Unreadable as error:
            raise Unreadable(f"line {number}: {error}") from None
        if len(known) > MOST:
            raise Unreadable(f"line {number}: more than {MOST} paths; purge them in parts")


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
        yield _item(found[2], "" if found[4] == "current" else found[4])
    else:
        yield _item(line, "")


def _write(write: Any) -> Item:
    if not isinstance(write, dict) or not isinstance(path := write.get("path"), str | None):
        raise Unreadable("a write without a path")
    if path is None:
        raise Unreadable(f"the audit log has no whole path of the key {str(write.get('key'))[:100]!r}; give its path")
    current = write.get("current", True)
    return _item(path, "" if current is True else "deleted" if write.get("deleted") is True else "changed since")


def _item(path: str, skip: str) -> Item:
    if not path.startswith("/"):
        raise Unreadable(f"{path[:100]!r} is no path: it begins with a slash, as /web/app.tgz")
    if path.endswith("/"):
        raise Unreadable(f"{path[:100]!r} ends with a slash: it would be a whole folder")
    if "?" in path or "#" in path:
        raise Unreadable(f"{path[:100]!r} has more than a path")
    try:
        target.parse(path)
    except Refused as refusal:
        raise Unreadable(f"{path[:100]!r}: {refusal.detail or refusal.reason}") from None
    return Item(path, skip)
