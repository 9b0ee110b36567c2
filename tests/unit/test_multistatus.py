"""A store's multistatus as the client gets it: hrefs mapped, everything hostile refused, memory bounded."""

import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import multistatus
from sidecar.errors import Refused
from sidecar.multistatus import Multistatus
from sidecar.reasons import Reason

NGINX = (
    b'<?xml version="1.0" encoding="utf-8" ?>\n<D:multistatus xmlns:D="DAV:">\n'
    b"<D:response>\n<D:href>/store/dir/</D:href>\n<D:propstat>\n<D:prop>\n<D:displayname>dir</D:displayname>\n"
    b"<D:resourcetype><D:collection/></D:resourcetype>\n</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n"
    b"</D:response>\n"
    b"<D:response>\n<D:href>/store/dir/a%20&amp;%C3%A9</D:href>\n<D:propstat>\n<D:prop>\n"
    b"<D:displayname>a &amp;\xc3\xa9</D:displayname>\n<D:getcontentlength>6</D:getcontentlength>\n"
    b"<D:resourcetype></D:resourcetype>\n</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n</D:response>\n"
    b"</D:multistatus>\n"
)


def to_client(href: str) -> str | None:
    return "/web" + href.removeprefix("/store") if href.startswith("/store") else None


def rewritten(body: bytes, piece: int = 1 << 30) -> bytes:
    multi = Multistatus(to_client)
    return b"".join(multi.feed(body[at : at + piece]) for at in range(0, len(body), piece)) + multi.close()


def refused(body: bytes | Iterator[bytes]) -> str:
    multi = Multistatus(to_client)

    def read_it() -> None:
        for piece in [body] if isinstance(body, bytes) else body:
            multi.feed(piece)
        multi.close()

    with pytest.raises(Refused) as refusal:
        read_it()
    assert refusal.value.reason is Reason.UPSTREAM_BROKEN
    return refusal.value.detail


def listing(*responses: str, start: str = '<D:multistatus xmlns:D="DAV:">', end: str = "</D:multistatus>") -> bytes:
    return "".join([start, *responses, end]).encode()


def response(href: str, more: str = "") -> str:
    return f"<D:response><D:href>{href}</D:href>{more}</D:response>"


def hrefs(body: bytes) -> list[str | None]:
    return [found.text for found in ET.fromstring(body).iterfind("{DAV:}response/{DAV:}href")]


def test_hrefs_are_mapped_and_all_else_says_the_same() -> None:
    said = rewritten(NGINX)
    assert said.startswith(b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus ')
    assert hrefs(said) == ["/web/dir/", "/web/dir/a%20&%C3%A9"]
    expected = ET.canonicalize(NGINX.replace(b"/store/", b"/web/").decode())
    assert ET.canonicalize(said.decode()) == expected


@given(st.integers(1, len(NGINX)))
def test_it_is_the_same_however_it_arrives(piece: int) -> None:
    assert rewritten(NGINX, piece) == rewritten(NGINX)


@pytest.mark.parametrize(
    "start",
    [
        '<multistatus xmlns="DAV:" xmlns:D="DAV:">',
        '<x:multistatus xmlns:x="DAV:" xmlns:D="DAV:">',
    ],
)
def test_a_namespace_counts_and_not_its_prefix(start: str) -> None:
    end = "</" + start[1:].partition(" ")[0] + ">"
    body = listing(
        "<response xmlns='DAV:'><href>/store/a</href></response>",
        "<y:response xmlns:y='DAV:'><y:href>\r\n\t /store/XX \n</y:href></y:response>",
        response("/store/<![CDATA[c]]>&#x64;"),
        start=start,
        end=end,
    )
    assert hrefs(rewritten(body)) == ["/web/a", "/web/XX", "/web/cd"]


def test_what_is_only_called_href_is_left_alone() -> None:
    body = listing(response("/store/a", '<D:prop><e:href xmlns:e="urn:e">/elsewhere</e:href><href>/x</href></D:prop>'))
    assert b"/elsewhere</e:href><href>/x</href>" in rewritten(body)


def test_a_response_that_leaves_the_route_is_dropped_and_the_others_stay() -> None:
    secret = "<D:propstat><D:prop><D:displayname>secret</D:displayname></D:prop></D:propstat>"
    body = listing(response("/store/a"), response("/other/b", secret), response("/store/c"))
    said = rewritten(body)
    assert hrefs(said) == ["/web/a", "/web/c"]
    assert b"secret" not in said
    assert b"other" not in said


def test_one_href_of_several_that_leaves_the_route_takes_its_response_along() -> None:
    both = (
        "<D:response><D:href>/store/a</D:href><D:href>/other/b</D:href><D:status>HTTP/1.1 403 F</D:status></D:response>"
    )
    assert hrefs(rewritten(listing(both, response("/store/c")))) == ["/web/c"]


def test_an_href_within_a_property_is_mapped_or_emptied() -> None:
    owner = "<D:prop><D:owner><D:href>/principals/ada</D:href></D:owner><D:r><D:href>/store/b</D:href></D:r></D:prop>"
    said = rewritten(listing(response("/store/a", f"<D:propstat>{owner}</D:propstat>")))
    assert hrefs(said) == ["/web/a"]
    assert b"<D:owner><D:href></D:href></D:owner><D:r><D:href>/web/b</D:href></D:r>" in said


def test_text_and_attributes_are_written_so_that_they_read_the_same() -> None:
    odd = """<D:prop><D:x a="&lt;&quot;&amp;'&#10;&#9;&#13;" xml:lang='en'>&lt;b&gt; &amp;amp; ]]&gt; &#13;&#233;</D:x></D:prop>"""
    body = listing(response("/store/a", odd))
    assert ET.canonicalize(rewritten(body).decode()) == ET.canonicalize(body.decode().replace("/store/", "/web/"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not XML"),
        (b"plain text", "not XML"),
        (NGINX[:-10], "not XML"),
        (NGINX + b"<x/>", "not XML"),
        (b"<html><body/></html>", "root"),
        (b"<multistatus/>", "root"),
        (b'<D:multistatus xmlns:D="dav:"/>', "root"),
        (b'<!DOCTYPE x><D:multistatus xmlns:D="DAV:"/>', "doctype"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><D:multistatus xmlns:D="DAV:">&a;</D:multistatus>', "doctype"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><D:multistatus xmlns:D="DAV:"/>', "doctype"),
        (listing(response("/store/&unknown;")), "not XML"),
        (b'<?xml version="1.0" encoding="utf-16"?><D:multistatus xmlns:D="DAV:"/>', "encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><D:multistatus xmlns:D="DAV:"/>', "encoding"),
        (b'<?xml version="1.0" encoding="iso-8859-1"?><D:multistatus xmlns:D="DAV:"/>', "encoding"),
        (NGINX.decode().encode("utf-16"), "encoding"),
        (NGINX.decode().encode("utf-16-be"), "encoding"),
        (NGINX.replace(b"\xc3\xa9", b"\xe9"), "not XML"),
        (NGINX.replace(b"\xc3\xa9", b"\xed\xa0\x80"), "not XML"),
        (b'<?xml-stylesheet href="//evil/x.xsl"?><D:multistatus xmlns:D="DAV:"/>', "instruction"),
        (listing("<?php x?>"), "instruction"),
        (listing("<E:response><D:href>/store/a</D:href></E:response>"), "prefix"),
        (listing('<a E:b="c"/>'), "prefix"),
        (listing("<a:b:c/>"), "colon"),
        (listing("<D:/>"), "colon"),
        (listing("<:a/>"), "colon"),
        (listing("<xmlns:a/>"), "colon"),
        (listing('<a xmlns:xml="DAV:"/>'), "namespace"),
        (listing('<a xmlns:b:c="DAV:"/>'), "namespace"),
        (listing('<a xmlns:="DAV:"/>'), "namespace"),
        (listing('<a xmlns:xmlns="DAV:"/>'), "namespace"),
        (listing(response("/store/a<D:b/>")), "element in an href"),
        (listing(response("/store/" + "a" * multistatus.HREF)), "href is too long"),
        (listing("<a>" * multistatus.DEPTH), "nested"),
        (listing("<a " + " ".join(f'a{n}="b"' for n in range(multistatus.NAMES + 1)) + "/>"), "attributes"),
        (listing(*(f'<a xmlns:n{n}="b{n}">' for n in range(20)), "<b ", *(f'xmlns:m{n}="x" ' for n in range(60)), "/>"), "namespaces"),
    ],
)  # fmt: skip
def test_hostile_xml_is_refused(body: bytes, said: str) -> None:
    assert said in refused(body)


def nested(depth: int) -> bytes:
    return listing("<a>" * (depth - 1) + "</a>" * (depth - 1))


def named(count: int) -> bytes:
    return listing("<a " + " ".join(f'a{n}="b"' for n in range(count)) + "/>")


def declaring(count: int) -> bytes:
    """Beside the one that the root declares."""
    return listing("<a " + " ".join(f'xmlns:n{n}="b"' for n in range(count - 1)) + "/>")


def with_href(length: int) -> bytes:
    return listing(response("/store/" + "a" * (length - len("/store/"))))


def with_response(length: int) -> bytes:
    without = len("<D:response></D:response>")
    return listing(f"<D:response>{'a' * (length - without)}</D:response>")


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (nested, multistatus.DEPTH),
        (named, multistatus.NAMES),
        (declaring, multistatus.NAMES),
        (with_href, multistatus.HREF),
        (with_response, multistatus.RESPONSE),
    ],
)
def test_so_much_and_no_more(make: Callable[[int], bytes], most: int) -> None:
    assert ET.fromstring(rewritten(make(most))) is not None
    assert refused(make(most + 1))


def test_an_href_of_any_length_is_one_href() -> None:
    name = "a" * (multistatus.HREF - len("/store/"))
    assert hrefs(rewritten(listing(response("/store/" + name)), 100)) == ["/web/" + name]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "us-ascii", "US-ASCII"])
def test_a_store_may_say_the_encoding_that_it_is(encoding: str) -> None:
    body = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + listing(response("/store/a"))
    assert hrefs(rewritten(body)) == ["/web/a"]


@pytest.mark.parametrize("start", ["<!--{}-->", '<a a="{}"/>', "<a{}/>"])
def test_a_long_tag_or_comment_passes_as_long_as_it_is_bounded(start: str) -> None:
    said = start.format(" " * 200_000)
    assert rewritten(listing(said, response("/store/a")), 1000).endswith(b"</D:multistatus>")


def endless(start: bytes, again: bytes) -> Iterator[bytes]:
    """Far more than may be held; nobody should ever ask for the last piece."""
    yield b'<D:multistatus xmlns:D="DAV:">' + start
    for _ in range(64 * 1024 * 1024 // len(again)):
        yield again
    raise AssertionError("all of it was taken")


@pytest.mark.parametrize(
    ("start", "again", "said"),
    [
        (b"<D:response><D:x>", b"text" * 4096, "too large"),
        (b"<D:response>", (b"<%b></%b>" % (b"a" * 100, b"a" * 100)) * 80, "too large"),
        (b"<D:response><D:x a='", b"text" * 4096, "too long"),
        (b"<!--", b"text" * 4096, "too long"),
        (b"<D:response><D:x ", b" " * 16384, "too long"),
    ],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(start: bytes, again: bytes, said: str) -> None:
    tracemalloc.start()
    try:
        assert said in refused(endless(start, again))
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_long_listing_passes_piece_by_piece() -> None:
    multi = Multistatus(to_client)
    passed = len(multi.feed(b'<D:multistatus xmlns:D="DAV:">'))
    piece = response("/store/a").encode() * 100
    for _ in range(500):
        written = multi.feed(piece)
        assert len(written) < 64 * 1024
        passed += len(written)
    multi.feed(b"</D:multistatus>")
    passed += len(multi.close())
    assert passed > 500 * len(piece) * 0.9


def test_the_heads_words_on_the_stores_bytes_go_and_the_type_is_ours() -> None:
    headers = [
        (b"Content-Type", b"text/xml; charset=utf-16"),
        (b"ETag", b'"x"'),
        (b"Content-Length", b"9"),
        (b"Content-Encoding", b"identity"),
        (b"Date", b"now"),
    ]
    assert multistatus.head(headers) == [(b"Date", b"now"), (b"Content-Type", b"application/xml; charset=utf-8")]


@pytest.mark.parametrize(
    "name",
    [
        "ETag", "Last-Modified", "Content-Type", "Content-Encoding", "Content-MD5", "Content-Digest", "Repr-Digest", "Digest",
        "Accept-Ranges", "Content-Range", "Transfer-Encoding", "Content-Length",
    ],
)  # fmt: skip
def test_no_header_about_the_stores_bytes_is_said_of_ours(name: str) -> None:
    ours = [(b"Content-Type", b"application/xml; charset=utf-8")]
    for spelling in (name, name.lower(), name.upper()):
        assert multistatus.head([(spelling.encode(), b"")]) == ours


@pytest.mark.parametrize("value", [b"identity", b" Identity ", b""])
def test_what_is_not_compressed_may_say_so(value: bytes) -> None:
    assert multistatus.head([(b"Content-Encoding", value)]) == multistatus.head([])


def test_a_compressed_one_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        multistatus.head([(b"content-encoding", b"gzip")])
    assert refusal.value.reason is Reason.UPSTREAM_BROKEN
