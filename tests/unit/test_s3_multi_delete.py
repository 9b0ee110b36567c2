"""The body of DeleteObjects: what SDKs send is read, anything beyond the plainest XML is refused."""

import contextlib
import xml.etree.ElementTree as ElementTree

import botocore.session
import pytest
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.reasons import Reason
from sidecar.s3.multi_delete import MOST_BYTES, MOST_KEYS, NAMESPACE, Entry, MultiDelete, read, write

MODEL = botocore.session.get_session().get_service_model("s3")
KEYS = st.text(st.sampled_from("abAB09-_~/+%=&?@:;,!$'()*<>\"\\^`{|}# é€😀"), min_size=1, max_size=12)


def by_botocore(objects: list[dict[str, str]], quiet: bool) -> bytes:
    request = create_serializer("rest-xml").serialize_to_request(
        {"Bucket": "b", "Delete": {"Objects": objects, "Quiet": quiet}}, MODEL.operation_model("DeleteObjects")
    )
    body = request["body"]
    assert isinstance(body, bytes)
    return body


@given(st.lists(st.tuples(KEYS, st.sampled_from(["", "null", "v.1_x"])), min_size=1, max_size=5), st.booleans())
def test_what_botocore_sends_is_read_and_written_the_same(keys: list[tuple[str, str]], quiet: bool) -> None:
    objects = [{"Key": key} | ({"VersionId": version} if version else {}) for key, version in keys]
    asked = read(by_botocore(objects, quiet))
    assert [(entry.key, entry.version_id) for entry in asked.entries] == keys
    assert asked.quiet is quiet
    assert read(write(asked)) == asked
    again = ElementTree.fromstring(write(asked))  # by a reader that isn't ours
    assert [each.text for each in again.iter(f"{{{NAMESPACE}}}Key")] == [key for key, _ in keys]


def wrapped(inner: str, root: str = "Delete") -> bytes:
    return f"<{root}>{inner}</{root.partition(' ')[0]}>".encode()


OBJECT = "<Object><Key>a</Key></Object>"


@pytest.mark.parametrize(
    "body",
    [
        wrapped(OBJECT),
        wrapped(OBJECT, f'Delete xmlns="{NAMESPACE}"'),
        f'<s3:Delete xmlns:s3="{NAMESPACE}"><s3:Object><s3:Key>a</s3:Key></s3:Object></s3:Delete>'.encode(),
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n' + wrapped(f"\r\n  {OBJECT}\r\n"),
        b'<?xml version="1.0"?>' + wrapped(OBJECT),
        wrapped("<Object><Key>&#97;</Key></Object>"),
        wrapped(f"{OBJECT}<Quiet>false</Quiet>"),
        wrapped("<Object>\n  <Key>a</Key>\n</Object>"),
        b"\xef\xbb\xbf" + wrapped(OBJECT),
    ],
)
def test_forms_that_sdks_send(body: bytes) -> None:
    assert read(body) == MultiDelete((Entry("a"),))


def test_conditions_and_oddities_are_kept() -> None:
    inner = '<Object><Key>a//b&amp;c</Key><ETag>"x"</ETag><VersionId>1</VersionId><Size>5</Size></Object>'
    asked = read(wrapped(inner))
    assert asked.entries == (Entry("a//b&c", "1", (("ETag", '"x"'), ("Size", "5")), Oddity.EMPTY_SEGMENT),)
    assert read(write(asked)) == asked


def refusal(body: bytes) -> Reason:
    with pytest.raises(Refused) as refused:
        read(body)
    return refused.value.reason


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"<Delete/>",
        wrapped("<Quiet>true</Quiet>"),
        wrapped("<Object/>"),
        wrapped("<Object><Key/></Object>"),
        wrapped("<Object><VersionId>1</VersionId></Object>"),
        wrapped("<Object><Key>a</Key><Key>b</Key></Object>"),
        wrapped("<Object><Key>a</Key><Kex>b</Kex></Object>"),
        wrapped("<Object><Key>a<b/></Key></Object>"),
        wrapped("<Object><Key>a</Key><Object><Key>b</Key></Object></Object>"),
        wrapped("<Key>a</Key>"),
        wrapped(f"{OBJECT}text"),
        wrapped("<Object>text<Key>a</Key></Object>"),
        wrapped("<Object><Key>a</Key>text</Object>"),
        wrapped(f"{OBJECT}<Quiet>yes</Quiet>"),
        wrapped(f"{OBJECT}<Quiet>true</Quiet><Quiet>false</Quiet>"),
        wrapped(f"{OBJECT}<!-- -->"),
        wrapped(f"{OBJECT}<?php ?>"),
        wrapped("<Object><Key><![CDATA[a]]></Key></Object>"),
        wrapped("<Object><Key>&a;</Key></Object>"),
        wrapped('<Object x="1"><Key>a</Key></Object>'),
        wrapped(OBJECT, 'Delete xmlns="http://example.org/"'),
        wrapped('<Object xmlns="http://example.org/"><Key>a</Key></Object>'),
        wrapped(f'<o:Object xmlns:o="{NAMESPACE}"><Key>a</Key></o:Object>'),
        wrapped(OBJECT, "delete"),
        wrapped(OBJECT) * 2,
        wrapped(OBJECT) + b"x",
        wrapped(OBJECT)[:-1],
        BOMB.encode() + wrapped("<Object><Key>&b;</Key></Object>"),
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd">' + wrapped(OBJECT),
        b"<!DOCTYPE Delete>" + wrapped(OBJECT),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + wrapped("<Object><Key>\u00e9</Key></Object>"),
        b'<?xml version="1.1"?>' + wrapped(OBJECT),
        wrapped(OBJECT).decode().encode("utf-16"),
        wrapped("<Object><Key>é</Key></Object>").decode().encode("latin-1"),
        wrapped(OBJECT * (MOST_KEYS + 1)),
        wrapped(f"<Object><Key>{'a' * 1025}</Key></Object>"),
        wrapped(f"<Object><Key>a</Key><ETag>{'a' * 5000}</ETag></Object>"),
        wrapped(OBJECT) + b" " * MOST_BYTES,
    ],
)
def test_anything_beyond_plain_xml_is_refused(body: bytes) -> None:
    assert refusal(body) is Reason.MALFORMED_BODY


@pytest.mark.parametrize("key", ["../up", "a/./b", "a\\..\\b", "a&#10;b", "..", "a/%2e%2e/b".replace("%2e", ".")])
def test_a_key_that_can_be_read_in_two_ways_is_refused(key: str) -> None:
    assert refusal(wrapped(f"<Object><Key>{key}</Key></Object>")) is Reason.BAD_TARGET


def test_a_thousand_keys_are_read() -> None:
    keys = [f"{number}{'k' * 1000}" for number in range(MOST_KEYS)]
    assert [entry.key for entry in read(by_botocore([{"Key": key} for key in keys], quiet=False)).entries] == keys


@pytest.mark.parametrize(
    ("key", "read_"), [("a" * 1024, True), ("é" * 512, True), ("é" * 513, False), ("a" * 1025, False)]
)
def test_a_key_has_1024_bytes_at_most_however_many_characters_they_are(key: str, read_: bool) -> None:
    body = wrapped(f"<Object><Key>{key}</Key></Object>")
    if read_:
        assert read(body).entries[0].key == key
    else:
        assert refusal(body) is Reason.MALFORMED_BODY


@pytest.mark.parametrize("name", ["ETag", "LastModifiedTime", "Size"])
def test_each_condition_goes_on_to_the_store(name: str) -> None:
    asked = read(wrapped(f"<Object><Key>a</Key><{name}>x</{name}></Object>"))
    assert asked.entries[0].conditions == ((name, "x"),)
    assert f"<{name}>x</{name}>".encode() in write(asked)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_nothing_else_is_raised(noise: bytes, at: int) -> None:
    good = by_botocore([{"Key": "a/b"}, {"Key": "c", "VersionId": "1"}], quiet=True)
    for body in (noise, good[:at] + noise + good[at:], good[:at]):
        with contextlib.suppress(Refused):
            asked = read(body)
            assert read(write(asked)) == asked


@pytest.mark.parametrize("version", ["..", "../x", "a/b", "a\\b", " "])
def test_no_version_is_a_path(version: str) -> None:
    with pytest.raises(Refused) as refused:
        read(by_botocore([{"Key": "a", "VersionId": version}], quiet=True))
    assert refused.value.reason is Reason.MALFORMED_BODY
