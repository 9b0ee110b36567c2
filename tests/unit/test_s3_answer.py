"""A store's XML in the client's names."""

from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.s3 import answer
from sidecar.s3.answer import Answer
from sidecar.s3.place import Place

PLACE = Place("bkt", "team/", "real", "x/", "")
NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def written(body: str, query: dict[str, str] | None = None, key: str = "", size: int = 0) -> str:
    read = Answer(PLACE, "bkt", key, query or {})
    data = body.encode()
    for at in range(0, len(data), size or len(data)):
        read.feed(data[at : at + (size or len(data))])
    return read.close().decode()


LIST = f"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult {NS}><Name>real</Name><Prefix>x/a</Prefix><Marker></Marker><NextMarker>x/b%20c</NextMarker>
<Contents><Key>x/a%201</Key><ETag>&quot;e&quot;</ETag><Owner><ID>o</ID></Owner></Contents>
<Contents><Key>y/other</Key><ETag>"f"</ETag></Contents>
<CommonPrefixes><Prefix>x/dir%2B/</Prefix></CommonPrefixes><EncodingType>url</EncodingType></ListBucketResult>"""


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_list(size: int) -> None:
    found = written(LIST, {"prefix": "team/a", "marker": "", "encoding-type": "url"}, size=size)
    assert "<Name>bkt</Name><Prefix>team/a</Prefix><Marker></Marker><NextMarker>team/b%20c</NextMarker>" in found
    assert "<Contents><Key>team/a%201</Key><ETag>&quot;e&quot;</ETag><Owner><ID>o</ID></Owner></Contents>" in found
    assert "<CommonPrefixes><Prefix>team/dir%2B/</Prefix></CommonPrefixes>" in found
    assert "other" not in found


def test_keys_that_are_not_encoded_are_taken_as_they_are() -> None:
    found = written(f"<ListBucketResult {NS}><Contents><Key>x/a%201</Key></Contents></ListBucketResult>")
    assert "<Key>team/a%201</Key>" in found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "<InitiateMultipartUploadResult><Bucket>real</Bucket><Key>x/k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>",
            "<Bucket>bkt</Bucket><Key>team/k</Key><UploadId>u</UploadId>",
        ),
        (
            "<CompleteMultipartUploadResult><Location>http://real/x/k</Location><Key>x/k</Key></CompleteMultipartUploadResult>",
            "<Location>/bkt/team/k</Location><Key>team/k</Key>",
        ),
        (
            "<DeleteResult><Deleted><Key>x/a&amp;b</Key></Deleted><Error><Key>x/c</Key><Code>C</Code></Error></DeleteResult>",
            "<Deleted><Key>team/a&amp;b</Key></Deleted><Error><Key>team/c</Key><Code>C</Code></Error>",
        ),
        (
            "<ListVersionsResult><KeyMarker>x/a</KeyMarker><Version><Key>x/b</Key></Version></ListVersionsResult>",
            "<KeyMarker></KeyMarker><Version><Key>team/b</Key></Version>",
        ),
        (
            "<Error><Code>NoSuchKey</Code><Key>x/k</Key><BucketName>real</BucketName><Resource>/real/x/k</Resource></Error>",
            "<Key>team/k</Key><BucketName>bkt</BucketName><Resource>/bkt/team/k</Resource>",
        ),
        ("<Tagging><TagSet><Tag><Key>x/k</Key></Tag></TagSet></Tagging>", "<Key>x/k</Key>"),
    ],
)
def test_what_names_buckets_and_keys(body: str, expected: str) -> None:
    assert expected in written(body, key="team/k")


def test_an_upload_that_is_not_the_routes_is_not_told() -> None:
    body = "<ListMultipartUploadsResult><Upload><Key>y</Key></Upload><Upload><Key>x/k</Key></Upload></ListMultipartUploadsResult>"
    assert written(body).endswith(
        "<ListMultipartUploadsResult><Upload><Key>team/k</Key></Upload></ListMultipartUploadsResult>"
    )


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)), st.booleans())
def test_each_key_comes_back_as_it_is(keys: list[str], encoded: bool) -> None:
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    root = ElementTree.Element("ListBucketResult")
    for key in keys:
        ElementTree.SubElement(ElementTree.SubElement(root, "Contents"), "Key").text = (
            quote(f"x/{key}") if encoded else f"x/{key}"
        )
    text = ElementTree.tostring(root, "unicode").replace("</ListBucketResult>", kind + "</ListBucketResult>")
    if text.endswith("/>"):
        return
    found = [each.text or "" for each in ElementTree.fromstring(written(text)).iter("Key")]
    assert found == [quote(f"team/{key}", safe="/-._~") if encoded else f"team/{key}" for key in keys]


@pytest.mark.parametrize(
    "body",
    [
        "no xml",
        "<ListBucketResult>",
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        "<?php x ?><a/>",
        "<a>" * (answer.DEPTH + 1) + "</a>" * (answer.DEPTH + 1),
        "<a>\0</a>",
    ],
)
def test_hostile_xml(body: str) -> None:
    with pytest.raises(Refused) as refused:
        written(body)
    assert refused.value.reason is Reason.UPSTREAM_BROKEN


def test_xml_without_end() -> None:
    read = Answer(PLACE, "bkt", "", {})
    read.feed(b" " * (answer.MOST - 1))
    with pytest.raises(Refused, match="too large"):
        read.feed(b"  ")


def test_nothing_stays_nothing_and_spaces_are_no_beginning() -> None:
    read = Answer(PLACE, "bkt", "", {})
    assert read.close() == b""
    read = Answer(PLACE, "bkt", "", {})
    read.feed(b'<?xml version="1.0"?>\n   ')
    assert not read.begun
    read.feed(b"<Error/>")
    assert read.begun
