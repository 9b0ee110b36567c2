"""Rule 16, as a table, against a naive reference, and against those who would make it slow."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.glob import Glob, glob, key_problem, problem

TABLE = [
    # pattern, matches, doesn't
    (
        "releases/**",
        ["releases", "releases/", "releases/a", "releases/a/b/"],
        ["release", "releasesx", "x/releases", ""],
    ),
    ("**", ["", "a", "a/b", "a/"], []),
    ("**/x", ["x", "a/x", "a/b/x"], ["x/a", "ax", "x/"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "a/b/c", "a"]),
    ("a/**/b/**/c", ["a/b/c", "a/x/b/y/c", "a/b/b/c"], ["a/c/b", "a/b", "a/c"]),
    ("a/**/b/**/c/**/d", ["a/b/c/d", "a/b/x/c/y/z/d"], ["a/b/d", "a/c/b/d"]),
    ("a/**/**/b", ["a/b", "a/x/b"], ["a"]),
    ("*", ["", "a", "a.b"], ["a/", "a/b"]),
    ("a*", ["a", "ab"], ["ba", "ab/", "ab/c"]),
    ("*.tar", [".tar", "x.tar"], ["x.tar.gz", "d/x.tar"]),
    ("ab*ba", ["abba", "abxba"], ["aba", "ab", "ba"]),
    ("a*b*c", ["abc", "axbxc", "abbc", "abcc"], ["acb", "ab", "a/b/c"]),
    ("a*b*c*d", ["abcd", "axbxcxd"], ["abd", "acbd"]),
    ("v?/[ab]", ["v?/[ab]"], ["v1/a"]),
    ("a.b", ["a.b"], ["axb"]),
    ("", [""], ["a", "/"]),
    ("a\nb*", ["a\nb", "a\nb\n"], ["a"]),
    ("a", ["a"], ["a\n", "A", "a/"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), TABLE, ids=[row[0] or "empty" for row in TABLE])
def test_what_a_glob_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [key for key in yes if not Glob(pattern).matches(key)] == []
    assert [key for key in no if Glob(pattern).matches(key)] == []


def naive(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "**":
        return any(naive(pattern[1:], key[i:]) for i in range(len(key) + 1))
    return bool(key) and naive_segment(pattern[0], key[0]) and naive(pattern[1:], key[1:])


def naive_segment(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive_segment(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and naive_segment(pattern[1:], text[1:])


SEGMENT = st.text(alphabet="ab*", max_size=5)


@given(st.lists(SEGMENT | st.just("**"), min_size=1, max_size=6), st.text(alphabet="ab/", max_size=14))
def test_it_agrees_with_the_naive_reading(segments: list[str], key: str) -> None:
    pattern = "/".join(segments)
    assert Glob(pattern).matches(key) == naive(pattern.split("/"), key.split("/"))


HOSTILE = [
    ("/".join(["**", "a"] * 300), "a/" * 4096 + "b"),
    ("*a" * 500 + "b", "a" * 8192),
    ("**/" + "a/" * 400 + "b/**", "a/" * 4096),
    ("/".join(["*a*a*b"] * 100), "/".join(["a" * 80] * 100)),
    ("**/" + "*a" * 400 + "*b/**", "a" * 8192),
    ("*" + "a" * 1000 + "b*", "a" * 8192),
    ("**/" * 300 + "x", "a/" * 4096),
]


@pytest.mark.parametrize(("pattern", "key"), HOSTILE, ids=range(len(HOSTILE)))
def test_no_pattern_and_no_key_make_a_match_slow(pattern: str, key: str) -> None:
    hostile = Glob(pattern)
    hostile.matches("")
    start = time.process_time()
    assert not hostile.matches(key)
    assert time.process_time() - start < 0.25  # a backtracking matcher needs longer than the universe has


@pytest.mark.parametrize("pattern", ["a**", "**a/b", "x/***", "a/b**c/d", "a\nb", "a" * 1025])
def test_patterns_that_are_refused(pattern: str) -> None:
    assert problem(pattern) is not None
    assert key_problem(pattern) is not None


@pytest.mark.parametrize("pattern", ["/releases/**", "a/../b", "./a", ".."])
def test_patterns_that_could_never_match_a_key_are_refused(pattern: str) -> None:
    assert problem(pattern) is None
    assert key_problem(pattern) is not None


@pytest.mark.parametrize("pattern", ["releases/**", "**", "*", "a/*/b", "a..b", ".hidden", "", "a" * 1024])
def test_patterns_that_are_fine(pattern: str) -> None:
    assert key_problem(pattern) is None


def test_equal_patterns_are_equal_globs_wherever_they_travel() -> None:
    assert Glob("a/*") == glob("a/*") == pickle.loads(pickle.dumps(Glob("a/*")))
    assert Glob("a/*") != Glob("a/**")
    assert len({Glob("a"), Glob("a"), Glob("b")}) == 2
    assert repr(Glob("a/*")) == "Glob('a/*')"
