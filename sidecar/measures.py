"""Durations and sizes as people write them: `500ms 30s 5m 12h 90d`, `512B 64KiB 10MiB 5GiB 1TiB`. Pure.

The law: no amount without its unit, and a unit means the same in each file and on each command line.
"""

import re
from typing import Final

from msgspec import Struct

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}

_AMOUNT: Final = re.compile(r"([0-9]{1,9})([A-Za-z]+)")


class Measure(Struct, frozen=True):
    """What kind of amount it is."""

    expected: str
    """As messages say it."""
    units: dict[str, float] | dict[str, int]
    """From the smallest to the largest."""

    def read(self, text: str) -> float | None:
        """In seconds or bytes; `None` for what isn't one."""
        found = _AMOUNT.fullmatch(text)
        unit = None if found is None else self.units.get(found[2])
        return None if found is None or unit is None else int(found[1]) * unit

    def written(self, amount: float) -> str:
        """In the largest unit that divides it."""
        for unit, size in reversed(self.units.items()):
            if amount >= size and round(amount / size, 6).is_integer():
                return f"{round(amount / size)}{unit}"
        return f"0{next(iter(self.units))}"


DURATION: Final = Measure("a duration such as 500ms, 30s, 5m, 12h or 90d", SECONDS)
SIZE: Final = Measure("a size such as 512B, 64KiB, 10MiB or 5GiB", BYTES)
