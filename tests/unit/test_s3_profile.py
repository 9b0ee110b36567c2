"""The profile of S3 clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Head, Headers, Oddity
from sidecar.policy.compiled import Route
from sidecar.profiles import PROFILES
from sidecar.profiles.s3 import S3
from sidecar.reasons import REASONS, Reason
from sidecar.s3.operations import OPERATIONS
from sidecar.s3.request import Asked

ROUTE = Route("web", "/bkt", ("bkt",), "s3", "store", "/bkt", host=".s3.internal")


def head(method: str, raw: str, host: str = "sidecar", **headers: str) -> Head:
    values = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Head(method, target.parse(raw), Headers(values, ()))


def test_it_takes_every_key_and_asks_for_signatures() -> None:
    assert all(oddity in PROFILES["s3"].allowed for oddity in Oddity)
    assert S3.signed


@pytest.mark.parametrize(("raw", "host"), [("/bkt/dir/k", "sidecar"), ("/dir/k", "bkt.s3.internal:8080")])
def test_either_style_is_the_same_request(raw: str, host: str) -> None:
    asked = S3().classify(head("GET", raw, host), ROUTE)
    assert (asked.operation.name, asked.bucket, asked.key) == ("GetObject", "bkt", "dir/k")


NAMES = st.sampled_from(
    sorted(
        {name for each in OPERATIONS.values() for name in each.needs | each.allows} | {"x-id", "nobody", "X-Amz-Date"}
    )
)
HEADERS = st.sampled_from(
    ["x-amz-copy-source", "x-amz-rename-source", "x-amz-acl", "x-amz-meta-a", "x-amz-nobody", "if-match", "range"]
)


@given(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]),
    st.sampled_from(["/bkt", "/bkt/", "/bkt/k", "/bkt/a%2Fb//c"]),
    st.dictionaries(NAMES, st.sampled_from(["", "1", "2"]), max_size=3),
    st.dictionaries(HEADERS, st.sampled_from(["private", "bkt/k", "*"]), max_size=2),
)
def test_a_request_is_a_row_of_the_table_or_nothing(
    method: str, path: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """A parameter or a header moves a request to another row, never off the table: what goes on is what the row expects."""
    raw = f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}" if query else path
    try:
        asked: Asked = S3().classify(head(method, raw, **headers), ROUTE)
    except Refused:
        return
    row = OPERATIONS[asked.operation.name]
    assert (row.method, row.permission is not None) == (method, True)
    assert row.needs <= asked.query.keys() <= row.needs | row.allows
    assert ("x-amz-copy-source" in headers) == (row.source == "x-amz-copy-source")
    assert "x-amz-nobody" not in headers
    assert asked.admin == (headers.get("x-amz-acl", "private") != "private")


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_refusal_is_xml_but_to_head(reason: Reason, method: str) -> None:
    answer = S3().deny(head(method, "/bkt/k"), reason, REASONS[reason].hint, False, "web")
    assert answer.body.startswith(b"<?xml") is (method == "GET")
    assert (b"content-type", b"application/xml") in answer.headers


@pytest.mark.parametrize("status", [200, 404, 412, 503])
def test_a_stores_status_is_the_answer(status: int) -> None:
    assert S3().answered("PUT", status) == status
