"""The sidecar itself: the real process with a JWT issuer, a policy, the plain profile and an audit log on disk. And the same before
the same store taken for a bucket: it verifies no signature, but each request has one.
"""

import json
import secrets
import shlex
import sys
from importlib.metadata import version

from bench.credentials import AUDIENCE, ISSUER
from bench.peers.base import Peer, Site
from bench.process import free_port
from bench.store import FOLDER

NAME = "sidecar"
BUCKET = "sidecar-bucket"

POLICY = f"""\
workspace: bench
routes:
  - path: /{FOLDER}
    client: plain
    upstream: store
    upstream_path: {{upstream_path}}
rules:
  - name: jobs that may write
    allow: [read, write]
    issuer: bench
    claims: {{{{access: write}}}}
  - name: all other jobs read
    allow: [read]
    issuer: bench
    claims: {{{{access: read}}}}
"""


def write_config(site: Site, *, bucket: bool = False) -> str:
    """`sidecar.yaml` and one policy; returns the path of the former."""
    policies = site.directory / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "bench.yaml").write_text(POLICY.format(upstream_path="/" if bucket else f"/{FOLDER}"))
    s3 = ""
    if bucket:
        for name in ("access-key-id", "secret-access-key"):
            (site.directory / name).write_text(secrets.token_urlsafe(30))
            (site.directory / name).chmod(0o600)
        files = "access_key_id_file: ./access-key-id, secret_access_key_file: ./secret-access-key"
        s3 = f"s3: {{bucket: {FOLDER}, credentials: {{{files}}}}}"
    config = site.directory / "sidecar.yaml"
    config.write_text(
        f"""\
listen: 127.0.0.1:{site.port}
ops: 127.0.0.1:{free_port()}
workers: 1
policies: {json.dumps(str(policies))}
upstreams:
  store:
    url: http://127.0.0.1:{site.store_port}
    {s3}
issuers:
  bench:
    issuer: {ISSUER}
    audience: {AUDIENCE}
    pem_file: {json.dumps(str(site.credentials.public_pem))}
    algorithms: [RS256]
audit:
  - file: {json.dumps(str(site.disk / "audit.jsonl"))}
    required: true
"""
    )
    return str(config)


def _command(site: Site) -> list[str]:
    return [sys.executable, "-m", "sidecar.serving", write_config(site)]


def stand_in(template: str) -> Peer:
    """Another command in the sidecar's place: `{config}`, `{port}` and `{store_port}` are filled in."""

    def command(site: Site) -> list[str]:
        return shlex.split(
            template.format(config=shlex.quote(write_config(site)), port=site.port, store_port=site.store_port)
        )

    return Peer(NAME, NAME, command, lambda: f"in its place: {template}", checks_tokens=True)


def _bucket_command(site: Site) -> list[str]:
    return [sys.executable, "-m", "sidecar.serving", write_config(site, bucket=True)]


def _version() -> str:
    return f"sidecar {version('sidecar')}"


PEERS = (
    Peer(NAME, NAME, _command, _version, checks_tokens=True),
    Peer(
        BUCKET,
        "sidecar, bucket",
        _bucket_command,
        _version,
        checks_tokens=True,
        only=frozenset({"hot", "get", "put"}),
    ),
)
