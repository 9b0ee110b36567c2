"""A body on its way into the embedded store: whole under its name, or gone."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from sidecar.upstream.file_format import open_object
from sidecar.upstream.file_upload import Change, Guard, Upload, is_full


class Folder:
    """Names one object, unless `taken`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.taken, self.made = folder, False, 0

    def temporary_path(self) -> str:
        self.made += 1
        return str(self.folder / f"{self.made}.tmp")

    def place(self, temporary: str, key: bytes, size: int, guard: Guard | None) -> Change:
        assert os.stat(temporary).st_size == size
        if self.taken:
            return Change.PRECONDITION_FAILED
        os.rename(temporary, self.folder / "object")
        return Change.CREATED

    @property
    def files(self) -> list[str]:
        return sorted(os.listdir(self.folder))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_what_is_committed_reads_back_with_what_was_said_of_it(folder: Folder) -> None:
    upload = Upload(folder, b"/key", digests=True)
    upload.write([b"hel", b"lo"])
    change, meta = upload.commit([b"!"], [(b"content-type", b"text/plain")], 1_000.5, None)
    assert (change, upload.done, folder.files) == (Change.CREATED, True, ["object"])
    stored = open_object(os.open(folder.folder / "object", os.O_RDONLY), b"/key")
    assert stored is not None
    assert stored.meta == meta
    assert meta.headers[0] == (b"content-type", b"text/plain")
    assert meta.headers[-1][1] == hashlib.sha256(b"hello!").hexdigest().encode()
    stored.close()
    upload.discard()
    assert folder.files == ["object"], "what has its name is nobody's to discard"


def test_what_is_discarded_leaves_nothing(folder: Folder) -> None:
    upload = Upload(folder, b"/key")
    upload.write([b"half"])
    assert folder.files == ["1.tmp"]
    upload.discard()
    upload.discard()
    assert (folder.files, upload.done) == ([], True)


def test_what_was_never_written_to_makes_no_file(folder: Folder) -> None:
    Upload(folder, b"/key").discard()
    assert folder.made == 0


def test_what_may_not_have_its_name_stays_to_be_discarded(folder: Folder) -> None:
    folder.taken = True
    upload = Upload(folder, b"/key")
    assert upload.commit([b"late"], [], 0.0, None)[0] is Change.PRECONDITION_FAILED
    assert (upload.done, folder.files) == (False, ["1.tmp"])
    upload.discard()
    assert folder.files == []


def test_a_write_after_the_end_writes_nothing_and_a_commit_says_so(folder: Folder) -> None:
    """A cancelled upload's last write may still be on its way in its thread."""
    upload = Upload(folder, b"/key")
    upload.write([b"half"])
    upload.discard()
    upload.write([b"more"])
    with pytest.raises(OSError, match="canceled") as caught:
        upload.commit([], [], 0.0, None)
    assert (caught.value.errno, folder.files) == (errno.ECANCELED, [])


def test_it_is_locked_for_as_long_as_it_lives(folder: Folder) -> None:
    upload = Upload(folder, b"/key")
    upload.write([b"half"])
    other = os.open(folder.folder / "1.tmp", os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        upload.discard()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True), (errno.EIO, False)]
)
def test_what_a_full_disk_says(number: int, full: bool) -> None:
    assert is_full(OSError(number, os.strerror(number))) is full
