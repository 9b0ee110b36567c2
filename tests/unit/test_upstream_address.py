"""From a store's URLs to the places that can be connected to."""

import pytest

from sidecar.settings import HealthSettings, UpstreamSettings
from sidecar.upstream.address import Address, look_up, sites
from sidecar.upstream.health import Health


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://store:8080", "store:8080"),
        ("http://store", "store"),
        ("https://store", "store"),
        ("https://store:8443", "store:8443"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("unix:/run/store.sock", "localhost"),
    ],
)
def test_the_host_that_the_store_is_told(url: str, authority: str) -> None:
    (site,) = sites(UpstreamSettings("store", url))
    assert site.authority == authority


def test_each_url_is_a_site_of_its_own() -> None:
    urls = ("http://a:1", "http://b:2")
    assert [(site.host, site.port) for site in sites(UpstreamSettings("store", urls[0], urls=urls))] == [
        ("a", 1),
        ("b", 2),
    ]


@pytest.mark.parametrize(
    ("url", "port", "is_name"),
    [
        ("http://store", 80, True),
        ("https://store", 443, True),
        ("http://127.0.0.1:1", 1, False),
        ("http://[::1]:1", 1, False),
        ("http://localhost:1", 1, False),
        ("unix:/x.sock", 0, False),
    ],
)
def test_names_are_looked_up_and_nothing_else(url: str, port: int, is_name: bool) -> None:
    (site,) = sites(UpstreamSettings("store", url))
    assert (site.port, site.is_name) == (port, is_name)


def test_the_name_in_the_certificate_is_the_host_unless_another_is_asked_for() -> None:
    assert sites(UpstreamSettings("store", "https://a"))[0].server_name == "a"
    assert sites(UpstreamSettings("store", "https://10.0.0.1", server_name="a"))[0].server_name == "a"
    assert sites(UpstreamSettings("store", "http://a"))[0].server_name is None


@pytest.mark.parametrize(
    ("url", "host", "said"),
    [
        ("http://store:8080", "10.0.0.1", "10.0.0.1:8080"),
        ("http://store:8080", "fd00::1", "[fd00::1]:8080"),
        ("unix:/x.sock", "/x.sock", "unix:/x.sock"),
    ],
)
def test_how_an_address_is_told_to_the_operator(url: str, host: str, said: str) -> None:
    (site,) = sites(UpstreamSettings("store", url))
    assert str(Address(site, host, Health(HealthSettings()), b"")) == said


async def test_the_system_resolves_names() -> None:
    assert await look_up("127.0.0.1", 80) == ["127.0.0.1"]
