"""The list of buckets, as botocore reads it."""

import botocore.session
from botocore.parsers import create_parser

from sidecar.s3 import buckets

SHAPE = botocore.session.get_session().get_service_model("s3").operation_model("ListBuckets").output_shape


def names(body: bytes) -> list[str]:
    read = create_parser("rest-xml").parse({"status_code": 200, "headers": {}, "body": body}, SHAPE)
    assert all(bucket["CreationDate"].year == 2000 for bucket in read["Buckets"])
    return [bucket["Name"] for bucket in read["Buckets"]]


def test_each_bucket_once_and_in_order() -> None:
    assert names(buckets.document(["web", "apps", "web"])) == ["apps", "web"]
    assert names(buckets.document([])) == []


def test_of_those_that_begin_alike() -> None:
    assert names(buckets.document(["web", "apps", "web-2"], prefix="web")) == ["web", "web-2"]


def test_nothing_in_it_is_markup() -> None:
    assert names(buckets.document(["<a>&"])) == ["<a>&"]
