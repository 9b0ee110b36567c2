"""Law 1: what can be read in two ways is refused; what is accepted travels with its bytes unchanged."""

import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.reasons import Reason
from tests.corpus.paths import PATHS, REFUSED, Verdict

# Text that is mostly made of what confuses parsers, so that random targets get past the first check.
SPELLINGS = (
    "/ // . .. %2e %2E %2f %5C %25 %3f %23 %3b ; % %c3%a9 %ff %00 %20 %41 \\ # ? a b web A + & = * : ~ - \x7f é \n"
)
PIECES = st.sampled_from([*re.split(" ", SPELLINGS), " "])
TARGETS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces)))
KEYS = st.binary(max_size=12).map(lambda key: "/" + quote(key, safe="/"))


def verdict(raw: str) -> Verdict:
    try:
        return target.parse(raw).oddities
    except Refused as refused:
        return REFUSED if refused.reason is Reason.BAD_TARGET else pytest.fail(str(refused))


def test_the_corpus() -> None:
    """Thousands of spellings, so one test with all that went wrong instead of one test each."""
    got = {name: (raw, verdict(raw)) for name, raw, _ in PATHS}
    assert {name: got[name] for name, _, expected in PATHS if got[name][1] != expected} == {}


def test_the_corpus_is_large_and_has_all_three_verdicts() -> None:
    verdicts = [case[2] for case in PATHS]
    assert len({case[1] for case in PATHS}) >= 200
    assert min(verdicts.count(REFUSED), verdicts.count(Oddity.NONE)) >= 50
    assert all(any(found is not None and oddity in found for found in verdicts) for oddity in Oddity)


def test_a_refusal_never_repeats_what_was_sent() -> None:
    """The path may carry a token that its client put in the wrong place."""
    with pytest.raises(Refused) as refused:
        target.parse("/web/asc_pat_secret/../x")
    assert "asc_pat" not in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "path", "query", "segments"),
    [
        ("/", "/", "", ("",)),
        ("/web", "/web", "", ("web",)),
        ("/web/", "/web/", "", ("web", "")),
        ("/web/a%20b?x=%20", "/web/a%20b", "x=%20", ("web", "a b")),
        ("/web/a?b?c", "/web/a", "b?c", ("web", "a")),
        ("/web/a+b", "/web/a+b", "", ("web", "a+b")),
        ("/web/%252e", "/web/%252e", "", ("web", "%2e")),
        ("/web/.config/x", "/web/.config/x", "", ("web", ".config", "x")),
        ("/web/%c3%a9%2Fx", "/web/%c3%a9%2Fx", "", ("web", "é/x")),
    ],
)
def test_what_a_target_holds(raw: str, path: str, query: str, segments: tuple[str, ...]) -> None:
    parsed = target.parse(raw)
    assert (parsed.raw_path, parsed.raw_query, parsed.segments) == (path, query, segments)
    assert "/" + "/".join(parsed.raw_segments) == path


@pytest.mark.parametrize(
    ("raw", "prefix", "key", "suffix"),
    [
        ("/web/a/b", 1, "a/b", "/a/b"),
        ("/web/a/", 1, "a/", "/a/"),
        ("/web/", 1, "", "/"),
        ("/web", 1, "", ""),
        ("/web/team/a%20b", 2, "a b", "/a%20b"),
        ("/", 0, "", "/"),
        ("/a%20b/c", 0, "a b/c", "/a%20b/c"),
    ],
)
def test_key_and_suffix(raw: str, prefix: int, key: str, suffix: str) -> None:
    """The key is decoded for the policy; the suffix keeps its bytes for the store."""
    parsed = target.parse(raw)
    assert target.key(parsed, prefix) == key
    assert target.suffix(parsed, prefix) == suffix


@given(TARGETS)
@example("/a%2f..%2fb")
@example("/%2e%2e;x")
def test_an_accepted_target_has_no_dot_segment_however_it_is_decoded(raw: str) -> None:
    if verdict(raw) is REFUSED:
        return
    parsed = target.parse(raw)
    decoded = unquote_to_bytes(parsed.raw_path).decode()
    pieces = decoded.replace("\\", "/").split("/")
    assert not {piece.split(";")[0].strip(" ") for piece in pieces} & {".", ".."}
    assert all(character >= " " and character != "\x7f" for character in decoded)


@given(TARGETS, st.integers(0, 4))
def test_prefix_and_suffix_are_the_path_again(raw: str, prefix: int) -> None:
    if verdict(raw) is REFUSED:
        return
    parsed = target.parse(raw)
    prefix = min(prefix, len(parsed.raw_segments))
    head = "".join(f"/{segment}" for segment in parsed.raw_segments[:prefix])
    assert head + target.suffix(parsed, prefix) == parsed.raw_path
    assert unquote_to_bytes(target.suffix(parsed, prefix)).decode().removeprefix("/") == target.key(parsed, prefix)
    assert parsed.raw_path + ("?" + parsed.raw_query if parsed.raw_query else "") == raw.removesuffix(
        "?" if not parsed.raw_query else ""
    )


@given(st.one_of(TARGETS, KEYS), st.one_of(TARGETS, KEYS))
@example("/a%41", "/aA")
@example("/caf%e9", "/caf%c3%a9")
def test_two_targets_are_one_key_exactly_if_they_are_the_same_bytes_to_a_store(one: str, other: str) -> None:
    if verdict(one) is REFUSED or verdict(other) is REFUSED:
        return
    first, second = target.parse(one), target.parse(other)
    same_bytes = unquote_to_bytes(first.raw_path) == unquote_to_bytes(second.raw_path)
    assert (target.key(first, 0) == target.key(second, 0)) == same_bytes


@given(KEYS)
def test_every_oddity_that_the_bytes_hold_is_recorded(raw: str) -> None:
    if verdict(raw) is REFUSED:
        return
    parsed = target.parse(raw)
    lower = raw.lower()
    expected = {
        Oddity.ENCODED_SLASH: "%2f" in lower,
        Oddity.ENCODED_BACKSLASH: "\\" in "".join(parsed.segments),
        Oddity.ENCODED_PERCENT: "%" in "".join(parsed.segments),
        Oddity.ENCODED_QUESTION: "?" in "".join(parsed.segments),
        Oddity.ENCODED_HASH: "#" in "".join(parsed.segments),
        Oddity.SEMICOLON: ";" in "".join(parsed.segments),
        Oddity.NON_ASCII: not "".join(parsed.segments).isascii(),
        Oddity.EMPTY_SEGMENT: "//" in "/" + "/".join(parsed.segments),
    }
    assert {oddity: oddity in parsed.oddities for oddity in expected} == expected


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a%2fb", "an encoded slash (%2F)"),
        ("/a%5cb", "an encoded backslash (%5C)"),
        ("/a%25b", "an encoded percent sign (%25)"),
        ("/a%3fb", "an encoded question mark (%3F)"),
        ("/a%23b", "an encoded number sign (%23)"),
        ("/a//b", "an empty segment (//)"),
        ("/a%C3%A9b", "a character beyond ASCII, even percent-encoded"),
        ("/a;b", "a semicolon, plain or encoded"),
        ("/a%3Bb//c", "an empty segment (//), a semicolon, plain or encoded"),
        ("/a/b", ""),
    ],
)
def test_what_is_odd_is_told_in_words(path: str, words: str) -> None:
    assert target.in_words(target.parse(path).oddities) == words
