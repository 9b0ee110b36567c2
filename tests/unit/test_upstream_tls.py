"""A store behind TLS, with real certificates: whom we take for the store, and whom we show ourselves to."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidecar.errors import Unavailable
from sidecar.reasons import Reason
from sidecar.settings import HealthSettings, Timeouts, UpstreamSettings
from sidecar.upstream import own_files as own_files_module
from sidecar.upstream import pool as pool_module
from sidecar.upstream.answer import broken
from sidecar.upstream.http import HttpUpstream
from tests.unit.relays import Client, event_loop_policy, on_uvloop, until

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

OURS, THEIRS = trustme.CA(), trustme.CA()
NAME = "store.test"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SWEEP", 0.01)


class TlsStore:
    """Answers each request with the name in the client's certificate, if it was shown one."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.handshakes = 0
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def shows(self, certificate: trustme.LeafCert) -> None:
        certificate.configure_cert(self.tls)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        shown: Any = writer.get_extra_info("peercert") or {}
        said = dict(part[0] for part in shown.get("subject", ())).get("commonName", "nobody")
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said.encode()))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def tls_store(
    certificate: trustme.LeafCert | None = None, *, asks_for: trustme.CA | None = None
) -> AsyncIterator[TlsStore]:
    made = TlsStore()
    made.shows(certificate or OURS.issue_cert(NAME))
    if asks_for is not None:
        made.tls.verify_mode = ssl.CERT_REQUIRED
        asks_for.configure_trust(made.tls)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=made.tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def settings(made: TlsStore, folder: Path, **more: Any) -> UpstreamSettings:
    ca_file = folder / "ca.crt"
    if not ca_file.exists():
        ca_file.write_bytes(OURS.cert_pem.bytes())
    more = {"server_name": NAME, "ca_file": ca_file} | more
    return UpstreamSettings(
        "store",
        f"https://127.0.0.1:{made.port}",
        timeouts=Timeouts(connect=2.0, first_byte=2.0),
        health=HealthSettings(failures=100),
        **more,
    )


def ours(folder: Path, authority: trustme.CA = OURS) -> dict[str, Path]:
    issued = authority.issue_cert("sidecar.test", common_name="the sidecar")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return {"client_certificate_file": certificate, "client_key_file": key}


async def ask(upstream: HttpUpstream) -> bytes:
    client = Client("GET", "/a")
    await upstream.forward(client)
    return client.answer


async def refusal(upstream: HttpUpstream) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await ask(upstream)
    return caught.value


async def test_a_store_that_proves_itself_is_asked(tmp_path: Path) -> None:
    async with tls_store() as made:
        upstream = HttpUpstream(settings(made, tmp_path))
        assert [await ask(upstream) for _ in range(3)] == [b"nobody"] * 3
        assert made.handshakes == 1
        await upstream.close()


HOUR = timedelta(hours=1)
FALSE = {
    "for another name": (lambda: OURS.issue_cert("other.test"), "Hostname mismatch"),
    "for a name below it": (lambda: OURS.issue_cert(f"*.{NAME}"), "Hostname mismatch"),
    "expired": (lambda: OURS.issue_cert(NAME, not_after=datetime.now(UTC) - HOUR), "certificate has expired"),
    "by another authority": (lambda: THEIRS.issue_cert(NAME), "unable to get local issuer certificate"),
}


@pytest.mark.parametrize(("certificate", "why"), FALSE.values(), ids=FALSE)
async def test_a_store_with_a_false_certificate_gets_not_one_byte(tmp_path: Path, certificate: Any, why: str) -> None:
    async with tls_store(certificate()) as made:
        upstream = HttpUpstream(settings(made, tmp_path))
        refused = await refusal(upstream)
        assert refused.reason is Reason.UPSTREAM_UNTRUSTED
        assert why in refused.detail
        assert made.heads == []
        await upstream.close()


async def test_the_name_is_the_url_s_where_no_other_is_asked_for(tmp_path: Path) -> None:
    for certificate, right in [(OURS.issue_cert("127.0.0.1"), True), (OURS.issue_cert(NAME), False)]:
        async with tls_store(certificate) as made:
            upstream = HttpUpstream(settings(made, tmp_path, server_name=None))
            if right:
                assert await ask(upstream) == b"nobody"
            else:
                assert (await refusal(upstream)).reason is Reason.UPSTREAM_UNTRUSTED
            await upstream.close()


async def test_an_own_authority_replaces_the_system_s(tmp_path: Path) -> None:
    async with tls_store() as made:
        upstream = HttpUpstream(settings(made, tmp_path, ca_file=None))
        assert (await refusal(upstream)).reason is Reason.UPSTREAM_UNTRUSTED
        await upstream.close()


async def test_an_intermediate_authority_or_the_store_s_own_certificate_is_enough(tmp_path: Path) -> None:
    """Many companies hand out the certificate of an intermediate, or of the machine, and not their root's."""
    middle = OURS.create_child_ca()
    leaf = middle.issue_cert(NAME)
    for trusted in (middle.cert_pem, leaf.cert_chain_pems[0]):
        (tmp_path / "ca.crt").write_bytes(trusted.bytes())
        async with tls_store(leaf) as made:
            upstream = HttpUpstream(settings(made, tmp_path))
            assert await ask(upstream) == b"nobody"
            await upstream.close()
        async with tls_store(OURS.issue_cert(NAME)) as made:  # the root that signed it is not in the file
            upstream = HttpUpstream(settings(made, tmp_path))
            assert (await refusal(upstream)).reason is Reason.UPSTREAM_UNTRUSTED
            await upstream.close()


async def test_a_store_that_speaks_no_tls_is_unreachable(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    made = TlsStore()
    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        upstream = HttpUpstream(settings(made, tmp_path))
        refused = await refusal(upstream)
        assert refused.reason is Reason.UPSTREAM_UNREACHABLE
        assert "WRONG_VERSION_NUMBER" in refused.detail
        await upstream.close()


async def test_a_handshake_that_never_ends_is_given_up(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    made = TlsStore()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        upstream = HttpUpstream(settings(made, tmp_path))
        upstream.pool._settings = UpstreamSettings("store", "https://x", timeouts=Timeouts(connect=0.05))
        async with asyncio.timeout(20):
            refused = await refusal(upstream)
        assert (refused.reason, refused.detail) == (Reason.UPSTREAM_UNREACHABLE, "no connection in time")
        await upstream.close()


async def test_a_store_that_asks_for_a_certificate_is_shown_ours(tmp_path: Path) -> None:
    async with tls_store(asks_for=OURS) as made:
        upstream = HttpUpstream(settings(made, tmp_path, **ours(tmp_path)))
        assert await ask(upstream) == b"the sidecar"
        await upstream.close()


@contextmanager
def strict_store(tls_1_2: bool) -> Iterator[TlsStore]:
    """By the `ssl` module itself: asyncio's transports drop the alert that says why a handshake failed."""
    made = TlsStore()
    made.shows(OURS.issue_cert(NAME))
    made.tls.verify_mode = ssl.CERT_REQUIRED
    OURS.configure_trust(made.tls)
    if tls_1_2:
        made.tls.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(ssl.SSLError):
                    made.tls.wrap_socket(connection, server_side=True)
                    connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        made.port = listening.getsockname()[1]
        threading.Thread(target=serve, daemon=True).start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("tls_1_2", [True, False], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("shown", [None, THEIRS], ids=["none", "another authority's"])
async def test_a_store_that_does_not_take_our_certificate_says_so(
    tmp_path: Path, tls_1_2: bool, shown: trustme.CA | None
) -> None:
    """In the handshake, or after it (RFC 8446): neither reads as a store that is away."""
    with strict_store(tls_1_2) as made:
        upstream = HttpUpstream(settings(made, tmp_path, **(ours(tmp_path, shown) if shown is not None else {})))
        refused = await refusal(upstream)
        assert refused.reason is (Reason.UPSTREAM_UNREACHABLE if tls_1_2 else Reason.UPSTREAM_BROKEN)
        assert "ALERT" in refused.detail
        await upstream.close()


async def test_an_authority_that_was_replaced_is_believed_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the connections that were made while it was: the store has to prove itself anew."""
    monkeypatch.setattr(own_files_module.OwnFiles.__init__, "__defaults__", (0.01, 0.01))
    async with tls_store() as made:
        upstream = HttpUpstream(settings(made, tmp_path))
        await upstream.open()
        assert await ask(upstream) == b"nobody"
        assert upstream.pool.idling == 1
        (tmp_path / "ca.crt").write_bytes(THEIRS.cert_pem.bytes())
        await until(lambda: upstream.files.reloads == 1)
        assert upstream.pool.idling == 0
        assert (await refusal(upstream)).reason is Reason.UPSTREAM_UNTRUSTED
        assert len(made.heads) == 1
        made.shows(THEIRS.issue_cert(NAME))
        assert await ask(upstream) == b"nobody"
        await upstream.close()


async def test_an_authority_that_is_replaced_during_a_handshake_is_believed_no_longer(tmp_path: Path) -> None:
    async with tls_store() as made:
        upstream = HttpUpstream(settings(made, tmp_path))
        pool, dial = upstream.pool, upstream.pool._dial
        (tmp_path / "ca.crt").write_bytes(THEIRS.cert_pem.bytes())
        replaced = own_files_module.material(upstream._settings, own_files_module.read((tmp_path / "ca.crt",)))

        async def dial_and_replace(address: Any, tls: ssl.SSLContext | None) -> Any:
            connection = await dial(address, tls)
            pool.renew(replaced)
            return connection

        pool._dial = dial_and_replace  # type: ignore[method-assign]
        assert (await refusal(upstream)).reason is Reason.UPSTREAM_UNTRUSTED
        assert made.heads == []
        await upstream.close()


async def test_a_client_certificate_that_was_renewed_is_shown_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_files_module.OwnFiles.__init__, "__defaults__", (0.01, 0.01))
    async with tls_store(asks_for=OURS) as made:
        upstream = HttpUpstream(settings(made, tmp_path, **ours(tmp_path)))
        await upstream.open()
        assert await ask(upstream) == b"the sidecar"
        issued = OURS.issue_cert("sidecar.test", common_name="the renewed one")
        (tmp_path / "tls.crt").write_bytes(issued.cert_chain_pems[0].bytes())
        (tmp_path / "tls.key").write_bytes(issued.private_key_pem.bytes())
        await until(lambda: upstream.files.reloads == 1)
        assert await ask(upstream) == b"the renewed one"
        await upstream.close()


def test_what_breaks_is_said_as_such() -> None:
    assert broken("x").reason is Reason.UPSTREAM_BROKEN
