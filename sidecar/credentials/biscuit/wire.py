"""A biscuit's bytes, as far as they have to be looked at: which blocks, and what each says.

The format is `schema.proto` of the Biscuit specification, version 3. The law: whatever isn't known here, or stands twice where it may stand
once, is `Malformed`: a reader of protobuf takes the last of two, and another one the first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

DEFAULT_SYMBOLS = (
    "read", "write", "resource", "operation", "right", "time", "role", "owner", "tenant", "namespace", "user", "team",
    "service", "admin", "email", "group", "member", "ip_address", "client", "client_ip", "domain", "path", "version",
    "cluster", "node", "hostname", "nonce", "query",
)  # fmt: skip
FIRST_OWN_SYMBOL = 1024
"""Symbols of the token itself are counted from here, over all of its blocks."""
_DEEPEST = 2
_ED25519 = 0
_OTHER_FIELDS = 3
"""A token's key id, its first block and its proof."""
UNARY = {0: "!", 1: "()", 2: "length", 3: "type"}
BINARY = {
    0: "<", 1: ">", 2: "<=", 3: ">=", 4: "===", 5: "contains", 6: "starts_with", 7: "ends_with", 8: "matches", 9: "+",
    10: "-", 11: "*", 12: "/", 13: "&&", 14: "||", 15: "intersection", 16: "union", 20: "!==", 21: "==", 22: "!=",
    23: "&&", 24: "||",
}  # fmt: skip
"""`OpBinary.Kind`, as it is written."""


class Malformed(ValueError):
    """Not in the form of version 3, or in one that could be read in two ways."""


class Variable(Struct, frozen=True):
    name: str


class Date(Struct, frozen=True):
    at: int
    """Unix seconds."""


class Set(Struct, frozen=True):
    members: tuple[Any, ...]


class Foreign(Struct, frozen=True):
    """A term of a type that no published fact has."""

    what: str
    first: str = ""
    """Of an array, its first text."""


Term = Variable | Date | Set | Foreign | bool | str


class Value(Struct, frozen=True):
    term: Term


class Operator(Struct, frozen=True):
    symbol: str
    arity: int


class Closure(Struct, frozen=True):
    """What stands to the right of `&&` and `||`, and in `.any()`, `.all()` of a newer library."""


Op = Value | Operator | Closure
Expression = tuple[Op, ...]
"""In postfix order."""


class Predicate(Struct, frozen=True):
    name: str
    terms: tuple[Term, ...]


class Query(Struct, frozen=True):
    predicates: tuple[Predicate, ...]
    expressions: tuple[Expression, ...]
    scoped: bool = False
    """It says whose facts it trusts."""


class Check(Struct, frozen=True):
    kind: str
    """`if`, `all` or `reject`."""
    queries: tuple[Query, ...]


class Block(Struct, frozen=True):
    facts: tuple[Predicate, ...] = ()
    checks: tuple[Check, ...] = ()
    rules: int = 0
    scoped: bool = False
    third_party: bool = False
    """Signed by somebody else."""


def first_field(token: bytes) -> int | None:
    """The number of a biscuit's first field, for telling whether it may be one; `None` where it can't."""
    return token[0] >> 3 if token and token[0] in (0x08, 0x12) else None


def count_blocks(token: bytes, most: int) -> int:
    """How many blocks there are beside the first; counting ends at one more than `most`. Raises `Malformed`.

    It reads the token as it was sent, before anything is verified: to know what that would cost, and for nothing else.
    """
    count = others = 0
    for number, _ in _read_fields(token):
        count += number == 3
        others += number != 3
        if others > _OTHER_FIELDS:
            raise Malformed("a field stands twice")
        if count > most:
            break
    return count


def key_id(token: bytes) -> int:
    """Of the root key that it names, which nothing signs; 0 where it names none. Raises `Malformed`."""
    return next((value for number, value in _read_fields(token) if number == 1 and isinstance(value, int)), 0)


def blocks(token: bytes) -> tuple[Block, ...]:
    """The first block and those that narrow it. Raises `Malformed`."""
    fields = _message(token, {1: int, 2: bytes, 4: bytes}, repeated={3: bytes})
    symbols = [*DEFAULT_SYMBOLS]
    return tuple(_signed(signed, symbols) for signed in (_one(fields, 2), *fields[3]))


def _signed(content: bytes, symbols: list[str]) -> Block:
    fields = _message(content, {1: bytes, 2: bytes, 3: bytes, 4: bytes, 5: int})
    algorithm, *_ = _message(_one(fields, 2), {1: int, 2: bytes})[1] or [_ED25519]
    if algorithm != _ED25519:
        # A signature on another curve has two forms. A block's id is its signature: in its other form it would be another block.
        raise Malformed("signed with a key that is not Ed25519")
    if fields[4]:
        return Block(third_party=True)  # it has symbols of its own
    return _block(_one(fields, 1), symbols)


def _block(content: bytes, symbols: list[str]) -> Block:
    fields = _message(
        content, {2: bytes, 3: int}, repeated={1: bytes, 4: bytes, 5: bytes, 6: bytes, 7: bytes, 8: bytes}
    )
    for symbol in fields[1]:
        text = _text(symbol)
        if text in symbols:
            raise Malformed("a symbol stands twice")
        symbols.append(text)
    return Block(
        facts=tuple(_predicate(_one(_message(fact, {1: bytes}), 1), symbols) for fact in fields[4]),
        checks=tuple(_check(check, symbols) for check in fields[6]),
        rules=len(fields[5]),
        scoped=bool(fields[7] or fields[8]),
    )


def _check(content: bytes, symbols: Sequence[str]) -> Check:
    fields = _message(content, {2: int}, repeated={1: bytes})
    kind = {0: "if", 1: "all", 2: "reject"}.get(fields[2][0] if fields[2] else 0)
    if kind is None or not fields[1]:
        raise Malformed("a check of an unknown kind, or an empty one")
    return Check(kind, tuple(_query(query, symbols) for query in fields[1]))


def _query(content: bytes, symbols: Sequence[str]) -> Query:
    fields = _message(content, {1: bytes}, repeated={2: bytes, 3: bytes, 4: bytes})
    return Query(
        tuple(_predicate(predicate, symbols) for predicate in fields[2]),
        tuple(tuple(_op(op, symbols) for op in _message(each, {}, repeated={1: bytes})[1]) for each in fields[3]),
        bool(fields[4]),
    )


def _predicate(content: bytes, symbols: Sequence[str]) -> Predicate:
    fields = _message(content, {1: int}, repeated={2: bytes})
    return Predicate(_symbol(_one(fields, 1), symbols), tuple(_term(term, symbols) for term in fields[2]))


_FOREIGN = {2: "a number", 5: "bytes", 8: "null", 9: "an array", 10: "a map"}


def _term(content: bytes, symbols: Sequence[str], depth: int = 0) -> Term:
    if depth > _DEEPEST:
        raise Malformed("sets or arrays within one another")
    (number, value), *more = _fields(content) or [(0, 0)]
    if more:
        raise Malformed("a term of two kinds")
    if number == 9 and isinstance(value, bytes):
        members = (_term(member, symbols, depth + 1) for member in _message(value, {}, repeated={1: bytes})[1])
        return Foreign(_FOREIGN[number], next((each for each in members if isinstance(each, str)), ""))
    if number in _FOREIGN:
        return Foreign(_FOREIGN[number])
    if number == 7 and isinstance(value, bytes):
        return Set(tuple(_term(member, symbols, depth + 1) for member in _message(value, {}, repeated={1: bytes})[1]))
    if isinstance(value, int):
        if number == 1:
            return Variable(_symbol(value, symbols))
        if number == 3:
            return _symbol(value, symbols)
        if number == 4:
            return Date(value)
        if number == 6:
            return bool(value)
    raise Malformed("a term of an unknown kind")


def _op(content: bytes, symbols: Sequence[str]) -> Op:
    (number, value), *more = _fields(content) or [(0, 0)]
    if more or not isinstance(value, bytes):
        raise Malformed("an operation of two kinds")
    if number == 1:
        return Value(_term(value, symbols))
    if number == 4:
        return Closure()
    if number not in (2, 3):
        raise Malformed("an operation of an unknown kind")
    fields = _message(value, {1: int, 2: int})
    known = UNARY if number == 2 else BINARY
    return Operator(known.get(fields[1][0] if fields[1] else 0, "a function of another library"), number - 1)


def _symbol(index: int, symbols: Sequence[str]) -> str:
    own = index - FIRST_OWN_SYMBOL + len(DEFAULT_SYMBOLS)
    place = index if index < len(DEFAULT_SYMBOLS) else own if own >= len(DEFAULT_SYMBOLS) else len(symbols)
    if place >= len(symbols):
        raise Malformed("a symbol that nothing defines")
    return symbols[place]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Malformed("a text that is not UTF-8") from None


def _one(fields: dict[int, list[Any]], number: int) -> Any:
    if not fields[number]:
        raise Malformed(f"field {number} is missing")
    return fields[number][0]


def _message(content: bytes, single: dict[int, type], repeated: dict[int, type] | None = None) -> dict[int, list[Any]]:
    known = {**single, **(repeated or {})}
    found: dict[int, list[Any]] = {number: [] for number in known}
    for number, value in _fields(content):
        if not isinstance(value, known.get(number, type(None))):
            raise Malformed(f"field {number} is unknown, or of another type")
        if number in single and found[number]:
            raise Malformed(f"field {number} stands twice")
        found[number].append(value)
    return found


def _fields(content: bytes) -> list[tuple[int, int | bytes]]:
    return list(_read_fields(content))


def _read_fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at, end = 0, len(content)
    while at < end:
        tag, at = _varint(content, at)
        value, at = _varint(content, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and at + value <= end:
            yield tag >> 3, content[at : at + value]
            at += value
        else:
            raise Malformed("cut off, or of an unknown wire type")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a number that doesn't end")
