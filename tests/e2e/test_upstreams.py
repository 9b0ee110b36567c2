"""The ways to the stores, end to end: certificates on both sides, secrets that are rotated while it runs, stores that are away,
silent or overrun, and others that are served all the same.
"""

import concurrent.futures
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.nginx import USER, NginxStore
from tests.e2e.process import SidecarProcess, free_port, free_ports, until
from tests.e2e.scripted_store import OK, Asked, ScriptedStore
from tests.programs import require_program

NAME = "store.internal"
POLICY = """
workspace: web
routes:
  - {path: /secure, client: plain, upstream: secure, upstream_path: /secure}
  - {path: /impostor, client: plain, upstream: impostor, upstream_path: /impostor}
  - {path: /unknown, client: plain, upstream: unknown, upstream_path: /unknown}
  - {path: /slow, client: plain, upstream: slow, upstream_path: /slow}
  - {path: /away, client: plain, upstream: away, upstream_path: /away}
  - {path: /several, client: plain, upstream: several, upstream_path: /several}
ci_tokens: read-write
"""


class Secret:
    """A folder as Kubernetes mounts one: names that are links into `..data`, itself a link that is swapped."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder, self._generation = folder, 0
        folder.mkdir()
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, files: dict[str, bytes]) -> None:
        self._generation += 1
        new = self.folder / f"..2026_{self._generation}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
            (new / name).chmod(0o600)
        (self.folder / "..data_tmp").symlink_to(new.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")


class TlsNginx(NginxStore):
    """The same over TLS, for those alone who show a certificate of `authority`; on a second port as somebody else."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.tls_port, self.impostor_port = free_ports(2)
        for name, certificate in {
            "store": authority.issue_cert(NAME),
            "other": authority.issue_cert("other.test"),
        }.items():
            certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
        authority.cert_pem.write_to_path(str(folder / "clients.pem"))
        super().__init__(folder)

    def _config(self) -> str:
        def server(port: int, name: str) -> str:
            return f"""
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {self.folder}/{name}.pem;
        ssl_certificate_key {self.folder}/{name}.pem;
        ssl_client_certificate {self.folder}/clients.pem;
        ssl_verify_client on;
        root {self.files};
        auth_basic store;
        auth_basic_user_file {self.folder}/htpasswd;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
"""

        plain = super()._config().rstrip().removesuffix("}")
        return plain + server(self.tls_port, "store") + server(self.impostor_port, "other") + "}\n"

    def change_password(self, password: str) -> None:
        """nginx reads the file for each request."""
        openssl = [require_program("openssl"), "passwd", "-apr1", "-stdin"]
        hashed = subprocess.run(openssl, input=password.encode(), capture_output=True, check=True)
        (self.folder / "htpasswd").write_text(f"{USER}:{hashed.stdout.decode()}")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        (folder / "nginx").mkdir()
        self.nginx = TlsNginx(folder / "nginx", self.authority)
        issued = self.authority.issue_cert("sidecar.internal")
        self.files = {
            "ca.crt": self.authority.cert_pem.bytes(),
            "tls.crt": issued.cert_chain_pems[0].bytes(),
            "tls.key": issued.private_key_pem.bytes(),
            "password": self.nginx.password.encode(),
        }
        self.secret = Secret(folder / "secret", self.files)
        self.slow, self.one, self.two = ScriptedStore(), ScriptedStore(), ScriptedStore()
        self.away_port = free_port()
        tls = f"""
    ca_file: ./secret/ca.crt
    server_name: {NAME}
    credentials: {{basic: {{username: {USER}, password_file: ./secret/password}}}}
"""
        shown = "    client_certificate_file: ./secret/tls.crt\n    client_key_file: ./secret/tls.key\n"
        self.sidecar = SidecarProcess(
            folder,
            upstreams=f"""
  secure:
    url: https://127.0.0.1:{self.nginx.tls_port}{tls}{shown}
  impostor:
    url: https://127.0.0.1:{self.nginx.impostor_port}{tls}{shown}
  unknown:
    url: https://127.0.0.1:{self.nginx.tls_port}{tls}
  slow:
    url: http://127.0.0.1:{self.slow.port}
    connections: 2
    queue: 2
    queue_timeout: 4s
  away:
    url: http://127.0.0.1:{self.away_port}
    health: {{ejection: 200ms, max_ejection: 500ms}}
  several:
    urls: ["http://127.0.0.1:{self.one.port}", "http://127.0.0.1:{self.two.port}"]
""",
            policies={"web.yaml": POLICY},
            more="limits: {drain_delay: 0s, grace: 1s}",
        ).start()
        self.token = self.sidecar.token()

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return ask(self.sidecar.port, method, path, bearer(self.token), body)

    def check(self, name: str) -> str:
        """Its line in `/readyz?verbose`, which is a 200 whatever becomes of stores."""
        url = f"http://127.0.0.1:{self.sidecar.ops_port}/readyz?verbose"
        with urllib.request.urlopen(url, timeout=20) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line[3:].startswith(name)]
        assert len(lines) == 1
        return str(lines[0])

    def close(self) -> None:
        self.sidecar.kill()
        self.nginx.stop()
        for store in (self.slow, self.one, self.two):
            store.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("upstreams"))
    try:
        yield made
        assert made.sidecar.stop() == 0
    finally:
        made.close()


def test_nginx_that_asks_for_a_certificate_is_shown_ours(rig: Rig) -> None:
    assert rig.ask("PUT", "/secure/a", b"hello").status == 201
    answer = rig.ask("GET", "/secure/a")
    assert (answer.status, answer.body) == (200, b"hello")
    assert rig.nginx.stored()["secure/a"] == b"hello"
    assert rig.check("upstream secure files") == "[+]upstream secure files ok"


def test_without_our_certificate_nginx_gives_nothing(rig: Rig) -> None:
    answer = rig.ask("GET", "/unknown/a")
    assert (answer.status, b"No required SSL certificate was sent" in answer.body) == (400, True)


def test_a_store_with_somebody_else_s_certificate_gets_no_request(rig: Rig) -> None:
    answer = rig.ask("PUT", "/impostor/a", b"secret")
    assert (answer.status, answer.reason) == (502, "upstream_untrusted")
    assert "/impostor/" not in rig.nginx.log
    detail = until(lambda: [r for r in rig.sidecar.audit() if r["reason"] == "upstream_untrusted"])[-1]
    assert "certificate is not valid for" in str(detail)


def test_a_rotated_password_needs_no_restart(rig: Rig) -> None:
    rig.ask("PUT", "/secure/a", b"hello")
    for new in ("the second password", "the third one"):
        rig.nginx.change_password(new)
        answer = rig.ask("GET", "/secure/a")
        assert (answer.status, answer.reason) == (502, "upstream_credentials")
        rig.files["password"] = new.encode()
        rig.secret.swap(rig.files)
        until(lambda: rig.ask("GET", "/secure/a").status == 200)
    assert rig.sidecar.metric('sidecar_upstream_files_reloads_total{result="ok",upstream="secure"}') == 2
    assert "the second password" not in rig.sidecar.log + rig.nginx.folder.joinpath("stderr").read_text()


def test_an_authority_that_is_replaced_is_believed_no_longer(rig: Rig) -> None:
    rig.ask("PUT", "/secure/a", b"hello")
    rig.secret.swap(rig.files | {"ca.crt": trustme.CA().cert_pem.bytes()})
    until(lambda: rig.ask("GET", "/secure/a").reason == "upstream_untrusted")
    rig.secret.swap(rig.files)
    until(lambda: rig.ask("GET", "/secure/a").status == 200)


def test_a_certificate_that_does_not_fit_its_key_changes_nothing(rig: Rig) -> None:
    rig.ask("PUT", "/secure/a", b"hello")
    other = rig.authority.issue_cert("sidecar.internal").private_key_pem.bytes()
    rig.secret.swap(rig.files | {"tls.key": other})
    until(lambda: "the client certificate and its key don't belong together" in rig.check("upstream secure files"))
    assert rig.check("upstream secure files").startswith("[~]")
    assert rig.ask("GET", "/secure/a").status == 200
    rig.secret.swap(rig.files)
    until(lambda: rig.check("upstream secure files").startswith("[+]"))


@pytest.mark.slow
def test_who_waits_for_an_overrun_store_is_told_and_others_are_served(rig: Rig) -> None:
    """A store that accepts and never answers, and one client that takes all of its connections."""

    def hold(connection: object, asked: Asked) -> bool:
        asked.done.wait(20)
        return False

    rig.slow.script = hold
    before = len(rig.slow.asked)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        held = [pool.submit(rig.ask, "GET", "/slow/held") for _ in range(2)]
        until(lambda: len(rig.slow.asked) == before + 2)
        waiting = [pool.submit(rig.ask, "PUT", "/slow/waiting", b"x") for _ in range(2)]
        until(lambda: rig.sidecar.metric('sidecar_upstream_queue_depth{upstream="slow"}') == 2)
        assert rig.sidecar.metric('sidecar_upstream_connections{state="busy",upstream="slow"}') == 2
        refused = rig.ask("GET", "/slow/one-more")
        assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "overloaded", "2")
        assert rig.ask("GET", "/several/a").status == 200
        for each in waiting:
            assert (each.result().status, each.result().reason) == (503, "overloaded")
        assert rig.sidecar.metric('sidecar_upstream_queue_refusals_total{upstream="slow",why="full"}') == 1
        assert rig.sidecar.metric('sidecar_upstream_queue_refusals_total{upstream="slow",why="late"}') == 2
        assert len(rig.slow.asked) == before + 2  # what waited in vain was never sent
        rig.slow.script = OK
        for asked in rig.slow.asked:
            asked.done.set()
        assert {each.result().status for each in held} == {502}
    assert rig.ask("GET", "/slow/afterwards").status == 200


def test_a_store_that_is_away_opens_its_circuit_and_closes_it_when_it_is_back(rig: Rig) -> None:
    answers = [rig.ask(method, "/away/a", b"x" if method == "PUT" else None) for method in ["GET", "PUT"] * 10]
    reasons = [(answer.status, answer.reason) for answer in answers]
    assert reasons[:5] == [(502, "upstream_unreachable")] * 5
    assert set(reasons[5:]) == {(503, "upstream_circuit_open")}
    assert answers[-1].header("retry-after") == "2"
    assert rig.check("upstream away addresses").startswith("[~]upstream away addresses")
    assert "circuit open" in rig.check("upstream away addresses")
    assert rig.sidecar.metric('sidecar_upstream_circuit_open{upstream="away"}') == 1
    assert rig.sidecar.log.count("the upstream away: circuit open") == 1
    assert rig.ask("GET", "/several/a").status == 200
    store = ScriptedStore(port=rig.away_port)
    try:
        until(lambda: rig.ask("GET", "/away/a").status == 200)
        assert rig.sidecar.metric('sidecar_upstream_circuit_open{upstream="away"}') == 0
        assert rig.sidecar.metric('sidecar_upstream_circuit_openings_total{upstream="away"}') == 1
        assert rig.check("upstream away addresses") == "[+]upstream away addresses ok"
        assert store.asked[0].line == b"HEAD / HTTP/1.1"
    finally:
        store.close()


def test_a_store_with_two_addresses_lives_on_with_one(rig: Rig) -> None:
    for _ in range(4):
        assert rig.ask("GET", "/several/a").status == 200
    assert len(rig.one.asked) >= 2
    assert len(rig.two.asked) >= 2
    rig.two.close()
    asked = len(rig.one.asked)
    answers = [rig.ask(method, "/several/a", b"x" if method == "PUT" else None) for method in ["PUT", "GET"] * 10]
    assert {answer.status for answer in answers[1:]} == {200}  # the first may meet the connection that just broke
    assert len(rig.one.asked) - asked >= 19
    until(lambda: rig.sidecar.metric('sidecar_upstream_addresses{state="left_out",upstream="several"}') == 1)
    assert f"127.0.0.1:{rig.two.port}" in rig.check("upstream several addresses")
    assert str(rig.two.port) not in _scrape(rig)


def _scrape(rig: Rig) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.sidecar.ops_port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())
