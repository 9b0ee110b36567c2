"""Clients of build caches, as fixtures."""

import pytest

from tests.clients.real import Client
from tests.clients.real.every import CLIENTS


@pytest.fixture(scope="session")
def clients() -> dict[type[Client], Client]:
    """Those that there are already: what one keeps of itself between builds takes it seconds to make."""
    return {}


@pytest.fixture(scope="module", params=CLIENTS, ids=[each.name for each in CLIENTS])
def client(
    request: pytest.FixtureRequest, clients: dict[type[Client], Client], tmp_path_factory: pytest.TempPathFactory
) -> Client:
    kind: type[Client] = request.param
    if kind not in clients:
        clients[kind] = kind(tmp_path_factory.mktemp(kind.name))
    return clients[kind]
