"""The files of master keys: read each time that something is made of them."""

import gc
from pathlib import Path

import pytest

from sidecar.credentials.master_key import MasterKey, MasterKeyUnusable
from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.store.master_files import LONGEST, MasterFiles, read_master_key

FIRST = b"3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718"
SECOND = b"a1b2c3d4e5f607183f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765"
TOKEN_ID = "0123456789Ab"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name, content in (("first", FIRST), ("second", SECOND)):
        (tmp_path / name).write_bytes(content + b"\n")
    return tmp_path / "first", tmp_path / "second"


async def test_an_ids_day_key_is_made_of_the_master_key_that_it_names(files: tuple[Path, Path]) -> None:
    first, second = files
    masters = MasterFiles(second, (first,))
    for content in (FIRST, SECOND):
        key = MasterKey(content)
        access_key_id = key.id_for(TOKEN_ID)
        assert await masters.day_key(access_key_id, "20261122") == key.day_key(access_key_id, "20261122")
    assert masters.current().version == MasterKey(SECOND).version


async def test_an_id_of_another_master_key_has_no_day_key(files: tuple[Path, Path]) -> None:
    assert await MasterFiles(files[0]).day_key(MasterKey(SECOND).id_for(TOKEN_ID), "20261122") is None
    assert await MasterFiles(files[0]).day_key("AKIAIOSFODNN7EXAMPLE", "20261122") is None


async def test_a_file_that_was_exchanged_counts_at_once(files: tuple[Path, Path]) -> None:
    masters, access_key_id = MasterFiles(files[0]), MasterKey(FIRST).id_for(TOKEN_ID)
    assert await masters.day_key(access_key_id, "20261122") is not None
    files[0].write_bytes(SECOND)
    assert await masters.day_key(access_key_id, "20261122") is None


async def test_a_file_that_can_not_be_read_is_an_outage(files: tuple[Path, Path]) -> None:
    files[0].unlink()
    with pytest.raises(Unavailable) as refused:
        await MasterFiles(files[0]).day_key(MasterKey(FIRST).id_for(TOKEN_ID), "20261122")
    assert refused.value.reason is Reason.VERIFIER_UNAVAILABLE


@pytest.mark.parametrize("content", [b"", b"short", b"a" * 64, FIRST * (LONGEST // len(FIRST) + 1)])
def test_an_unfit_file_is_named_and_its_content_is_not(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master"
    path.write_bytes(content)
    with pytest.raises(MasterKeyUnusable, match=str(path)) as refused:
        read_master_key(path)
    assert not content or content.decode() not in str(refused.value)


def keys_in_memory() -> list[MasterKey]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, MasterKey)]


async def test_nothing_of_a_master_key_is_kept(files: tuple[Path, Path]) -> None:
    one = MasterKey(FIRST)
    before = keys_in_memory()  # other tests' modules hold some
    assert any(key is one for key in before)
    masters = MasterFiles(*files[:1], files[1:])
    assert await masters.day_key(MasterKey(SECOND).id_for(TOKEN_ID), "20261122") is not None
    assert [key for key in keys_in_memory() if not any(key is one for one in before)] == []
    assert "3f8a1c5e" not in repr(vars(masters))
