"""What a glob says of all keys below a key at once (rule 18). Pure.

A tree is a key and whatever begins with it and a slash; the empty key's tree is all keys. A deny rule refuses a tree that it
*could touch*; what allows or limits must *cover* it whole. Both are exact, for keys of any names: `could_touch` is true just when
some key of the tree matches, `covers` just when each does.

A glob is read as steps, one for each of its segments; a set of places in it stands for all ways of having read a key so far.
"""

import re
from functools import lru_cache

from sidecar.policy.glob import segment_pattern

_Step = re.Pattern[str] | None
"""`None` is `**`."""


def could_touch(pattern: str, key: str) -> bool:
    """Whether some key of the tree matches. Wherever reading may stand, names can be made up that lead to the glob's end."""
    return bool(_read(_steps(pattern), key))


def covers(pattern: str, key: str) -> bool:
    """Whether every key of the tree matches.

    What matches a name that no step spells out matches any name, so it is enough to go on with such names; from then on
    only `**` holds its place, and after as many names as there are steps nothing changes any more.
    """
    steps = _steps(pattern)
    places = _read(steps, key)
    if key == "":
        places = _strangers(steps, places)  # the tree of all keys has no key without a name
    for _ in range(len(steps) + 1):
        if len(steps) not in places:
            return False
        places = _strangers(steps, places)
    return len(steps) in places


def _read(steps: tuple[_Step, ...], key: str) -> frozenset[int]:
    places = _skipping(steps, {0})
    for name in key.split("/") if key else ():
        if not places:
            break
        places = _skipping(steps, _after(steps, places, name))
    return places


def _after(steps: tuple[_Step, ...], places: frozenset[int], name: str) -> set[int]:
    found = set()
    for place in places:
        if place < len(steps):
            step = steps[place]
            if step is None:
                found.add(place)
            elif step.fullmatch(name + "/") is not None:
                found.add(place + 1)
    return found


def _strangers(steps: tuple[_Step, ...], places: frozenset[int]) -> frozenset[int]:
    """After a name that only `*` and `**` match."""
    found = set()
    for place in places:
        if place < len(steps):
            step = steps[place]
            if step is None:
                found.add(place)
            elif step is _ANY:
                found.add(place + 1)
    return _skipping(steps, found)


def _skipping(steps: tuple[_Step, ...], places: set[int]) -> frozenset[int]:
    """With the places that `**` lets reach without a name."""
    for place in sorted(places):
        while place < len(steps) and steps[place] is None:
            place += 1
            places.add(place)
    return frozenset(places)


_ANY = re.compile("[^/]*+/", re.DOTALL)


@lru_cache(maxsize=4096)
def _steps(pattern: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    for segment in pattern.split("/"):
        if segment == "**":
            if not steps or steps[-1] is not None:  # twice in a row says the same, and costs places
                steps.append(None)
        elif segment and not segment.strip("*"):
            steps.append(_ANY)
        else:
            steps.append(segment_pattern(segment))
    return tuple(steps)
