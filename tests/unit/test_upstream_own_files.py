"""What a store asks for, from files that others change: taken as a whole, or not at all."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from sidecar.settings import BasicCredentials, HeaderCredentials, UpstreamCredentials, UpstreamSettings
from sidecar.upstream.own_files import (
    MAX_BYTES,
    Material,
    OwnFiles,
    OwnFilesUnusable,
    credential_header,
    files_of,
    material,
    read,
)
from tests.unit.relays import until

FAST = {"interval": 0.01, "settle": 0.01}


class Mount:
    """A Secret as Kubernetes mounts it: names that are links into `..data`, which is a link that is swapped."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        self.folder = folder
        self._generation = 0
        folder.mkdir()
        self.swap(**files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, **files: bytes) -> None:
        """kubernetes pkg/volume/util/atomic_writer.go: a new folder, then one rename."""
        self._generation += 1
        new = self.folder / f"..2026_{self._generation}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        (self.folder / "..data_tmp").symlink_to(new.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def bearer(path: Path) -> UpstreamSettings:
    return UpstreamSettings("store", "http://store", credentials=UpstreamCredentials(bearer_file=path))


def pair(authority: trustme.CA, **kwargs: datetime) -> dict[str, bytes]:
    issued = authority.issue_cert("sidecar", **kwargs)
    return {"crt": issued.cert_chain_pems[0].bytes(), "key": issued.private_key_pem.bytes()}


def tls(mount: Mount) -> UpstreamSettings:
    return UpstreamSettings(
        "store", "https://store", client_certificate_file=mount / "crt", client_key_file=mount / "key"
    )


@asynccontextmanager
async def followed(settings: UpstreamSettings) -> AsyncIterator[tuple[OwnFiles, list[Material]]]:
    heard: list[Material] = []
    files = OwnFiles(settings, heard.append, **FAST)
    await files.start()
    try:
        yield files, heard
    finally:
        await files.stop()


@pytest.mark.parametrize(
    ("make", "header"),
    [
        (
            lambda path: UpstreamCredentials(basic=BasicCredentials("me", path)),
            (b"Authorization", b"Basic bWU6czNjcmV0"),
        ),
        (lambda path: UpstreamCredentials(bearer_file=path), (b"Authorization", b"Bearer s3cret")),
        (lambda path: UpstreamCredentials(header=HeaderCredentials("X-Key", path)), (b"X-Key", b"s3cret")),
    ],
)
def test_each_kind_of_credential(
    tmp_path: Path, make: Callable[[Path], UpstreamCredentials], header: tuple[bytes, bytes]
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"s3cret\r\n")
    settings = UpstreamSettings("store", "http://store", credentials=make(path))
    assert credential_header(settings, read(files_of(settings))) == header


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nX-Admin: yes", b"a\rb", b"caf\xc3\xa9", b"a\0b", b" "])
def test_what_can_t_be_one_header_s_value_is_refused(tmp_path: Path, content: bytes) -> None:
    """A line break in it would be a header of its own."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(OwnFilesUnusable) as caught:
        OwnFiles(bearer(path), lambda new: None)
    assert "secret" in str(caught.value)
    assert "Admin" not in str(caught.value)


def test_a_file_that_is_missing_or_too_large_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        OwnFiles(bearer(tmp_path / "none"), lambda new: None)
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(OwnFilesUnusable, match="large has more than"):
        OwnFiles(bearer(tmp_path / "large"), lambda new: None)


async def test_a_rotated_secret_is_picked_up(tmp_path: Path) -> None:
    mount = Mount(tmp_path / "mount", token=b"one")
    async with followed(bearer(mount / "token")) as (files, heard):
        for generation in (b"two", b"three"):  # watching the name itself sees the first swap alone
            mount.swap(token=generation)
            await until(lambda generation=generation: heard and heard[-1].credential[1] == b"Bearer " + generation)  # type: ignore[misc]
        assert files.in_force is heard[-1]
        assert (files.reloads, files.failures, files.problem) == (2, 0, None)


async def test_a_file_that_breaks_changes_nothing_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"hunter2-one")
    async with followed(bearer(path)) as (files, heard):
        path.write_bytes(b"hunter2\r\nX-Admin: yes")
        await until(lambda: files.problem)
        path.unlink()
        await until(lambda: files.problem == "token: no such file or directory")
        path.write_bytes(b"hunter2-one")
        await until(lambda: files.problem is None)
        assert heard == []
        assert files.failures == 2
        path.write_bytes(b"hunter2-two")
        await until(lambda: heard)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 2
    assert not any("hunter2" in line for line in lines)


async def test_half_a_write_is_not_taken(tmp_path: Path) -> None:
    """What was seen once is looked at again: an editor truncates and then writes."""
    path = tmp_path / "token"
    path.write_bytes(b"one")
    files = OwnFiles(bearer(path), lambda new: None)
    path.write_bytes(b"tw")
    assert files._look() is None
    path.write_bytes(b"two")
    assert files._look() is None
    found = files._look()
    assert isinstance(found, Material)
    assert found.credential == (b"Authorization", b"Bearer two")


async def test_a_certificate_and_its_key_are_renewed_together(tmp_path: Path) -> None:
    authority = trustme.CA()
    mount = Mount(tmp_path / "mount", **pair(authority))
    async with followed(tls(mount)) as (files, heard):
        first = files.in_force
        mount.swap(**(pair(authority) | {"key": pair(authority)["key"]}))
        await until(lambda: files.problem)
        assert files.problem == "the client certificate and its key don't belong together"
        assert files.in_force is first
        mount.swap(**pair(authority))
        await until(lambda: heard)
        assert files.problem is None
        assert heard[0].tls is not first.tls
        assert heard[0].expires is not None


async def test_an_expired_certificate_does_not_replace_a_good_one(tmp_path: Path) -> None:
    authority = trustme.CA()
    mount = Mount(tmp_path / "mount", **pair(authority))
    async with followed(tls(mount)) as (files, heard):
        mount.swap(**pair(authority, not_after=datetime.now(UTC) - timedelta(hours=1)))
        await until(lambda: files.problem == "the client certificate has expired")
        assert heard == []


def test_a_key_under_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    files = pair(trustme.CA())
    key = serialization.load_pem_private_key(files["key"], None)
    files["key"] = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    settings = tls(Mount(tmp_path / "mount", **files))
    with pytest.raises(OwnFilesUnusable, match="locked by a password"):
        material(settings, read(files_of(settings)))


@pytest.mark.parametrize("content", [b"", b"\n", b"# nothing here\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_authority_without_certificates_is_never_the_system_s(tmp_path: Path, content: bytes) -> None:
    """`create_default_context(cadata="")` trusts what the system trusts."""
    path = tmp_path / "ca.crt"
    path.write_bytes(content)
    settings = UpstreamSettings("store", "https://store", ca_file=path)
    with pytest.raises(OwnFilesUnusable, match=r"no PEM certificates can be read from ca\.crt"):
        material(settings, read(files_of(settings)))


def test_only_the_own_authority_is_trusted_and_names_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_bytes("# Zertifizierungsstelle für Prüfungen\n".encode() + trustme.CA().cert_pem.bytes())
    settings = UpstreamSettings("store", "https://store", ca_file=path)
    made = material(settings, read(files_of(settings))).tls
    assert made is not None
    assert len(made.get_ca_certs()) == 1
    assert made.check_hostname
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_without_files_nothing_is_followed() -> None:
    files = OwnFiles(UpstreamSettings("store", "http://store"), lambda new: None)
    before = asyncio.all_tasks()
    await files.start()
    assert asyncio.all_tasks() == before
    await files.stop()
    assert files.in_force == Material()
