"""What a token's checks say: the plain ones as values and in words, the others as they are written.

A check is plain where it says one thing that can be told without asking it: until when, in which workspaces, for which operations.
Nothing is granted on the strength of it: the checks themselves are asked at every request.
"""

import datetime
from collections.abc import Iterable, Sequence

from msgspec import Struct

from sidecar.credentials.biscuit.wire import (
    Block,
    Check,
    Date,
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


class Meaning(Struct, frozen=True):
    """What all checks of some blocks narrow to; `None` where none of the plain ones says so."""

    ends_at: int | None = None
    """Unix seconds: from then on it is refused."""
    workspaces: frozenset[str] | None = None
    operations: frozenset[str] | None = None


def meaning(blocks: Iterable[Block]) -> Meaning:
    found = Meaning()
    for block in blocks:
        for check in block.checks:
            found = _narrowed(found, of_check(check))
    return found


def of_check(check: Check) -> Meaning:
    """Of a check that is not plain: nothing."""
    if check.kind != "if" or len(check.queries) != 1:
        return Meaning()
    query = check.queries[0]
    if len(query.predicates) != 1 or len(query.predicates[0].terms) != 1 or query.scoped:
        return Meaning()
    name, (term,) = query.predicates[0].name, query.predicates[0].terms
    if name == "workspace" and isinstance(term, str) and not query.expressions:
        return Meaning(workspaces=frozenset({term}))
    if not isinstance(term, Variable) or len(query.expressions) != 1 or len(query.expressions[0]) != 3:
        return Meaning()
    left, right, operator = query.expressions[0]
    if not isinstance(left, Value) or not isinstance(right, Value) or not isinstance(operator, Operator):
        return Meaning()
    symbol = operator.symbol
    if name == "time" and left.term == term and isinstance(right.term, Date):
        if symbol in ("<", "<="):
            return Meaning(ends_at=right.term.at + (symbol == "<="))
    elif symbol == "contains" and right.term == term and isinstance(left.term, Set):
        members = frozenset(map(str, left.term.members))
        if name == "workspace":
            return Meaning(workspaces=members)
        if name == "operations":
            return Meaning(operations=members)
    elif name == "workspace" and symbol in ("==", "===") and left.term == term and isinstance(right.term, str):
        return Meaning(workspaces=frozenset({right.term}))
    return Meaning()


def _narrowed(one: Meaning, other: Meaning) -> Meaning:
    return Meaning(
        one.ends_at
        if other.ends_at is None
        else other.ends_at
        if one.ends_at is None
        else min(one.ends_at, other.ends_at),
        _common(one.workspaces, other.workspaces),
        _common(one.operations, other.operations),
    )


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return other if one is None else one if other is None else one & other


def in_words(check: Check) -> str:
    """For a person; one line, whatever the check's texts hold."""
    plain = of_check(check)
    if plain.ends_at is not None:
        return f"until {utc(plain.ends_at)}"
    if plain.workspaces is not None:
        return f"only in {_listed('workspace', plain.workspaces)}"
    if plain.operations is not None:
        return f"only {', '.join(sorted(plain.operations)) or 'nothing'}"
    ways = [_path_in_words(query) for query in check.queries]
    if check.kind == "if" and all(ways):
        return f"only {' or '.join(way for way in ways if way)}"
    return f"only if the check holds: {written(check)}"


def _path_in_words(query: Query) -> str | None:
    if len(query.predicates) != 1 or query.predicates[0].name != "path" or query.scoped:
        return None
    (term, *_) = query.predicates[0].terms or (None,)
    if isinstance(term, str) and not query.expressions:
        return f"the key {_quoted(term)}"
    if len(query.expressions) != 1 or len(query.expressions[0]) != 3:
        return None
    left, right, operator = query.expressions[0]
    if not (isinstance(left, Value) and isinstance(right, Value) and isinstance(operator, Operator)):
        return None
    if left.term != term or not isinstance(right.term, str):
        return None
    words = {
        "==": "the key",
        "===": "the key",
        "starts_with": "keys that begin with",
        "ends_with": "keys that end with",
        "matches": "keys that match",
    }.get(operator.symbol)
    return None if words is None else f"{words} {_quoted(right.term)}"


def written(check: Check) -> str:
    """As Datalog."""
    return (
        f"check {check.kind} " + " or ".join(map(_query, check.queries))
        if check.kind != "reject"
        else ("reject if " + " or ".join(map(_query, check.queries)))
    )


def _query(query: Query) -> str:
    parts = [_predicate(each) for each in query.predicates] + [_expression(each) for each in query.expressions]
    return ", ".join(parts) + (" trusting ..." if query.scoped else "")


def _predicate(predicate: Predicate) -> str:
    return f"{predicate.name}({', '.join(map(_term, predicate.terms))})"


def _expression(expression: Expression) -> str:
    stack: list[str] = []
    for op in expression:
        if isinstance(op, Value):
            stack.append(_term(op.term))
        elif not isinstance(op, Operator):
            stack.append("...")
        elif op.arity == 1:
            inner = stack.pop() if stack else "?"
            stack.append(f"({inner})" if op.symbol == "()" else f"{op.symbol}{inner}")
        else:
            right, left = (stack.pop() if stack else "?"), (stack.pop() if stack else "?")
            stack.append(f"{left}.{op.symbol}({right})" if op.symbol.isidentifier() else f"{left} {op.symbol} {right}")
    return " ".join(stack)


def _term(term: Term) -> str:
    if isinstance(term, Variable):
        return f"${term.name}"
    if isinstance(term, Date):
        return utc(term.at)
    if isinstance(term, Set):
        return f"{{{', '.join(map(_term, term.members))}}}"
    if isinstance(term, Foreign):
        return f"<{term.what}>"
    return str(term).lower() if isinstance(term, bool) else _quoted(term)


def _quoted(text: str) -> str:
    plain = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _listed(what: str, names: Sequence[str] | frozenset[str]) -> str:
    return f"{what}{'s' if len(names) != 1 else ''} {', '.join(sorted(names)) or '(none)'}"


def utc(at: int) -> str:
    """`2026-12-31T00:00:00Z`; the number itself where no calendar has such a day."""
    try:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(at)
