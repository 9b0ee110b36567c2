"""Which blocks are accepted: the published subset of Datalog (`docs/biscuit.md`), in which a check costs little and means what it
seems to.

The law: whatever is accepted is typed, bound to published facts and small, so that judging a request by it takes microseconds;
the library's own limits don't bound that, as they are looked at between the steps and never within one. What would quietly
allow everything, or nothing, is refused with the form that was meant.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sidecar.credentials.biscuit.conditions import (
    Node,
    OutOfProfile,
    asks_prefixes_only,
    examine_literal,
    examine_meaning,
    literal,
    parts,
    pattern_cost,
    tree,
)
from sidecar.credentials.biscuit.facts import FACTS, Fact, Type
from sidecar.credentials.biscuit.wire import Block, Check, Predicate, Query, Set, Variable

__all__ = ["Asked", "OutOfProfile", "examine"]

MOST_BLOCKS = 8
"""That narrow; the first one not counted."""
MOST_CHECKS, MOST_QUERIES, MOST_PREDICATES, MOST_EXPRESSIONS = 8, 4, 3, 4
"""In a block, a check, a query, a query."""
MOST_CHECKS_IN_ALL = 16
MOST_FACTS = 8
"""In the first block, which alone may have some."""
MOST_MEMBERS = 128
"""Of all sets of a token: each request is asked of a copy of them."""
MATCHING_BUDGET = 160
"""Of all regular expressions of a token, as `conditions.pattern_cost` counts."""


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

    def match(self, cost: int) -> None:
        """Raises `OutOfProfile`."""
        self.left -= cost
        if self.left < 0:
            raise OutOfProfile("the regular expressions of a token are too long together")

    def take(self, root: Node) -> None:
        """Raises `OutOfProfile`."""
        self.members -= sum(len(each.term.members) for each in parts(root) if isinstance(each.term, Set))
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
                    prefixes_only = prefixes_only and asks_prefixes_only(root)
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
    roots = [tree(expression, bound) for expression in query.expressions]
    for root in roots:
        if root.type is not Type.TRUTH or not any(each.fact for each in parts(root)):
            raise OutOfProfile("a condition that says nothing about the request: it would always hold, or never")
        examine_meaning(root, positive=True)
        budget.take(root)
        for each in parts(root):
            if each.symbol == "matches":
                budget.match(pattern_cost(each.args[1].term))
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
        given = literal(term)
        if given is not type_:
            raise OutOfProfile(
                f"the fact {predicate.name!r} is {type_}, and is compared with {given}: that is never so"
            )
        examine_literal(predicate.name, term)
        narrows |= not (predicate.name == "setting" and place == 0)
    return narrows
