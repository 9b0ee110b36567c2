"""The sidecar before the same store taken for a bucket, and in front of it clients that sign with an access key of its own."""

import asyncio
import secrets
import sys
import time
from importlib.metadata import version
from pathlib import Path

from bench.peers.base import Peer, Site
from bench.peers.sidecar import write_config
from bench.store import FOLDER
from sidecar import config
from sidecar.model import PrincipalKind
from sidecar.store.open import open_token_store
from sidecar.token_requests import NewToken

S3_CLIENT = "sidecar-s3-client"
KEY = "access-key.txt"
SIGNED, SIGNED_GET = "signed", "signed-get"


def _command(site: Site) -> list[str]:
    file = site.directory / write_config(site, bucket=True)
    for name in ("pepper", "master"):
        (site.directory / name).write_text(secrets.token_hex(32))
        (site.directory / name).chmod(0o600)
    store = f'"sqlite:///{site.disk / "keys.db"}"'
    file.write_text(
        file.read_text() + f"tokens: {{store: {store}, pepper_file: ./pepper, access_key_master_file: ./master}}\n"
    )
    policy = site.directory / "policies" / "bench.yaml"
    policy.write_text(
        policy.read_text().replace("client: plain", "client: s3").replace("rules:\n", "ci_tokens: read\nrules:\n")
    )
    asyncio.run(_make(site, file))
    return [sys.executable, "-m", "sidecar.serving", str(file)]


async def _make(site: Site, file: Path) -> None:
    settings = config.load(file).tokens
    assert settings is not None
    opened = await open_token_store(settings)
    try:
        wanted = NewToken(PrincipalKind.CI, "job", workspaces=(FOLDER,), permissions=("read",), s3=True)
        _, row = await opened.tokens.create(wanted, actor="bench", now=int(time.time()))
        pair = opened.tokens.access_key(row)
        assert pair is not None
        (site.directory / KEY).write_text(f"{pair.id} {pair.secret.reveal()}")
    finally:
        await opened.store.close()


PEERS = (
    Peer(
        S3_CLIENT,
        "sidecar, S3 client",
        _command,
        lambda: f"sidecar {version('sidecar')}",
        checks_tokens=True,
        only=frozenset({SIGNED, SIGNED_GET}),
    ),
)
