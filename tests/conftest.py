"""Fixtures that tests of every kind share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The test data that is kept beside the repository, too large to be in it."""
    folder = ROOT.parent / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("the corpora beside the repository (../shared/corpora) are not here")
    return folder
