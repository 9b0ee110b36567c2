"""Where each member of a JSON document stands, so that one can be taken out and every other byte stays as it is.

Comments and trailing commas are let pass, as `nx.json` and `turbo.json` may have them. Law: a document that can't be read to its end has no
members at all; nothing is cut out of what wasn't understood.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)|(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")"""
    r"""|(?P<mark>[{}\[\]:,])|(?P<word>[A-Za-z0-9+.-]+)"""
)


class Member(Struct, frozen=True):
    path: tuple[str, ...]
    """Names from the root to its own; an item of a list is its number."""
    start: int
    """Of its name."""
    end: int
    """Of its value."""
    value_start: int


class _Unreadable(Exception):
    pass


def members(text: str) -> list[Member]:
    """In the order in which they begin; none where this is no document."""
    try:
        tokens = _tokens(text)
        reader = _Reader(tokens)
        reader.value((), 0)
        return sorted(reader.members, key=lambda member: member.start) if reader.at_end else []
    except (_Unreadable, IndexError):
        return []


def without(text: str, cut: Sequence[Member]) -> str:
    """The text with these taken out, each with its comma, and its line where nothing else is on it."""
    outer: list[Member] = []
    for member in sorted(cut, key=lambda each: (each.start, -each.end)):
        if not outer or member.start >= outer[-1].end:
            outer.append(member)
    for member in reversed(outer):
        start, end = member.start, member.end
        after = re.compile(r"[ \t\r\n]*,").match(text, end)
        if after is not None:
            end = after.end()
        else:
            before = re.search(r",[ \t\r\n]*\Z", text[:start])
            if before is not None:
                start = before.start()
        line = text.rfind("\n", 0, start) + 1
        rest = re.compile(r"[ \t]*\r?\n").match(text, end)
        if not text[line:start].strip() and rest is not None and after is not None:
            start, end = line, rest.end()
        text = text[:start] + text[end:]
    return text


def _tokens(text: str) -> list[tuple[str, int, int]]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _Unreadable
        if match.lastgroup != "space":
            kind = match[0] if match.lastgroup == "mark" else str(match.lastgroup)
            found.append((kind, match.start(), match.end()))
        place = match.end()
    return [(kind if kind != "string" else f"s{text[start + 1 : end - 1]}", start, end) for kind, start, end in found]


class _Reader:
    def __init__(self, tokens: list[tuple[str, int, int]]) -> None:
        self._tokens = tokens
        self._next = 0
        self.members: list[Member] = []

    @property
    def at_end(self) -> bool:
        return self._next == len(self._tokens)

    def value(self, path: tuple[str, ...], depth: int) -> tuple[int, int]:
        if depth > MAX_DEPTH:
            raise _Unreadable
        kind, start, end = self._take()
        if kind == "{":
            end = self._members("}", path, depth)
        elif kind == "[":
            end = self._members("]", path, depth)
        elif kind != "word" and not kind.startswith("s"):
            raise _Unreadable
        return start, end

    def _members(self, close: str, path: tuple[str, ...], depth: int) -> int:
        number = 0
        while True:
            kind, start, end = self._tokens[self._next]
            if kind == close:
                self._next += 1
                return end
            if close == "}":
                name, start, _ = self._take()
                if not name.startswith("s") or self._take()[0] != ":":
                    raise _Unreadable
                own = (*path, name[1:])
            else:
                own = (*path, str(number))
            number += 1
            value_start, value_end = self.value(own, depth + 1)
            self.members.append(Member(own, start, value_end, value_start))
            if self._tokens[self._next][0] == ",":
                self._next += 1
            elif self._tokens[self._next][0] != close:
                raise _Unreadable

    def _take(self) -> tuple[str, int, int]:
        token = self._tokens[self._next]
        self._next += 1
        return token
