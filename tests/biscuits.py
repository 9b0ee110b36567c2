"""Biscuits for tests: made under a fresh key, narrowed as any tool would narrow them, hostile ones included."""

import asyncio
from collections.abc import Mapping
from typing import Any

import biscuit_auth

from sidecar.credentials.biscuit import spelling
from sidecar.credentials.biscuit.library import PrivateKey
from sidecar.credentials.biscuit.minting import Wanted, mint
from sidecar.credentials.biscuit.verifier import BiscuitVerifier, RootKeys
from sidecar.model import Action, Circumstances, Limits, Permission, Permissions, Principal, Secret

NOW = 1_800_000_000
KEY = PrivateKey.fresh()
KEYS = RootKeys({1: KEY.public})
READ, WRITE = Permission.READ, Permission.WRITE
ALL = frozenset(Permission)


def made(key: PrivateKey = KEY, key_id: int = 1, **wanted: Any) -> str:
    """A token of one block; `wanted` are fields of `Wanted`."""
    asked = {
        "token_id": "Abcdefgh1234",
        "subject": "build",
        "expires_at": NOW + 3600,
        "created_at": NOW,
        "permissions": frozenset({READ, WRITE}),
        "workspaces": ("web",),
        **wanted,
    }
    return mint(Wanted(**asked), key, key_id)[0].reveal()


def signed(source: str, key: PrivateKey = KEY, key_id: int = 1) -> str:
    """A token whose first block says whatever it is told to."""
    return spelling.encoded(key.sign(source, key_id))


def narrowed(token: str, *blocks: str, key: PrivateKey = KEY) -> str:
    """With the library alone: nobody looks at what is appended."""
    biscuit = biscuit_auth.Biscuit.from_base64(token, biscuit_auth.PublicKey(key.public))
    for source in blocks:
        biscuit = biscuit.append(biscuit_auth.BlockBuilder(source))
    return str(biscuit.to_base64())


def verified(token: str, keys: RootKeys = KEYS, now: float = NOW) -> Principal | None:
    """Raises `CredentialRefused`."""
    return asyncio.run(BiscuitVerifier(keys).verify(Secret(token), now))


def principal(token: str, keys: RootKeys = KEYS, now: float = NOW) -> Principal:
    found = verified(token, keys, now)
    assert found is not None
    return found


def holds(
    token: str,
    permission: Permission = READ,
    path: str = "a",
    *,
    workspace: str = "web",
    settings: Mapping[str, str] = {},
    method: str = "GET",
    now: float = NOW,
    client_ip: str = "",
    below: bool = False,
) -> bool:
    """Whether the token's checks let one action through."""
    limits: Limits = principal(token).limits
    assert limits.checks is not None
    action = Action(permission, path, below=below)
    return limits.checks.hold(workspace, settings, permission, action, Circumstances(method, now, client_ip))


def permitted(token: str, **asked: Any) -> Permissions:
    return frozenset(permission for permission in Permission if holds(token, permission, **asked))
