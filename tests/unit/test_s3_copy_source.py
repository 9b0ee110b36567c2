"""The source of a copy: one bucket and key, however clients spell it, and one spelling for the store."""

import contextlib

import pytest
from botocore.handlers import _quote_source_header_from_dict
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.reasons import Reason
from sidecar.s3.copy_source import CopySource, is_bucket, read, write

KEYS = st.text(st.sampled_from("abAB09-_~/+%=&?@:;,!$'()*<>\"\\^`{|}# é€"), min_size=1, max_size=12)


@given(KEYS, st.sampled_from(["", "null", "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY_MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo"]))
def test_what_is_written_reads_the_same_and_is_what_botocore_writes(key: str, version: str) -> None:
    source = CopySource("bucket", key, version)
    found = read(write(source))
    assert (found.bucket, found.key, found.version_id) == ("bucket", key, version)
    assert read(f"/{write(source)}") == found
    theirs = {"Bucket": "bucket", "Key": key} | ({"VersionId": version} if version else {})
    assert read(_quote_source_header_from_dict(theirs)) == found


@pytest.mark.parametrize(
    ("value", "bucket", "key", "version"),
    [
        ("bkt/k", "bkt", "k", ""),
        ("/bkt/k", "bkt", "k", ""),
        ("/bkt/a//b", "bkt", "a//b", ""),
        ("bkt/a%2Fb", "bkt", "a/b", ""),
        ("bkt/a%252Fb", "bkt", "a%2Fb", ""),  # decoded once
        ("bkt/dir/", "bkt", "dir/", ""),
        ("bkt/q%3Fx", "bkt", "q?x", ""),
        ("bkt/k?versionId=null", "bkt", "k", "null"),
        ("Old_Bucket.1/k", "Old_Bucket.1", "k", ""),
        # what a URL would have to encode
        ("bkt/sp ace", "bkt", "sp ace", ""),
        ("bkt/{id}/file #1 [2024]?versionId=null", "bkt", "{id}/file #1 [2024]", "null"),
        ('bkt/a"<>\\^`|b', "bkt", 'a"<>\\^`|b', ""),
    ],
)
def test_spellings(value: str, bucket: str, key: str, version: str) -> None:
    found = read(value)
    assert (found.bucket, found.key, found.version_id) == (bucket, key, version)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "/",
        "bkt",
        "bkt/",
        "/bkt",
        "//bkt/k",
        "bkt/a+b",
        "bkt/../other/k",
        "bkt/%2e%2e/k",
        "bkt/a%2F..%2Fk",
        "..%2Fother/k",
        "%62kt%2Fother/k",
        "bkt/%zz",
        "bkt/%ff",
        "bkt/é",
        "bkt/a%00",
        "bkt/k?versionid=1",
        "bkt/k?versionId=",
        "bkt/k?versionId=1&versionId=2",
        "bkt/k?versionId=1?versionId=2",
        "bkt/k?versionId=%31",
        "bkt/k?acl",
        "arn:aws:s3:eu-central-1:123456789012:accesspoint/ap/object/k",
        "a/k",
        "b..t/k",
        "x" * 64 + "/k",
        "http://bkt/k",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(value: str) -> None:
    with pytest.raises(Refused) as refused:
        read(value)
    assert refused.value.reason is Reason.BAD_HEADER


def test_odd_keys_are_told() -> None:
    assert read("bkt/a%2Fb//c").oddities == Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT
    assert read("bkt/plain/key").oddities is Oddity.NONE


@given(st.text(max_size=30))
def test_nothing_else_is_raised(value: str) -> None:
    with contextlib.suppress(Refused):
        found = read(value)
        assert is_bucket(found.bucket)
        assert found.key
        assert read(write(found)).key == found.key
