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


@pytest.mark.parametrize(
    "root",
    ["ListBucketResult", "ListVersionsResult", "ListMultipartUploadsResult", "ListPartsResult", "InitiateMultipartUploadResult",
     "CompleteMultipartUploadResult", "DeleteResult", "Error"],
)  # fmt: skip
def test_every_document_that_names_a_bucket_or_a_key_is_written_anew(root: str) -> None:
    said = written(f"<{root}><Bucket>real</Bucket><Key>x/k</Key></{root}>")
    assert said.endswith(f"<{root}><Bucket>bkt</Bucket><Key>team/k</Key></{root}>")


@pytest.mark.parametrize(
    ("root", "entry", "name"),
    [
        ("ListBucketResult", "Contents", "Key"),
        ("ListBucketResult", "CommonPrefixes", "Prefix"),
        ("ListVersionsResult", "Version", "Key"),
        ("ListVersionsResult", "DeleteMarker", "Key"),
        ("ListVersionsResult", "CommonPrefixes", "Prefix"),
        ("ListMultipartUploadsResult", "Upload", "Key"),
        ("DeleteResult", "Deleted", "Key"),
        ("DeleteResult", "Error", "Key"),
    ],
)
def test_of_what_is_not_the_routes_nothing_is_told(root: str, entry: str, name: str) -> None:
    foreign = f"<{entry}><{name}>y/other</{name}><VersionId>v</VersionId></{entry}>"
    own = f"<{entry}><{name}>x/k</{name}></{entry}>"
    said = written(f"<{root}>{foreign}{own}{foreign}</{root}>")
    assert said.endswith(f"<{root}><{entry}><{name}>team/k</{name}></{entry}></{root}>")


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("Prefix", "prefix"), ("Marker", "marker"), ("StartAfter", "start-after"), ("KeyMarker", "key-marker")],
)
@pytest.mark.parametrize("asked", ["", "te", "zebra"])
def test_a_list_repeats_what_its_client_said(name: str, parameter: str, asked: str) -> None:
    """Not what the store was asked for in its place, which may be more than the client said, or less."""
    body = f"<ListBucketResult><{name}>x/</{name}></ListBucketResult>"
    assert f"<{name}>{asked}</{name}>" in written(body, {parameter: asked} if asked else {})


@pytest.mark.parametrize("name", ["Name", "Bucket", "BucketName", "Location", "Resource", "Marker", "EncodingType"])
def test_deeper_down_a_name_is_something_else(name: str) -> None:
    body = (
        f"<ListBucketResult><Contents><Owner><{name}>url</{name}></Owner><Key>x/a b</Key></Contents></ListBucketResult>"
    )
    assert f"<Owner><{name}>url</{name}></Owner><Key>team/a b</Key>" in written(body)


@pytest.mark.parametrize(
    ("coding", "key", "told"),
    [
        ("url", "x%2By/k%20k", "my%20team/k%20k"),
        ("url", "x%2By/k+k", "my%20team/k%20k"),
        ("other", "x+y/k%20k", "my team/k%20k"),
        ("", "x+y/k k", "my team/k k"),
    ],
)
def test_prefixes_that_are_encoded_are_known_by_what_they_mean(coding: str, key: str, told: str) -> None:
    read = Answer(Place("bkt", "my team/", "real", "x+y/", ""), "bkt", "", {})
    said = f"<EncodingType>{coding}</EncodingType>" if coding else ""
    read.feed(f"<ListBucketResult><Contents><Key>{key}</Key></Contents>{said}</ListBucketResult>".encode())
    assert f"<Contents><Key>{told}</Key></Contents>" in read.close().decode()


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
