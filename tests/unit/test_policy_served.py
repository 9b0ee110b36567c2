"""What is served changes whole: routes, names and owners together, and nothing of a workspace stays behind."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.routes import Routes
from sidecar.policy.served import Served


def workspace(name: str, path: str) -> Workspace:
    segments = tuple(path[1:].split("/"))
    return Workspace(name, f"{name}.yaml", "0" * 64, routes=(Route(name, path, segments, "plain", "store", path),))


MOVES = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from(["/x", "/y", "/z/1", "/z/2"])), max_size=20
)


@given(MOVES)
def test_it_is_what_the_last_moves_left(moves: list[tuple[str, str | None]]) -> None:
    served, there = Served(), dict[str, Workspace]()
    for name, path in moves:
        served.put(name, None)
        there.pop(name, None)
        if path is not None and not served.contradictions(name, made := workspace(name, path)):
            served.put(name, made)
            there[name] = made
        assert served.by_file == served.workspaces == there
        assert served.owners == {name: name for name in there}
        assert served.routes == Routes().adding([route for made in there.values() for route in made.routes])


def test_who_would_take_a_path_or_a_name_is_told_whose_it_is() -> None:
    served = Served()
    served.put("one", workspace("web", "/web"))
    [problem] = served.contradictions("two", workspace("web", "/other"))
    assert str(problem) == "two:1 $.workspace: the workspace 'web' is in one already"
    assert served.in_the_way(workspace("inner", "/web/inner")) == {"one"}
    assert served.without_contradictions(workspace("web", "/other")) is None
    left = served.without_contradictions(workspace("inner", "/web/inner"))
    assert left is not None
    assert (left.routes, left.broken) == ((), True)
