"""A file that a person wrote, read so that all of its problems are told at once.

The law: no getter raises and none guesses. One that meets a problem notes it and returns a harmless stand-in of its type;
`Document.finish()` raises `DocumentError` with everything that was found, so no stand-in outlives the reading.
Ask a `Block` for every key that may stand in it, whatever else was wrong: what nobody asked for is an unknown key.

`docs/policy.md` rule 25: scalars are what they look like to a careful reader. Where a string is expected, unquoted `off`, `12:30` and
`2026-01-01` are those characters; where a boolean is expected only `true` and `false` are one; `claim()` refuses what is unclear.
"""

import datetime
import difflib
import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

from sidecar.errors import DocumentError, Problem
from sidecar.measures import DURATION, SIZE, Measure
from sidecar.yaml_tree import (
    MAX_BYTES,
    Entries,
    Items,
    Node,
    Problems,
    Scalar,
    child_path,
    is_ambiguous,
    quoted,
    read_tree,
)

T = TypeVar("T")
D = TypeVar("D")

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EMPTY: Final = ("~", "null", "Null", "NULL")
FOREVER: Final = 100 * 365 * 86400.0


def parse(content: bytes | str, file: str, max_bytes: int = MAX_BYTES) -> "Document":
    """Reads YAML; `file` is only a name for messages. Never raises: `finish()` does, once the reader is through."""
    problems = Problems(file)
    return Document(read_tree(content, problems, max_bytes), problems)


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'write'?`, or the list of what is allowed where nothing is near."""
    options = list(allowed)
    near = nearest(word, options)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; allowed here: {', '.join(options)}" if options else "; no key is allowed here"


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Which of them may have been meant."""
    by_fold = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(word[:100].casefold(), by_fold, n=1)
    return by_fold[near[0]] if near else None


class Document:
    """One file while it is being read."""

    def __init__(self, tree: Node, problems: Problems) -> None:
        self._problems = problems
        self._blocks: list[Block] = []
        self.file = problems.file
        if tree is None and not problems.in_order():
            problems.add(1, "$", "the file is empty")
        self.root = Value(self, tree, "$", 1)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong so far, by line; without unknown keys, which only `finish()` can tell."""
        return tuple(self._problems.in_order())

    def finish(self) -> None:
        """Raises `DocumentError` with all problems, unknown keys included, if there is any."""
        for block in self._blocks:
            block.note_unknown_keys()
        if self.problems:
            raise DocumentError(self.problems)

    def note(self, line: int, path: str, message: str) -> None:
        self._problems.add(line, path, message)

    def opened(self, block: "Block") -> None:
        self._blocks.append(block)

    @property
    def full(self) -> bool:
        return self._problems.full


class Value:
    """One place in the document. A place whose problem is already known answers with stand-ins and notes nothing."""

    __slots__ = ("_document", "_node", "line", "path")

    def __init__(self, document: Document, node: Node, path: str, line: int) -> None:
        self._document = document
        self._node = node
        self.path = path
        self.line = node.line if node is not None else line

    @property
    def is_known_bad(self) -> bool:
        return self._node is None

    @property
    def is_text(self) -> bool:
        return isinstance(self._node, Scalar)

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, Items)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, Entries)

    def problem(self, message: str) -> None:
        """Note something wrong with this value."""
        self._document.note(self.line, self.path, message)

    def text(self) -> str:
        """A string on one line, printable, not empty. Stand-in: empty."""
        scalar = self._scalar("a string")
        if scalar is None:
            return ""
        if not scalar.text.isprintable():
            self.problem("only printable characters on one line are allowed here")
            return ""
        return scalar.text

    def lines(self) -> str:
        """A string of any number of lines. Stand-in: empty."""
        scalar = self._scalar("a text")
        return "" if scalar is None else scalar.text

    def choice(self, options: Collection[str], what: str = "value") -> str:
        """One of `options`; `what` is its noun in messages. Stand-in: the first option."""
        text = self.text()
        if text in options:
            return text
        if text:
            self.problem(f"unknown {what} {quoted(text)}{suggestion(text, options)}")
        return next(iter(options))

    def boolean(self) -> bool:
        """Stand-in: false."""
        scalar = self._scalar("true or false")
        if scalar is not None and (not scalar.plain or scalar.text not in ("true", "false")):
            self.problem(f"expected true or false (without quotes), not {quoted(scalar.text)}")
            return False
        return scalar is not None and scalar.text == "true"

    def number(self, low: int = 0, high: int = 10**9) -> int:
        """A plain decimal integer from `low` to `high`. Stand-in: `low`."""
        expected = f"a number from {low} to {high}"
        scalar = self._scalar(expected)
        if scalar is None:
            return low
        if not scalar.plain or not _INTEGER.fullmatch(scalar.text) or not low <= int(scalar.text) <= high:
            self.problem(f"expected {expected}, not {quoted(scalar.text)}")
            return low
        return int(scalar.text)

    def duration(self, low: float = 0.0, high: float = FOREVER) -> float:
        """Seconds, written `500ms 30s 5m 12h 90d`. Stand-in: `low`."""
        return self._amount(DURATION, low, high)

    def size(self, low: int = 0, high: int = 2**50) -> int:
        """Bytes, written `512B 64KiB 5GiB`. Stand-in: `low`."""
        return int(self._amount(SIZE, low, high))

    def date(self) -> datetime.date:
        """`2026-12-31`. Stand-in: 0001-01-01."""
        scalar = self._scalar("a date such as 2026-12-31")
        if scalar is None:
            return datetime.date.min
        if _DATE.fullmatch(scalar.text):
            try:
                return datetime.date.fromisoformat(scalar.text)
            except ValueError:
                pass
        self.problem(f"expected a date such as 2026-12-31, not {quoted(scalar.text)}")
        return datetime.date.min

    def claim(self) -> str | int | bool:
        """A scalar whose type counts (rule 15): quoted is a string, `true`, `false` and plain integers are what they look
        like, and what YAML readers disagree about must be quoted. Stand-in: empty string."""
        if isinstance(self._node, Scalar) and not self._node.plain and not self._node.text:
            return ""
        scalar = self._scalar("a string, a number, true or false")
        if scalar is None:
            return ""
        text = scalar.text
        if not text.isprintable():
            self.problem("only printable characters on one line are allowed here")
            return ""
        if not scalar.plain:
            return text
        if text in ("true", "false"):
            return text == "true"
        if _INTEGER.fullmatch(text) and text != "-0":
            return int(text)
        if is_ambiguous(text):
            self.problem(f"{quoted(text)} may be read as something else than a string; quote it")
            return ""
        return text

    def items(self) -> list["Value"]:
        """The members of a list. Stand-in: none."""
        if isinstance(self._node, Items):
            return [
                Value(self._document, node, child_path(self.path, index), self.line)
                for index, node in enumerate(self._node.nodes)
            ]
        self._expected("a list, as [a, b]")
        return []

    def texts(self) -> tuple[str, ...]:
        """A list of strings, each once. Stand-in: none."""
        seen: dict[str, None] = {}
        for item in self.items():
            text = item.text()
            if text in seen and text:
                item.problem(f"{quoted(text)} is here twice")
            seen[text] = None
        return tuple(text for text in seen if text)

    def choices(self, options: Collection[str], what: str = "value") -> tuple[str, ...]:
        """A list of some of `options`, each once. Stand-in: none."""
        found: dict[str, None] = {}
        for item in self.items():
            text = Value(self._document, item._node, self.path, item.line).text()
            if text and text not in options:
                self._document.note(item.line, self.path, f"unknown {what} {quoted(text)}{suggestion(text, options)}")
            elif text in found:
                self._document.note(item.line, self.path, f"the {what} {quoted(text)} is here twice")
            elif text:
                found[text] = None
        return tuple(found)

    def block(self) -> "Block":
        """A mapping with known keys; open it once. Stand-in: one in which every key is absent and none is missed."""
        self._expected("a mapping, as key: value", Entries)
        return Block(self._document, self, self._node if isinstance(self._node, Entries) else None)

    def _amount(self, measure: Measure, low: float, high: float) -> float:
        scalar = self._scalar(measure.expected)
        if scalar is None:
            return low
        amount = measure.read(scalar.text)
        if amount is None:
            self.problem(f"expected {measure.expected}, not {quoted(scalar.text)}")
            return low
        if not low <= amount <= high:
            bounds = f"at least {measure.written(low)}" if amount < low else f"at most {measure.written(high)}"
            self.problem(f"{scalar.text} is out of range; {bounds}")
            return low
        return amount

    def _scalar(self, expected: str) -> Scalar | None:
        """The scalar, unless it is none or nothing is written there; `expected` is for the message."""
        if isinstance(self._node, Scalar) and not _is_empty(self._node):
            return self._node
        self._expected(expected)
        return None

    def _expected(self, what: str, kind: type[Scalar] | type[Items] | type[Entries] | None = None) -> None:
        node = self._node
        if node is None or (kind is not None and isinstance(node, kind)):
            return
        if isinstance(node, Scalar) and _is_empty(node):
            self.problem(f"nothing is written here; expected {what}, or leave the key out")
            return
        met = "a list" if isinstance(node, Items) else "a mapping" if isinstance(node, Entries) else quoted(node.text)
        self.problem(f"expected {what}, not {met}")


class Block:
    """A mapping while it is being read."""

    __slots__ = ("_asked", "_document", "_entries", "_value")

    def __init__(self, document: Document, value: Value, entries: Entries | None) -> None:
        self._document = document
        self._value = value
        self._entries = entries
        self._asked: dict[str, None] = {}
        document.opened(self)

    @property
    def line(self) -> int:
        return self._value.line

    @property
    def path(self) -> str:
        return self._value.path

    @property
    def is_sound(self) -> bool:
        """Nothing wrong was found in it so far, so that what was read from it may be compared."""
        return not any(found.path.startswith(self.path) for found in self._document.problems)

    def problem(self, message: str) -> None:
        """Note something wrong with the mapping as a whole."""
        self._value.problem(message)

    def find(self, key: str) -> Value | None:
        """The key's value; `None` where the key is absent, which is no problem."""
        self._asked[key] = None
        if self._entries is None or key not in self._entries.nodes:
            return None
        return self._child(key, self._entries)

    def get(self, key: str, read: Callable[[Value], T], default: D) -> T | D:
        """`block.get("workers", Value.number, 1)`: the value as `read` takes it, or `default` where the key is absent."""
        value = self.find(key)
        return default if value is None else read(value)

    def need(self, key: str) -> Value:
        """The key's value; a missing key is a problem."""
        value = self.find(key)
        if value is not None:
            return value
        if self._entries is not None:
            self.problem(f"the key {key!r} is missing")
        return Value(self._document, None, child_path(self.path, key), self.line)

    def refuse(self, key: str, message: str) -> None:
        """For a key that people might expect: a problem with `message` where it is present. It is not offered to others."""
        value = self.find(key)
        self._asked.pop(key)
        if value is not None and self._entries is not None:
            value.problem(message)
            self._entries.nodes.pop(key)

    def entries(self) -> list[tuple[str, Value]]:
        """For a mapping whose keys are names: all that are there and were not asked for yet."""
        if self._entries is None:
            return []
        found = [key for key in self._entries.nodes if key not in self._asked]
        self._asked.update(dict.fromkeys(found))
        return [(key, self._child(key, self._entries)) for key in found]

    def note_unknown_keys(self) -> None:
        if self._entries is None:
            return
        for key, line in self._entries.lines.items():
            if key in self._entries.nodes and key not in self._asked and not self._document.full:
                where = child_path(self.path, key)
                self._document.note(line, where, f"unknown key {quoted(key)}{suggestion(key, self._asked)}")

    def _child(self, key: str, entries: Entries) -> Value:
        return Value(self._document, entries.nodes[key], child_path(self.path, key), entries.lines[key])


def _is_empty(scalar: Scalar) -> bool:
    return not scalar.text or (scalar.plain and scalar.text in _EMPTY)
