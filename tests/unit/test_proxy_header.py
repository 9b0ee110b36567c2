"""PROXY protocol version 2: every form that a balancer sends is read, all else is refused as soon as it can be known."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy_header import FIXED, MOST, SIGNATURE, BadProxyHeader, follows, source

V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\xd4\x31\x01\xbb"
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + b"\xd4\x31\x01\xbb"
MAPPED = IPv6Address("::ffff:192.0.2.7").packed + IPv6Address("2001:db8::1").packed + b"\xd4\x31\x01\xbb"
TLVS = b"\x02\x00\x04host" + b"\x03\x00\x04\x01\x02\x03\x04"


def header(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


@pytest.mark.parametrize(
    ("sent", "who"),
    [
        pytest.param(header(0x21, 0x11, V4), "192.0.2.7", id="TCP over IPv4"),
        pytest.param(header(0x21, 0x11, V4 + TLVS), "192.0.2.7", id="with TLVs"),
        pytest.param(header(0x21, 0x21, V6), "2001:db8::7", id="TCP over IPv6"),
        pytest.param(header(0x21, 0x21, MAPPED), "192.0.2.7", id="IPv4 within IPv6"),
        pytest.param(header(0x21, 0x31, b"/run/client.sock".ljust(216, b"\0")), "", id="unix socket"),
        pytest.param(header(0x20, 0x00, b""), None, id="LOCAL"),
        pytest.param(header(0x20, 0x11, V4), None, id="LOCAL, whatever follows"),
        pytest.param(header(0x20, 0xFF, TLVS), None, id="LOCAL of any family"),
        pytest.param(header(0x21, 0x00, TLVS), None, id="unspecified"),
        pytest.param(header(0x21, 0x00, b""), None, id="unspecified, and nothing else"),
        pytest.param(header(0x21, 0x11, V4.ljust(MOST, b"\0")), "192.0.2.7", id="as long as may be"),
    ],
)
def test_whose_connection_it_is(sent: bytes, who: str | None) -> None:
    assert FIXED + follows(sent[:FIXED]) == len(sent)
    assert source(sent) == who


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", "no header", id="HTTP"),
        pytest.param(b"PROXY TCP4 1.1.1", "no header", id="version 1"),
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "no header", id="TLS"),
        pytest.param(header(0x11, 0x11, V4), "version or command", id="version 1 in binary"),
        pytest.param(header(0x22, 0x11, V4), "version or command", id="unknown command"),
        pytest.param(header(0x21, 0x12, V4), "family or transport", id="UDP"),
        pytest.param(header(0x21, 0x41, V4), "family or transport", id="unknown family"),
        pytest.param(header(0x21, 0x11, V4[:11]), "shorter", id="IPv4 cut short"),
        pytest.param(header(0x21, 0x21, V6[:35]), "shorter", id="IPv6 cut short"),
        pytest.param(header(0x21, 0x31, b"\0" * 215), "shorter", id="unix cut short"),
        pytest.param(header(0x21, 0x11, b"\0" * (MOST + 1)), "of 4097 bytes", id="oversized"),
    ],
)
def test_what_is_no_header_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(BadProxyHeader, match=why):
        follows(sent[:FIXED])


@given(st.integers(0, FIXED - 1))
def test_as_long_as_it_may_become_one_more_is_waited_for(count: int) -> None:
    assert follows(header(0x21, 0x11, V4)[:count]) == 0


@given(st.binary(max_size=FIXED))
def test_any_other_first_bytes_are_refused_at_once(data: bytes) -> None:
    if not SIGNATURE.startswith(data[:12]):
        with pytest.raises(BadProxyHeader):
            follows(data)


def test_a_command_that_does_not_exist_is_refused_as_it_comes() -> None:
    with pytest.raises(BadProxyHeader, match="version or command"):
        follows(header(0x22, 0x11, V4)[:13])


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=300))
def test_a_header_is_read_or_refused_and_never_read_beyond_its_length(fixed: bytes, rest: bytes) -> None:
    sent = SIGNATURE + fixed + rest
    try:
        length = follows(sent[:FIXED])
    except BadProxyHeader:
        return
    assert length == int.from_bytes(fixed[2:], "big")
    if len(rest) >= length:
        whole = sent[: FIXED + length]
        assert source(whole) == source(whole + b"more")
