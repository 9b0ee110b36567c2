"""The sidecar with tokens of its own: with an empty store of them but for those that are used, and with a million more, of which
ten thousand are revoked. Its identity cache is small, so that whoever takes turns is never in it.
"""

import asyncio
import json
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from biscuit_auth import Biscuit, BlockBuilder, PublicKey

from bench.peers.base import Peer, Site
from bench.peers.sidecar import write_config
from bench.store import FOLDER
from sidecar import config
from sidecar.credentials.token_row import TokenRow, sealed
from sidecar.model import PrincipalKind
from sidecar.store.open import OpenStore, open_token_store
from sidecar.token_requests import NewToken

ISSUED, MILLION = "sidecar-issued", "sidecar-million"
OPAQUE, BISCUITS, HOSTILE = "opaque.txt", "biscuits.txt", "hostile.txt"
USED, FEW = 2_000, 300
"""Tokens that take turns: more than the cache holds."""
MORE, REVOKED = 1_000_000, 10_000
LIFE = 30 * 86400

GRANTS = """
ci_tokens: read
"""
RULE = """\
  - name: biscuits read
    allow: [read]
    kinds: [biscuit]
"""
HOSTILE_BLOCK = (
    "".join(f"a({n}); " for n in range(20)) + "check if " + ", ".join(f"a(${n})" for n in range(5)) + ", false"
)
"""Five seconds of work for the library, if it were asked."""


def write(site: Site) -> Path:
    """The configuration, with an empty store of tokens."""
    file = Path(write_config(site))
    (site.directory / "pepper").write_text(secrets.token_hex(32))
    (site.directory / "pepper").chmod(0o600)
    store = json.dumps(f"sqlite:///{site.disk / 'tokens.db'}")
    file.write_text(
        file.read_text()
        + f"""\
tokens: {{store: {store}, pepper_file: ./pepper}}
identity_cache: {{size: 64}}
failed_credentials: {{enabled: false}}
"""
    )
    policy = site.directory / "policies" / "bench.yaml"
    policy.write_text(policy.read_text().replace("rules:\n", f"{GRANTS.strip()}\nrules:\n{RULE}"))
    return file


def tokens(directory: Path, name: str) -> list[str]:
    return (directory / name).read_text().split()


async def _fill(file: Path, directory: Path, more: int) -> None:
    settings = config.load(file).tokens
    assert settings is not None
    opened = await open_token_store(settings)
    try:
        now = int(time.time())
        minted = [opened.spelling.mint(PrincipalKind.CI) for _ in range(USED)]
        (directory / OPAQUE).write_text("\n".join(token.reveal() for _, token in minted))
        biscuits = []
        for _ in range(FEW):
            wanted = NewToken(
                PrincipalKind.BISCUIT, "job", workspaces=(FOLDER,), permissions=("read",), ttl=float(LIFE)
            )
            biscuits.append((await opened.biscuits.create(wanted, actor="bench", now=now))[0].reveal())
        (directory / BISCUITS).write_text("\n".join(biscuits))
        (key,) = map(PublicKey, (await opened.root_keys.believed()).values())
        hostile = [Biscuit.from_base64(each, key).append(BlockBuilder(HOSTILE_BLOCK)).to_base64() for each in biscuits]
        (directory / HOSTILE).write_text("\n".join(hostile))
        digests = [opened.peppers.current.digest(token.reveal()) for _, token in minted]
        _insert(opened, [(token_id, digest) for (token_id, _), digest in zip(minted, digests, strict=True)], more, now)
    finally:
        await opened.store.close()


def _insert(opened: OpenStore, used: list[tuple[str, str]], more: int, now: int) -> None:
    """In one transaction, past the store: the others are never asked for, so nothing of them has to be right."""
    pepper = opened.peppers.current

    def row(token_id: str, digest: str) -> TokenRow:
        return TokenRow(
            id=token_id, kind="ci", subject="job", name="", workspaces=FOLDER, permissions="read", path=None,
            created_at=now, created_by="bench", expires_at=now + LIFE, revoked_at=None, revoked_by=None,
            pepper_id=pepper.id, digest=digest, mac="",
        )  # fmt: skip

    def rows() -> Iterator[tuple[object, ...]]:
        for token_id, digest in used:
            made = sealed(row(token_id, digest), pepper)
            yield tuple(getattr(made, name) for name in names)
        for number in range(more):
            made = row(f"{number:012d}", f"{number:064d}")
            yield tuple(getattr(made, name) for name in names)

    names = TokenRow.__struct_fields__
    connection = sqlite3.connect(opened.path)
    with connection:
        columns, holes = ", ".join(names), ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO tokens ({columns}) VALUES ({holes})", rows())
        connection.executemany(
            "INSERT INTO changes (kind, token_id, at, actor, expires_at) VALUES ('revoked', ?, ?, 'bench', ?)",
            ((f"{number:012d}", now, now + LIFE) for number in range(min(more, REVOKED))),
        )
        connection.execute("INSERT INTO marks (name, value) SELECT 'audited', coalesce(max(seq), 0) FROM changes")
    connection.close()


def _command(more: int) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        file = write(site)
        asyncio.run(_fill(file, site.directory, more))
        return [sys.executable, "-m", "sidecar.serving", str(file)]

    return command


def _version() -> str:
    return f"sidecar {version('sidecar')}"


PEERS = (
    Peer(ISSUED, "sidecar, tokens of its own", _command(0), _version, True, only=frozenset({
        "issued", "hit-biscuit", "cold-token", "cold-jwt", "cold-biscuit", "hostile-biscuit",
    })),
    Peer(MILLION, "sidecar, a million tokens", _command(MORE), _version, True, only=frozenset({"issued", "cold-token"})),
)  # fmt: skip
