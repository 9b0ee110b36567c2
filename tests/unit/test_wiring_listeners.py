"""The configuration's listeners become sockets that accept, and what they count is shown."""

import socket
import ssl
from pathlib import Path
from typing import cast

import pytest
import trustme

from sidecar.listening import StartError, bind_all
from sidecar.metrics import Metrics
from sidecar.server.client import Incoming, Listener
from sidecar.server.ops import Checks
from sidecar.settings import LimitSettings, Listen, ListenerSettings, ProxyProtocolSettings, TlsSettings
from sidecar.wiring_listeners import Entrances

LOCAL = Listen("127.0.0.1", 0)


async def nobody(incoming: Incoming) -> bool:
    return False


def pair(folder: Path, *, of_one: bool = True) -> TlsSettings:
    authority = trustme.CA()
    leaf, other = authority.issue_cert("one.example"), authority.issue_cert("two.example")
    settings = TlsSettings(folder / "tls.crt", folder / "tls.key")
    settings.cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    settings.key_file.write_bytes((leaf if of_one else other).private_key_pem.bytes())
    return settings


async def test_a_plain_address_is_the_listener_s_and_others_have_an_entrance(tmp_path: Path) -> None:
    tls = pair(tmp_path)
    settings = (
        ListenerSettings(LOCAL),
        ListenerSettings(Listen(unix=tmp_path / "a.sock"), 0o600, proxy_protocol=ProxyProtocolSettings(("unix",))),
        ListenerSettings(Listen("localhost", 0), tls=tls),
    )
    metrics, checks = Metrics(), Checks()
    listener = Listener(nobody, LimitSettings(), metrics.turned_away)
    entrances = Entrances(settings, metrics, checks)
    await entrances.open()
    sockets = bind_all(settings)
    await entrances.accept(sockets, listener)
    try:
        assert metrics.series("tls_handshakes_total") == {("localhost:0", "ok"): (0,), ("localhost:0", "error"): (0,)}
        assert metrics.series("tls_certificate_last_reload_successful") == {("localhost:0",): (1.0,)}
        assert metrics.series("tls_certificate_reloads_total") == {
            ("localhost:0", "ok"): (1,),
            ("localhost:0", "error"): (0,),
        }
        assert [check.problem for check in checks.run()] == [None]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "a.sock"))
    finally:
        await entrances.close()
        await entrances.stop()
    assert all(each.fileno() == -1 for each in sockets[1] + sockets[2])


async def test_without_a_good_certificate_nothing_starts(tmp_path: Path) -> None:
    settings = (ListenerSettings(LOCAL, tls=pair(tmp_path, of_one=False)),)
    with pytest.raises(StartError, match=r"tls.crt can't be used: the key is another certificate's"):
        await Entrances(settings, Metrics(), Checks()).open()


async def test_listeners_of_the_same_files_share_what_is_followed(tmp_path: Path) -> None:
    tls = pair(tmp_path)
    settings = (ListenerSettings(Listen("a", 1), tls=tls), ListenerSettings(Listen("b", 2), tls=tls))
    metrics = Metrics()
    entrances = Entrances(settings, metrics, Checks())
    await entrances.open()
    await entrances.stop()
    ends = metrics.series("tls_certificate_expiry_timestamp_seconds")
    assert ends.keys() == {("a:1",), ("b:2",)}
    contexts = {id(cast(ssl.SSLContext, each.served.context)) for each in entrances._named.values()}
    assert len(contexts) == 1
