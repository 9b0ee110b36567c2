"""The sidecar itself: the real process with a JWT issuer, a policy, the plain profile and an audit log on disk."""

import json
import shlex
import sys
from importlib.metadata import version

from bench.credentials import AUDIENCE, ISSUER
from bench.peers.base import Peer, Site
from bench.process import free_port
from bench.store import FOLDER

NAME = "sidecar"

POLICY = f"""\
workspace: bench
routes:
  - path: /{FOLDER}
    client: plain
    upstream: store
rules:
  - name: jobs that may write
    allow: [read, write]
    issuer: bench
    claims: {{access: write}}
  - name: all other jobs read
    allow: [read]
    issuer: bench
    claims: {{access: read}}
"""


def write_config(site: Site) -> str:
    """`sidecar.yaml` and one policy; returns the path of the former."""
    policies = site.directory / "policies"
    policies.mkdir(exist_ok=True)
    (policies / "bench.yaml").write_text(POLICY)
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


PEERS = (Peer(NAME, NAME, _command, lambda: f"sidecar {version('sidecar')}", checks_tokens=True),)
