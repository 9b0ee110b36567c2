"""From an S3 request to its route."""

import pytest

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Permission
from sidecar.policy import buckets
from sidecar.policy.compiled import Route
from sidecar.policy.routes import Routes


def route(path: str, client: str = "s3", host: str = "") -> Route:
    segments = () if path == "/" else tuple(path[1:].split("/"))
    return Route(path, path, segments, client, "store", path, host=host)


def head(raw: str, host: str = "sidecar:8080") -> Head:
    return Head("GET", target.parse(raw), Headers({"host": host}, ()))


BUCKETS = Routes().adding([
    route("/bkt"), route("/bkt/team"), route("/parts/b"), route("/parts/a/c"), route("/web", "plain"),
    route("/mixed"), route("/mixed/static", "plain"), route("/hosted", host=".s3.internal"),
    route("/hosted/team", host=".s3.internal"), route("/named", host=".s3.internal"), route("/other", host=".internal"),
])  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/bkt/k", "/bkt"),
        ("/bkt", "/bkt"),
        ("/bkt/", "/bkt"),
        ("/bkt/team/k", "/bkt/team"),
        ("/bkt/teams", "/bkt"),
        # an encoded slash divides S3's keys as a plain one does
        ("/bkt/team%2Fk", "/bkt/team"),
        ("/bkt%2Fteam/k", None),
        # a key to S3, but in another route for a store that keeps keys as files
        ("/bkt//team/k", None),
        ("/bkt/a//b", "/bkt"),
        # a list is about what begins with its prefix
        ("/bkt?prefix=team/", "/bkt/team"),
        ("/bkt?list-type=2&prefix=team%2Fx%2F", "/bkt/team"),
        ("/bkt?prefix=team", "/bkt"),
        ("/bkt/?prefix=team/", "/bkt/team"),
        ("/bkt/k?prefix=team/", "/bkt"),
        # only parts of a bucket have routes: one of them
        ("/parts", "/parts/a/c"),
        ("/parts?prefix=b/", "/parts/b"),
        ("/parts?prefix=d/", "/parts/a/c"),
        ("/parts/d/k", None),
        ("/parts/b/k", "/parts/b"),
        # other clients' routes are theirs
        ("/web/k", "/web"),
        ("/web", "/web"),
        ("/web/", "/web"),
        ("/web//k", "/web"),
        ("/mixed/static/k", "/mixed/static"),
        ("/mixed/static%2Fk", None),
        ("/nowhere", None),
        ("/", None),
    ],
)
def test_by_path(raw: str, expected: str | None) -> None:
    found = buckets.find(BUCKETS, head(raw))
    assert (None if found is None else found.path) == expected


@pytest.mark.parametrize(
    ("host", "raw", "expected"),
    [
        ("named.s3.internal", "/k", "/named"),
        ("named.s3.internal:8443", "/k", "/named"),
        ("NAMED.S3.Internal", "/", "/named"),
        ("other.internal", "/k", "/other"),
        ("other.s3.internal", "/k", None),
        ("bkt.s3.internal", "/k", None),
        ("nowhere.s3.internal", "/", None),
        # never a path: it is a key of that bucket
        ("nowhere.s3.internal", "/web/k", None),
        ("named.s3.internal", "/web/k", "/named"),
        ("sidecar", "/named/k", "/named"),
        ("sidecar", "/named", "/named"),
        ("hosted.s3.internal", "/team/k", "/hosted/team"),
        ("hosted.s3.internal", "/teams", "/hosted"),
        ("hosted.s3.internal", "/?prefix=team/", "/hosted/team"),
        # not a bucket's host but a place for path style
        ("s3.example", "/named/k", "/named"),
    ],
)
def test_by_host(host: str, raw: str, expected: str | None) -> None:
    found = buckets.find(BUCKETS, head(raw, host))
    assert (None if found is None else found.path) == expected
    if found is not None and found.host:
        by_host = host.lower().partition(":")[0].endswith(found.host)
        assert buckets.bucket_in_host(found, head(raw, host)) == (found.segments[0] if by_host else None)


def test_a_query_that_can_be_read_in_two_ways() -> None:
    with pytest.raises(Refused):
        buckets.find(BUCKETS, head("/bkt?prefix=a/&prefix=team/"))


def test_only_a_key_with_an_empty_segment_has_another_form() -> None:
    plain = (Action(Permission.READ, "a/b"), Action(Permission.DELETE, "", below=True))
    assert buckets.in_both_forms(plain) == plain
    odd = Action(Permission.READ, "/a//b/")
    assert buckets.in_both_forms((*plain, odd)) == (*plain, odd, Action(Permission.READ, "a/b"))


def test_what_names_no_bucket() -> None:
    assert buckets.is_service(BUCKETS, head("/"))
    assert not buckets.is_service(BUCKETS, head("/", "nowhere.s3.internal"))
    assert not buckets.is_service(BUCKETS, head("/nowhere"))
    assert not buckets.is_service(Routes().adding([route("/web", "plain")]), head("/"))


def test_routes_that_go_are_forgotten() -> None:
    left = BUCKETS.removing(
        [each for bucket in ("bkt", "parts", "mixed", "hosted", "named", "other") for each in _all(bucket)]
    )
    assert (left.buckets, left.hosts) == (0, {})


def _all(bucket: str) -> list[Route]:
    return list(buckets.within(BUCKETS, bucket))


def test_all_of_a_bucket() -> None:
    assert [each.path for each in _all("parts")] == ["/parts/a/c", "/parts/b"]
    assert [each.path for each in _all("mixed")] == ["/mixed"]
