"""What a glob says of whole trees of keys, held against the glob itself on every key that a small world can have."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.glob import MAX_PATTERN, glob
from sidecar.policy.subtree import could_touch, covers

NAMES = ("", "a", "b", "ab", "stranger")
PATTERNS = st.lists(st.sampled_from(["**", "**", "*", "a", "b", "a*", "*b", "", "***b"]), min_size=1, max_size=4).map(
    "/".join
)
KEYS = st.lists(st.sampled_from(["a", "b", "ab", "x"]), max_size=3).map("/".join)


def tree(key: str, deep: int) -> list[str]:
    """All keys of the tree, with up to `deep` names of the small world below its root."""
    start = [key] if key else []
    sizes = range(0 if key else 1, deep + 1)
    return ["/".join([*start, *names]) for size in sizes for names in itertools.product(NAMES, repeat=size)]


@given(PATTERNS, KEYS)
def test_both_are_exact(pattern: str, key: str) -> None:
    # Names that fit every step: a segment of the pattern without its stars is one that it matches.
    world = [glob(pattern).matches(below) for below in tree(key, deep=4)]
    assert could_touch(pattern, key) == any(world)
    assert covers(pattern, key) == all(world)


@pytest.mark.parametrize(
    ("pattern", "key", "touched", "covered"),
    [
        ("releases/**", "releases", True, True),
        ("releases/**", "releases/1", True, True),
        ("releases/**", "", True, False),
        ("releases/**", "release", False, False),
        ("**", "", True, True),
        ("**", "a/b", True, True),
        ("*", "a", True, False),
        ("*/**", "", True, True),
        ("docs/*", "docs", True, False),
        ("docs/*", "docs/a", True, False),
        ("docs/*/**", "docs", True, False),
        ("docs/*/**", "docs/a", True, True),
        ("docs/**/*", "docs/a", True, True),
        ("docs/**/*", "docs", True, False),
        ("**/keep", "a", True, False),
        ("a/keep/b", "a", True, False),
        ("a/keep/b", "a/keep/b", True, False),
        ("a/keep/b", "a/keep/b/c", False, False),
        ("a/keep/b", "a/kept", False, False),
        ("a*/x", "abc", True, False),
        ("a*/x", "bc", False, False),
        ("dir/", "dir", True, False),
    ],
)
def test_known_answers(pattern: str, key: str, touched: bool, covered: bool) -> None:
    assert could_touch(pattern, key) is touched
    assert covers(pattern, key) is covered


def test_no_pattern_and_no_key_make_it_slow() -> None:
    """The longest pattern that a policy takes over the deepest path that a target may have."""
    key = "/".join("a" * 31 for _ in range(256))
    for pattern in ("**/*/" * 204, "**/a*a/" * 146, "/".join(["*a" * 100] * 5)):
        pattern = pattern[:MAX_PATTERN].rstrip("/")
        began = time.process_time()
        could_touch(pattern, key)
        covers(pattern, key)
        assert time.process_time() - began < 0.25
