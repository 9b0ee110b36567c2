"""Debian's nginx as a store behind its own password: WebDAV over files in a folder, and a log of what it was sent."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.e2e.process import SidecarProcess, free_port, until
from tests.programs import require_file, require_program

USER = "cache"
_DAV_MODULE = Path("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so")
_LOG_FORMAT = (
    "escape=json '{"
    '"line":"$request","status":"$status","authorization":"$http_authorization",'
    '"destination":"$http_destination","overwrite":"$http_overwrite","headers":"'
    "$http_x_api_key $http_x_store_key $http_cookie $http_proxy_authorization"
    "\"}'"
)


class Seen(msgspec.Struct):
    """One line of nginx's own access log."""

    line: str
    """The request line."""
    status: str
    authorization: str
    destination: str
    overwrite: str
    headers: str
    """Other headers in which a credential could have come along."""


class NginxStore:
    """Serves `files` at `/`, on a port of 127.0.0.1 and on a unix socket, to whoever sends `USER` and `password`."""

    def __init__(self, folder: Path, *, collections: bool = False) -> None:
        """`folder` must exist; skips the test where nginx, or its module for PROPFIND, is not installed. Without
        `collections` it knows PUT and DELETE alone."""
        program = require_program("nginx")
        if collections:
            require_file(_DAV_MODULE, "libnginx-mod-http-dav-ext")
        self.collections = collections
        folder.chmod(0o755)
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir()
        self.port = free_port()
        self.socket = folder / "nginx.sock"
        self.password = secrets.token_urlsafe(18)
        hashed = subprocess.run(
            [require_program("openssl"), "passwd", "-apr1", "-stdin"],
            input=self.password.encode(),
            capture_output=True,
            check=True,
        )
        (folder / "htpasswd").write_text(f"{USER}:{hashed.stdout.decode()}")
        (folder / "password").write_text(self.password + "\n")
        (folder / "nginx.conf").write_text(self._config())
        # Started in a session of its own, so that a Ctrl-C at the test run is not its signal.
        with (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")],
                stderr=stderr,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _config(self) -> str:
        folder = self.folder
        # Started by root, nginx's worker becomes nobody and can't enter a test's folder.
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        module, methods = "", "dav_methods PUT DELETE;"
        if self.collections:
            module = f"load_module {_DAV_MODULE};"
            methods = "dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND;"
        return f"""{user} {module}
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    {temporary}
    log_format seen {_LOG_FORMAT};
    access_log {folder}/access.log seen;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{self.port};
        listen unix:{self.socket};
        root {self.files};
        auth_basic store;
        auth_basic_user_file {folder}/htpasswd;
        location / {{
            {methods}
            create_full_put_path on;
        }}
    }}
}}
"""

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"nginx did not start: {(self.folder / 'stderr').read_text()}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def upstream(self) -> str:
        """As the sidecar's configuration has it."""
        credentials = f"{{basic: {{username: {USER}, password_file: '{self.folder}/password'}}}}"
        return f"{{url: 'http://127.0.0.1:{self.port}', credentials: {credentials}}}"

    def empty(self) -> None:
        for entry in self.files.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def stored(self) -> dict[str, bytes]:
        """Path -> content of all that is stored."""
        return {
            str(path.relative_to(self.files)): path.read_bytes()
            for path in sorted(self.files.rglob("*"))
            if path.is_file()
        }

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    def seen(self, path: str) -> list[Seen]:
        """What was asked for `path`, once that is in the log: nginx writes a line after the answer has left."""

        def lines() -> list[Seen]:
            found = [msgspec.json.decode(line, type=Seen) for line in self.log.splitlines()]
            return [seen for seen in found if seen.line.split(" ")[1] == path]

        found: list[Seen] = until(lines)
        return found


@contextlib.contextmanager
def sidecar_before_nginx(
    folder: Path, policies: dict[str, str], *, collections: bool = False, upstreams: str = ""
) -> Iterator[tuple[SidecarProcess, NginxStore]]:
    """nginx is the upstream `artifacts`; `upstreams` is text for more of them. The sidecar has to end cleanly."""
    (folder / "store").mkdir()
    nginx = NginxStore(folder / "store", collections=collections)
    sidecar = SidecarProcess(
        folder,
        upstreams=f"  artifacts: {nginx.upstream}\n{upstreams}",
        policies=policies,
        more="limits: {drain_delay: 0s}",
    )
    try:
        yield sidecar.start(), nginx
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        nginx.stop()
