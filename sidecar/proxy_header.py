"""The PROXY protocol, version 2: who connected, as a balancer in front says it before the connection's own first byte. Pure.

The form is the specification's §2.2 (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). The law: a header is read
whole or refused; what it says beyond an address (ports, type-length-values) is skipped. Version 1, the text form, isn't read: it
has no length that could be known before its end.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from sidecar.errors import SidecarError
from sidecar.networks import plain

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED: Final = 16
"""Bytes up to and with the length of what follows."""
MOST: Final = 4096
"""Bytes that may follow: addresses take at most 216; the rest is for what balancers add."""

_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 in the upper half of the 13th byte, the command in the lower."""
_ADDRESSES: Final = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
"""Family and transport -> bytes of both ends: unspecified, TCP over IPv4, TCP over IPv6, stream of a unix socket."""


class BadProxyHeader(SidecarError):
    """These bytes are no PROXY header of version 2 that may be read here. The text says why."""


def follows(fixed: bytes) -> int:
    """From the first 16 bytes, or as many as are there, how many belong to the header beyond the 16; 0 while that isn't known.

    Raises `BadProxyHeader` as soon as the bytes can't become a header.
    """
    if fixed[:12] != SIGNATURE[: len(fixed)]:
        raise BadProxyHeader("no header of PROXY protocol version 2")
    if len(fixed) > 12 and fixed[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader("a version or command that doesn't exist")
    if len(fixed) < FIXED:
        return 0
    length = fixed[14] << 8 | fixed[15]
    if length > MOST:
        raise BadProxyHeader(f"a header of {length} bytes")
    if fixed[12] == _PROXY:
        if fixed[13] not in _ADDRESSES:
            raise BadProxyHeader("a family or transport that can't carry HTTP")
        if length < _ADDRESSES[fixed[13]]:
            raise BadProxyHeader("shorter than its addresses")
    return length


def source(header: bytes) -> str | None:
    """From a whole header, whose connection it is: an address, or empty for a unix socket. `None`: the balancer's own, as when
    it asks for our health, or it doesn't know."""
    if header[12] == _LOCAL or header[13] == 0x00:
        return None
    if header[13] == 0x11:
        return str(IPv4Address(header[16:20]))
    if header[13] == 0x21:
        return plain(str(IPv6Address(header[16:32])))
    return ""
