"""JWTs are verified by the keys of their own issuer, and what was started for that is handed over to be ended."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sidecar.errors import CredentialRefused, SidecarError
from sidecar.model import Secret
from sidecar.settings import IssuerSettings
from sidecar.wiring_verifiers import jwt_verifier
from tests import jose

SECRETS = {"ci": b"c" * 32, "corp": b"p" * 32}


def issuers(folder: Path) -> dict[str, IssuerSettings]:
    for name, secret in SECRETS.items():
        (folder / name).write_bytes(secret)
    return {
        name: IssuerSettings(name, f"https://{name}", "cache", secret_file=folder / name, algorithms=("HS256",))
        for name in SECRETS
    }


def token(issuer: str, secret: bytes) -> Secret:
    now = int(time.time())
    claims = {"iss": f"https://{issuer}", "aud": "cache", "sub": "ada", "iat": now, "exp": now + 60}
    return Secret(jose.sign({"alg": "HS256"}, claims, secret, "HS256"))


async def test_each_issuer_is_believed_by_its_own_keys(tmp_path: Path) -> None:
    ends: list[Callable[[], Awaitable[None]]] = []
    verifier, sources = await jwt_verifier(issuers(tmp_path), ends.append)
    principal = await verifier.verify(token("corp", SECRETS["corp"]), time.time())
    assert principal is not None
    assert (principal.issuer, principal.subject) == ("corp", "ada")
    with pytest.raises(CredentialRefused):
        await verifier.verify(token("corp", SECRETS["ci"]), time.time())
    assert list(sources) == ["ci", "corp"]
    assert ends == [source.close for source in sources.values()]
    for end in ends:
        await end()


async def test_one_that_cant_start_leaves_the_others_to_be_ended(tmp_path: Path) -> None:
    ends: list[Callable[[], Awaitable[None]]] = []
    known = issuers(tmp_path)
    (tmp_path / "corp").write_bytes(b"short")
    with pytest.raises(SidecarError):
        await jwt_verifier(known, ends.append)
    assert len(ends) == 1
    await ends[0]()
