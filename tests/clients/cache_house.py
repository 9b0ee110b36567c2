"""The sidecar before a store of one kind, with routes, tokens and troubles for every client of build caches.

Nothing is switched off during a test: a store that is down is an upstream at an address where nobody listens, or a folder that isn't
one any more; a verifier that is down is an issuer that has been away from the start.
"""

import contextlib
import itertools
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.clients.real import Built, Client, Project
from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.issuer import AUDIENCE, Issuer, token
from tests.e2e.nginx import NginxStore
from tests.e2e.process import SidecarProcess, until
from tests.e2e.s3_servers import SERVERS

STORES = ("file", "versitygw", "swift", "http")
"""The embedded store; a bucket of Versity's gateway, and one of OpenStack's Swift, which has no conditional writes; Debian's nginx
with its own WebDAV module."""
PROFILES = ("nx", "turborepo", "bazel", "gradle", "nix", "webdav")
_NOTHING = f"ac/{'0' * 64}"
"""A key that is never there, of Bazel's."""


class House:
    def __init__(self, sidecar: SidecarProcess, issuer: Issuer, store: str) -> None:
        self.sidecar, self._issuer, self.store = sidecar, issuer, store
        self.writers = {name: sidecar.token(workspaces=(name,)) for name in ("web", "once", "down")}
        self.reader = sidecar.token(permissions=("read",))
        self.revoked = sidecar.token()
        sidecar.revoke(self.revoked)
        self.until_refused(self.revoked)
        self._numbers = itertools.count()

    def build(
        self, client: Client, project: Project, token: str | None, workspace: str = "web", home: Path | None = None
    ) -> Built:
        """In a fresh checkout that is gone afterwards, and so is the person's home, if none is given. `workspace`: `web`, `once`
        (write-once), or `down`, whose store may be."""
        address = f"127.0.0.1:{self.sidecar.port}/{workspace}/{client.profile}"
        number = f"{next(self._numbers)}."
        with tempfile.TemporaryDirectory(
            number, "checkout.", self.sidecar.folder, ignore_cleanup_errors=True
        ) as folder:
            own = Path(folder, "home")
            own.mkdir()
            Path(folder, "all").mkdir()
            return client.build(Path(folder, "all"), home or own, project, address, token)

    def unverifiable(self) -> str:
        """A token that nobody can judge right now."""
        return token(self._issuer.url)

    def until_refused(self, token: str) -> None:
        """Until the revocation of a token is in force."""
        until(lambda: ask(self.sidecar.port, "GET", f"/web/bazel/{_NOTHING}", bearer(token)).status == 401, 30)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The store behind the workspace `down` is, for as long as this lasts; it has lasted long enough to be known."""
        reason = "upstream_unreachable" if self.store == "file" else "upstream_circuit_open"
        self.sidecar.policy("down.yaml", _policy("down", "gone"))
        try:
            until(lambda: self._in_outage().reason == reason, 30)
            yield
        finally:
            self.sidecar.policy("down.yaml", _policy("down", "artifacts"))
            until(lambda: self._in_outage().status == 404, 30)

    def _in_outage(self) -> Answer:
        return ask(self.sidecar.port, "GET", f"/down/bazel/{_NOTHING}", bearer(self.writers["down"]))


def _policy(workspace: str, upstream: str, more: str = "") -> str:
    routes = "\n".join(
        f"  - {{path: /{workspace}/{profile}, client: {profile}, upstream: {upstream}}}" for profile in PROFILES
    )
    return f"workspace: {workspace}\nroutes:\n{routes}\nci_tokens: read-write\n{more}"


@contextlib.contextmanager
def house(folder: Path, store: str) -> Iterator[House]:
    """`store`: one of `STORES`. What clients have put there is gone afterwards."""
    with contextlib.ExitStack() as running:
        issuer = Issuer("k1")
        issuer.down = True
        running.callback(issuer.close)
        for name in ("store", "gone"):
            (folder / name).mkdir()
        running.callback(shutil.rmtree, folder / "store", ignore_errors=True)
        sidecar = SidecarProcess(
            folder,
            upstreams=f"{_upstream(running, folder, store)}\n{_gone(running, store)}\n",
            policies={
                "web.yaml": _policy("web", "artifacts"),
                "once.yaml": _policy("once", "artifacts", "write_once: true\n"),
                "down.yaml": _policy("down", "artifacts"),
            },
            more=f"""
issuers: {{forge: {{issuer: "{issuer.url}", audience: {AUDIENCE}}}}}
limits: {{drain_delay: 0s, grace: 2s}}
""",
        )
        running.callback(sidecar.kill)
        sidecar.start()
        if store == "file":
            shutil.rmtree(folder / "gone")
            (folder / "gone").touch()
        yield House(sidecar, issuer, store)


_S3_KEYS = "credentials: {access_key_id_file: ./id, secret_access_key_file: ./secret}"


def _gone(running: contextlib.ExitStack, store: str) -> str:
    if store == "file":
        return '  gone: {url: "file://./gone/data"}'
    held = running.enter_context(socket.socket())  # bound and not listening: nobody else can
    held.bind(("127.0.0.1", 0))
    bucket = "" if store == "http" else f", s3: {{bucket: gone, region: us-east-1, {_S3_KEYS}}}"
    return f"  gone: {{url: 'http://127.0.0.1:{held.getsockname()[1]}'{bucket}}}"


def _upstream(running: contextlib.ExitStack, folder: Path, store: str) -> str:
    if store == "file":
        return '  artifacts: {url: "file://./store/data"}'
    if store == "http":
        nginx = NginxStore(folder / "store", collections=True)
        running.callback(nginx.stop)
        for workspace in ("web", "once", "down"):  # sccache makes folders below its endpoint, never the endpoint itself
            (nginx.files / workspace / "webdav").mkdir(parents=True)
        return f"  artifacts: {nginx.upstream}"
    server = running.enter_context(SERVERS[store](folder / "store"))
    for name, text in (("id", server.access_key), ("secret", server.secret_key)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    conditional = str(server.conditional_writes).lower()
    bucket = f"{{bucket: {server.bucket()}, region: {server.region}, conditional_writes: {conditional}, {_S3_KEYS}}}"
    return f"  artifacts: {{url: '{server.endpoint}', s3: {bucket}}}"
