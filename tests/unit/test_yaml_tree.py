"""What two readers could take differently is refused, and nothing that a file holds can harm its reader."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.yaml_tree import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    Entries,
    Items,
    Node,
    Problems,
    Scalar,
    child_path,
    is_ambiguous,
    lines_by_path,
    quoted,
    read_tree,
)


def read(content: bytes | str) -> tuple[Node, list[str]]:
    problems = Problems("f.yaml")
    tree = read_tree(content, problems)
    return tree, [str(problem) for problem in problems.in_order()]


def plain_values(node: Node) -> object:
    match node:
        case Scalar():
            return node.text
        case Items():
            return [plain_values(child) for child in node.nodes]
        case Entries():
            return {key: plain_values(child) for key, child in node.nodes.items()}
    return None


REFUSED = {
    "alias": ("a: &x 1\nb: *x\n", ["1 $.a: anchors (&x) are not", "2 $.b: aliases (*x) are not"]),
    "anchor in a list": ("- a\n- &x [b]\n", ["2 $[1]: anchors (&x) are not"]),
    "alias as a key": ("a: &x b\n*x : 1\n", ["1 $.a: anchors", "2 $: aliases (*x)", "2 $: a key must be a string"]),
    "merge key": ("a:\n  <<: {b: 1}\n  c: 2\n", ["2 $.a['<<']: merge keys (<<) are not read"]),
    "string tag": ("a: !!str 1\n", ["1 $.a: tags (!...) are not read"]),
    "python tag": ("a: !!python/object/apply:os.system [x]\n", ["1 $.a: tags (!...) are not read"]),
    "tagged mapping": ("!!map {a: 1}\n", ["1 $: tags (!...) are not read"]),
    "second document": ("a: 1\n---\nb: 2\n", ["2 $: a second document begins here"]),
    "version directive": ("%YAML 1.1\n---\na: 1\n", ["1 $: %YAML and %TAG directives"]),
    "tag directive": ("%TAG ! tag:x,2000:\n---\na: 1\n", ["1 $: %YAML and %TAG directives"]),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", ["3 $.a: the key 'a' is here twice; the first is in line 1"]),
    "duplicate, once quoted": ('a: 1\n"a": [{b: 3}]\n', ["2 $.a: the key 'a' is here twice"]),
    "duplicate, escaped": ('a: 1\n"\\x61": 3\n', ["2 $.a: the key 'a' is here twice"]),
    "deep duplicate": ("- x: {k: 1, k: 2}\n", ["1 $[0].x.k: the key 'k' is here twice"]),
    "number as a key": ("a:\n  12: x\n", ["2 $.a.12: the key '12' may be read as something else"]),
    "boolean as a key": ("on: x\n", ["1 $.on: the key 'on' may be read as something else"]),
    "null as a key": ("~: x\n", ["1 $['~']: the key '~' may be read as something else"]),
    "empty key": ("?\n: x\n", ["1 $['']: the key '' may be read as something else"]),
    "list as a key": ("[a]: x\n", ["1 $: a key must be a string"]),
    "mapping as a key": ("? {a: b}\n: x\n", ["1 $: a key must be a string"]),
    "line break in a key": ('"a\\nb": x\n', [r"1 $['a\nb']: a key must be printable"]),
    "hidden direction mark in a key": ("a\u202eb: x\n", [r"1 $['a\u202eb']: a key must be printable"]),
    "not YAML": ("a: 1\nb: [1, 2\nc: 3\n", ["3 $: not valid YAML: while parsing a flow sequence"]),
    "tab": ("a:\n\tb: 1\n", ["2 $: not valid YAML: a tab indents this line; YAML wants spaces"]),
    "tab after spaces": ("a:\n  b: 1\n \tc: 1\n", ["3 $: not valid YAML: a tab indents this line; YAML wants spaces"]),
    "tab elsewhere": ("a: {\tb: ]\n", ["1 $: not valid YAML: while parsing"]),
    "control character": ("a: 1\nb: \x07\n", ["2 $: not valid YAML: "]),
    "not UTF-8": (b"a: 1\nb: \xff\n", ["2 $: the file is not UTF-8 text"]),
    "UTF-16": ("a: 1\n".encode("utf-16"), ["1 $: the file is not UTF-8 text"]),
    "lone surrogate": ("a: \ud800\n", ["1 $: the file is not UTF-8 text"]),
    "too large": ("a: " + "x" * MAX_BYTES, [f"1 $: the file has {MAX_BYTES + 3} bytes; at most {MAX_BYTES} are read"]),
    "too deep, flow": ("[" * 900, [f"1 ${'[0]' * MAX_DEPTH}: nested more than {MAX_DEPTH} levels deep"]),
    "too deep, block": ("- " * 900 + "x", [f"1 ${'[0]' * MAX_DEPTH}: nested more than {MAX_DEPTH} levels deep"]),
    "too many values": ("[" + "a," * MAX_NODES + "]", [f"1 $[{MAX_NODES - 1}]: more than {MAX_NODES} values"]),
}


@pytest.mark.parametrize(("content", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused_with_line_and_path(content: bytes | str, expected: list[str]) -> None:
    _, problems = read(content)
    assert len(problems) == len(expected), problems
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(f"f.yaml:{start}"), problems


def test_all_problems_of_a_file_are_found_up_to_a_bound() -> None:
    _, problems = read("".join(f"- !!str {n}\n" for n in range(MAX_PROBLEMS * 2)))
    assert len(problems) == MAX_PROBLEMS


def test_a_node_knows_the_line_where_a_person_looks_for_it() -> None:
    tree, problems = read("a:\n  b: 1\nc:\n  - x\n  -\n    d: 2\ne:\n# nothing\nf: |\n  text\ng:\n  below\n")
    assert not problems
    assert isinstance(tree, Entries)
    lines = {key: node.line for key, node in tree.nodes.items() if node is not None}
    assert lines == {"a": 1, "c": 3, "e": 7, "f": 9, "g": 12}
    members = tree.nodes["c"]
    assert isinstance(members, Items)
    assert [node.line for node in members.nodes if node is not None] == [4, 6]


def test_every_place_of_a_tree_has_its_line() -> None:
    tree, found = read("a: 1\nb:\n  - c\n  - {d: 2,\n     'e f': [3]}\n")
    assert found == []
    assert lines_by_path(tree) == {
        "$": 1, "$.a": 1, "$.b": 2, "$.b[0]": 3, "$.b[1]": 4, "$.b[1].d": 4, "$.b[1]['e f']": 5, "$.b[1]['e f'][0]": 5,
    }  # fmt: skip
    assert lines_by_path(None) == {}


def test_foreign_text_is_cut_where_it_is_longer_than_a_message_bears() -> None:
    assert quoted("a" * 60) == repr("a" * 60)
    assert quoted("a" * 61) == repr("a" * 57 + "...")


def test_a_file_of_exactly_the_most_that_is_allowed_is_read() -> None:
    assert read(b"a: 1 #" + b"x" * (MAX_BYTES - 6))[1] == []
    assert read(b"a: 1 #" + b"x" * (MAX_BYTES - 5))[1] == [
        f"f.yaml:1 $: the file has {MAX_BYTES + 1} bytes; at most {MAX_BYTES} are read"
    ]
    assert read("[" * (MAX_DEPTH - 1) + "a" + "]" * (MAX_DEPTH - 1))[1] == []
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH)[1] == []
    assert len(read("[" * MAX_DEPTH + "a" + "]" * MAX_DEPTH)[1]) == 1
    assert read("[" + "a," * (MAX_NODES - 1) + "]")[1] == []
    assert len(read("[" + "a," * MAX_NODES + "]")[1]) == 1


def test_the_bounds_are_those_that_the_handbook_names() -> None:
    assert (MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_PROBLEMS) == (2**20, 32, 200_000, 100)


def test_broken_yaml_is_told_in_the_parser_s_words_and_with_its_line() -> None:
    assert read("a: [1\nb: 2\n")[1] == [
        "f.yaml:2 $: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"
    ]
    assert read("a: 1\n\tb: 2\n")[1] == ["f.yaml:2 $: not valid YAML: a tab indents this line; YAML wants spaces"]
    assert read("a: 1\nb: \x01\n")[1][0].startswith("f.yaml:2 $: not valid YAML: ")
    assert read(b"a: 1\nb: \xff\n")[1] == ["f.yaml:2 $: the file is not UTF-8 text"]


def test_a_byte_order_mark_is_not_part_of_the_first_key() -> None:
    tree, problems = read(b"\xef\xbb\xbfa: 1\n")
    assert not problems
    assert plain_values(tree) == {"a": "1"}


@pytest.mark.parametrize(
    "text",
    [
        "off",
        "No",
        "yes",
        "on",
        "y",
        "N",
        "0x10",
        "010",
        "08",
        "0o17",
        "0b1",
        "1_000",
        "1e3",
        "1.",
        ".5",
        "12:30",
        "2026-01-01",
        ".inf",
        ".NaN",
        "~",
        "null",
        "True",
        "=",
        "<<",
    ],
)
def test_what_any_yaml_reader_would_not_take_for_a_string_is_ambiguous(text: str) -> None:
    assert is_ambiguous(text)


@pytest.mark.parametrize(
    "text",
    [
        "web",
        "web-team",
        "1.2.3",
        "v1",
        "12h",
        "64KiB",
        "a@b.c",
        "/web",
        "nullable",
        "yesterday",
        "127.0.0.1:80",
        "refs/heads/main",
    ],
)
def test_what_every_yaml_reader_takes_for_a_string_is_not_ambiguous(text: str) -> None:
    assert not is_ambiguous(text)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a", "$.a"),
        ("a-b_9", "$.a-b_9"),
        (3, "$[3]"),
        ("a.b", "$['a.b']"),
        ("a b", "$['a b']"),
        ("\x1b[2J", r"$['\x1b[2J']"),
    ],
)
def test_paths_name_any_key_on_one_printable_line(key: str | int, path: str) -> None:
    assert child_path("$", key) == path


KEYS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
TREES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_quoted_text_comes_back_as_it_was_written(tree: object) -> None:
    node, problems = read(yaml.safe_dump(tree, default_style='"'))
    assert problems == []
    assert plain_values(node) == tree


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text("[]{}&*!|>'\"%@`:-,? #\n\tab<~", max_size=40))
def test_any_content_is_a_tree_or_a_problem(content: bytes | str) -> None:
    tree, problems = read(content)
    if tree is None and not problems:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        assert all(line.lstrip("\ufeff \t\r")[:1] in ("", "#") or line.startswith("...") for line in text.splitlines())
