"""Requests as raw bytes whose framing servers disagree on, as data for a run over a real socket.

`@TOKEN@` stands for a token that may write below `/web/ok` and nowhere else; `@HOST@` for the server's own address. Every
second request that could be smuggled asks for `/web/smuggled` without a token: whatever the framing is taken for, **a
store that sees `smuggled` in a request line has been smuggled to**. Beyond that each case says how many
requests the store may see at all, and which statuses the first answer may have (0: closed without one).

The templates are this project's own, in the spirit of the published lists: each separator and control byte at each place
of the two framing headers, then the known tricks with chunks, lines, versions and pipelines.
"""

from collections.abc import Iterator

from msgspec import Struct

SMUGGLED = b"DELETE /web/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
MARK = b"smuggled"

REFUSALS = frozenset({0, 400, 401, 403, 405, 408, 411, 413, 414, 417, 431, 501, 505})
ANY = REFUSALS | {200, 201, 204, 404}


class Case(Struct, frozen=True):
    name: str
    raw: bytes
    seen: frozenset[int]
    """How many requests the store may see, counted by complete heads."""
    statuses: frozenset[int]


def _refused(name: str, raw: bytes) -> Case:
    return Case(name, raw, frozenset({0}), REFUSALS)


def _either(name: str, raw: bytes) -> Case:
    """Taken as one harmless request, or refused."""
    return Case(name, raw, frozenset({0, 1}), ANY)


def _head(*lines: bytes, method: bytes = b"PUT", path: bytes = b"/web/ok/a", version: bytes = b"HTTP/1.1") -> bytes:
    """A request head up to and without its empty line."""
    start = b"%b %b %b" % (method, path, version)
    return b"\r\n".join([start, b"Host: @HOST@", b"Authorization: Bearer @TOKEN@", *lines]) + b"\r\n"


CHUNKED_THEN_SMUGGLED = b"0\r\n\r\n" + SMUGGLED

# Every byte that some parser skips, trims or takes for the end of a line.
ODD_BYTES = {
    f"{byte:02x}": bytes([byte]) for byte in (0x00, 0x01, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1F, 0x20, 0x7F, 0x80, 0x85, 0xA0, 0xFF)
}  # fmt: skip

ENCODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b"chunked, identity", b"identity, chunked", b"chunked, chunked", b"gzip, chunked",
    b"chunked;x=1", b"chunked,", b",chunked", b'"chunked"', b"'chunked'", b"xchunked", b"chunkedx", b"chunk", b"c hunked",
    b"identity", b"compress", b"cow", b"", b"chunked chunked", b"chunked\t", b"\tchunked", b"chunked\r\n ", b"\r\n chunked",
    b"\r\n\tchunked", b"x\r\n chunked", b"chunked\r\n x", b"\xefchunked", b"chun\xc4\xb1ked", b"ch\x00unked",
)  # fmt: skip

NAMES = (
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer.Encoding",
    b"Transfer Encoding", b"Transfer-Encoding-", b"-Transfer-Encoding", b"Transfer--Encoding", b"TransferEncoding", b"Transfer-\xe2\x80\x90Encoding",
    b"X-Transfer-Encoding", b"Content-Encoding", b"TE",
)  # fmt: skip


def _transfer_encoding_lines() -> Iterator[tuple[str, bytes]]:
    for number, value in enumerate(ENCODINGS):
        yield f"value-{number}", b"Transfer-Encoding: " + value
    for number, name in enumerate(NAMES):
        yield f"name-{number}", name + b": chunked"
    for code, byte in ODD_BYTES.items():
        yield f"before-name-{code}", byte + b"Transfer-Encoding: chunked"
        yield f"inside-name-{code}", b"Transfer" + byte + b"-Encoding: chunked"
        yield f"before-colon-{code}", b"Transfer-Encoding" + byte + b": chunked"
        yield f"after-colon-{code}", b"Transfer-Encoding:" + byte + b"chunked"
        yield f"after-value-{code}", b"Transfer-Encoding: chunked" + byte
        yield f"behind-other-{code}", b"X-A: b" + byte + b"Transfer-Encoding: chunked"
        yield f"around-{code}", b"Transfer-Encoding: " + byte + b"chunked" + byte
    for code in ("0a", "0d"):
        yield (
            f"injected-{code}",
            b"X-A: b" + ODD_BYTES[code] + b"Transfer-Encoding: chunked" + ODD_BYTES[code] + b"X-B: c",
        )
    yield "twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"
    yield "twice-reversed", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"
    yield "twice-same", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"
    yield "twice-one-odd", b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow"
    yield "nominated", b"Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked"
    yield "no-colon", b"Transfer-Encoding chunked"
    yield "no-space", b"Transfer-Encoding:chunked"
    yield "colon-first", b":Transfer-Encoding: chunked"


def _transfer_encoding() -> Iterator[Case]:
    for name, line in _transfer_encoding_lines():
        # A length that covers everything: whoever believes the other framing finds a second request in the body.
        length = b"Content-Length: %d" % len(CHUNKED_THEN_SMUGGLED)
        yield _either(f"length-then-encoding-{name}", _head(length, line) + b"\r\n" + CHUNKED_THEN_SMUGGLED)
        yield _either(f"encoding-then-length-{name}", _head(line, length) + b"\r\n" + CHUNKED_THEN_SMUGGLED)
        # A length that covers the first chunk's size line alone: the rest would be the next request.
        yield _either(
            f"short-length-{name}",
            _head(b"Content-Length: 4", line) + b"\r\n" + b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
        )
        yield _either(f"encoding-alone-{name}", _head(line) + b"\r\n" + CHUNKED_THEN_SMUGGLED)


LENGTHS = (
    b"+5", b"-5", b"5 5", b"5,5", b"5, 5", b"05", b"0x5", b"5.0", b"5e0", b"1_0", b'"5"', b"", b" ", b"five", b"\xb2", b"\xd9\xa5",
    b"9" * 19, b"9" * 40, b"18446744073709551616", b"18446744073709551621", b"4294967301", b"5\t", b"5\x0b", b"5\x00", b"\x005",
    b"5;x", b"5\r\n 5", b"\r\n 5",
)  # fmt: skip


def _content_length() -> Iterator[Case]:
    body = b"hello" + SMUGGLED
    tolerable = {b"05", b"5\t", b"\r\n 5", b"5\r\n 5"}
    for number, value in enumerate(LENGTHS):
        raw = _head(b"Content-Length: " + value, b"Connection: close") + b"\r\n" + body
        harmless = value in tolerable or value.isdigit()
        yield _either(f"length-{number}", raw) if harmless else _refused(f"length-{number}", raw)
    for code, byte in ODD_BYTES.items():
        yield _either(f"length-name-{code}", _head(b"Content-Length" + byte + b": 5") + b"\r\n" + body)
        yield _either(f"length-before-{code}", _head(byte + b"Content-Length: 5") + b"\r\n" + body)
        yield _either(f"length-behind-{code}", _head(b"X-A: b" + byte + b"Content-Length: 5") + b"\r\n" + body)
    for name, lines in {
        "twice": (b"Content-Length: 5", b"Content-Length: %d" % len(body)),
        "twice-reversed": (b"Content-Length: %d" % len(body), b"Content-Length: 5"),
        "twice-same": (b"Content-Length: 5", b"Content-Length: 5"),
        "twice-empty": (b"Content-Length: 5", b"Content-Length:"),
        "and-encoding": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        "and-encoding-reversed": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    }.items():
        yield _refused(f"length-{name}", _head(*lines) + b"\r\n" + body)
    yield _either("length-alias", _head(b"Content_Length: %d" % len(body), b"Content-Length: 5") + b"\r\n" + body)
    yield _either("body-without-length", _head() + b"\r\n" + SMUGGLED)
    yield _either("get-with-length", _head(b"Content-Length: %d" % len(SMUGGLED), method=b"GET") + b"\r\n" + SMUGGLED)
    yield _either(
        "delete-with-length", _head(b"Content-Length: %d" % len(SMUGGLED), method=b"DELETE") + b"\r\n" + SMUGGLED
    )
    yield _either("head-with-length", _head(b"Content-Length: %d" % len(SMUGGLED), method=b"HEAD") + b"\r\n" + SMUGGLED)
    yield _either(
        "options-with-length", _head(b"Content-Length: %d" % len(SMUGGLED), method=b"OPTIONS") + b"\r\n" + SMUGGLED
    )
    yield _either("short-body", _head(b"Content-Length: 5") + b"\r\nhel")


CHUNKS = {
    "size-plus": b"+5\r\nhello\r\n", "size-minus": b"-5\r\nhello\r\n", "size-hex-prefix": b"0x5\r\nhello\r\n", "size-empty": b"\r\nhello\r\n",
    "size-space": b" 5\r\nhello\r\n", "size-space-after": b"5 \r\nhello\r\n", "size-tab": b"5\t\r\nhello\r\n", "size-underscore": b"0_5\r\nhello\r\n",
    "size-huge": b"fffffffffffffffff\r\nhello\r\n", "size-wraps-32": b"100000005\r\nhello\r\n", "size-wraps-64": b"10000000000000005\r\nhello\r\n",
    "size-not-hex": b"5g\r\nhello\r\n", "size-nul": b"5\x00\r\nhello\r\n", "size-arabic": b"\xd9\xa5\r\nhello\r\n", "size-dot": b"5.0\r\nhello\r\n",
    "size-bare-lf": b"5\nhello\r\n", "size-bare-cr": b"5\rhello\r\n", "size-too-small": b"3\r\nhello\r\n", "size-too-large": b"7\r\nhello\r\n",
    "data-no-crlf": b"5\r\nhello", "data-bare-lf": b"5\r\nhello\n", "data-bare-cr": b"5\r\nhello\r", "data-other": b"5\r\nhelloxx",
    "extension": b"5;a=b\r\nhello\r\n", "extension-quoted": b'5;a="b;c"\r\nhello\r\n', "extension-lf": b"5;a\nb\r\nhello\r\n", "extension-cr": b"5;a\rb\r\nhello\r\n",
    "extension-nul": b"5;\x00\r\nhello\r\n", "extension-long": b"5;" + b"a" * 70000 + b"\r\nhello\r\n", "extension-crlf-quoted": b'5;a="\r\nhello\r\n',
    "leading-zeros": b"0000000000000005\r\nhello\r\n", "many-zeros": b"0" * 1000 + b"5\r\nhello\r\n", "upper": b"A\r\nhellohello\r\n",
}  # fmt: skip

LAST_CHUNKS = {
    "plain": b"0\r\n\r\n", "zeros": b"000\r\n\r\n", "extension": b"0;a\r\n\r\n", "bare-lf": b"0\n\n", "half-bare": b"0\r\n\n", "bare-cr": b"0\r\r",
    "trailer": b"0\r\nX-A: b\r\n\r\n", "trailer-length": b"0\r\nContent-Length: 5\r\n\r\n", "trailer-encoding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer-authorization": b"0\r\nAuthorization: Bearer x\r\n\r\n", "trailer-folded": b"0\r\nX-A: b\r\n c\r\n\r\n", "trailer-no-colon": b"0\r\nx\r\n\r\n",
    "trailer-bare-lf": b"0\r\nX-A: b\n\r\n", "negative-zero": b"-0\r\n\r\n", "hex-zero": b"0x0\r\n\r\n",
}  # fmt: skip


def _chunks() -> Iterator[Case]:
    head = _head(b"Transfer-Encoding: chunked") + b"\r\n"
    for name, chunk in CHUNKS.items():
        yield _either(f"chunk-{name}", head + chunk + CHUNKED_THEN_SMUGGLED)
    for name, last in LAST_CHUNKS.items():
        yield _either(f"last-chunk-{name}", head + b"5\r\nhello\r\n" + last + SMUGGLED)
    yield _either("chunks-end-early", head + b"5\r\nhel")
    yield _refused(
        "chunked-in-1.0", _head(b"Transfer-Encoding: chunked", version=b"HTTP/1.0") + b"\r\n" + CHUNKED_THEN_SMUGGLED
    )


def _lines() -> Iterator[Case]:
    token = b"Authorization: Bearer @TOKEN@"
    get = b"GET /web/ok/a HTTP/1.1"
    host = b"Host: @HOST@"
    for name, raw in {
        "bare-lf-everywhere": b"\n".join([get, host, token, b"", b""]),
        "bare-lf-after-request-line": get + b"\n" + host + b"\r\n" + token + b"\r\n\r\n",
        "bare-lf-at-the-end": b"\r\n".join([get, host, token]) + b"\r\n\n" + SMUGGLED,
        "bare-cr-at-the-end": b"\r\n".join([get, host, token]) + b"\r\n\r" + SMUGGLED,
        "bare-cr-everywhere": b"\r".join([get, host, token, b"", b""]),
        "crlf-before": b"\r\n\r\n" + b"\r\n".join([get, host, token, b"", b""]),
        "obs-fold": b"\r\n".join([get, host, token, b"X-A: b", b" c", b"", b""]),
        "obs-fold-tab": b"\r\n".join([get, host, token, b"X-A: b", b"\tc", b"", b""]),
        "trailing-space-in-request-line": b"\r\n".join([get + b" ", host, token, b"", b""]),
        "two-spaces": b"\r\n".join([b"GET  /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "tab-as-space": b"\r\n".join([b"GET\t/web/ok/a\tHTTP/1.1", host, token, b"", b""]),
        "asterisk-options": b"\r\n".join([b"OPTIONS * HTTP/1.1", host, token, b"", b""]),
    }.items():
        yield _either(f"line-{name}", raw)
    for name, raw in {
        "fold-first": b"\r\n".join([get, b" X-A: b", host, token, b"", b""]),
        "space-before-colon": b"\r\n".join([get, host, token, b"Content-Length : 5", b"", b"hello"]),
        "no-colon": b"\r\n".join([get, host, token, b"X-A", b"", b""]),
        "empty-name": b"\r\n".join([get, host, token, b": b", b"", b""]),
        "nul-in-name": b"\r\n".join([get, host, token, b"X\0A: b", b"", b""]),
        "nul-in-value": b"\r\n".join([get, host, token, b"X-A: b\0c", b"", b""]),
        "nul-in-path": b"\r\n".join([b"GET /web/ok/a\0 HTTP/1.1", host, token, b"", b""]),
        "space-in-path": b"\r\n".join([b"GET /web/ok/a b HTTP/1.1", host, token, b"", b""]),
        "utf-8-in-path": b"\r\n".join([b"GET /web/ok/\xc3\xa9 HTTP/1.1", host, token, b"", b""]),
        "fragment-in-path": b"\r\n".join([b"GET /web/ok/a#b HTTP/1.1", host, token, b"", b""]),
        "absolute-form": b"\r\n".join([b"GET http://evil.example/web/ok/a HTTP/1.1", host, token, b"", b""]),
        "absolute-form-own": b"\r\n".join([b"GET http://@HOST@/web/ok/a HTTP/1.1", host, token, b"", b""]),
        "absolute-form-other-host": b"\r\n".join(
            [b"GET http://@HOST@/web/ok/a HTTP/1.1", b"Host: evil", token, b"", b""]
        ),
        "authority-form": b"\r\n".join([b"GET @HOST@ HTTP/1.1", host, token, b"", b""]),
        "connect": b"\r\n".join([b"CONNECT evil.example:443 HTTP/1.1", host, token, b"", b""]),
        "connect-path": b"\r\n".join([b"CONNECT /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "asterisk-get": b"\r\n".join([b"GET * HTTP/1.1", host, token, b"", b""]),
        "no-path": b"\r\n".join([b"GET HTTP/1.1", host, token, b"", b""]),
        "lower-method": b"\r\n".join([b"get /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "unknown-method": b"\r\n".join([b"SMUGGLE /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "odd-method": b"\r\n".join([b"GE(T /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "method-with-null": b"\r\n".join([b"GET\0 /web/ok/a HTTP/1.1", host, token, b"", b""]),
        "no-host": b"\r\n".join([get, token, b"", b""]),
        "two-hosts": b"\r\n".join([get, host, b"Host: evil.example", token, b"", b""]),
        "two-hosts-same": b"\r\n".join([get, host, host, token, b"", b""]),
        "host-list": b"\r\n".join([get, b"Host: a, b", token, b"", b""]),
        "host-path": b"\r\n".join([get, b"Host: a/b", token, b"", b""]),
        "host-user": b"\r\n".join([get, b"Host: a@b", token, b"", b""]),
        "host-folded": b"\r\n".join([get, b"Host:", b" a", b"Host: b", token, b"", b""]),
        "two-tokens": b"\r\n".join([get, host, token, token, b"", b""]),
        "two-tokens-one-bad": b"\r\n".join([get, host, token, b"Authorization: Bearer x", b"", b""]),
        "token-nominated": b"\r\n".join([get, host, token, b"Connection: close, authorization", b"", b""]),
        "http-0.9": b"GET /web/ok/a\r\n\r\n",
        "http-0.9-versioned": b"\r\n".join([b"GET /web/ok/a HTTP/0.9", host, token, b"", b""]),
        "http-1.2": b"\r\n".join([b"GET /web/ok/a HTTP/1.2", host, token, b"", b""]),
        "http-2.0": b"\r\n".join([b"GET /web/ok/a HTTP/2.0", host, token, b"", b""]),
        "http-11": b"\r\n".join([b"GET /web/ok/a HTTP/11", host, token, b"", b""]),
        "http-1.1x": b"\r\n".join([b"GET /web/ok/a HTTP/1.1x", host, token, b"", b""]),
        "http-lower": b"\r\n".join([b"GET /web/ok/a http/1.1", host, token, b"", b""]),
        "http-other": b"\r\n".join([b"GET /web/ok/a ICY/1.1", host, token, b"", b""]),
        "http2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        "proxy-protocol": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + b"\r\n".join([get, host, token, b"", b""]),
        "response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "upgrade-websocket": b"\r\n".join([get, host, token, b"Connection: Upgrade", b"Upgrade: websocket", b"", b""])
        + SMUGGLED,
        "upgrade-h2c": b"\r\n".join(
            [
                get,
                host,
                token,
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMAAABk",
                b"",
                b"",
            ]
        )
        + SMUGGLED,
        "upgrade-with-body": _head(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 5")
        + b"\r\nhello"
        + SMUGGLED,
        "upgrade-without-connection": b"\r\n".join([get, host, token, b"Upgrade: x", b"", b""]),
        "expect-other": _head(b"Expect: 200-ok", b"Content-Length: 5") + b"\r\nhello",
        "expect-list": _head(b"Expect: 100-continue, x", b"Content-Length: 5") + b"\r\nhello",
        "long-path": b"\r\n".join([b"GET /web/ok/" + b"a" * 70000 + b" HTTP/1.1", host, token, b"", b""]),
        "long-name": b"\r\n".join([get, host, token, b"X" * 70000 + b": b", b"", b""]),
        "long-value": b"\r\n".join([get, host, token, b"X-A: " + b"b" * 70000, b"", b""]),
        "many-headers": b"\r\n".join([get, host, token, *(b"X-%d: b" % number for number in range(2000)), b"", b""]),
    }.items():
        yield _refused(f"line-{name}", raw)


def _pipelines() -> Iterator[Case]:
    """A second request behind a complete first one is decided by itself, and this one is refused."""
    get = _head(method=b"GET") + b"\r\n"
    put = _head(b"Content-Length: 5") + b"\r\nhello"
    chunked = _head(b"Transfer-Encoding: chunked") + b"\r\n5\r\nhello\r\n0\r\n\r\n"
    for name, first in {"get": get, "put": put, "chunked": chunked}.items():
        yield Case(f"pipeline-{name}", first + SMUGGLED, frozenset({1}), ANY)
        yield Case(f"pipeline-{name}-thrice", first + SMUGGLED * 3, frozenset({1}), ANY)
    yield Case("pipeline-two-good", put + put, frozenset({1, 2}), ANY)
    yield _refused("pipeline-behind-a-refusal", SMUGGLED + SMUGGLED)
    refused_put = _head(b"Content-Length: 100000", path=b"/web/smuggled") + b"\r\n"
    yield Case("refused-body-is-a-request", refused_put + get, frozenset({0}), REFUSALS)
    waiting = _head(b"Content-Length: 100000", b"Expect: 100-continue", path=b"/web/smuggled") + b"\r\n"
    yield Case("refused-body-behind-expect", waiting + get, frozenset({0}), REFUSALS)


SMUGGLING: tuple[Case, ...] = (*_transfer_encoding(), *_content_length(), *_chunks(), *_lines(), *_pipelines())
