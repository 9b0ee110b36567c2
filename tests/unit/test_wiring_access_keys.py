"""Access keys are verified where they are made, and nowhere else."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.credentials.identities import NothingRevoked
from sidecar.settings import IdentityCacheSettings, Listen, Settings, TokenSettings
from sidecar.store.open import open_token_store
from sidecar.wiring_access_keys import access_keys
from tests.contract.stores import sqlite_settings


def settings(folder: Path, tokens: TokenSettings | None) -> Settings:
    cache = IdentityCacheSettings(size=7)
    return Settings(folder / "sidecar.yaml", (), Listen(), folder, {}, tokens=tokens, identity_cache=cache)


@pytest.mark.parametrize("region", [None, "eu-central-1"])
async def test_a_master_key_makes_access_keys(tmp_path: Path, region: str | None) -> None:
    (tmp_path / "master").write_text("3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718")
    tokens = replace(sqlite_settings(tmp_path), access_key_master_file=tmp_path / "master", access_key_region=region)
    opened = await open_token_store(tokens)
    made = access_keys(
        settings(tmp_path, tokens),
        opened,
        NothingRevoked(),
        used=lambda principal, now: None,
        verified=lambda kind, seconds: None,
    )
    assert made is not None
    assert made.region == region
    assert len(made.identities) == 0
    await opened.store.close()


async def test_without_one_there_are_none(tmp_path: Path) -> None:
    tokens = sqlite_settings(tmp_path)
    opened = await open_token_store(tokens)
    for told, store in ((tokens, opened), (None, None)):
        made = access_keys(
            settings(tmp_path, told),
            store,
            NothingRevoked(),
            used=lambda principal, now: None,
            verified=lambda kind, seconds: None,
        )
        assert made is None
    await opened.store.close()
