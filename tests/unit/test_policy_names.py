"""Names and paths as policy files may write them: what is refused, and what its author is told."""

from collections.abc import Callable

import pytest

from sidecar.document import Value, parse
from sidecar.policy.names import known_name, method_name, plain_path, workspace_name


def said(read: object, text: str) -> tuple[object, list[str]]:
    document = parse(f"'{text}'", "f")
    value = read(document.root)  # type: ignore[operator]
    return value, [problem.message for problem in document.problems]


@pytest.mark.parametrize("path", ["/", "/web", "/a/b.c/d_e~f-g", "/@scope/a+b=c,d:e", "/..a/b.."])
def test_paths_that_every_client_writes_in_one_way(path: str) -> None:
    assert said(plain_path, path) == (path, [])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("web", "starts with a slash; write '/web'"),
        ("/web/", "no trailing slash; write '/web'"),
        ("//", "no trailing slash; write '/'"),
        ("/a//b", "none is empty"),
        ("/a b", "letters, digits"),
        ("/a%41", "letters, digits"),
        ("/a;b", "letters, digits"),
        ("/a?b", "letters, digits"),
        ("/a*", "letters, digits"),
        ("/\u00e4", "letters, digits"),
        ("/a/./b", "no segment '.' or '..'"),
        ("/..", "no segment '.' or '..'"),
    ],
)
def test_paths_that_are_refused(path: str, message: str) -> None:
    value, problems = said(plain_path, path)
    assert value == ""
    assert [message in problem for problem in problems] == [True]


@pytest.mark.parametrize(("name", "good"), [("web", True), ("W.e_b-1", True), ("1", True), ("a" * 64, True)] + [(n, False) for n in ("-a", ".a", "a/b", "a b", "a" * 65, "\u00e4")])  # fmt: skip
def test_workspace_names(name: str, good: bool) -> None:
    assert said(workspace_name, name) == (name, []) if good else said(workspace_name, name)[1] != []


@pytest.mark.parametrize(("method", "good"), [("GET", True), ("VERSION-CONTROL", True), ("get", False), ("G ET", False), ("", False)])  # fmt: skip
def test_method_names(method: str, good: bool) -> None:
    assert (said(lambda value: method_name(value, method), "x")[1] == []) is good


@pytest.mark.parametrize("read", [plain_path, workspace_name, lambda value: known_name(value, ["store"], "upstream")])
def test_what_is_no_text_is_one_problem_and_no_name(read: Callable[[Value], str]) -> None:
    document = parse("[a]", "f")
    assert read(document.root) == ""
    assert [problem.message[:17] for problem in document.problems] == ["expected a string"]


def test_names_that_the_configuration_must_know() -> None:
    def asked(known: list[str] | None) -> list[str]:
        return said(lambda value: known_name(value, known, "upstream"), "stroe")[1]

    assert asked(None) == []
    assert asked(["store", "other"]) == ["unknown upstream 'stroe'; did you mean 'store'?"]
    assert asked(["a", "b"]) == ["unknown upstream 'stroe'; allowed here: a, b"]
    assert asked([]) == ["unknown upstream 'stroe'; none is configured"]
