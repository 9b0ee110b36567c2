"""Which blocks are accepted: the published subset of Datalog (`docs/biscuit.md`), in which a check costs little and means what it
seems to.

The law: whatever is accepted is typed, bound to published facts and small, so that judging a request by it takes microseconds;
the library's own limits don't bound that, as they are looked at between the steps and never within one. What would quietly
allow everything, or nothing, is refused with the form that was meant.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from sidecar.credentials.biscuit.facts import FACTS, NAMES, PREFIX, Fact, Type
from sidecar.credentials.biscuit.wire import (
    Block,
    Check,
    Closure,
    Expression,
    Foreign,
    Operator,
    Predicate,
    Query,
    Set,
    Term,
    Value,
    Variable,
)
from sidecar.errors import SidecarError

MOST_BLOCKS = 8
"""That narrow; the first one not counted."""
MOST_CHECKS, MOST_QUERIES, MOST_PREDICATES, MOST_EXPRESSIONS = 8, 4, 3, 4
"""In a block, a check, a query, a query."""
MOST_OPERATIONS = 32
"""Of values and operators in a condition."""
MOST_CHECKS_IN_ALL = 16
MOST_FACTS = 8
"""In the first block, which alone may have some."""
MOST_MEMBERS = 128
"""Of all sets of a token: each request is asked of a copy of them."""
MATCHING_BUDGET = 160
"""Of all regular expressions of a token: a character costs 1, what stands for any or many characters 5."""

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


class Asked(Struct, frozen=True):
    """What a token's checks ask about, as far as it matters to whoever answers."""

    settings: frozenset[str] = frozenset()
    """The names of settings that are asked for."""
    prefixes_only: bool = True
    """Whether of a path nothing is asked but what it is or begins with: then what holds of a folder and of a key in it holds
    of all that lies below."""


class _Budget:
    """What is left for regular expressions, and for members of sets."""

    def __init__(self) -> None:
        self.left = MATCHING_BUDGET
        self.members = MOST_MEMBERS

    def take(self, root: Node) -> None:
        """Raises `OutOfProfile`."""
        self.members -= sum(len(each.term.members) for each in _parts(root) if isinstance(each.term, Set))
        if self.members < 0:
            raise OutOfProfile(f"the sets of a token have at most {MOST_MEMBERS} members together")


def examine(blocks: Sequence[Block], facts: Mapping[str, Fact] = FACTS) -> Asked:
    """Raises `OutOfProfile`. `blocks`: the first one, and those that narrow it."""
    first, *narrowing = blocks
    if len(narrowing) > MOST_BLOCKS:
        raise OutOfProfile(f"a token is narrowed at most {MOST_BLOCKS} times")
    if len(first.facts) > MOST_FACTS or any(isinstance(term, Variable) for fact in first.facts for term in fact.terms):
        raise OutOfProfile(f"the first block has at most {MOST_FACTS} facts")
    if sum(len(block.checks) for block in blocks) > MOST_CHECKS_IN_ALL:
        raise OutOfProfile(f"a token has at most {MOST_CHECKS_IN_ALL} checks in all")
    budget, settings, prefixes_only = _Budget(), set[str](), True
    for number, block in enumerate(blocks):
        if block.third_party:
            raise OutOfProfile("blocks that somebody else has signed are not accepted")
        if block.rules or block.scoped or (block.facts and number):
            raise OutOfProfile("a block that narrows holds checks alone: no facts, no rules, nothing about trust")
        if len(block.checks) > MOST_CHECKS:
            raise OutOfProfile(f"a block has at most {MOST_CHECKS} checks")
        for check in block.checks:
            for query in _queries(check):
                settings |= {_setting(each) for each in query.predicates if each.name == "setting"}
                for root in _examine_query(query, facts, budget):
                    prefixes_only = prefixes_only and _asks_prefixes_only(root)
    return Asked(frozenset(settings), prefixes_only)


def _queries(check: Check) -> Sequence[Query]:
    if check.kind != "if":
        raise OutOfProfile("only 'check if' is accepted: write what must hold, instead of 'check all' and 'reject if'")
    if len(check.queries) > MOST_QUERIES:
        raise OutOfProfile(f"a check has at most {MOST_QUERIES} alternatives")
    return check.queries


def _setting(predicate: Predicate) -> str:
    name = predicate.terms[0] if predicate.terms else None
    if not isinstance(name, str):
        raise OutOfProfile('a setting is asked for by its name: setting("channel", $value)')
    return name


def _examine_query(query: Query, facts: Mapping[str, Fact], budget: _Budget) -> list[Node]:
    if query.scoped:
        raise OutOfProfile("a check says nothing about trust")
    if len(query.predicates) > MOST_PREDICATES:
        raise OutOfProfile(f"a check asks about at most {MOST_PREDICATES} facts at once")
    if len(query.expressions) > MOST_EXPRESSIONS:
        raise OutOfProfile(f"a check has at most {MOST_EXPRESSIONS} conditions; join two checks instead")
    bound: dict[str, tuple[Type, str]] = {}
    narrows = False
    for predicate in query.predicates:
        narrows |= _bind(predicate, facts, bound)
    roots = [_tree(expression, bound) for expression in query.expressions]
    for root in roots:
        if root.type is not Type.TRUTH or not any(each.fact for each in _parts(root)):
            raise OutOfProfile("a condition that says nothing about the request: it would always hold, or never")
        _examine_meaning(root, positive=True)
        budget.take(root)
        for each in _parts(root):
            if each.symbol == "matches":
                _examine_pattern(each.args[1].term, budget)
    if not (narrows or roots):
        raise OutOfProfile("a check that every request passes narrows nothing")
    return roots


def _bind(predicate: Predicate, facts: Mapping[str, Fact], bound: dict[str, tuple[Type, str]]) -> bool:
    """Whether the predicate alone narrows already: by naming a value, or by asking two facts for the same one."""
    fact = facts.get(predicate.name)
    if fact is None:
        raise OutOfProfile(f"no fact {predicate.name!r} is known here; there are: {', '.join(facts)}")
    if len(predicate.terms) != len(fact.types):
        raise OutOfProfile(f"the fact {predicate.name!r} has {len(fact.types)} term(s)")
    narrows = False
    for place, (term, type_) in enumerate(zip(predicate.terms, fact.types, strict=True)):
        if isinstance(term, Variable):
            known, _ = bound.setdefault(term.name, (type_, predicate.name))
            if known is not type_:
                raise OutOfProfile(f"${term.name} is {known} and {type_}: that is never so")
            narrows |= bound[term.name][1] != predicate.name
            continue
        literal = _literal(term)
        if literal is not type_:
            raise OutOfProfile(
                f"the fact {predicate.name!r} is {type_}, and is compared with {literal}: that is never so"
            )
        _examine_literal(predicate.name, term)
        narrows |= not (predicate.name == "setting" and place == 0)
    return narrows


def _literal(term: Term) -> Type:
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


def _tree(expression: Expression, bound: Mapping[str, tuple[Type, str]]) -> Node:
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
    return Node(_literal(term), term=term)


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


def _parts(node: Node) -> Iterator[Node]:
    yield node
    for arg in node.args:
        yield from _parts(arg)


def _examine_meaning(node: Node, positive: bool) -> None:
    """Refuses what doesn't do what it seems to."""
    if node.symbol == "!":
        positive = not positive
    for arg in node.args:
        _examine_meaning(arg, positive)
    if len(node.args) != 2:
        return
    left, right = _bare(node.args[0]), _bare(node.args[1])
    for variable, literal in ((left, right), (right, left)):
        if variable.fact and literal.term is not None and not literal.fact:
            _examine_literal(variable.fact, literal.term, node.symbol)
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


def _examine_literal(fact: str, term: Term, symbol: str = "==") -> None:
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
# The library takes an expression that doesn't compile for one that doesn't match, so that `!` before it would allow everything.


def _examine_pattern(term: Term | None, budget: _Budget) -> None:
    """A regular expression of literal characters, classes, groups and `* + ?`, anchored at both ends."""
    if not isinstance(term, str):
        raise OutOfProfile("what a path must match is written in the check itself")
    if not (term.startswith("^") and term.endswith("$")):
        raise OutOfProfile(f'an expression that isn\'t anchored matches anywhere: write "^{term.strip("^$")}$"')
    if term.startswith("^/"):
        raise OutOfProfile("a path here has no leading slash")
    inner = term[1:-1]
    at = depth = 0
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
        budget.left -= 5 if found["many"] else len(found[0])
    if depth:
        raise OutOfProfile("a regular expression with a parenthesis that doesn't end")
    if budget.left < 0:
        raise OutOfProfile("the regular expressions of a token are too long together")


def _asks_prefixes_only(node: Node) -> bool:
    if not any(each.fact == "path" for each in _parts(node)):
        return True
    if node.symbol in ("()", "&&", "||"):
        return all(map(_asks_prefixes_only, node.args))
    return node.symbol in ("==", "===", "starts_with") and node.args[0].fact == "path" and not node.args[1].fact
