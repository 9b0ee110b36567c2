"""YAML text -> a plain tree with lines.

This file alone reads YAML. What two readers could take differently is refused here, never resolved: anchors, aliases,
merge keys, tags, directives, a second document, duplicate keys, keys that YAML would not read as strings (`docs/policy.md` rule 25).

Facts behind the choices:
- PyYAML's events show anchors, tags and aliases where they stand; its composed nodes have already lost them.
- Its composer recurses once per level, so that a page of `[` ends in RecursionError; here the levels are a list.
- PyYAML follows YAML 1.1 (`off` is false, `12:30` is 750), other readers 1.2 (`1e3` is a float, `0o17` is 15):
  `is_ambiguous` is true for whatever either of them would not read as a string.
"""

import itertools
import re
from typing import Any, Final

import yaml
from msgspec import Struct

from sidecar.errors import Problem

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 200_000
MAX_PROBLEMS: Final = 100
"""More than these help nobody, and a hostile file shall not make its reader work for each of its keys."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_STRING_TAG = "tag:yaml.org,2002:str"
_YAML_1_2 = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+|[yYnN]")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Scalar(Struct, frozen=True):
    line: int
    text: str
    plain: bool
    """Written without quotes."""


class Items(Struct, frozen=True):
    line: int
    nodes: list["Node"]


class Entries(Struct, frozen=True):
    line: int
    nodes: dict[str, "Node"]
    lines: dict[str, int]
    """Where each key stands."""


Node = Scalar | Items | Entries | None
"""`None`: there was something that has already been reported as a problem."""


class Problems:
    """What is wrong in one file, up to `MAX_PROBLEMS`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Problem] = []

    @property
    def full(self) -> bool:
        return len(self._found) >= MAX_PROBLEMS

    def add(self, line: int, path: str, message: str) -> None:
        """The same problem, met twice on the way, counts once."""
        problem = Problem(self.file, line, path, message)
        if not self.full and problem not in self._found:
            self._found.append(problem)

    def in_order(self) -> list[Problem]:
        return sorted(self._found, key=lambda problem: problem.line)


def is_ambiguous(text: str) -> bool:
    """Whether some YAML reader takes this unquoted scalar for something else than a string."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return bool(tag != _STRING_TAG) or _YAML_1_2.fullmatch(text) is not None


def child_path(path: str, key: str | int) -> str:
    """`$.rules[1].allow`; a key that holds other characters than letters, digits, `_` and `-` is quoted."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN_KEY.fullmatch(key) else f"{path}[{quoted(key)}]"


def quoted(text: str) -> str:
    """Foreign text for a message: on one line, printable, at most 60 characters of it."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def read_tree(content: bytes | str, problems: Problems, max_bytes: int = MAX_BYTES) -> Node:
    """The document's tree, or `None` where it could not be read to its end; what is wrong goes to `problems`."""
    text = _decode(content, problems, max_bytes)
    if text is None:
        return None
    builder = _Builder(problems)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if not builder.take(event):
                return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        if _begins_with_tab(text, line):
            said = "a tab indents this line; YAML wants spaces"
        problems.add(line, "$", f"not valid YAML: {said}")
        return None
    except yaml.reader.ReaderError as error:
        problems.add(text.count("\n", 0, error.position) + 1, "$", f"not valid YAML: {error.reason}")
        return None
    return builder.root


def _begins_with_tab(text: str, number: int) -> bool:
    line = next(itertools.islice(text.split("\n"), number - 1, None), "")
    return "\t" in line[: len(line) - len(line.lstrip())]


def lines_by_path(node: Node, path: str = "$") -> dict[str, int]:
    """Where each place of the tree stands."""
    lines = {} if node is None else {path: node.line}
    if isinstance(node, Items):
        for index, child in enumerate(node.nodes):
            lines |= lines_by_path(child, child_path(path, index))
    elif isinstance(node, Entries):
        for key, child in node.nodes.items():
            lines |= lines_by_path(child, child_path(path, key))
    return lines


def _decode(content: bytes | str, problems: Problems, max_bytes: int) -> str | None:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > max_bytes:
        problems.add(1, "$", f"the file has {len(raw)} bytes; at most {max_bytes} are read")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(raw.count(b"\n", 0, error.start) + 1, "$", "the file is not UTF-8 text")
        return None


class _Level:
    """A mapping or list that is still open."""

    __slots__ = ("key", "key_line", "key_refused", "node", "path")

    def __init__(self, node: Items | Entries, path: str) -> None:
        self.node = node
        self.path = path
        self.key: str | None = None
        """In a mapping: the key whose value comes next."""
        self.key_line = 0
        self.key_refused = False


class _Builder:
    """Turns parser events into a tree, level by level."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node = None
        self._problems = problems
        self._levels: list[_Level] = []
        self._documents = 0
        self._nodes = 0

    def take(self, event: Any) -> bool:
        """False where reading any further makes no sense."""
        line = self._line(event)
        match event:
            case yaml.DocumentStartEvent():
                return self._document(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._levels.pop()
            case yaml.AliasEvent():
                self._refuse(line, f"aliases (*{event.anchor}) are not read; write the value out")
                return self._place(None, line)
            case yaml.ScalarEvent():
                self._refuse_extras(event, line)
                return self._place(Scalar(line, event.value, not event.style), line)
            case yaml.MappingStartEvent():
                self._refuse_extras(event, line)
                return self._place(Entries(line, {}, {}), line)
            case yaml.SequenceStartEvent():
                self._refuse_extras(event, line)
                return self._place(Items(line, []), line)
        return True

    def _line(self, event: Any) -> int:
        """Where a person looks for it: a block or an empty value under a key stands at its key, not at what follows."""
        if self._levels and self._levels[-1].key is not None and not getattr(event, "value", ""):
            return self._levels[-1].key_line
        return int(event.start_mark.line) + 1

    def _document(self, event: Any, line: int) -> bool:
        self._documents += 1
        if self._documents > 1:
            self._problems.add(line, "$", "a second document begins here; one file holds one")
            return False
        if event.version or event.tags:
            self._problems.add(line, "$", "%YAML and %TAG directives are not read; leave them out")
        return True

    def _refuse_extras(self, event: Any, line: int) -> None:
        if event.anchor is not None:
            self._refuse(line, f"anchors (&{event.anchor}) are not read; write the value out where it is needed")
        if event.tag is not None:
            self._refuse(line, "tags (!...) are not read; leave it out, and quote the value if it is a string")

    def _refuse(self, line: int, message: str) -> None:
        self._problems.add(line, self._here(), message)

    def _here(self) -> str:
        if not self._levels:
            return "$"
        level = self._levels[-1]
        if isinstance(level.node, Items):
            return child_path(level.path, len(level.node.nodes))
        return level.path if level.key is None else child_path(level.path, level.key)

    def _place(self, node: Node, line: int) -> bool:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(line, f"more than {MAX_NODES} values in one file")
            return False
        if len(self._levels) >= MAX_DEPTH:
            self._refuse(line, f"nested more than {MAX_DEPTH} levels deep")
            return False
        path = self._here()
        if not self._levels:
            self.root = node
        elif isinstance(parent := self._levels[-1].node, Items):
            parent.nodes.append(node)
        elif self._levels[-1].key is None:
            return self._key(node, line)
        else:
            self._value(parent, self._levels[-1], node)
        if isinstance(node, Items | Entries):
            self._levels.append(_Level(node, path))
        return True

    def _key(self, node: Node, line: int) -> bool:
        if not isinstance(node, Scalar):
            self._refuse(line, "a key must be a string")
            return False
        level = self._levels[-1]
        level.key, level.key_line = node.text, line
        level.key_refused = node.plain and node.text == "<<"
        if level.key_refused:
            self._refuse(line, "merge keys (<<) are not read; write the entries out")
        elif node.plain and is_ambiguous(node.text):
            self._refuse(line, f"the key {quoted(node.text)} may be read as something else than a string; quote it")
        elif not node.text.isprintable():
            self._refuse(line, "a key must be printable characters on one line")
        return True

    def _value(self, parent: Entries, level: _Level, node: Node) -> None:
        key, line = level.key or "", level.key_line
        level.key = None
        if level.key_refused:
            return
        if key in parent.nodes:
            path = child_path(level.path, key)
            self._problems.add(
                line, path, f"the key {quoted(key)} is here twice; the first is in line {parent.lines[key]}"
            )
            return
        parent.nodes[key] = node
        parent.lines[key] = line
