"""Puts together what verifies the signatures of S3 clients, where access keys are issued."""

from collections.abc import Callable

from sidecar.credentials.access_key import AccessKeys
from sidecar.credentials.identities import Identities
from sidecar.model import Principal
from sidecar.ports import Revocations
from sidecar.settings import Settings
from sidecar.store.open import OpenStore


def access_keys(
    settings: Settings,
    tokens: OpenStore | None,
    revocations: Revocations,
    *,
    used: Callable[[Principal, float], None],
    verified: Callable[[str, float], None],
) -> AccessKeys | None:
    """`None` where there are none. `used`, `verified`: as for `Identities`."""
    if settings.tokens is None or tokens is None or tokens.masters is None:
        return None
    return AccessKeys(
        # Use is told of below, once a signature has matched: the id alone proves nothing.
        Identities([tokens.access_key_verifier], revocations, settings.identity_cache, verified=verified),
        tokens.masters.day_key,
        tokens.store,
        reused=tokens.tokens.reused,
        used=used,
        size=settings.identity_cache.size,
        region=settings.tokens.access_key_region,
    )
