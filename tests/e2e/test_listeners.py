"""Where clients come in: TLS whose certificate changes under open connections, PROXY protocol, IPv6, unix sockets; one process and
several workers alike."""

import contextlib
import http.client
import os
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.asking import bearer
from tests.e2e.process import SidecarProcess, free_ports, until

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
anonymous: read
ci_tokens: read-write
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
AUTHORITY = trustme.CA(organization_name="The test's authority")
AUTHORITY_NAME = b"The test's authority"


def from_client(address: str) -> bytes:
    """A PROXY header as a balancer writes it."""
    if ":" in address:
        ends = socket.inet_pton(socket.AF_INET6, address) * 2
        return SIGNATURE + b"\x21\x21" + (len(ends) + 4).to_bytes(2, "big") + ends + b"\x01\x00\x01\xbb"
    ends = socket.inet_aton(address) * 2
    return (
        SIGNATURE
        + b"\x21\x11"
        + (len(ends) + 4 + 7).to_bytes(2, "big")
        + ends
        + b"\x01\x00\x01\xbb"
        + b"\x02\x00\x04host"
    )


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


class Volume:
    """A Secret as Kubernetes mounts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._generation = 0

    def swap(self, name: str, *, key_of: str | None = None) -> None:
        """A certificate for `name`; with the key of another one, the pair is broken."""
        self._generation += 1
        version = self.folder / f"..2026_{self._generation}"
        version.mkdir()
        leaf = AUTHORITY.issue_cert(name)
        (version / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        other = leaf if key_of is None else AUTHORITY.issue_cert(key_of)
        (version / "tls.key").write_bytes(other.private_key_pem.bytes())
        (version / "tls.key").chmod(0o600)
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for file in ("tls.crt", "tls.key"):
            if not (self.folder / file).is_symlink():
                (self.folder / file).symlink_to(f"..data/{file}")


class House:
    """A process with every kind of listener."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.volume = Volume(folder / "tls")
        self.volume.swap("one.example")
        self.tls, self.proxied, self.both, self.other, self.six = free_ports(5)
        self.unix, self.unix_proxied = folder / "data.sock", folder / "proxied.sock"
        self.unix.parent.mkdir(exist_ok=True)
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(self.unix))
        stale.close()
        self.sidecar = SidecarProcess(
            folder,
            upstreams='  local: {url: "file://./data"}',
            policies={"web.yaml": POLICY},
            more=f"workers: {workers}\nlimits: {{drain_delay: 0s, head_timeout: 3s}}\nfailed_credentials: {{burst: 20}}",
        )
        text = self.sidecar.config.read_text()
        pair = "tls: {cert_file: ./tls/tls.crt, key_file: ./tls/tls.key}"
        self.sidecar.config.write_text(
            text.replace(
                f"listen: 127.0.0.1:{self.sidecar.port}",
                f"""listen:
  - 127.0.0.1:{self.sidecar.port}
  - {{address: 127.0.0.1:{self.tls}, {pair}}}
  - {{address: 127.0.0.1:{self.proxied}, proxy_protocol: {{trusted: [127.0.0.1]}}}}
  - {{address: 127.0.0.1:{self.both}, {pair}, proxy_protocol: {{trusted: [127.0.0.0/8]}}}}
  - {{address: 127.0.0.1:{self.other}, proxy_protocol: {{trusted: [10.0.0.0/8]}}}}
  - "[::1]:{self.six}"
  - {{address: "unix:./data.sock", mode: "0600"}}
  - {{address: "unix:./proxied.sock", proxy_protocol: {{trusted: [unix]}}}}""",
            )
        )
        self.sidecar.start()
        self.token = self.sidecar.token()

    def seen_as(self, path: str) -> str | None:
        """Who asked for this path, as the audit log has it."""

        def found() -> list[str | None]:
            return [
                record["client"]["ip"] or "nobody"
                for record in self.sidecar.audit()
                if record["request"]["path"] == path
            ]

        return str(until(found)[-1])


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("listeners"), request.param)
    yield made
    made.sidecar.kill()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    AUTHORITY.configure_trust(context)
    return context


def get(sock: socket.socket, path: str, headers: dict[str, str] | None = None) -> int:
    """On this connection, which stays open."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: one.example",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    response = http.client.HTTPResponse(sock)
    response.begin()
    response.read()
    return response.status


def connect(address: object, first: bytes = b"") -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(20)
    sock.connect(str(address) if isinstance(address, Path) else ("127.0.0.1", address))  # type: ignore[arg-type]
    sock.sendall(first)
    return sock


def encrypted(sock: socket.socket) -> ssl.SSLSocket:
    return trusting().wrap_socket(sock, server_hostname="one.example")


def named(sock: ssl.SSLSocket) -> str:
    certificate = sock.getpeercert()
    assert certificate is not None
    return str(certificate["subjectAltName"][0][1])  # type: ignore[index]


def served(port: int) -> str:
    with encrypted(connect(port)) as sock:
        return named(sock)


def everywhere(house: House, name: str) -> None:
    """Waits until every worker serves it; each follows the files by itself."""
    until(lambda: all(served(house.tls) == name for _ in range(12)))


@contextlib.contextmanager
def asking_all_the_time(house: House) -> Iterator[None]:
    """Connection after connection, and none may fail."""
    over, failed, asked = threading.Event(), [], []

    def ask() -> None:
        while not over.is_set():
            try:
                with encrypted(connect(house.tls)) as sock:
                    asked.append(get(sock, "/web/none"))
            except OSError as error:
                failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
    assert set(asked) == {404}
    assert failed == []


def test_a_new_certificate_is_served_and_no_connection_is_dropped(house: House) -> None:
    names = iter(["two.example", "three.example"])
    with asking_all_the_time(house), encrypted(connect(house.tls)) as open_before:
        before = named(open_before)
        assert get(open_before, "/web/none") == 404
        for name in names:
            house.volume.swap(name)
            everywhere(house, name)
            assert get(open_before, "/web/none", bearer(house.token)) == 404
        assert named(open_before) == before
    seen = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{house.tls}"], input=b"", capture_output=True, timeout=120
    ).stdout
    assert AUTHORITY_NAME in seen


def test_a_broken_pair_keeps_the_old_one_and_says_so(house: House) -> None:
    listen = f"127.0.0.1:{house.tls}"
    successful = f'sidecar_tls_certificate_last_reload_successful{{listen="{listen}"}}'
    errors = f'sidecar_tls_certificate_reloads_total{{listen="{listen}",result="error"}}'
    house.volume.swap("good.example")
    everywhere(house, "good.example")
    before = house.sidecar.metric(errors)
    house.volume.swap("bad.example", key_of="other.example")
    until(lambda: house.sidecar.metric(successful) == 0)
    until(lambda: house.sidecar.metric(errors) > before)
    told = "the new certificate is not served, the last good one stays: the key is another certificate's"
    until(lambda: told in house.sidecar.log)
    for _ in range(10):
        assert served(house.tls) == "good.example"
    house.volume.swap("mended.example")
    everywhere(house, "mended.example")
    until(lambda: house.sidecar.metric(successful) == 1)
    assert house.sidecar.metric(f'sidecar_tls_certificate_expiry_timestamp_seconds{{listen="{listen}"}}') > 1.7e9


def test_a_large_object_comes_whole_through_tls(house: House) -> None:
    """Nothing may take the way around the encryption, as bodies of plain TCP do."""
    content = os.urandom(5_000_000)
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", house.tls, timeout=20, context=trusting())
    ) as connection:
        connection.request("PUT", "/web/large", body=content, headers=bearer(house.token))
        assert connection.getresponse().read() is not None
        connection.request("GET", "/web/large")
        assert connection.getresponse().read() == content


def test_a_refused_upload_reads_its_answer_through_tls(house: House) -> None:
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", house.tls, timeout=20, context=trusting())
    ) as connection:
        connection.request("PUT", "/web/refused", body=bytes(200_000))
        assert connection.getresponse().status == 401


def test_the_audit_log_knows_of_tls(house: House) -> None:
    with encrypted(connect(house.tls)) as sock:
        assert get(sock, "/web/told") == 404
    house.seen_as("/web/told")
    (record,) = [each for each in house.sidecar.audit() if each["request"]["path"] == "/web/told"]
    assert record["client"]["tls"] == {"version": "TLSv1.3", "cert_sha256": None}


def test_plain_http_at_a_tls_listener_gets_no_answer(house: House) -> None:
    with connect(house.tls, b"GET /web/none HTTP/1.1\r\nHost: a\r\n\r\n") as sock:
        assert b"HTTP" not in _rest(sock)


def _rest(sock: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(65536):
            received += data
    return received


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_the_address_that_a_trusted_balancer_names_is_the_client_s(house: House, client: str) -> None:
    path = f"/web/{client.replace(':', '-')}"
    with connect(house.proxied, from_client(client)) as sock:
        assert get(sock, path, {"X-Forwarded-For": "203.0.113.9"}) == 404
    assert house.seen_as(path) == client


def test_the_header_comes_before_the_handshake(house: House) -> None:
    with encrypted(connect(house.both, from_client("192.0.2.8"))) as sock:
        assert get(sock, "/web/both") == 404
    assert house.seen_as("/web/both") == "192.0.2.8"


def test_a_health_check_of_the_balancer_is_its_own(house: House) -> None:
    with connect(house.proxied, LOCAL) as sock:
        assert get(sock, "/web/local") == 404
    assert house.seen_as("/web/local") == "127.0.0.1"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /web/none HTTP/1.1\r\nHost: a\r\n\r\n", id="none"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nGET /web/none HTTP/1.1\r\nHost: a\r\n\r\n", id="version 1"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 500, id="oversized"),
        pytest.param(SIGNATURE + b"\x21\x11\x00\x01x" + b"GET / HTTP/1.1\r\n\r\n", id="cut short"),
        pytest.param(from_client("192.0.2.7")[:20], id="slow"),
    ],
)
def test_a_trusted_peer_without_a_good_header_is_turned_away(house: House, sent: bytes) -> None:
    reason = "head_timeout" if len(sent) == 20 else "bad_proxy_header"
    sample = f'sidecar_decisions_total{{decision="deny",reason="{reason}"}}'
    before = house.sidecar.metric(sample)
    with connect(house.proxied, sent) as sock:
        assert _rest(sock) == b""
    until(lambda: house.sidecar.metric(sample) == before + 1)


def test_a_header_from_anybody_else_is_bad_bytes(house: House) -> None:
    for port in (house.other, house.sidecar.port):
        with connect(port, from_client("192.0.2.7") + b"GET /web/none HTTP/1.1\r\nHost: a\r\n\r\n") as sock:
            assert _rest(sock).startswith(b"HTTP/1.1 400 ")
        with connect(port) as sock:
            assert get(sock, "/web/none") == 404


def test_who_is_throttled_is_the_client_and_not_the_balancer(house: House) -> None:
    def ask(client: str) -> int:
        with connect(house.proxied, from_client(client)) as sock:
            return get(sock, "/web/none", bearer("nonsense"))

    assert 429 in [ask("192.0.2.66") for _ in range(200)]
    assert ask("192.0.2.67") == 401
    assert ask("2001:db8:6::1") == 401


def test_ipv6(house: House) -> None:
    with socket.create_connection(("::1", house.six), timeout=20) as sock:
        assert get(sock, "/web/six") == 404
    assert house.seen_as("/web/six") == "::1"


def test_a_unix_socket_has_its_mode_and_replaced_a_stale_one(house: House) -> None:
    assert stat.S_IMODE(house.unix.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.unix_proxied.stat().st_mode) == 0o660
    with connect(house.unix) as sock:
        assert get(sock, "/web/unix") == 404
    assert house.seen_as("/web/unix") == "nobody"
    with connect(house.unix_proxied, from_client("192.0.2.9")) as sock:
        assert get(sock, "/web/unix-proxied") == 404
    assert house.seen_as("/web/unix-proxied") == "192.0.2.9"


def test_a_broken_pair_stops_the_start(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "tls")
    volume.swap("one.example", key_of="two.example")
    sidecar = SidecarProcess(tmp_path, upstreams='  local: {url: "file://./data"}', policies={"web.yaml": POLICY})
    listen = f"{{address: 127.0.0.1:{sidecar.port}, tls: {{cert_file: ./tls/tls.crt, key_file: ./tls/tls.key}}}}"
    text = sidecar.config.read_text()
    sidecar.config.write_text(text.replace(f"listen: 127.0.0.1:{sidecar.port}", f"listen: {listen}"))
    with pytest.raises(
        AssertionError,
        match=r"2 \$\.listen\.tls\.cert_file: .*tls.crt: the key is another certificate's|another certificate's",
    ):
        sidecar.start()
    assert sidecar.wait() == 3
