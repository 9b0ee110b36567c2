"""Fixtures that tests of every kind share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes says more of what else the machine does than of the example.
settings.register_profile("project", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The test data that is kept beside the repository, too large to be in it."""
    folder = ROOT.parent / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("the corpora beside the repository (../shared/corpora) are not here")
    return folder


@pytest.fixture(scope="session", params=("swift", "versitygw"))
def s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Each real S3 server in turn, started once for all tests that ask for it (a `tests.e2e.s3_servers.S3Server`)."""
    from tests.e2e.s3_servers import SERVERS  # boto3 takes a second to import

    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server
