"""Whether what was found is a credential of this sidecar: verified as in service, since anybody can write a text that names a token.

Law: nothing is revoked on the word of a text. A token's id is no secret, so a forged token must not take the real one along.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from msgspec import Struct

from sidecar.cli.leak_scan import Place
from sidecar.credentials import master_key
from sidecar.credentials.revocation_names import block, blocks
from sidecar.errors import CredentialRefused, SidecarError, Unavailable
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.ports import Verifier
from sidecar.reasons import Reason
from sidecar.settings import Settings

if TYPE_CHECKING:
    from sidecar.store.changes import ChangeFeed
    from sidecar.store.open import OpenStore


class Judged(Struct, frozen=True):
    principal: Principal | None
    """Whose it is; `None` where it is none of ours, or can't be verified at present."""
    ended: Reason | None = None
    """It is ours, and was refused before: `expired` or `revoked`."""
    problem: str = ""
    """Why it can't be verified at present."""


class Judge:
    def __init__(self, opened: "OpenStore", verifiers: dict[str, Verifier], feed: "ChangeFeed") -> None:
        self._opened = opened
        self._verifiers = verifiers
        self._feed = feed

    async def judge(self, place: Place) -> Judged:
        found = place.candidate
        if found.kind == "access_key":
            return await self._access_key(found.secret.reveal(), place.around)
        verifier = self._verifiers.get(found.kind)
        return Judged(None) if verifier is None else await self._token(verifier, found.secret)

    async def _token(self, verifier: Verifier, secret: Secret) -> Judged:
        try:
            principal = await verifier.verify(secret, time.time())
        except Unavailable as error:
            return Judged(None, problem=error.detail or str(error.reason))
        except CredentialRefused as refusal:
            return Judged(refusal.principal, refusal.reason if refusal.principal is not None else None)
        if principal is None:
            return Judged(None)
        return Judged(principal, Reason.REVOKED if self._feed.revoked(principal) else None)

    async def _access_key(self, access_key_id: str, around: bytes) -> Judged:
        """An id is no secret: it counts where its secret key stands beside it."""
        named, masters = master_key.parse(access_key_id), self._opened.masters
        if named is None or masters is None:
            return Judged(None)
        row = await self._opened.store.get(named.token_id)
        if row is None or row.access_key != access_key_id:
            return Judged(None)
        try:
            secret = masters.secret(access_key_id)
        except SidecarError as error:
            return Judged(None, problem=str(error))
        if secret is None or secret.reveal().encode() not in around:
            return Judged(None)
        principal = Principal(
            PrincipalKind.ACCESS_KEY, row.subject, token_id=row.id, token_name=row.name, workspace=row.workspaces or ""
        )
        if row.revoked_at is not None:
            return Judged(principal, Reason.REVOKED)
        return Judged(principal, Reason.EXPIRED if row.expires_at <= time.time() else None)


@contextlib.asynccontextmanager
async def judging(opened: "OpenStore", settings: Settings) -> AsyncIterator[Judge]:
    """Raises `SidecarError` where an issuer's keys can't be used at all."""
    from sidecar.wiring_verifiers import (
        jwt_verifier,  # loads cryptography and an HTTP client: `--help` doesn't need them
    )

    async with AsyncExitStack() as stack:
        feed = opened.feed()
        await feed.start()
        stack.push_async_callback(feed.stop)
        verifiers: dict[str, Verifier] = {"token": opened.onlooker(), "biscuit": opened.biscuit_verifier}
        if settings.issuers:
            verifiers["jwt"], _ = await jwt_verifier(settings.issuers, stack.push_async_callback)
        yield Judge(opened, verifiers, feed)


async def revoke(opened: "OpenStore", principal: Principal, by: str, at: int) -> None:
    """What was leaked and no more: of a Biscuit its last block; of a JWT without `jti` all that its subject had been issued by then."""
    if principal.kind is PrincipalKind.BISCUIT:
        names = blocks(principal.revocation_ids)
        await opened.revoking.name(block(names[-1]), actor=by, now=at, expires_at=principal.expires_at)
        if len(names) == 1:
            await opened.tokens.revoke(principal.token_id, actor=by, now=at)
    elif principal.kind is PrincipalKind.JWT:
        if principal.token_id:
            from sidecar.credentials import jwt  # loads cryptography: `--help` doesn't need it

            name = jwt.revocation_id(principal.issuer, principal.token_id)
            await opened.revoking.name(name, actor=by, now=at, expires_at=principal.expires_at)
        else:
            issued = None if principal.issued_at is None else int(principal.issued_at)
            await opened.revoking.identity(principal.subject, actor=by, now=at, issuer=principal.issuer, before=issued)
    else:
        await opened.tokens.revoke(principal.token_id, actor=by, now=at)


def name_of(principal: Principal) -> str:
    """As the audit log knows it; empty where it knows no name."""
    if principal.kind is PrincipalKind.BISCUIT:
        return blocks(principal.revocation_ids)[-1]
    return principal.token_id
