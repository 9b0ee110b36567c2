"""What a bad file still tells of itself (rule 23): what couldn't be read is said, never dropped."""

import time

import pytest

from sidecar.model import LEVELS
from sidecar.policy.salvage import MAX_ROUTES_TEXT, salvage

HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: store}]\n"
BLOCK = """workspace: web
shares: [inner]
routes:
  - path: /web
    client: plain
    upstream: store
  - {path: /more, client: plain, upstream: store, upstream_path: /elsewhere}
anonymous: read
"""
WEB = [("/web", "plain", "/web")]
BOTH = [*WEB, ("/more", "plain", "/elsewhere")]


def rescued(text: str) -> tuple[str | None, list[tuple[str, str, str]], bool]:
    """Name, routes, and whether they are whole."""
    found = salvage(text, "f", profiles=["plain"])
    workspace = found.workspace
    assert workspace is None or workspace.broken
    routes = [(r.path, r.client, r.upstream_path) for r in workspace.routes] if workspace else []
    return workspace.name if workspace else None, routes, found.whole


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "anonymous: nobody",
        HEAD + "rules: [{allow: [read], {",
        HEAD + "\n" * 5 + "rules:\n  - name: x\n allow: y\n",
        HEAD + "rules: [\n" + "# a long way to the error\n" * 100,
        HEAD.replace("plain", "unknown"),
        HEAD.replace("upstream: store", "upstream: store, upstream_path: a//b"),
        HEAD.replace(", client: plain", ""),
        HEAD.replace("\n", "\r\n") + "rules: [",
        HEAD.replace("workspace:", "'workspace' :") + "rules: [",
        "\ufeff" + HEAD + "rules: [",
        "<<<<<<< HEAD\n" + HEAD + "anonymous: read\n=======\nanonymous: none\n>>>>>>> theirs\n",
        "workspace: web\nanonymous: read\nanonymous: read\n" + HEAD.splitlines()[1],
        HEAD + "members: {users: [ad\ufffd]}",
        HEAD + "anonymous: read\n\t: tab",
    ],
)
def test_a_mistake_elsewhere_takes_nothing_from_the_routes(text: str) -> None:
    assert rescued(text) == ("web", WEB, True)


def test_of_routes_in_several_lines_all_are_told() -> None:
    assert rescued(BLOCK + "rules: [") == ("web", BOTH, True)
    assert rescued(BLOCK.replace("anonymous: read\n", "rules: [\n")) == ("web", BOTH, True)
    found = salvage(BLOCK, "f", profiles=["plain"]).workspace
    assert found is not None
    assert found.shares == {"inner"}
    found = salvage(BLOCK.replace("inner]", "inner, " + "x" * MAX_ROUTES_TEXT + "]"), "f", profiles=["plain"]).workspace
    assert found is not None
    assert found.shares == set(), "what is too long is not read"


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        (HEAD.replace("/web,", "/web/,"), []),
        (HEAD.replace("/web,", "web,"), []),
        (HEAD.replace("/web,", "/w\ufffd,"), []),
        (HEAD.replace("/web,", "&x /web,"), WEB),
        (HEAD.replace("path: /web,", ""), []),
        (HEAD.replace("path: /web,", "path: /web, path: /private,"), WEB),
        (HEAD.replace("[{", "[{path: a%20b, client: plain, upstream: store}, {"), WEB),
        (HEAD.replace("}]", "}, {path: /web, client: plain, upstream: store}]"), WEB),
        (HEAD.replace("}]", "}, /more]"), WEB),
        (HEAD + HEAD, WEB),
        (HEAD + "workspace: other", WEB),
        (HEAD + HEAD.splitlines()[1].replace("/web", "/more"), WEB),
        (HEAD + "@", WEB),
        (HEAD + "\t", WEB),
        (HEAD.replace("}]", "}"), []),
        (BLOCK.replace("  - {path: /more", "<<<<<<< HEAD\n  - {path: /more"), WEB),
        (BLOCK.replace("upstream_path: /elsewhere}", "upstream_path: /elsewhere"), WEB),
        ("workspace: web\n", []),
        ("workspace: web\nroutes: []\n", []),
        ("workspace: web\nroutes:\n", []),
        ("workspace: web\nroutes: {path: /web}\n", []),
        ("workspace: web\n@", []),
        (HEAD + "#" * MAX_ROUTES_TEXT, []),
    ],
)
def test_what_cannot_be_read_of_the_routes_is_said(text: str, routes: list[tuple[str, str, str]]) -> None:
    assert rescued(text) == ("web", routes, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "{workspace: web}",
        "routes: [{path: /web, client: plain, upstream: store}]",
        "\t" + HEAD,
        "workspace: [web]\n" + HEAD.splitlines()[1],
        "workspace: w/b\n" + HEAD.splitlines()[1],
        "workspace:\n  web\n" + HEAD.splitlines()[1],
        "rules: '\n  " + HEAD.replace("\n", "\n  "),
    ],
)
def test_without_a_name_nothing_is_told(text: str) -> None:
    assert rescued(text) == (None, [], False)


def test_so_many_problems_that_not_all_are_noted_leave_the_routes_unsure() -> None:
    item = "{path: /p%d, client: plain, upstream: store, x: {}, x: {}}"
    text = "workspace: web\nroutes: [" + ", ".join(item % number for number in range(110)) + "]\n"
    assert len(text) < MAX_ROUTES_TEXT
    name, routes, whole = rescued(text)
    assert (name, len(routes), whole) == ("web", 110, False)


def test_what_is_kept_of_a_bad_file_grants_nothing() -> None:
    found = salvage(HEAD + "anonymous: read\nrules: [{allow: [read], users: [ada]}, {}]", "f", profiles=["plain"])
    assert found.workspace is not None
    assert (found.workspace.anonymous, found.workspace.rules, found.workspace.broken) == (LEVELS["none"], (), True)


@pytest.mark.parametrize(
    "unit", ["@\n", "- \n", "{},", "[],", "a:\n- ", "rules:\n", "routes:\n- \n", "{},\n", "[a,\n", "shares:\n- a\n"]
)
def test_the_work_is_bounded_whatever_the_file_says(unit: str) -> None:
    size = 128 * 1024
    for routes in ("routes: [", "routes:\n", "routes: [" + unit * ((MAX_ROUTES_TEXT - 20) // len(unit)) + "\nx:\n"):
        text = f"workspace: web\n{routes}{unit * (size // len(unit))}"
        took = []
        for _ in range(3):
            began = time.process_time()
            salvage(text, "f", profiles=["plain"])
            took.append(time.process_time() - began)
        assert min(took) < 0.05, f"{min(took) * 1000:.0f} ms"


LIST = (
    "workspace: web\nroutes:\n  - {path: /a, client: plain, upstream: s}\n  - {path: /b, client: plain, upstream: s}\n"
)


@pytest.mark.parametrize("broken", ["  @\n", "  - {path: /c, client\nrules: []\n"])
def test_of_a_list_that_breaks_off_what_stands_above_is_told(broken: str) -> None:
    found = salvage(LIST + broken, "f", profiles=["plain"])
    assert found.workspace is not None
    assert ([route.path for route in found.workspace.routes], found.whole) == (["/a", "/b"], False)


def test_no_routes_are_not_all_of_them() -> None:
    found = salvage("workspace: web\nroutes: []\n", "f", profiles=["plain"])
    assert (found.workspace is not None, found.whole) == (True, False)


def test_text_that_no_encoder_can_write_is_no_reason_to_fail() -> None:
    found = salvage(LIST + "# \ud800", "f", profiles=["plain"])
    assert found.workspace is not None
    assert found.workspace.name == "web"
