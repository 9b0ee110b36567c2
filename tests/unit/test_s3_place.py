"""A client's keys and its store's, one into the other."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.policy.compiled import Route
from sidecar.s3.place import ANY_STORE, Place, Places, Store, place


def route(path: str, upstream_path: str) -> Route:
    return Route("web", path, tuple(path[1:].split("/")), "s3", "store", "" if upstream_path == "/" else upstream_path)


@pytest.mark.parametrize(
    ("path", "upstream_path", "store", "expected"),
    [
        ("/bkt", "/", Store("real"), Place("bkt", "", "real", "", "")),
        ("/bkt", "/web", Store("real"), Place("bkt", "", "real", "web/", "")),
        ("/bkt/team", "/a/b", Store("real"), Place("bkt", "team/", "real", "a/b/", "")),
        ("/bkt/team", "/real", ANY_STORE, Place("bkt", "team/", "real", "", "/real")),
        ("/bkt", "/real/a", ANY_STORE, Place("bkt", "", "real", "a/", "/real")),
    ],
)
def test_where_a_routes_keys_lie(path: str, upstream_path: str, store: Store, expected: Place) -> None:
    assert place(route(path, upstream_path), store) == expected


def test_what_the_store_is_asked_for() -> None:
    own = place(route("/bkt/team", "/x"), Store("real"))
    assert (own.path("team/a b+é"), own.path("")) == ("/x/a%20b%2B%C3%A9", "/")
    named = place(route("/bkt", "/real"), ANY_STORE)
    assert (named.path("a//b"), named.path("")) == ("/real/a//b", "/real")


def test_what_is_called_alike_is_the_same() -> None:
    assert place(route("/real/x", "/x"), Store("real")).same
    assert not place(route("/real", "/x"), Store("real")).same
    assert not place(route("/bkt/x", "/x"), Store("real")).same


def test_a_routes_place_is_its_own_and_stays_while_the_route_does(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = {"store": Store("real")}
    places, one, other = Places(stores), route("/bkt", "/x"), route("/bkt", "/y")
    found = places.of(one)
    assert found == place(one, Store("real"))
    assert places.of(one) is found
    assert places.of(other) == place(other, Store("real"))
    assert Places({}).of(one) == place(one, ANY_STORE)
    places._known[id(other)] = (one, found)  # a route of a policy that was replaced lay where this one lies
    assert places.of(other) == place(other, Store("real"))
    monkeypatch.setattr("sidecar.s3.place._MOST_PLACES", 3)
    kept = [route(f"/bkt{number}", "/x") for number in range(10)]
    for each in kept:
        assert places.of(each) == place(each, Store("real"))
        assert len(places._known) <= 3


KEYS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@given(KEYS, st.sampled_from(["", "team/", "a/b/"]), st.sampled_from(["", "x/", "y/z/"]))
def test_there_and_back(rest: str, prefix: str, store_prefix: str) -> None:
    there = Place("bkt", prefix, "real", store_prefix, "")
    assert there.to_client(there.to_store(prefix + rest)) == prefix + rest


def test_a_foreign_key_has_no_image() -> None:
    assert Place("bkt", "team/", "real", "x/", "").to_client("xy") is None


@example("team/b", ["a", "b", "c"])
@example("t", ["a"])
@example("u", ["a"])
@given(KEYS, st.lists(KEYS, max_size=8))
def test_a_list_goes_on_where_it_would_in_the_clients_names(after: str, keys: list[str]) -> None:
    there = Place("bkt", "team/", "real", "x/y/", "")
    mine = [f"team/{key}" for key in keys]
    beyond = there.after(after).encode()
    listed = {key for key in mine if there.to_store(key).encode() > beyond}
    assert listed == {key for key in mine if key.encode() > after.encode()}
