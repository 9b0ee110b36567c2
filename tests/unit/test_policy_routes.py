"""Rule 1: which route a path belongs to, and who may not stand beside whom."""

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.routes import Routes, conflicts


def route(workspace: str, path: str, upstream: str = "store", keys: str | None = None) -> Route:
    segments = () if path == "/" else tuple(path[1:].split("/"))
    keys = path if keys is None else keys
    return Route(workspace, path, segments, "plain", upstream, "" if keys == "/" else keys)


def space(name: str, *routes: Route, shares: set[str] | None = None) -> Workspace:
    return Workspace(name, f"{name}.yaml", "", routes, shares=frozenset(shares or ()))


def segments(path: str) -> tuple[str, ...]:
    return tuple(path[1:].split("/"))


TREE = Routes().adding([route("web", "/web"), route("sub", "/web/a/b"), route("other", "/webx")])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/web", "/web"),
        ("/web/", "/web"),
        ("/web/a", "/web"),
        ("/web/a/bc", "/web"),
        ("/web/a/b", "/web/a/b"),
        ("/web/a/b/", "/web/a/b"),
        ("/web/a/b/c", "/web/a/b"),
        ("/webx/y", "/webx"),
        ("/webxy", None),
        ("/we", None),
        ("/", None),
        ("//web", None),
        ("/Web", None),
    ],
)
def test_the_longest_route_at_or_above_a_path(path: str, found: str | None) -> None:
    match = TREE.match(segments(path))
    assert (match and match.path) == found


def test_a_route_at_the_root_takes_the_rest() -> None:
    tree = TREE.adding([route("all", "/")])
    assert [tree.match(segments(path)).workspace for path in ("/", "/x", "/web", "/web/q")] == [  # type: ignore[union-attr]
        "all",
        "all",
        "web",
        "web",
    ]


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PATHS, unique=True, max_size=6), PATHS)
def test_matching_agrees_with_a_naive_search(paths: list[str], asked: str) -> None:
    tree = Routes().adding([route("w", path) for path in paths])
    naive = max((p for p in paths if asked == p or asked.startswith(p + "/")), key=len, default=None)
    found = tree.match(segments(asked))
    assert (found and found.path) == naive


@given(st.lists(PATHS, unique=True, max_size=6), st.data())
def test_removing_undoes_adding_and_touches_nobody_elses_index(paths: list[str], data: st.DataObject) -> None:
    routes = [route("w", path) for path in paths]
    full = Routes().adding(routes)
    gone = data.draw(st.lists(st.sampled_from(routes), unique_by=lambda r: r.path) if routes else st.just([]))
    rest = full.removing(gone)
    assert rest == Routes().adding([r for r in routes if r not in gone])
    assert full == Routes().adding(routes)


CONFLICTS = [
    # new, there, part of the message (None: no conflict)
    pytest.param(space("b", route("b", "/b")), space("a", route("a", "/a")), None, id="apart"),
    pytest.param(space("b", route("b", "/ab")), space("a", route("a", "/a")), None, id="longer word"),
    pytest.param(space("b", route("b", "/x", keys="/1")), space("a", route("a", "/x", keys="/2")), "also that of", id="same route"),
    pytest.param(
        space("b", route("b", "/x", keys="/1"), shares={"a"}),
        space("a", route("a", "/x", keys="/2"), shares={"b"}),
        "also that of",
        id="same route can't be shared",
    ),
    pytest.param(space("b", route("b", "/x/y", keys="/1")), space("a", route("a", "/x", keys="/2")), "file of 'a' needs 'shares: [b]'", id="route below"),
    pytest.param(space("b", route("b", "/x", keys="/1")), space("a", route("a", "/x/y", keys="/2")), "file of 'b' needs 'shares: [a]'", id="route above"),
    pytest.param(space("b", route("b", "/", keys="/1")), space("a", route("a", "/x", keys="/2")), "file of 'b' needs 'shares: [a]'", id="route at the root"),
    pytest.param(space("b", route("b", "/x/y", keys="/1")), space("a", route("a", "/x", keys="/2"), shares={"b"}), None, id="outer shares"),
    pytest.param(space("b", route("b", "/x/y", keys="/1"), shares={"a"}), space("a", route("a", "/x", keys="/2")), "needs 'shares: [b]'", id="inner helps itself"),
    pytest.param(space("b", route("b", "/b", keys="/k")), space("a", route("a", "/a", keys="/k")), "/k and /k of workspace 'a' (a.yaml) are the same keys; both files need", id="same keys"),
    pytest.param(space("b", route("b", "/b", keys="/k"), shares={"a"}), space("a", route("a", "/a", keys="/k")), "both files need", id="same keys, one-sided"),
    pytest.param(space("b", route("b", "/b", keys="/k"), shares={"a"}), space("a", route("a", "/a", keys="/k"), shares={"b"}), None, id="same keys, agreed"),
    pytest.param(space("b", route("b", "/b", keys="/k/l")), space("a", route("a", "/a", keys="/k")), "/k/l and /k of workspace 'a' (a.yaml) are nested keys; the file of 'a' needs", id="keys below"),
    pytest.param(space("b", route("b", "/b", keys="/")), space("a", route("a", "/a", keys="/k")), "/ and /k of workspace 'a' (a.yaml) are nested keys; the file of 'b' needs", id="keys above"),
    pytest.param(space("b", route("b", "/b", keys="/kl")), space("a", route("a", "/a", keys="/k")), None, id="keys of a longer word"),
    pytest.param(space("b", route("b", "/b", "other", "/k")), space("a", route("a", "/a", keys="/k")), None, id="another upstream"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "there", "message"), CONFLICTS)
def test_who_may_stand_beside_whom(new: Workspace, there: Workspace, message: str | None) -> None:
    found = conflicts(new, Routes().adding(there.routes), {there.name: there})
    assert [message in conflict.message for conflict in found] == ([] if message is None else [True])
    assert {conflict.other for conflict in found} <= {there.name}


def test_who_shares_the_very_same_keys_is_each_still_there() -> None:
    one, two = space("one", route("one", "/1", keys="/k")), space("two", route("two", "/2", keys="/k"))
    both = Routes().adding(one.routes).adding(two.routes)
    third = space("third", route("third", "/3", keys="/k/below"))
    known = {one.name: one, two.name: two}
    assert {conflict.other for conflict in conflicts(third, both, known)} == {"one", "two"}
    assert {conflict.other for conflict in conflicts(third, both.removing(two.routes), known)} == {"one"}


def test_a_workspaces_own_routes_may_nest() -> None:
    own = space("a", route("a", "/a"), route("a", "/a/b"))
    assert conflicts(own, Routes().adding(own.routes), {"a": own}) == []


def test_thousands_of_workspaces_cost_a_request_nothing() -> None:
    few = Routes().adding([route(f"w{i}", f"/w{i}/x") for i in range(10)])
    many = Routes().adding([route(f"w{i}", f"/w{i}/x") for i in range(3000)])
    asked = ("w1", "x", *"abcdefgh")

    def cost(tree: Routes) -> float:
        return min(timeit.repeat(lambda: tree.match(asked), number=2000, repeat=7))

    assert cost(many) < 3 * cost(few)
