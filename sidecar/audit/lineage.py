"""A token and what derives from it, as far as the records tell: what replaced it, and what was narrowed from it.

Law: whoever replaces or narrows a token acts in its name; what it was itself made from doesn't, nor do its cousins. It is learnt on the
way, as replacements name their parent and a Biscuit names all its blocks, so the oldest record comes first. Memory is bounded.
"""

import msgspec

from sidecar.audit.lines import Actor, Changes
from sidecar.credentials import revocation_names

MOST = 10_000
"""Derived tokens that are followed, and blocks of Biscuits."""
_SEARCHED = 16
"""With so many ids at most, a line is searched for them before it is read."""


class Lineage:
    def __init__(self, token_id: str) -> None:
        """`token_id`: an id, a `jti`, or the revocation id of a Biscuit's block; empty for nobody's."""
        self._ids = {token_id} if token_id else set()
        self._blocks: dict[str, bool] = {}
        self._searched = [_as_written(token_id)]

    @property
    def ids(self) -> frozenset[str]:
        """The token's, and those of its replacements that were met."""
        return frozenset(self._ids)

    def __contains__(self, token_id: str | None) -> bool:
        return token_id in self._ids

    def may_name(self, line: bytes) -> bool:
        """`False` for a line that can't be about any of them, told without reading it."""
        return len(self._searched) > _SEARCHED or any(each in line for each in self._searched)

    def acted(self, actor: Actor) -> bool:
        """Whether it was one of them."""
        ids = self._ids
        if actor.parent is not None and actor.parent in ids:
            self._follow(actor.token_id)
            return True
        blocks = actor.blocks or []
        if actor.token_id in ids or (actor.root_id is not None and actor.root_id in ids):
            self._narrowed(blocks)
            return True
        first = next((number for number, each in enumerate(blocks) if each in ids), None)
        if first is None:
            return False
        self._narrowed(blocks[first:])
        return True

    def narrowed(self, name: str) -> bool | None:
        """Whether what a revocation names is a block that derives from one of them (`True`) or one of their own; `None`: neither,
        as far as what they did tells."""
        return self._blocks.get(name)

    def born(self, changes: Changes | None) -> bool:
        """Whether what happened to a token is that it came to replace one of them."""
        if changes is None or changes.parent is None or changes.parent not in self._ids:
            return False
        self._follow(changes.token_id)
        return True

    def _narrowed(self, blocks: list[str]) -> None:
        """The first of them is one of their own."""
        for number, block in enumerate(blocks):
            name = revocation_names.block(block)
            if len(self._blocks) < MOST and name not in self._blocks:
                self._blocks[name] = number > 0
                self._searched.append(_as_written(name))

    def _follow(self, token_id: str | None) -> None:
        if token_id and token_id not in self._ids and len(self._ids) < MOST:
            self._ids.add(token_id)
            self._searched.append(_as_written(token_id))


def _as_written(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]
