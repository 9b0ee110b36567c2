"""The sidecar before a store of one kind, with routes, tokens and troubles for every client of build caches.

Nothing is switched off during a test: a store that is down is an upstream at an address where nobody listens, a verifier that is down
an issuer that has been away from the start.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.clients.real import Client
from tests.e2e.asking import ask, bearer
from tests.e2e.issuer import AUDIENCE, Issuer, token
from tests.e2e.nginx import USER, NginxStore
from tests.e2e.process import SidecarProcess, free_port, until
from tests.e2e.s3_servers import S3Server, swift

S3 = Callable[[Path], contextlib.AbstractContextManager[S3Server]]
STORES = ("file", "s3", "http")
"""The embedded store, a bucket, and Debian's nginx with its own WebDAV module."""
PROFILES = ("nx", "turborepo", "bazel", "gradle", "nix", "webdav")


class House:
    def __init__(self, sidecar: SidecarProcess, issuer: Issuer) -> None:
        self.sidecar, self._issuer = sidecar, issuer
        self.writers = {name: sidecar.token(workspaces=(name,)) for name in ("web", "once", "down")}
        self.reader = sidecar.token(permissions=("read",))
        self.revoked = sidecar.token()
        sidecar.revoke(self.revoked)
        self.until_refused(self.revoked)
        self._numbers = itertools.count()

    def address(self, client: Client, workspace: str = "web") -> str:
        """`workspace`: `web`, `once` (write-once), or `down` (no store behind it)."""
        return f"127.0.0.1:{self.sidecar.port}/{workspace}/{client.profile}"

    def unverifiable(self) -> str:
        """A token that nobody can judge right now."""
        return token(self._issuer.url)

    def until_refused(self, token: str) -> None:
        """Until the revocation of a token is in force."""
        path = f"/web/bazel/ac/{'0' * 64}"
        until(lambda: ask(self.sidecar.port, "GET", path, bearer(token)).status == 401, 30)

    def fresh(self) -> Path:
        """An empty folder."""
        folder = self.sidecar.folder / "checkouts" / str(next(self._numbers))
        folder.mkdir(parents=True)
        return folder


def _policy(workspace: str, upstream: str, more: str = "") -> str:
    routes = "\n".join(
        f"  - {{path: /{workspace}/{profile}, client: {profile}, upstream: {upstream}}}" for profile in PROFILES
    )
    return f"workspace: {workspace}\nroutes:\n{routes}\nci_tokens: read-write\n{more}"


@contextlib.contextmanager
def house(folder: Path, store: str, bucket: S3 = swift) -> Iterator[House]:
    """`bucket`: whose it is, where `store` is `s3`. Swift keeps no conditional writes."""
    with contextlib.ExitStack() as running:
        issuer = Issuer("k1")
        issuer.down = True
        running.callback(issuer.close)
        sidecar = SidecarProcess(
            folder,
            upstreams=f"{_upstream(running, folder, store, bucket)}\n{_gone(store)}\n",
            policies={
                "web.yaml": _policy("web", "artifacts"),
                "once.yaml": _policy("once", "artifacts", "write_once: true\n"),
                "down.yaml": _policy("down", "gone"),
            },
            more=f"""
issuers: {{forge: {{issuer: "{issuer.url}", audience: {AUDIENCE}}}}}
limits: {{drain_delay: 0s, grace: 2s}}
""",
        )
        running.callback(sidecar.kill)
        yield House(sidecar.start(), issuer)


def _gone(store: str) -> str:
    bucket = (
        "{bucket: gone, region: us-east-1, credentials: {access_key_id_file: ./id, secret_access_key_file: ./secret}}"
    )
    return f"  gone: {{url: 'http://127.0.0.1:{free_port()}'{f', s3: {bucket}' if store == 's3' else ''}}}"


def _upstream(running: contextlib.ExitStack, folder: Path, store: str, start: S3) -> str:
    (folder / store).mkdir()
    if store == "file":
        return '  artifacts: {url: "file://./file/data"}'
    if store == "http":
        nginx = NginxStore(folder / store, collections=True)
        running.callback(nginx.stop)
        for workspace in ("web", "once"):  # sccache makes folders below its endpoint, never the endpoint itself
            (nginx.files / workspace / "webdav").mkdir(parents=True)
        credentials = f"{{basic: {{username: {USER}, password_file: ./http/password}}}}"
        return f"  artifacts: {{url: 'http://127.0.0.1:{nginx.port}', credentials: {credentials}}}"
    server = running.enter_context(start(folder / store))
    for name, text in (("id", server.access_key), ("secret", server.secret_key)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    credentials = "{access_key_id_file: ./id, secret_access_key_file: ./secret}"
    conditional = str(server.conditional_writes).lower()
    bucket = f"{{bucket: {server.bucket()}, region: {server.region}, conditional_writes: {conditional}, credentials: {credentials}}}"
    return f"  artifacts: {{url: '{server.endpoint}', s3: {bucket}}}"
