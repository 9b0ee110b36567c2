"""Small changes to a module's source, each of which takes one clause away from it.

Besides the usual (a comparison turned, a condition negated, a constant moved), each entry of a table is deleted once: the
laws of this project live in tables. Left alone is what no behaviour depends on: docstrings, annotations and type aliases,
and the text of what is raised or noted as a problem, which is for people.
"""

import ast
import copy
from collections.abc import Iterator

from msgspec import Struct

TURNED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
RAISED = {
    "Refused": 1, "CredentialRefused": 1, "Unavailable": 1, "Malformed": 0, "PepperUnusable": 0, "ValueError": 0,
    "BadProxyHeader": 0, "MasterKeyUnusable": 0, "LibraryError": 0, "_broken": 0,
    "BadKeys": 0, "OutOfProfile": 0, "Refusal": 0, "_bad": 0, "RootKeyError": 0, "CannotRotate": 0, "UnknownToken": 0,
}  # fmt: skip
"""What is raised, or makes it, and how many of its arguments are more than text for people."""
TABLES = (ast.Set, ast.Tuple, ast.List)


class Mutant(Struct, frozen=True):
    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All of them, in the order of the source. Each parses; whether it imports is for the tests to say."""
    tree = ast.parse(source)
    for parent, name, index, node in _places(tree):
        original = getattr(parent, name)
        for what, changed in _changes(node, parent, name):
            if index is None:
                setattr(parent, name, changed)
            else:
                items = list(original)
                items[index : index + 1] = [] if changed is None else [changed]
                setattr(parent, name, items)
            text = ast.unparse(ast.fix_missing_locations(tree))
            setattr(parent, name, original)
            yield Mutant(getattr(node, "lineno", getattr(parent, "lineno", 0)), what, text)


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node that behaviour may depend on, with where it hangs."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"} or isinstance(node, ast.JoinedStr):
            continue
        if isinstance(node, ast.Call) and name in {"args", "keywords"}:
            value = value[: _before_text(node)]
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_for_people(child):
                yield node, name, index, child
                yield from _places(child)


def _before_text(call: ast.Call) -> int | None:
    """How many arguments stand before those that are text for people; `None`: none is."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "problem" and len(call.args) == 1:
        return 0
    return RAISED.get(call.func.id) if isinstance(call.func, ast.Name) else None


def _is_for_people(node: ast.AST) -> bool:
    """Docstrings, type aliases and the list of a package's names."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__" or _is_type(node.value)
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or _is_type(node)


def _is_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "TypeVar"
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and (_is_type(node.left) or _is_type(node.right))
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) in {
        "tuple",
        "dict",
        "list",
        "frozenset",
        "Callable",
        "Literal",
        "Mapping",
    }


def _changes(node: ast.AST, parent: ast.AST, name: str) -> Iterator[tuple[str, ast.AST | None]]:
    """What the node may be exchanged for; `None` deletes it from the list that it stands in."""
    if type(node) in TURNED:
        yield f"{type(node).__name__} -> {TURNED[type(node)].__name__}", TURNED[type(node)]()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", node.operand
    elif name == "test" and isinstance(node, ast.expr):
        yield "condition negated", ast.UnaryOp(ast.Not(), copy.deepcopy(node))
    if isinstance(node, ast.Constant) and not isinstance(parent, ast.FormattedValue):
        yield from _constants(node)
    if isinstance(parent, ast.BoolOp) and name == "values" and len(parent.values) > 2:
        yield f"clause deleted: {ast.unparse(node)}", None
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "returns None", ast.Return(ast.Constant(None))
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Expr) or (isinstance(node, ast.Return) and node.value is None):
        yield f"statement deleted: {ast.unparse(node)[:60]}", ast.Pass()
    if isinstance(parent, TABLES) and name == "elts" and not isinstance(getattr(parent, "ctx", None), ast.Store):
        yield f"entry deleted: {ast.unparse(node)[:60]}", None
    if isinstance(node, ast.Dict):
        for index, key in enumerate(node.keys):
            keys, values = [*node.keys], [*node.values]
            del keys[index], values[index]
            yield f"entry deleted: {ast.unparse(key)[:60] if key else '**'}", ast.Dict(keys, values)


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    changed: object
    if isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = value + 1
    elif isinstance(value, str):
        changed = f"XX{value}XX"
    elif isinstance(value, bytes):
        changed = b"XX%bXX" % value
    else:
        return
    yield f"{value!r:.40} -> {changed!r:.40}", ast.Constant(changed)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
