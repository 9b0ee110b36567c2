"""`listen`: one address or many, and what a connection goes through there."""

from pathlib import Path

import pytest

from sidecar import config
from sidecar.config.listeners import UNIX_MODE
from sidecar.errors import DocumentError
from sidecar.settings import Listen, ListenerSettings, ProxyProtocolSettings, TlsSettings

REST = "ops: 127.0.0.1:9090\npolicies: p\nupstreams: {a: {url: 'http://a'}}\n"


def load(folder: Path, listen: str) -> tuple[ListenerSettings, ...]:
    path = folder / "sidecar.yaml"
    path.write_text(f"listen: {listen}\n{REST}")
    return config.load(path).listen


def problems(folder: Path, listen: str) -> list[str]:
    with pytest.raises(DocumentError) as raised:
        load(folder, listen)
    return [f"{problem.path}: {problem.message}" for problem in raised.value.problems]


def test_one_address_is_one_listener(tmp_path: Path) -> None:
    one = (ListenerSettings(Listen("127.0.0.1", 8080)),)
    assert load(tmp_path, "127.0.0.1:8080") == load(tmp_path, "[127.0.0.1:8080]") == one
    assert load(tmp_path, "{address: 127.0.0.1:8080}") == load(tmp_path, "[{address: 127.0.0.1:8080}]") == one


def test_each_listener_has_its_own(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
  - 127.0.0.1:8080
  - "[::1]:8080"
  - address: "[::]:8443"
    tls: {cert_file: tls/tls.crt, key_file: /etc/tls.key}
    proxy_protocol: {trusted: [10.0.0.0/8, 192.0.2.7, "2001:db8::/32"]}
  - unix:a.sock
  - {address: "unix:b.sock", mode: "0600", proxy_protocol: {trusted: [unix]}}
""",
    )
    assert found == (
        ListenerSettings(Listen("127.0.0.1", 8080)),
        ListenerSettings(Listen("::1", 8080)),
        ListenerSettings(
            Listen("::", 8443),
            tls=TlsSettings(tmp_path / "tls/tls.crt", Path("/etc/tls.key")),
            proxy_protocol=ProxyProtocolSettings(("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")),
        ),
        ListenerSettings(Listen(unix=tmp_path / "a.sock"), UNIX_MODE),
        ListenerSettings(Listen(unix=tmp_path / "b.sock"), 0o600, proxy_protocol=ProxyProtocolSettings(("unix",))),
    )


@pytest.mark.parametrize(("written", "mode"), [("0600", 0o600), ("666", 0o666), ("'0660'", 0o660)])
def test_a_mode_is_octal_however_it_is_quoted(tmp_path: Path, written: str, mode: int) -> None:
    assert load(tmp_path, f"{{address: 'unix:a.sock', mode: {written}}}")[0].mode == mode


@pytest.mark.parametrize(
    ("listen", "where", "message"),
    [
        ("[]", "$.listen", "an address is needed here"),
        ("[127.0.0.1:1, 127.0.0.1:1]", "$.listen[1]", "this address is here twice"),
        ("[127.0.0.1:1, 0.0.0.0:1]", "$.listen[1]", "this address is here twice"),
        ("[127.0.0.1]", "$.listen[0]", "expected HOST:PORT"),
        ("{tls: {cert_file: a, key_file: b}}", "$.listen", "the key 'address' is missing"),
        ("{address: 127.0.0.1:1, mode: '0660'}", "$.listen.mode", "only a unix socket has a mode"),
        ("{address: 'unix:a', mode: rw}", "$.listen.mode", "expected permissions in octal"),
        ("{address: 'unix:a', mode: '4660'}", "$.listen.mode", "expected permissions in octal"),
        ("{address: 127.0.0.1:1, tls: {cert_file: a}}", "$.listen.tls", "the key 'key_file' is missing"),
        ("{address: 127.0.0.1:1, tls: {cert: a, cert_file: a, key_file: b}}", "$.listen.tls.cert", "name the file: cert_file"),
        ("{address: 127.0.0.1:1, tls: true}", "$.listen.tls", "expected a mapping"),
        ("{address: 127.0.0.1:1, proxy_protocol: {}}", "$.listen.proxy_protocol", "the key 'trusted' is missing"),
        ("{address: 127.0.0.1:1, proxy_protocol: {trusted: []}}", "$.listen.proxy_protocol.trusted", "nobody is trusted"),
        ("{address: 127.0.0.1:1, proxy_protocol: {trusted: [10.0.0.1/8]}}", "$.listen.proxy_protocol.trusted[0]", "expected a network"),
        ("{address: 127.0.0.1:1, proxy_protocol: {trusted: [a, 1.2.3.4]}}", "$.listen.proxy_protocol.trusted[0]", "expected a network"),
        ("{address: 127.0.0.1:1, proxy_protocol: {trusted: [1.2.3.4, 1.2.3.4]}}", "$.listen.proxy_protocol.trusted[1]", "twice"),
        ("{address: 127.0.0.1:1, proxy_protocol: {trusted: [unix]}}", "$.listen.proxy_protocol.trusted[0]", "unix is for a unix socket"),
        ("{address: 'unix:a', proxy_protocol: {trusted: [10.0.0.0/8]}}", "$.listen.proxy_protocol.trusted[0]", "expected unix"),
        ("{address: 127.0.0.1:1, proxi_protocol: {}}", "$.listen.proxi_protocol", "unknown key"),
        ("[127.0.0.1:1, 127.0.0.1:9090]", "$.ops", "the ops port must not be the data plane's"),
    ],
)  # fmt: skip
def test_what_would_not_do_is_said(tmp_path: Path, listen: str, where: str, message: str) -> None:
    (problem,) = problems(tmp_path, listen)
    assert problem.startswith(f"{where}: ")
    assert message in problem
