"""The certificate that is served is the newest good pair on the disk, and a bad one never takes its place."""

import os
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sidecar.server.certificate import BadPair, Certificate, Served, load_pair
from sidecar.settings import TlsSettings

AUTHORITY = trustme.CA()
NOW = time.time()


def issued(name: str = "one.example", **more: object) -> trustme.LeafCert:
    return AUTHORITY.issue_cert(name, **more)  # type: ignore[arg-type]


def chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def key(leaf: trustme.LeafCert) -> bytes:
    return leaf.private_key_pem.bytes()


ONE, TWO = issued("one.example"), issued("two.example")
RSA = AUTHORITY.issue_cert("rsa.example", key_type=trustme.KeyType.RSA)


def greeted(served: Served) -> tuple[str, ...]:
    """The names of the certificate that a client sees."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    AUTHORITY.configure_trust(trusting)
    client = trusting.wrap_bio(to_client, to_server)
    server = served.context.wrap_bio(to_server, to_client, server_side=True)
    done = 0
    while done < 2:
        done = 0
        for side in (client, server):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
    certificate = client.getpeercert() or {}
    return tuple(str(value) for _, value in certificate["subjectAltName"])  # type: ignore[misc]


def test_a_good_pair_is_served() -> None:
    served = load_pair(chain(ONE), key(ONE), NOW)
    assert greeted(served) == served.names == ("one.example",)
    assert served.not_after > NOW


def encrypted(leaf: trustme.LeafCert) -> bytes:
    loaded = load_pem_private_key(key(leaf), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))


PAST = issued(
    "past.example", not_after=datetime.now(UTC) - timedelta(days=1), not_before=datetime.now(UTC) - timedelta(days=9)
)
FUTURE = issued("future.example", not_before=datetime.now(UTC) + timedelta(days=1))


@pytest.mark.parametrize(
    ("certificate", "secret", "why"),
    [
        pytest.param(chain(ONE), key(TWO), "the key is another certificate's", id="no pair"),
        pytest.param(chain(ONE), key(RSA), "the key is another certificate's", id="another kind of key"),
        pytest.param(b"", key(ONE), "no PEM certificate", id="empty certificate"),
        pytest.param(key(ONE), key(ONE), "no PEM certificate", id="a key for a certificate"),
        pytest.param(chain(ONE), b"", "the key can't be read", id="empty key"),
        pytest.param(chain(ONE), chain(ONE), "the key can't be read", id="a certificate for a key"),
        pytest.param(chain(ONE), key(ONE)[:100], "the key can't be read", id="half a key"),
        pytest.param(chain(ONE), encrypted(ONE), "or is encrypted", id="encrypted"),
        pytest.param(chain(PAST), key(PAST), "the certificate expired 20", id="expired"),
        pytest.param(chain(FUTURE), key(FUTURE), "is not valid before 20", id="of the future"),
    ],
)
def test_a_bad_pair_is_not(certificate: bytes, secret: bytes, why: str) -> None:
    with pytest.raises(BadPair, match=why):
        load_pair(certificate, secret, NOW)


class Files:
    """A pair in a folder as Kubernetes mounts a secret (`swap`), or as people write files (`write`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = TlsSettings(folder / "tls.crt", folder / "tls.key")
        self._generation = 0
        self.told: list[str] = []
        self.certificate = Certificate(self.settings, self.told.append, settle=0.0)

    def write(self, certificate: bytes | None = None, secret: bytes | None = None) -> None:
        if certificate is not None:
            self.settings.cert_file.write_bytes(certificate)
        if secret is not None:
            self.settings.key_file.write_bytes(secret)

    def swap(self, certificate: bytes, secret: bytes) -> None:
        self._generation += 1
        version = self.folder / f"..2026_{self._generation}"
        version.mkdir()
        (version / "tls.crt").write_bytes(certificate)
        (version / "tls.key").write_bytes(secret)
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")

    def look(self) -> str | None:
        """What a look at the files tells, once they have settled."""
        self.certificate._look()
        return self.certificate._look()

    @property
    def served(self) -> tuple[str, ...]:
        return greeted(self.certificate.served)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_new_pair_is_served_and_the_old_one_is_gone(files: Files) -> None:
    """Another kind of key: a context that had both loaded would go on serving the old one to some clients."""
    files.write(chain(RSA), key(RSA))
    files.certificate.load_now()
    assert files.served == ("rsa.example",)
    files.write(chain(TWO), key(TWO))
    assert files.look() == ""
    assert files.served == ("two.example",)
    assert (files.certificate.loaded, files.certificate.failed, files.certificate.problem) == (2, 0, "")
    assert files.look() is None


def test_a_swapped_volume_is_followed_again_and_again(files: Files) -> None:
    files.swap(chain(ONE), key(ONE))
    files.certificate.load_now()
    for leaf, name in ((TWO, "two.example"), (RSA, "rsa.example"), (ONE, "one.example")):
        files.swap(chain(leaf), key(leaf))
        assert files.look() == ""
        assert files.served == (name,)


def test_both_halves_are_of_one_generation(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swap may happen between the two reads; both go through the folder that `..data` pointed to before the first."""
    files.swap(chain(ONE), key(ONE))
    reads: list[str] = []
    real = open

    def opened(path: str, *more: object) -> object:
        reads.append(os.path.dirname(path))
        return real(path, *more)  # type: ignore[call-overload]

    monkeypatch.setattr("sidecar.settled.open", opened, raising=False)
    files.certificate.load_now()
    assert set(reads) == {str((files.folder / "..2026_1").resolve())}


@pytest.mark.parametrize(
    ("certificate", "secret", "why"),
    [
        pytest.param(chain(TWO), None, "the key is another certificate's", id="half a change"),
        pytest.param(None, key(TWO), "the key is another certificate's", id="the other half"),
        pytest.param(b"", None, "no PEM certificate", id="truncated"),
        pytest.param(chain(PAST), key(PAST), "expired", id="expired"),
    ],
)
def test_a_broken_pair_leaves_the_good_one_in_place(
    files: Files, certificate: bytes | None, secret: bytes | None, why: str
) -> None:
    files.write(chain(ONE), key(ONE))
    files.certificate.load_now()
    files.write(certificate, secret)
    assert why in (files.look() or "")
    assert why in files.certificate.problem
    assert files.served == ("one.example",)
    assert (files.certificate.loaded, files.certificate.failed) == (1, 1)
    files.write(chain(TWO), key(TWO))
    assert files.look() == ""
    assert files.served == ("two.example",)
    assert files.certificate.problem == ""


def test_files_that_are_gone_leave_the_good_one_in_place(files: Files) -> None:
    files.write(chain(ONE), key(ONE))
    files.certificate.load_now()
    files.settings.key_file.unlink()
    assert "tls.key: No such file" in (files.look() or "")
    assert files.served == ("one.example",)


def test_without_a_good_pair_there_is_nothing_to_serve_by(files: Files) -> None:
    files.write(chain(ONE), key(TWO))
    with pytest.raises(BadPair, match="another certificate's"):
        files.certificate.load_now()
