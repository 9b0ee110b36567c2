"""Each client of a build cache as it is published, before each kind of store: what one checkout built, a clean one is given.

What is believed: the exit status, and what the build made; see `tests/clients/real/`.
"""

from collections.abc import Iterator

import pytest

from tests.clients.cache_house import House, house
from tests.clients.real import Client, Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session", params=["file", "swift", "http"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), request.param) as found:
        yield found


def test_what_one_checkout_built_a_clean_one_is_given(rig: House, client: Client) -> None:
    project, token = Project("first"), rig.writers["web"]
    first = rig.build(client, project, token)
    assert first.exit_status == 0, first.text
    assert first.size >= project.size
    second = rig.build(client, project, token)
    assert (second.exit_status, second.made) == (0, first.made), second.text
