"""Addresses of peers: which network one belongs to, and whether it is among those that a file names. Pure.

The law: an IPv4 address within IPv6 is that IPv4 address. Else one client would be two, and a list of networks be walked around.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""How a list of networks names whoever reaches a unix socket; such a peer's address is empty."""


def plain(address: str) -> str:
    """An address as it is compared and written: without a zone, `::ffff:192.0.2.1` as `192.0.2.1`. Others stay as they are."""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or found)


def network(address: str) -> str:
    """Whom an address stands for. An IPv4 address stands for itself: behind its /24 are neighbours who have nothing to do with
    one another, and in Kubernetes all the pods of a node. An IPv6 address stands for its /64, as four groups, `2001:db8:0:1::/64`:
    whoever has one address there has them all (RFC 6177)."""
    if ":" not in address:
        return address
    address = address.partition("%")[0]  # a zone may hold a dot, as `%eth0.100` does
    if "." in address:
        return address
    head, compressed, tail = address.partition("::")
    groups = head.split(":") if head else []
    if compressed:
        ending = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(ending)) + ending
    return ":".join(groups[:4]) + "::/64"


class Networks:
    """What `trusted` lists."""

    def __init__(self, named: Iterable[str]) -> None:
        """`named`: networks (`10.0.0.0/8`), addresses, or `unix`. Raises `ValueError`."""
        named = tuple(named)
        self._unix = UNIX in named
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(each) for each in named if each != UNIX
        )

    def __contains__(self, address: str) -> bool:
        if not address:
            return self._unix
        try:
            found = ip_address(plain(address))
        except ValueError:
            return False
        return any(found in each for each in self._networks)
