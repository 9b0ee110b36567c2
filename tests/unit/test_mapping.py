"""The two ways of a path: to the store and back are one function and its inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import mapping, target
from sidecar.model import Oddity
from sidecar.policy.compiled import Route

ALL = ~Oddity.NONE
ORIGIN = "http://127.0.0.1:3000"


def route(path: str, upstream_path: str) -> Route:
    segments = () if path == "/" else tuple(path[1:].split("/"))
    return Route("web", path, segments, "webdav", "artifacts", "" if upstream_path == "/" else upstream_path)


PLACES = st.lists(st.sampled_from(["web", "dav", "a-b", "x.y"]), max_size=3).map(lambda names: "/" + "/".join(names))
ROUTES = st.builds(route, PLACES, PLACES)
NAME = st.text("aZ0-._~!$&'()*+,=:@", min_size=1, max_size=5).filter(lambda name: name.strip(".")) | st.sampled_from(
    ["%20", "%C3%A9", "a%26b", "%3Cx%3E", "a%22", "%7e", "%2B"]
)
KEYS = st.lists(NAME, max_size=4).flatmap(
    lambda names: st.sampled_from(["/".join(names), "/".join(names) + "/"] if names else ["", "/"])
)


def below(at: Route, key: str) -> str:
    """A path of the route: its own, or one below it."""
    path = at.path.removesuffix("/")
    return f"{path}/{key.removeprefix('/')}" if key or not path else path


@given(ROUTES, KEYS, st.sampled_from(["", ORIGIN, ORIGIN.upper().replace("HTTP", "http")]))
def test_back_from_the_store_is_where_it_came_from(at: Route, key: str, origin: str) -> None:
    path = below(at, key)
    stored = mapping.to_store(at, target.parse(path))
    back = mapping.to_client(at, origin + stored, origins=[ORIGIN], allowed=ALL)
    # The root of a store has no path without its slash; every other path comes back as it was.
    assert back == (path if stored != "/" or path.endswith("/") else path + "/")


@given(ROUTES, KEYS)
def test_the_keys_bytes_travel_unchanged(at: Route, key: str) -> None:
    path = below(at, key)
    tail = path[len(at.path.removesuffix("/")) :]
    stored = mapping.to_store(at, target.parse(path))
    assert stored == (at.upstream_path + tail or "/")


@given(ROUTES, PLACES)
def test_what_does_not_lie_below_the_stores_prefix_has_no_image(at: Route, path: str) -> None:
    names, prefix = path.split("/")[1:], at.upstream_path.split("/")[1:]
    back = mapping.to_client(at, path, origins=[])
    assert (back is not None) == (names[: len(prefix)] == prefix)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "a",
        "../a",
        "//other/store/a",
        "/storex/a",
        "/store/../secret",
        "/store/%2e%2e/secret",
        "/store/a%2fb",
        "/store/a;b",
        "/store/a#b",
        "/store/\xe9",
        "/store/%ff",
        "http://other/store/a",
        "http://127.0.0.1:30000/store/a",
        "http://127.0.0.1:3000@other/store/a",
        "https://127.0.0.1:3000/store/a",
        "http://127.0.0.1:3000",
        "javascript:/store/a",
    ],
)
def test_what_leaves_the_route_or_reads_two_ways_has_no_image(reference: str) -> None:
    assert mapping.to_client(route("/dav", "/store"), reference, origins=[ORIGIN]) is None


def test_a_query_comes_along() -> None:
    back = mapping.to_client(route("/dav", "/store"), "/store/a?b=c", origins=[])
    assert back == "/dav/a?b=c"
