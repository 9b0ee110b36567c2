"""Whom an address stands for, and which are trusted."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.networks import Networks, network, plain


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:a:b:c:d", "2001:db8:0:1::/64"),
        ("2001:db8::1", "2001:db8:0:0::/64"),
        ("::1", "0:0:0:0::/64"),
        ("fe80::1%eth0", "fe80:0:0:0::/64"),
        ("fe80::1%eth0.100", "fe80:0:0:0::/64"),
        ("1::4:5:6:7:8", "1:0:0:4::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::", "0:0:0:0::/64"),
        ("1:2:3::8", "1:2:3:0::/64"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("", ""),
    ],
)
def test_whom_an_address_stands_for(address: str, stands_for: str) -> None:
    assert network(address) == stands_for


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_addresses_of_one_64_are_one_network(prefix: int, one: int, other: int) -> None:
    here, there = (str(IPv6Address(prefix << 64 | host)) for host in (one, other))
    if "." not in here and "." not in there:
        assert network(here) == network(there)


@pytest.mark.parametrize(
    ("address", "compared"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_an_address_has_one_spelling(address: str, compared: str) -> None:
    assert plain(address) == compared


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::9", True),
        ("2001:db9::9", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_who_is_trusted(address: str, trusted: bool) -> None:
    assert (address in Networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])) is trusted


def test_a_unix_socket_s_peers_are_trusted_by_name_alone() -> None:
    assert "" in Networks(["unix"])
    assert "10.0.0.1" not in Networks(["unix"])


@pytest.mark.parametrize("named", ["10.0.0.1/8", "10.0.0.0/33", "everybody", ""])
def test_what_names_no_network_is_an_error(named: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Networks([named])
