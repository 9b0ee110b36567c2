"""Reading one object after another: the short way says what the long one says, or nothing."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Head, Headers
from sidecar.policy.compiled import Route
from sidecar.s3 import reading, request
from sidecar.s3.place import Store, place
from sidecar.s3.sending import of_one

HEADERS = Headers({"host": "h", "range": "bytes=0-1"}, ((b"Range", b"bytes=0-1"), (b"Via", b"a")))
ROUTES = (
    (Route("w", "/bkt", ("bkt",), "s3", "store", ""), Store(bucket="bkt")),
    (Route("w", "/bkt", ("bkt",), "s3", "store", "/other place"), Store()),
    (Route("w", "/bkt/in", ("bkt", "in"), "s3", "store", "/theirs/far in"), Store()),
)
KEYS = st.text(st.sampled_from("ab.-_~/ é%+&!*'()@:,=$;"), min_size=1, max_size=8)


def begun(at: int) -> tuple[reading.Reading, Route]:
    route, store = ROUTES[at]
    head = Head("GET", target.parse(f"{route.path}/first"), HEADERS)
    begun = reading.begin(head, route, of_one(request.read(head), head, place(route, store)))
    assert begun is not None
    return begun, route


@pytest.mark.parametrize("at", range(len(ROUTES)))
@given(KEYS, st.sampled_from(["GET", "HEAD"]), st.sampled_from(["", "", "?versionId=1"]), st.booleans())
def test_it_says_what_the_long_way_says_or_nothing(at: int, key: str, method: str, query: str, encoded: bool) -> None:
    found, route = begun(at)
    try:
        head = Head(method, target.parse(f"{route.path}/{quote(key) if encoded else key}{query}"), HEADERS)
    except Refused:
        return
    again = found.again(head, route)
    if again is None:
        return
    asked = request.read(head)
    here = place(route, ROUTES[at][1])
    assert again == (request.actions_on_one(asked, here.prefix), of_one(asked, head, here))


@pytest.mark.parametrize("at", range(len(ROUTES)))
def test_it_says_so_of_plain_keys(at: int) -> None:
    found, route = begun(at)
    assert found.again(Head("HEAD", target.parse(f"{route.path}/a/b-1.~_c"), HEADERS), route) is not None


@pytest.mark.parametrize("at", range(len(ROUTES)))
@pytest.mark.parametrize("rest", ["/", "", "/a/", "/a//b", "/a//"])
def test_a_bucket_a_folder_and_empty_names_are_looked_at_by_the_long_way(at: int, rest: str) -> None:
    """What ends in a slash may be the bucket itself: reading that is to list it."""
    found, route = begun(at)
    assert found.again(Head("GET", target.parse(f"{route.path}{rest}"), HEADERS), route) is None


def test_another_route_is_not_read_again() -> None:
    found, route = begun(0)
    head = Head("GET", target.parse("/bkt/a"), HEADERS)
    assert found.again(head, route) is not None
    assert found.again(head, Route("w", "/bkt", ("bkt",), "s3", "store", "")) is None  # equal, of another policy


def test_what_a_host_or_a_query_may_say_more_of_begins_nothing() -> None:
    route, store = ROUTES[0]
    plain = Head("GET", target.parse("/bkt/a"), HEADERS)
    sent = of_one(request.read(plain), plain, place(route, store))
    assert reading.begin(Head("GET", target.parse("/bkt/a?x-id=GetObject"), HEADERS), route, sent) is None
    by_host = Route("w", "/bkt", ("bkt",), "s3", "store", "", host=".s3.test")
    assert reading.begin(plain, by_host, sent) is None
