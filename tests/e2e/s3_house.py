"""A real S3 server, the sidecar in front of it over http and https, and its clients: boto3, and what environment others need.

Two workspaces, each with a bucket of its own that has another name and a prefix in the store. What is believed of a write is what
the server itself says that it holds.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import trustme
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec import Struct

from tests.e2e.process import SidecarProcess, free_port, until
from tests.e2e.s3_servers import S3Server

DOMAIN = "s3.localhost"
WEB = """
workspace: web
routes: [{path: /artifacts, client: s3, upstream: store, upstream_path: /web, host: "*.s3.localhost"}]
members: {users: [ada@example.com]}
personal_tokens: read-write
ci_tokens: read-write
rules:
  - {name: deletes, allow: [delete], kinds: [ci]}
  - {name: kept, deny: [delete, overwrite], path: kept/**}
"""
MOBILE = """
workspace: mobile
routes: [{path: /phones, client: s3, upstream: store, upstream_path: /mobile}]
members: {users: [ada@example.com]}
personal_tokens: read
ci_tokens: read-write
rules:
  - {name: deletes, allow: [delete], kinds: [ci]}
"""
ALL = ("read", "write", "delete")


class Key(Struct, frozen=True):
    """An access key, and the token that it is part of."""

    id: str
    secret: str
    token: str = ""
    session: str | None = None
    """Sent as the session token."""


class House:
    def __init__(self, server: S3Server, sidecar: SidecarProcess, https_port: int, ca_file: Path, bucket: str) -> None:
        self.server, self.sidecar, self.ca_file, self.bucket = server, sidecar, ca_file, bucket
        self.endpoints = {
            "http": f"http://127.0.0.1:{sidecar.port}",
            "https": f"https://localhost:{https_port}",
        }

    def key(self, **wanted: object) -> Key:
        return Key(*self.sidecar.access_key(**{"permissions": ALL, **wanted}))

    def client(
        self, key: Key, scheme: str = "http", *, endpoint: str | None = None, addressing: str = "path", **more: Any
    ) -> Any:
        """boto3's. With a key that has nothing but a token, that is its session token."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoints[scheme],
            region_name=self.server.region,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            aws_session_token=key.session,
            verify=str(self.ca_file),
            config=Config(s3={"addressing_style": addressing}, retries={"total_max_attempts": 1}, **more),
        )

    def stored(self) -> dict[str, bytes]:
        return self.server.stored(self.bucket)

    def put(self, key: str, content: bytes) -> None:
        """Past the sidecar."""
        self.server.client().put_object(Bucket=self.bucket, Key=key, Body=content)


def _bucket(server: S3Server) -> str | None:
    """`None` where the server wants to be asked later, as Swift does on a machine that is busy."""
    try:
        return server.bucket()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
            raise
        return None


@contextlib.contextmanager
def s3_house(folder: Path, server: S3Server, policies: dict[str, str] | None = None, more: str = "") -> Iterator[House]:
    """`more`: of the configuration file."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", f"*.{DOMAIN}", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "tls.key"))
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, text in (("id", server.access_key), ("secret", server.secret_key)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    (folder / "tls.key").chmod(0o600)
    bucket, port = until(lambda: _bucket(server), 30.0), free_port()
    ca_file = f", ca_file: {server.ca_file}" if server.ca_file is not None else ""
    keys = "credentials: {access_key_id_file: ./id, secret_access_key_file: ./secret}"
    known = str(server.conditional_writes).lower()
    sidecar = SidecarProcess(
        folder,
        upstreams=f"""
  store:
    {{url: "{server.endpoint}"{ca_file}, s3: {{bucket: {bucket}, region: {server.region}, conditional_writes: {known}, {keys}}}}}
""",
        policies=policies or {"web.yaml": WEB, "mobile.yaml": MOBILE},
        access_keys=True,
        listen=f'{{address: "127.0.0.1:{port}", tls: {{cert_file: ./tls.crt, key_file: ./tls.key}}}}',
        more=f"limits: {{drain_delay: 0s, grace: 2s}}\n{more}",
    )
    try:
        yield House(server, sidecar.start(), port, folder / "ca.pem", bucket)
    finally:
        sidecar.kill()
