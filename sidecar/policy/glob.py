"""Globs over keys (rule 16): anchored at both ends, `*` within a segment, `**` a whole segment of any number, none included."""

import re
from functools import lru_cache

from msgspec import Struct


class Glob(Struct, frozen=True):
    """A pattern as written. Equal patterns are equal globs; `matches` compiles once per pattern."""

    pattern: str

    def matches(self, key: str) -> bool:
        return _compiled(self.pattern).fullmatch(key) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    raise NotImplementedError
