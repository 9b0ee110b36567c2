"""The embedded store, as a client sees it: what it keeps, what it answers, and what it never leaves behind."""

import asyncio
import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.upstream import file_layout
from sidecar.upstream.file import KEPT_SIZE, PIECE, FileStore
from tests.contract.fake_downstream import FakeDownstream, ask
from tests.contract.file_store_child import BODIES
from tests.waiting import until_in_loop as until

NOW = 784111777.9
THEN, EARLIER = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT"
ROOT = Path(__file__).parents[2]

SIZES = [
    0,
    1,
    1000,
    4096,
    65_000,
    65_536,
    65_537,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    3 * PIECE + 7,
]


def body_of(size: int) -> bytes:
    """No two pieces of it are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[FileStore]:
    store = FileStore(directory, clock=lambda: NOW)
    await store.open()
    yield store
    await store.close()
    assert files(directory / "tmp") == [], "whatever a test did, no temporary file is left"


# What is put in comes out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_comes_back_as_it_was(store: FileStore, size: int, chunked: bool) -> None:
    body = body_of(size)
    put = await ask(store, "PUT", "/key", body=body, chunked=chunked)
    got = await ask(store, "GET", "/key")
    assert (put.status, got.status, got.length) == (201, 200, size)
    assert got.answer == body
    assert max((len(piece) for piece in got.pieces), default=0) <= PIECE


async def test_a_body_in_pieces_of_any_size(store: FileStore) -> None:
    pieces = [b"%d," % number * (number % 50 + 1) for number in range(3000)] + [bytes(3 * PIECE), b"end"]
    await ask(store, "PUT", "/key", body=pieces)
    assert (await ask(store, "GET", "/key")).answer == b"".join(pieces)


async def test_the_life_of_a_key(store: FileStore) -> None:
    assert not await store.exists("/key")
    assert [(await ask(store, method, "/key")).status for method in ("GET", "HEAD", "DELETE")] == [404, 404, 404]
    created = await ask(store, "PUT", "/key", body=b"one")
    assert (created.status, created.length) == (201, 0)
    assert await store.exists("/key")
    replaced = await ask(store, "PUT", "/key", body=b"two")
    assert (replaced.status, replaced.length, replaced.answer) == (204, None, b"")
    assert (await ask(store, "GET", "/key")).answer == b"two"
    deleted = await ask(store, "DELETE", "/key")
    assert (deleted.status, deleted.length, deleted.answer) == (204, None, b"")
    assert not await store.exists("/key")
    assert (await ask(store, "GET", "/key")).status == 404
    assert (await ask(store, "PUT", "/key", body=b"three")).status == 201


@pytest.mark.parametrize("size", [0, 1000, 70_000, PIECE + 1])
async def test_head_says_what_get_says(store: FileStore, size: int) -> None:
    await ask(store, "PUT", "/key", {"Content-Type": "text/plain"}, bytes(size))
    got = await ask(store, "GET", "/key")
    for headers in ({}, {"Range": "bytes=0-0"}):  # RFC 9110 §14.2: a range is a GET's alone
        head = await ask(store, "HEAD", "/key", headers)
        assert (head.status, head.length, head.answer_headers) == (200, size, got.answer_headers)
        assert head.answer == b""


@pytest.mark.parametrize("method", ["POST", "PATCH", "COPY", "MOVE", "LOCK", "get"])
async def test_other_methods_are_told_which_there_are(store: FileStore, method: str) -> None:
    answer = await ask(store, method, "/key", body=b"body")
    assert (answer.status, answer.answer_headers, answer.length) == (
        405,
        {"allow": "GET, HEAD, PUT, DELETE, PROPFIND, MKCOL"},
        0,
    )
    assert not answer.invited


ODD_KEYS = [
    "/a", "/a/", "/a/b", "/a//b", "/a/b/", "/A", "/", "//", "/.", "/..", "/../a", "/a/../b", "/./a",
    "/a%00", "/a%00b", "/%ff%fe", "/%0a", "/a%5cb", "/caf%C3%A9", "/cafe%CC%81", "/a;b", "/~", "/%25", "/%2561", "/a b",
    "/" + "x" * 1000, "/" + "x" * 1001, "/" + "y/" * 800, "/" + "%ff" * 5000, "/tmp", "/objects", "/objects/00",
]  # fmt: skip


async def test_every_key_is_possible_and_each_is_its_own(store: FileStore) -> None:
    bodies = {path: b"body of " + path.encode() for path in ODD_KEYS}
    for path, body in bodies.items():
        assert (await ask(store, "PUT", path, body=body)).status == 201, path
    for path, body in bodies.items():
        assert (await ask(store, "GET", path)).answer == body
    for path in bodies:
        assert (await ask(store, "DELETE", path)).status == 204
        assert not await store.exists(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/aa", "/a%61"),
        ("/%c3%a9", "/%C3%A9"),
        ("/..", "/%2e%2E"),
        ("/a/b", "/a%2fb"),
        ("/a", "/a?version=2"),
        ("/a", "/a?"),
    ],
)
async def test_two_spellings_of_one_key(store: FileStore, one: str, other: str) -> None:
    await ask(store, "PUT", one, body=b"body")
    assert (await ask(store, "GET", other)).answer == b"body"
    assert await store.exists(other)
    assert (await ask(store, "PUT", other, body=b"new")).status == 204
    assert (await ask(store, "DELETE", one)).status == 204


async def test_no_path_on_the_disk_comes_from_the_client(store: FileStore, directory: Path) -> None:
    for path in ODD_KEYS:
        await ask(store, "PUT", path, body=b"body")
    stored = files(directory.parent)
    assert len(stored) == len(ODD_KEYS)
    for file in stored:
        assert file.parent.parent == directory / "objects"
        assert len(file.parent.name + file.name) == 64
        assert set(file.parent.name + file.name) <= set("0123456789abcdef")


async def test_only_the_owner_may_look(store: FileStore, directory: Path) -> None:
    await ask(store, "PUT", "/key", body=b"body")
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# Headers


KEPT = {
    "content-type": "application/x-ndjson",
    "content-encoding": "zstd",
    "content-language": "de",
    "content-disposition": 'attachment; filename="caf\u00e9"',
    "cache-control": "max-age=60",
    "expires": THEN,
    "x-artifact-tag": "c2lnbmF0dXJl",
    "x-artifact-duration": "400",
    "x-amz-meta-owner": "web",
}


async def test_headers_that_a_client_asks_back_are_kept_and_no_others(store: FileStore, directory: Path) -> None:
    sent = {name.title(): value for name, value in KEPT.items()} | {
        "X-Other": "1",
        "Accept": "*/*",
        "Set-Cookie": "a=b",
    }
    await ask(store, "PUT", "/key", sent, b"body")
    await ask(store, "PUT", "/plain", body=b"body")
    again = FileStore(directory)
    await again.open()
    got = await ask(again, "GET", "/key")
    plain = await ask(again, "GET", "/plain")
    await again.close()
    ours = {"etag": got.answer_headers["etag"], "last-modified": THEN, "accept-ranges": "bytes"}
    assert got.answer_headers == KEPT | ours
    assert plain.answer_headers["content-type"] == "application/octet-stream"
    assert set(plain.answer_headers) == {"content-type", "etag", "last-modified", "accept-ranges"}


async def test_headers_are_replaced_with_the_body(store: FileStore) -> None:
    await ask(store, "PUT", "/key", {"X-Artifact-Tag": "old", "Cache-Control": "no-cache"}, b"old")
    await ask(store, "PUT", "/key", {"Content-Type": "text/new"}, b"new")
    headers = (await ask(store, "GET", "/key")).answer_headers
    assert headers["content-type"] == "text/new"
    assert not {"x-artifact-tag", "cache-control"} & set(headers)


async def test_kept_headers_are_bounded(store: FileStore) -> None:
    fits = KEPT_SIZE - len("x-amz-meta-a")
    await ask(store, "PUT", "/key", {"x-amz-meta-a": "v" * fits}, bytes(100_000))
    assert len((await ask(store, "HEAD", "/key")).answer_headers["x-amz-meta-a"]) == fits
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/other", {"x-amz-meta-a": "v" * (fits + 1)}, b"body")
    assert refusal.value.reason is Reason.HEAD_TOO_LARGE
    assert not await store.exists("/other")
    with pytest.raises(Refused):
        await ask(store, "PUT", "/" + "k" * 40_000, body=b"body")


# Ranges


@pytest.mark.parametrize("size", [1000, 2 * PIECE + 1000])
@pytest.mark.parametrize(
    ("first", "end"),
    [(0, 1), (10, 900), (0, None), (500, None), (-300, None), (999, 1000), (5, PIECE + 7), (-PIECE, None)],
)
async def test_a_range_is_that_part(store: FileStore, size: int, first: int, end: int | None) -> None:
    body = body_of(size)
    await ask(store, "PUT", "/key", body=body)
    asked = f"bytes={first}" if first < 0 else f"bytes={first}-{end - 1 if end is not None else ''}"
    got = await ask(store, "GET", "/key", {"Range": asked})
    part = body[first:end]
    start = len(body) - len(part) if end is None else first
    assert (got.status, got.length) == (206, len(part))
    assert got.answer == part
    assert got.answer_headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{size}"


async def test_a_range_that_is_not_there(store: FileStore) -> None:
    await ask(store, "PUT", "/key", body=b"0123456789")
    got = await ask(store, "GET", "/key", {"Range": "bytes=10-"})
    assert (got.status, got.length, got.answer_headers) == (416, 0, {"content-range": "bytes */10"})


async def test_several_ranges_are_answered_with_the_whole(store: FileStore) -> None:
    await ask(store, "PUT", "/key", body=b"0123456789")
    got = await ask(store, "GET", "/key", {"Range": "bytes=0-1,4-5"})
    assert (got.status, got.answer) == (200, b"0123456789")
    assert "content-range" not in got.answer_headers


async def test_a_resumed_download_starts_over_once_the_object_has_changed(store: FileStore) -> None:
    etag = (await ask(store, "PUT", "/key", body=b"0123456789")).answer_headers["etag"]
    resume = {"Range": "bytes=5-", "If-Range": etag}
    assert (await ask(store, "GET", "/key", resume)).answer == b"56789"
    await ask(store, "PUT", "/key", body=b"0123456789")
    got = await ask(store, "GET", "/key", resume)
    assert (got.status, got.answer) == (200, b"0123456789")


async def test_a_part_is_never_taken_for_the_whole(store: FileStore) -> None:
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/key", {"Content-Range": "bytes 0-3/10"}, b"body")
    assert refusal.value.reason is Reason.BAD_HEADER
    assert not await store.exists("/key")


# Conditions


async def test_every_upload_has_a_tag_of_its_own(store: FileStore) -> None:
    tags = [(await ask(store, "PUT", path, body=b"same")).answer_headers["etag"] for path in ("/a", "/a", "/b")]
    assert len(set(tags)) == 3
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
    assert (await ask(store, "GET", "/a")).answer_headers["etag"] == tags[1]


async def test_a_client_that_has_it_is_not_sent_it_again(store: FileStore) -> None:
    etag = (await ask(store, "PUT", "/key", KEPT, bytes(100_000))).answer_headers["etag"]
    for headers in ({"If-None-Match": etag}, {"If-None-Match": f"W/{etag}"}, {"If-Modified-Since": THEN}):
        for method in ("GET", "HEAD"):
            got = await ask(store, method, "/key", headers)
            assert (got.status, got.length, got.answer) == (304, None, b"")
            assert set(got.answer_headers) == {"etag", "last-modified", "cache-control", "expires"}
    assert (await ask(store, "GET", "/key", {"If-Modified-Since": EARLIER})).status == 200
    assert (await ask(store, "GET", "/key", {"If-Match": '"other"'})).status == 412
    assert (await ask(store, "GET", "/key", {"If-None-Match": etag, "Range": "bytes=0-1"})).status == 304
    assert (await ask(store, "GET", "/absent", {"If-Match": "*"})).status == 404


async def test_a_refused_write_is_refused_before_its_body_is_invited_and_changes_nothing(store: FileStore) -> None:
    etag = (await ask(store, "PUT", "/key", body=b"old")).answer_headers["etag"]
    refused = [
        ("/key", {"If-None-Match": "*"}),
        ("/key", {"If-None-Match": etag}),
        ("/key", {"If-Match": '"other"'}),
        ("/key", {"If-Unmodified-Since": EARLIER}),
        ("/absent", {"If-Match": "*"}),
    ]
    for path, headers in refused:
        put = await ask(store, "PUT", path, headers, b"new")
        assert (put.status, put.length, put.invited) == (412, 0, False)
    for path, headers in refused[1:4]:
        assert (await ask(store, "DELETE", path, headers)).status == 412
    assert (await ask(store, "GET", "/key")).answer == b"old"
    assert not await store.exists("/absent")
    # RFC 9110 §13.2.1: what would be a 404 without its conditions is one with them.
    assert (await ask(store, "DELETE", "/absent", {"If-Match": "*"})).status == 404
    assert (await ask(store, "PUT", "/key", {"If-Match": etag}, b"new")).status == 204
    assert (await ask(store, "DELETE", "/key", {"If-Match": etag})).status == 412
    assert (await ask(store, "DELETE", "/key", {"If-Match": "*"})).status == 204
    assert (await ask(store, "PUT", "/key", {"If-None-Match": "*"}, b"new")).status == 201


async def together(
    bodies: list[bytes], put: Callable[[bytes, AsyncIterator[bytes]], Awaitable[FakeDownstream]]
) -> list[int]:
    """PUTs that have all passed their first look before any of them may finish its body."""
    arrived, all_here = 0, asyncio.Event()

    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        nonlocal arrived
        arrived += 1
        if arrived == len(bodies):
            all_here.set()
        await all_here.wait()
        yield body

    return [answer.status for answer in await asyncio.gather(*(put(body, pieces(body)) for body in bodies))]


async def test_of_many_that_create_one_key_at_once_one_does(store: FileStore, directory: Path) -> None:
    other = FileStore(directory)  # its locks exclude the first one's, as another process's would
    await other.open()
    stores = {b"%d" % number * 1000: (store, other)[number % 2] for number in range(12)}

    async def put(body: bytes, pieces: AsyncIterator[bytes]) -> FakeDownstream:
        return await ask(stores[body], "PUT", "/key", {"If-None-Match": "*"}, pieces)

    statuses = await together(list(stores), put)
    await other.close()
    assert sorted(statuses) == [201] + [412] * 11
    assert (await ask(store, "GET", "/key")).answer == list(stores)[statuses.index(201)]


async def test_of_many_that_replace_one_version_at_once_one_does(store: FileStore) -> None:
    etag = (await ask(store, "PUT", "/key", body=b"old")).answer_headers["etag"]
    statuses = await together(
        [b"%d" % number for number in range(8)],
        lambda _, pieces: ask(store, "PUT", "/key", {"If-Match": etag}, pieces),
    )
    assert sorted(statuses) == [204] + [412] * 7


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_waits_for_the_lock_that_another_process_holds(
    store: FileStore, directory: Path, method: str
) -> None:
    await ask(store, "PUT", "/key", body=b"old")
    [file] = files(directory / "objects")
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    change = asyncio.create_task(ask(store, method, "/key", body=b"new" if method == "PUT" else b""))
    assert not (await asyncio.wait([change], timeout=0.2))[0]
    assert (await ask(store, "GET", "/key")).answer == b"old", "a reader waits for nobody"
    os.close(folder)
    assert (await change).status == 204
    assert (await ask(store, "GET", "/key")).answer == (b"new" if method == "PUT" else b"")


async def test_bodies_of_one_key_are_never_mixed(store: FileStore) -> None:
    bodies = [bytes([65 + number]) * (PIECE * 2 + number) for number in range(6)]
    statuses = await together(bodies, lambda _, pieces: ask(store, "PUT", "/key", {}, pieces))
    assert sorted(statuses) == [201] + [204] * 5
    assert (await ask(store, "GET", "/key")).answer in bodies


# What a reader sees while others write


class Paused(FakeDownstream):
    """A client that takes no more once it has the first piece, until `go` is set."""

    def __init__(self, path: str) -> None:
        super().__init__("GET", path)
        self.waiting, self.go = asyncio.Event(), asyncio.Event()

    async def drain(self) -> None:
        self.waiting.set()
        await self.go.wait()


@pytest.mark.parametrize("change", ["PUT", "DELETE"])
async def test_a_running_download_ends_with_the_bytes_that_it_began_with(store: FileStore, change: str) -> None:
    old = body_of(4 * PIECE)
    await ask(store, "PUT", "/key", body=old)
    reader = Paused("/key")
    reading = asyncio.create_task(store.forward(reader))
    await reader.waiting.wait()
    await ask(store, change, "/key", body=b"new" if change == "PUT" else b"")
    assert len(reader.pieces) == 1, "no more than one piece is written to a client that takes nothing"
    reader.go.set()
    await reading
    assert reader.finished
    assert reader.answer == old


def descriptors() -> set[str]:
    """The objects that this process holds open."""
    held = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return {path for path in held if "/objects/" in path or "/tmp/" in path}


async def test_a_client_that_leaves_holds_nothing_open(store: FileStore, directory: Path) -> None:
    await ask(store, "PUT", "/key", body=body_of(8 * PIECE))
    reader = FakeDownstream("GET", "/key", leaves_after=2)
    with pytest.raises(ClientGone):
        await store.forward(reader)
    assert not reader.finished
    stopped = Paused("/key")
    reading = asyncio.create_task(store.forward(stopped))
    await stopped.waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: not any(str(directory) in path for path in descriptors()))


async def test_a_body_that_ends_early_on_the_disk_is_no_clean_end(store: FileStore, directory: Path) -> None:
    await ask(store, "PUT", "/key", body=body_of(4 * PIECE))
    reader = Paused("/key")
    reading = asyncio.create_task(store.forward(reader))
    await reader.waiting.wait()
    [file] = files(directory / "objects")
    os.truncate(file, PIECE)
    reader.go.set()
    await reading
    assert reader.status == 200
    assert not reader.finished


# Bodies that aren't whole


BREAKS: list[tuple[Any, type[Exception]]] = [
    ([b"half", ClientGone()], ClientGone),
    ([bytes(PIECE), bytes(PIECE), b"x", ClientGone()], ClientGone),
    ([bytes(PIECE), Refused(Reason.BODY_TIMEOUT)], Refused),
    ([ClientGone()], ClientGone),
]


@pytest.mark.parametrize(("pieces", "error"), BREAKS)
@pytest.mark.parametrize("before", [None, b"old"])
async def test_half_a_body_never_becomes_an_object(
    store: FileStore, directory: Path, pieces: list[bytes | Exception], error: type[Exception], before: bytes | None
) -> None:
    if before is not None:
        await ask(store, "PUT", "/key", body=before)
    with pytest.raises(error):
        await store.forward(FakeDownstream("PUT", "/key", body=pieces, chunked=True))
    assert files(directory / "tmp") == []
    assert await store.exists("/key") is (before is not None)
    assert (await ask(store, "GET", "/key")).answer == (before or b"")


@pytest.mark.parametrize("announced", [0, 99, 101, 10 * PIECE])
async def test_a_body_of_another_length_than_announced_never_becomes_an_object(
    store: FileStore, announced: int
) -> None:
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/key", body=bytes(100), content_length=announced)
    assert refusal.value.reason is Reason.BAD_REQUEST
    assert not await store.exists("/key")


@pytest.mark.parametrize("sent", [0, 100, 4 * PIECE])
async def test_a_cancelled_upload_leaves_nothing(store: FileStore, directory: Path, sent: int) -> None:
    waiting = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        for offset in range(0, sent, 50_000):
            yield bytes(min(50_000, sent - offset))
        waiting.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(ask(store, "PUT", "/key", body=pieces()))
    await waiting.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert files(directory) == []
    assert not any(str(directory) in path for path in descriptors())


async def test_an_upload_cancelled_at_any_step_is_whole_or_not_there(store: FileStore, directory: Path) -> None:
    body = body_of(3 * PIECE)
    for steps in range(0, 60, 3):
        upload = asyncio.create_task(ask(store, "PUT", "/key", body=[body[:PIECE], body[PIECE:]]))
        for _ in range(steps):
            await asyncio.sleep(0)
        upload.cancel()
        await asyncio.wait([upload])
        assert files(directory / "tmp") == []
        got = await ask(store, "GET", "/key")
        assert got.status == 404 or got.answer == body
        await ask(store, "DELETE", "/key")


# A disk that is full


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "tiny"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("mount refused: a file system of 1 MiB can't be made here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [PIECE + 900_000, 20 * PIECE])
async def test_a_full_disk_refuses_and_leaves_nothing(tiny_disk: Path, size: int, chunked: bool) -> None:
    store = FileStore(tiny_disk)
    await store.open()
    await ask(store, "PUT", "/key", body=b"old")
    body = [bytes(50_000)] * (size // 50_000)
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/key", body=body, content_length=None if chunked else len(body) * 50_000)
    assert refusal.value.reason is Reason.STORE_FULL
    assert files(tiny_disk / "tmp") == []
    assert (await ask(store, "GET", "/key")).answer == b"old"
    assert (await ask(store, "PUT", "/small", body=bytes(500_000))).status == 201, "the space is free again"
    await store.close()


async def test_a_full_disk_can_still_be_opened_read_and_deleted_from(tiny_disk: Path) -> None:
    store = FileStore(tiny_disk)
    await store.open()
    await ask(store, "PUT", "/key", body=b"old")
    with pytest.raises(OSError, match="No space"):
        (tiny_disk / "filler").write_bytes(bytes(2**20))
    assert os.statvfs(tiny_disk).f_bfree == 0
    await store.close()
    store = FileStore(tiny_disk)
    await store.open()
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/key", body=b"new")
    assert refusal.value.reason is Reason.STORE_FULL
    assert (await ask(store, "GET", "/key")).answer == b"old"
    assert (await ask(store, "DELETE", "/key")).status == 204
    await store.close()


@contextlib.contextmanager
def child(mode: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end, if it isn't dead by then."""
    command = [sys.executable, "-m", "tests.contract.file_store_child", mode, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_file_that_may_grow_no_further_is_a_full_disk(directory: Path) -> None:
    with child("bound", directory) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "store_full\n"
    assert files(directory) == []


# A process that is killed


async def test_a_process_killed_in_the_middle_of_an_upload_leaves_the_old_object(
    store: FileStore, directory: Path
) -> None:
    await ask(store, "PUT", "/key", body=b"old")
    with child("torn", directory) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        [leftover] = files(directory / "tmp")
        os.utime(leftover, (0, 0))
        again = FileStore(directory)
        await again.open()
        assert files(directory / "tmp") == [leftover], "its writer lives, however old it looks"
        process.kill()
    assert (await ask(store, "GET", "/key")).answer == b"old"
    os.utime(leftover, (0, 0))
    await again.open()
    assert files(directory / "tmp") == []
    await again.close()
    assert (await ask(store, "GET", "/key")).answer == b"old"


async def test_a_process_killed_at_any_moment_leaves_one_whole_object(directory: Path) -> None:
    seen = set()
    for number in range(5):
        with child("loop", directory) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            await asyncio.sleep(0.02 + number * 0.013)  # the moment is what varies, nothing is waited for
            process.kill()
        store = FileStore(directory)
        await store.open()
        got = await ask(store, "GET", "/key")
        seen.add(got.status)
        assert got.status == 404 or got.answer in BODIES
        for leftover in files(directory / "tmp"):
            os.utime(leftover, (0, 0))
        await store.open()
        await store.close()
        assert files(directory / "tmp") == []
    assert 200 in seen


async def test_what_may_still_be_in_use_is_not_swept(store: FileStore, directory: Path) -> None:
    young = directory / "tmp" / "young"
    young.write_bytes(b"its writer is about to lock it")
    await store.open()
    assert young.exists()
    os.utime(young, (time.time() - file_layout.SWEEP_AGE - 1,) * 2)
    await store.open()
    assert not young.exists()


# Files that are not what they should be


def spoil_end(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def spoil_description(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)


def spoil_body(file: Path) -> None:
    file.write_bytes(file.read_bytes()[1:])


def spoil_length(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-16:-12] = b"\xff\xff\xff\xff"
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [spoil_end, spoil_description, spoil_body, spoil_length, empty])
@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_damaged_object_is_not_served_and_can_be_replaced(
    store: FileStore, directory: Path, spoil: Callable[[Path], None], size: int
) -> None:
    await ask(store, "PUT", "/key", body=bytes(size))
    [file] = files(directory / "objects")
    spoil(file)
    for method in ("GET", "HEAD"):
        with pytest.raises(Refused) as refusal:
            await ask(store, method, "/key")
        assert refusal.value.reason is Reason.UPSTREAM_BROKEN
    with pytest.raises(Unavailable) as unknown:
        await store.exists("/key")
    assert unknown.value.reason is Reason.EXISTENCE_UNKNOWN
    with pytest.raises(Refused):
        await ask(store, "PUT", "/key", {"If-None-Match": "*"}, b"new")
    assert (await ask(store, "PUT", "/key", body=b"new")).status == 204
    assert (await ask(store, "GET", "/key")).answer == b"new"


async def test_another_keys_object_is_never_served(store: FileStore, directory: Path) -> None:
    await ask(store, "PUT", "/secret", body=b"secret")
    [secret] = files(directory / "objects")
    await ask(store, "PUT", "/mine", body=b"mine")
    [mine] = set(files(directory / "objects")) - {secret}
    mine.write_bytes(secret.read_bytes())
    with pytest.raises(Refused) as refusal:
        await ask(store, "GET", "/mine")
    assert refusal.value.reason is Reason.UPSTREAM_BROKEN


async def test_a_directory_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    store = FileStore(tmp_path / "file")
    with pytest.raises(Unavailable) as refusal:
        await store.open()
    assert str(tmp_path / "file") in refusal.value.detail
    assert "must be a directory" in refusal.value.detail
    await store.close()


async def test_a_disk_error_names_no_path_and_is_an_outage(store: FileStore, directory: Path) -> None:
    await ask(store, "PUT", "/key", body=b"body")
    [file] = files(directory / "objects")
    file.unlink()
    file.mkdir()
    with pytest.raises(Unavailable) as refusal:
        await ask(store, "GET", "/key")
    assert refusal.value.reason is Reason.UPSTREAM_UNREACHABLE
    assert str(directory) not in refusal.value.detail
    file.rmdir()


# The event loop and the memory


async def test_the_event_loop_never_touches_the_disk(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, calls = threading.current_thread(), []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            assert threading.current_thread() is not loop, f"os.{name} on the event loop"
            calls.append(name)
            return real(*args, **kwargs)

        return call

    for name in ("open", "close", "fsync", "pread", "writev", "rename", "unlink", "fstat"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    for size in (10, 3 * PIECE):
        await ask(store, "PUT", "/key", {"If-Match": "*"} if size > 10 else {}, bytes(size))
        await ask(store, "GET", "/key")
        await ask(store, "HEAD", "/key")
        await store.exists("/key")
    await ask(store, "DELETE", "/key")
    with pytest.raises(ClientGone):
        await store.forward(FakeDownstream("PUT", "/key", body=[bytes(PIECE), ClientGone()], chunked=True))
    await store.close()
    monkeypatch.undo()
    assert set(calls) == {"open", "close", "fsync", "pread", "writev", "rename", "unlink", "fstat"}


async def test_a_write_is_synced_before_it_has_a_name_and_its_name_before_the_answer(
    store: FileStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    fsync, rename, unlink = os.fsync, os.rename, os.unlink

    def folder_of(path: str) -> str:
        return Path(path).relative_to(directory).parts[0]

    monkeypatch.setattr(
        os, "fsync", lambda fd: (steps.append(("sync", folder_of(os.readlink(f"/proc/self/fd/{fd}")))), fsync(fd))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (steps.append(("rename", folder_of(new))), rename(old, new)))
    monkeypatch.setattr(os, "unlink", lambda path: (steps.append(("unlink", folder_of(path))), unlink(path)))
    await ask(store, "PUT", "/key", body=b"body")
    assert steps == [("sync", "tmp"), ("rename", "objects"), ("sync", "objects")]
    steps.clear()
    await ask(store, "DELETE", "/key")
    assert steps == [("unlink", "objects"), ("sync", "objects")]


class Sink(FakeDownstream):
    """Takes everything and keeps nothing."""

    taken = 0

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    def finish(self) -> None:
        self.finished = True


async def test_memory_stays_flat_however_large_the_body(store: FileStore) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(256):
            yield bytes(128 * 1024)

    tracemalloc.start()
    try:
        await ask(store, "PUT", "/key", body=pieces())
        reader = Sink("GET", "/key")
        await store.forward(reader)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.taken == 32 * 1024 * 1024
    assert peak < 6 * PIECE
