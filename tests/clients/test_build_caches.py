"""Each client of a build cache as it is published, before each kind of store: what one checkout built, a clean one is given.

What is believed: the exit status, and what the build made; see `tests/clients/real/`.
"""

from collections.abc import Iterator

import pytest

from tests.clients.cache_house import STORES, House, house
from tests.clients.real import Client, Project
from tests.clients.real.every import CLIENTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CLIENTS, ids=[each.name for each in CLIENTS])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    kind: type[Client] = request.param
    return kind(tmp_path_factory.mktemp(kind.name))


@pytest.fixture(scope="session", params=STORES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), request.param) as found:
        yield found


def test_what_one_checkout_built_a_clean_one_is_given(rig: House, client: Client) -> None:
    project, address, token = Project("first"), rig.address(client), rig.writers["web"]
    first = client.build(rig.fresh(), project, address, token)
    assert first.exit_status == 0, first.text
    assert first.made is not None
    assert len(first.made) >= project.size
    second = client.build(rig.fresh(), project, address, token)
    assert (second.exit_status, second.made) == (0, first.made), second.text
