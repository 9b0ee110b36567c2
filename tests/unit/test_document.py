"""Each getter says what it expects, none raises, and everything that is wrong is told in one go."""

import datetime
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar import document as document_module
from sidecar.document import Block, Document, Value, parse, suggestion
from sidecar.errors import DocumentError
from sidecar.yaml_tree import MAX_PROBLEMS

PERMISSIONS = ("read", "write", "overwrite", "delete", "admin")


def problems_of(document: Document) -> list[str]:
    try:
        document.finish()
    except DocumentError as error:
        return [str(problem) for problem in error.problems]
    return []


def read_one(text: str, read: Callable[[Value], object]) -> tuple[object, list[str]]:
    document = parse(f"k: {text}\n", "f.yaml")
    value = read(document.root.block().need("k"))
    return value, problems_of(document)


def level(value: Value) -> str:
    return value.choice(("none", "read", "read-write"), "level")


def permissions(value: Value) -> tuple[str, ...]:
    return value.choices(PERMISSIONS, "permission")


GOOD: list[tuple[Callable[[Value], object], str, object]] = [
    *[
        (Value.text, text, text)
        for text in ["off", "no", "yes", "on", "12:30", "2026-01-01", "123", "1e3", "0x10", "true", "1_000", "a@b.c"]
    ],
    (Value.text, "'~'", "~"),
    (Value.text, "a b", "a b"),
    (Value.text, '"caf\\u00e9"', "café"),
    (Value.boolean, "true", True),
    (Value.boolean, "false", False),
    (Value.number, "0", 0),
    (Value.number, "4096", 4096),
    (Value.duration, "500ms", 0.5),
    (Value.duration, "30s", 30.0),
    (Value.duration, "5m", 300.0),
    (Value.duration, "12h", 43200.0),
    (Value.duration, "90d", 7776000.0),
    (Value.duration, '"1s"', 1.0),
    (Value.duration, "36500d", 3153600000.0),
    (Value.size, "512B", 512),
    (Value.size, "64KiB", 65536),
    (Value.size, "3MiB", 3145728),
    (Value.size, "5GiB", 5368709120),
    (Value.size, "2TiB", 2199023255552),
    (Value.date, "2026-12-31", datetime.date(2026, 12, 31)),
    (level, "read-write", "read-write"),
    (permissions, "[read, delete]", ("read", "delete")),
    (permissions, "[]", ()),
    (Value.texts, "[a, off, 1]", ("a", "off", "1")),
    (Value.claim, "'true'", "true"),
    (Value.claim, "true", True),
    (Value.claim, "false", False),
    (Value.claim, "123", 123),
    (Value.claim, "-1", -1),
    (Value.claim, "'123'", "123"),
    (Value.claim, "push", "push"),
    (Value.claim, "refs/heads/main", "refs/heads/main"),
    (Value.claim, "''", ""),
]


@pytest.mark.parametrize(("read", "text", "expected"), GOOD)
def test_a_value_is_what_it_looks_like(read: Callable[[Value], object], text: str, expected: object) -> None:
    value, problems = read_one(text, read)
    assert problems == []
    assert value == expected
    assert type(value) is type(expected)


DURATION = "expected a duration such as 500ms, 30s, 5m, 12h or 90d, not"
SIZE = "expected a size such as 512B, 64KiB, 10MiB or 5GiB, not"
BOOLEAN = "expected true or false (without quotes), not"
QUOTE = "may be read as something else than a string; quote it"

BAD: list[tuple[Callable[[Value], object], str, str]] = [
    *[
        (Value.text, text, "nothing is written here; expected a string, or leave the key out")
        for text in ("", "~", "null", "Null", "NULL", "''")
    ],
    (Value.claim, '"a\\nb"', "only printable characters on one line are allowed here"),
    (Value.claim, '"\\u202e"', "only printable characters on one line are allowed here"),
    (Value.text, "[a]", "expected a string, not a list"),
    (Value.text, "{a: b}", "expected a string, not a mapping"),
    (Value.text, '"a\\nb"', "only printable characters on one line are allowed here"),
    (Value.text, '"a\\0"', "only printable characters on one line are allowed here"),
    (Value.text, "a\u202eb", "only printable characters on one line are allowed here"),
    *[(Value.boolean, text, f"{BOOLEAN} '{text}'") for text in ["yes", "no", "on", "off", "True", "FALSE", "1", "0"]],
    (Value.boolean, "'true'", f"{BOOLEAN} 'true'"),
    (Value.boolean, "", "nothing is written here; expected true or false, or leave the key out"),
    *[
        (lambda value: value.number(1, 64), text, f"expected a number from 1 to 64, not '{text}'")
        for text in ["0", "65", "-1", "08", "0x10", "1_0", "1e1", "1.0", "one", "99999999999999999999"]
    ],
    (Value.number, "'5'", "expected a number from 0 to 1000000000, not '5'"),
    *[
        (Value.duration, text, f"{DURATION} '{text}'")
        for text in ["30", "5min", "1.5h", "-1s", "1w", "1S", "1_0s", "12:30", "1h30m"]
    ],
    (lambda value: value.duration(1, 60), "61s", "61s is out of range; at most 1m"),
    (lambda value: value.duration(1, 60), "999ms", "999ms is out of range; at least 1s"),
    (Value.duration, "36501d", "36501d is out of range; at most 36500d"),
    (lambda value: value.duration(0.5), "0s", "0s is out of range; at least 500ms"),
    (lambda value: value.size(0, 0), "1B", "1B is out of range; at most 0B"),
    *[(Value.size, text, f"{SIZE} '{text}'") for text in ["64", "64KB", "64K", "64kib", "1.5GiB", "-1B"]],
    (lambda value: value.size(1024, 2**20), "2MiB", "2MiB is out of range; at most 1MiB"),
    *[
        (Value.date, text, f"expected a date such as 2026-12-31, not '{text}'")
        for text in ["2026-13-01", "2026-1-1", "20261231", "soon"]
    ],
    (level, "Read", "unknown level 'Read'; did you mean 'read'?"),
    (level, "readwrite", "unknown level 'readwrite'; did you mean 'read-write'?"),
    (level, "off", "unknown level 'off'; allowed here: none, read, read-write"),
    (permissions, "[read, wirte]", "unknown permission 'wirte'; did you mean 'write'?"),
    (permissions, "[~]", "nothing is written here; expected a string, or leave the key out"),
    (permissions, "[read, read]", "the permission 'read' is here twice"),
    (permissions, "read", "expected a list, as [a, b], not 'read'"),
    (Value.texts, "[a, b, a]", "'a' is here twice"),
    (Value.items, "{a: b}", "expected a list, as [a, b], not a mapping"),
    (Value.items, "", "nothing is written here; expected a list, as [a, b], or leave the key out"),
    (Value.block, "[a]", "expected a mapping, as key: value, not a list"),
    (Value.block, "x", "expected a mapping, as key: value, not 'x'"),
    *[
        (Value.claim, text, f"'{text}' {QUOTE}")
        for text in [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "N",
            "True",
            "FALSE",
            "010",
            "08",
            "0x1F",
            "0o17",
            "1_000",
            "12:30",
            "1:2:3",
            "2026-01-01",
            "1.5",
            "1e3",
            ".inf",
            ".nan",
            "-0",
            "+1",
            "=",
        ]
    ],
    (Value.claim, "~", "nothing is written here; expected a string, a number, true or false, or leave the key out"),
    (Value.claim, "null", "nothing is written here; expected a string, a number, true or false, or leave the key out"),
]


@pytest.mark.parametrize(("read", "text", "message"), BAD)
def test_a_wrong_value_is_one_problem_that_says_what_is_allowed(
    read: Callable[[Value], object], text: str, message: str
) -> None:
    _, problems = read_one(text, read)
    assert len(problems) == 1, problems
    place, _, said = problems[0].partition(": ")
    assert place.startswith("f.yaml:1 $.k")
    assert said == message


def test_a_long_foreign_value_is_cut_in_messages() -> None:
    _, problems = read_one("x" * 500, Value.number)
    assert len(problems[0]) < 150


def read_rules(root: Value) -> None:
    block = root.block()
    block.need("workspace").text()
    for rule in block.get("rules", Value.items, []):
        fields = rule.block()
        fields.get("name", Value.text, "")
        fields.get("allow", permissions, ())


def test_the_message_of_a_misspelt_permission() -> None:
    text = "workspace: web\nrules:\n  - name: a\n    allow: [read]\n  - name: b\n    allow: [read, wirte]\n"
    document = parse(text, "policies/web.yaml")
    read_rules(document.root)
    assert problems_of(document) == [
        "policies/web.yaml:6 $.rules[1].allow: unknown permission 'wirte'; did you mean 'write'?"
    ]


def test_all_problems_come_at_once_and_in_the_file_s_order() -> None:
    document = parse("rules:\n  - nam: a\n    allow: read\n  - 3\nworkpace: web\nrules: []\nextra: 1\n", "p.yaml")
    read_rules(document.root)
    assert problems_of(document) == [
        "p.yaml:1 $: the key 'workspace' is missing",
        "p.yaml:2 $.rules[0].nam: unknown key 'nam'; did you mean 'name'?",
        "p.yaml:3 $.rules[0].allow: expected a list, as [a, b], not 'read'",
        "p.yaml:4 $.rules[1]: expected a mapping, as key: value, not '3'",
        "p.yaml:5 $.workpace: unknown key 'workpace'; did you mean 'workspace'?",
        "p.yaml:6 $.rules: the key 'rules' is here twice; the first is in line 1",
        "p.yaml:7 $.extra: unknown key 'extra'; allowed here: workspace, rules",
    ]


@pytest.mark.parametrize("text", ["a: [", "a: &x 1\nb: *x\n", "- " * 40 + "x"])
def test_a_place_that_is_known_to_be_bad_adds_no_second_problem(text: str) -> None:
    document = parse(text, "f.yaml")
    already = len(document.problems)
    value = document.root.block().need("b")
    stand_ins = (value.text(), value.number(3), value.boolean(), value.items(), value.block().need("c").claim())
    assert stand_ins == ("", 3, False, [], "")
    assert value.is_known_bad
    assert already == len(document.problems) > 0


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_file_is_said_to_be_empty(text: str) -> None:
    document = parse(text, "f.yaml")
    read_rules(document.root)
    assert problems_of(document) == ["f.yaml:1 $: the file is empty"]


def test_a_hostile_number_of_unknown_keys_costs_and_says_no_more_than_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(document_module, "suggestion", lambda word, allowed: compared.append(word) or "")
    document = parse("".join(f"key{n}: 1\n" for n in range(50_000)), "f.yaml")
    document.root.block().find("workspace")
    assert len(problems_of(document)) == len(compared) == MAX_PROBLEMS


def test_names_are_entries_and_a_refused_key_says_why_and_is_never_offered() -> None:
    document = parse("first: 1\nsecond: 2\npassword: x\npasswort: y\n", "f.yaml")
    block = document.root.block()
    block.refuse("password", "use password_file")
    assert block.need("first").number() == 1
    assert [name for name, _ in block.entries()] == ["second", "passwort"]
    assert problems_of(document) == ["f.yaml:3 $.password: use password_file"]


def test_a_refused_key_is_not_suggested() -> None:
    document = parse("passwort: y\n", "f.yaml")
    block = document.root.block()
    block.refuse("password", "use password_file")
    block.find("user")
    assert problems_of(document) == ["f.yaml:1 $.passwort: unknown key 'passwort'; allowed here: user"]


def test_absent_keys_are_their_defaults() -> None:
    document = parse("a: 1\n", "f.yaml")
    block = document.root.block()
    assert (block.get("a", Value.number, 7), block.get("b", Value.number, 7), block.find("c")) == (1, 7, None)
    assert problems_of(document) == []


def test_a_value_knows_its_shape() -> None:
    block: Block = parse("a: x\nb: [x]\nc: {x: y}\n", "f.yaml").root.block()
    shapes = [(value.is_text, value.is_list, value.is_mapping) for value in map(block.need, "abc")]
    assert shapes == [(True, False, False), (False, True, False), (False, False, True)]


def test_problems_that_a_reader_notes_carry_the_value_s_place() -> None:
    document = parse("a:\n  b: 1\n", "f.yaml")
    inner = document.root.block().need("a").block()
    inner.need("b").problem("contradicts")
    inner.problem("as a whole")
    assert problems_of(document) == ["f.yaml:1 $.a: as a whole", "f.yaml:2 $.a.b: contradicts"]


def test_a_problem_that_is_met_twice_on_the_way_is_told_once() -> None:
    document = parse("a: [b]\n", "f.yaml")
    value = document.root.block().need("a")
    assert (value.text(), value.text()) == ("", "")
    assert problems_of(document) == ["f.yaml:1 $.a: expected a string, not a list"]


def test_a_block_knows_its_line() -> None:
    document = parse("a: 1\nb:\n  c: 1\n", "f.yaml")
    assert document.root.block().need("b").block().line == 2


def test_a_refused_merge_key_is_not_an_unknown_key_too() -> None:
    document = parse("<<: {a: 1}\n<<: {b: 1}\nc: 1\n", "f.yaml")
    assert document.root.block().need("c").number() == 1
    assert problems_of(document) == [
        f"f.yaml:{line} $['<<']: merge keys (<<) are not read; write the entries out" for line in (1, 2)
    ]


def test_a_block_is_sound_until_something_in_it_is_wrong() -> None:
    block = parse("a: {b: x}\nc: {d: 1}\n", "f.yaml").root.block()
    first, second = block.need("a").block(), block.need("c").block()
    assert first.is_sound
    first.need("b").number()
    assert (first.is_sound, second.is_sound, block.is_sound) == (False, True, False)


@pytest.mark.parametrize(
    ("word", "said"),
    [("WRITE", "; did you mean 'write'?"), ("xyz", "; allowed here: read, write"), ("wri", "; did you mean 'write'?")],
)
def test_suggestions(word: str, said: str) -> None:
    assert suggestion(word, ("read", "write")) == said


@given(st.from_regex(r"[-+.0-9a-fxo_:eEyYnNtTfF~=]{1,12}", fullmatch=True))
def test_an_accepted_claim_means_the_same_to_another_yaml_reader(text: str) -> None:
    value, problems = read_one(text, Value.claim)
    if not problems:
        loaded = yaml.safe_load(f"k: {text}\n")["k"]
        assert (value, type(value)) == (loaded, type(loaded))


GETTERS = [
    Value.text,
    Value.boolean,
    Value.number,
    Value.duration,
    Value.size,
    Value.date,
    Value.claim,
    Value.texts,
    Value.block,
    level,
    permissions,
]


@given(st.sampled_from(GETTERS), st.text(max_size=30) | st.text("[]{}&*!|>'\"%:-,? #\n0123ab<~", max_size=20))
def test_no_getter_raises_whatever_is_written(read: Callable[[Value], object], text: str) -> None:
    document = parse(text, "f.yaml")
    read(document.root)
    for item in document.root.items():
        read(item)
    for _, value in document.root.block().entries():
        read(value)
    assert all(problem.file == "f.yaml" and problem.line >= 1 for problem in document.problems)
