"""A condition of a check as a tree: typed, of few parts, and meaning what it seems to. Which blocks and checks there may be, and what
all of them may cost together: `profile.py`.

The law: an operator is accepted for the types that are listed here and for no others, and a regular expression in the forms
here: the library takes one that doesn't compile for one that doesn't match, so that `!` before it would allow everything.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from sidecar.credentials.biscuit.facts import NAMES, PREFIX, Type
from sidecar.credentials.biscuit.wire import Closure, Expression, Foreign, Operator, Set, Term, Value, Variable
from sidecar.errors import SidecarError

MOST_OPERATIONS = 32
"""Of values and operators in a condition."""
_COMPARISONS = frozenset({"<", ">", "<=", ">="})
_EQUALITIES = frozenset({"==", "===", "!=", "!=="})
_UNEQUAL = frozenset({"!=", "!=="})
_TEXT_TESTS = frozenset({"starts_with", "ends_with", "contains", "matches"})


class OutOfProfile(SidecarError):
    """The block isn't accepted. The text says what of it, and what to write instead."""


class Node(Struct, frozen=True):
    """A part of an expression."""

    type: Type
    symbol: str = ""
    args: tuple["Node", ...] = ()
    term: Term | None = None
    fact: str = ""
    """The fact that binds it, where it is a variable."""


def literal(term: Term) -> Type:
    """The type of what is written out. Raises `OutOfProfile`, as all here do."""
    if isinstance(term, Foreign):
        if term.what == "an array":
            element = term.first or f"{PREFIX}write"
            raise OutOfProfile(
                f'an array is never equal to, or within, a set: write one element each, as !$ops.contains("{element}")'
            )
        raise OutOfProfile(f"{term.what} is not compared with anything here")
    if isinstance(term, Set):
        if not all(isinstance(member, str) for member in term.members):
            raise OutOfProfile("a set holds texts alone")
        return Type.SET
    return Type.TEXT if isinstance(term, str) else Type.TRUTH if isinstance(term, bool) else Type.DATE


def tree(expression: Expression, bound: Mapping[str, tuple[Type, str]]) -> Node:
    """`bound`: variable -> its type, and the fact that it comes from."""
    if len(expression) > MOST_OPERATIONS:
        raise OutOfProfile(f"a condition has at most {MOST_OPERATIONS} values and operators")
    stack: list[Node] = []
    for op in expression:
        if isinstance(op, Closure):
            raise OutOfProfile("instead of && write a comma, instead of || write 'or' between two alternatives")
        if isinstance(op, Value):
            stack.append(_leaf(op.term, bound))
            continue
        if len(stack) < op.arity:
            raise OutOfProfile("an operator without what it works on")
        args = tuple(stack[-op.arity :])
        del stack[-op.arity :]
        stack.append(Node(_result(op, args), op.symbol, args))
    if len(stack) != 1:
        raise OutOfProfile("a condition of several parts that nothing joins")
    return stack[0]


def _leaf(term: Term, bound: Mapping[str, tuple[Type, str]]) -> Node:
    if isinstance(term, Variable):
        if term.name not in bound:
            raise OutOfProfile(f"${term.name} stands for nothing: name the fact that it comes from")
        type_, fact = bound[term.name]
        return Node(type_, term=term, fact=fact)
    return Node(literal(term), term=term)


def _result(op: Operator, args: tuple[Node, ...]) -> Type:
    types = tuple(arg.type for arg in args)
    symbol = op.symbol
    if symbol == "()":
        return types[0]
    fits = (
        (symbol == "!" and types == (Type.TRUTH,))
        or (symbol in _COMPARISONS and types == (Type.DATE, Type.DATE))
        or (symbol in _EQUALITIES and types[0] is types[-1] is not Type.TRUTH)
        or (symbol in _TEXT_TESTS and types == (Type.TEXT, Type.TEXT))
        or (symbol == "contains" and types in ((Type.SET, Type.TEXT), (Type.SET, Type.SET)))
        or (symbol in ("&&", "||") and types == (Type.TRUTH, Type.TRUTH))
    )
    if not fits:
        raise OutOfProfile(f"the operator {symbol} is not accepted for {' and '.join(types)}")
    return Type.TRUTH


def parts(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for arg in node.args:
        yield from parts(arg)


def examine_meaning(node: Node, positive: bool) -> None:
    """Refuses what doesn't do what it seems to."""
    if node.symbol == "!":
        positive = not positive
    for arg in node.args:
        examine_meaning(arg, positive)
    if len(node.args) != 2:
        return
    left, right = _bare(node.args[0]), _bare(node.args[1])
    for variable, other in ((left, right), (right, left)):
        if variable.fact and other.term is not None and not other.fact:
            examine_literal(variable.fact, other.term, node.symbol)
    if left.type is not Type.SET or right.type is not Type.SET:
        return
    if node.symbol in _EQUALITIES:
        if not positive or node.symbol in _UNEQUAL:
            raise OutOfProfile(f'replacing is more than one operation: write !$ops.contains("{_example(right, left)}")')
    elif right.fact:
        if not positive:
            raise OutOfProfile(f'replacing is more than one operation: write !$ops.contains("{_example(left)}")')
    elif not isinstance(right.term, Set) or len(right.term.members) != 1:
        example = ", ".join(f'"{member}"' for member in _members(right))
        form = f"{{{example}}}.contains($ops)" if positive else f'!$ops.contains("{_example(right)}"), one element each'
        raise OutOfProfile(f"that asks whether a request needs all of them at once, and none does: write {form}")


def _bare(node: Node) -> Node:
    while node.symbol == "()":
        node = node.args[0]
    return node


def _members(node: Node) -> list[str]:
    return sorted(map(str, node.term.members)) if isinstance(node.term, Set) else []


def _example(*nodes: Node) -> str:
    return next((member for node in nodes for member in _members(node)), f"{PREFIX}write")


def examine_literal(fact: str, term: Term, symbol: str = "==") -> None:
    texts = term.members if isinstance(term, Set) else (term,)
    for text in texts:
        if not isinstance(text, str):
            continue
        if fact == "path" and symbol in ("==", "===", "!=", "!==", "starts_with") and text.startswith("/"):
            raise OutOfProfile(f'a path here has no leading slash: write "{text.lstrip("/")}"')
        if fact == "operations" and text not in NAMES and text.partition(":")[0] in ("store", text):
            meant = PREFIX + text.removeprefix(PREFIX)
            hint = f'write "{meant}"' if meant in NAMES else f"there are: {', '.join(NAMES)}"
            raise OutOfProfile(f"no request here needs the operation {text!r}: {hint}")
        if fact == "method" and symbol in _EQUALITIES and not text.isupper():
            raise OutOfProfile(f'methods are written in capitals: "{text.upper()}"')


_ATOMS = re.compile(
    r"(?P<many>\.|\[\^?(?:a-z|A-Z|0-9|[A-Za-z0-9_/.])+-?\])|\\[^\w\s<>]|[^\\\[\](){}*+?|^$.\x00-\x1f\x7f]|[()|]|(?P<more>[*+?])"
)


def pattern_cost(term: Term | None) -> int:
    """Of a regular expression of literal characters, classes, groups and `* + ?`, anchored at both ends: a character costs 1, what
    stands for any or many characters 5."""
    if not isinstance(term, str):
        raise OutOfProfile("what a path must match is written in the check itself")
    if not (term.startswith("^") and term.endswith("$")):
        raise OutOfProfile(f'an expression that isn\'t anchored matches anywhere: write "^{term.strip("^$")}$"')
    if term.startswith("^/"):
        raise OutOfProfile("a path here has no leading slash")
    inner = term[1:-1]
    at = depth = cost = 0
    repeatable = False
    while at < len(inner):
        found = _ATOMS.match(inner, at)
        if found is None or (found["more"] and not repeatable):
            raise OutOfProfile(
                f"{inner[at:][:1]!r} is not accepted in a regular expression here, or not where it stands"
            )
        at = found.end()
        repeatable = not found["more"] and found[0] not in ("(", "|")
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth < 0 or (found[0] == "|" and depth == 0):
            raise OutOfProfile("put alternatives of a regular expression into parentheses: ^(a|b)$")
        cost += 5 if found["many"] else len(found[0])
    if depth:
        raise OutOfProfile("a regular expression with a parenthesis that doesn't end")
    return cost


def asks_prefixes_only(node: Node) -> bool:
    """As `profile.Asked.prefixes_only`, of one condition."""
    if not any(each.fact == "path" for each in parts(node)):
        return True
    if node.symbol in ("()", "&&", "||"):
        return all(map(asks_prefixes_only, node.args))
    return node.symbol in ("==", "===", "starts_with") and node.args[0].fact == "path" and not node.args[1].fact
