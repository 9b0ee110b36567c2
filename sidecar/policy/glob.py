"""Globs over keys (rule 16): anchored at both ends, `*` within a segment, `**` a whole segment of any number, none included.

Law: no pattern and no key may make a match slow. A glob becomes a regular expression in which every wildcard is atomic
(`(?>...)`, Python 3.11): it takes the leftmost place where the literal text behind it fits and never tries another.
That loses no match, because whatever fits later also fits after the leftmost place; so the work is at most
(length of the pattern) x (length of the key) steps of the C engine. All other characters stand for themselves.
"""

import re
from functools import lru_cache

MAX_PATTERN = 1024
"""Characters. Together with the longest request line it bounds the work of one match."""


class Glob:
    """A pattern as written. Equal patterns are equal globs; compiled at the first match."""

    __slots__ = ("_regex", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._regex: re.Pattern[str] | None = None

    def matches(self, key: str) -> bool:
        regex = self._regex
        if regex is None:
            regex = self._regex = _compile(self.pattern)
        return regex.fullmatch(key + "/") is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Glob) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"

    def __reduce__(self) -> tuple[type["Glob"], tuple[str]]:
        return Glob, (self.pattern,)


@lru_cache(maxsize=16384)
def glob(pattern: str) -> Glob:
    """The glob of a pattern that arrives as text with every request: a token's path limit."""
    return Glob(pattern)


def problem(pattern: str) -> str | None:
    """What is wrong with a pattern, in a few words; `None` if nothing is."""
    if len(pattern) > MAX_PATTERN:
        return f"a glob has at most {MAX_PATTERN} characters"
    for segment in pattern.split("/"):
        if "**" in segment and segment != "**":
            return f"'**' is a whole segment; write '*' within {segment!r}, or put '/' around '**'"
    if not pattern.isprintable():
        return "a glob has no control characters"
    return None


def key_problem(pattern: str) -> str | None:
    """The same for a glob over keys, which must be able to match one: a deny rule that can't is a hole."""
    if pattern.startswith("/"):
        return f"a key has no leading slash; write {pattern.lstrip('/')!r}"
    if any(segment in (".", "..") for segment in pattern.split("/")):
        return "a key never has a segment '.' or '..'"
    return problem(pattern)


def segment_pattern(segment: str) -> re.Pattern[str]:
    """One segment of a glob, other than `**`; matches a whole segment of a key with a slash behind it."""
    return re.compile(_segment(segment) + "/", re.DOTALL)


# Every segment, of the pattern and of the key, is read with a slash behind it: so `**` is "segments, as few as fit".
_SEGMENTS = "(?:[^/]*+/)*?"


def _compile(pattern: str) -> re.Pattern[str]:
    groups: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            groups.append([])
        else:
            groups[-1].append(_segment(segment) + "/")
    texts = ["".join(group) for group in groups]
    if len(texts) == 1:
        return re.compile(texts[0], re.DOTALL)
    first, *middle, last = texts
    found = "".join(f"(?>{_SEGMENTS}{text})" for text in middle if text)
    end = f"(?>{_SEGMENTS}{last}\\Z)" if last else ".*+"
    return re.compile(f"{first}{found}{end}", re.DOTALL)


def _segment(segment: str) -> str:
    first, *rest = (re.escape(piece) for piece in segment.split("*"))
    if not rest:
        return first
    *middle, last = rest
    found = "".join(f"(?>[^/]*?{piece})" for piece in middle if piece)
    end = f"(?>[^/]*?{last}(?=/))" if last else "[^/]*+"
    return f"{first}{found}{end}"
