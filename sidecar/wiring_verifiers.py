"""Puts together what verifies JWTs: for the serving process, and for commands that ask what it would say."""

from collections.abc import Awaitable, Callable, Mapping

from sidecar.credentials.jwt import JwtVerifier
from sidecar.jwks import IssuerKeys, keys_of
from sidecar.settings import IssuerSettings

AtEnd = Callable[[Callable[[], Awaitable[None]]], object]
"""Is told what to await at the end, the last first."""


async def jwt_verifier(
    issuers: Mapping[str, IssuerSettings], at_end: AtEnd
) -> tuple[JwtVerifier, dict[str, IssuerKeys]]:
    """With the issuers' keys by the issuers' names, started. Raises `SidecarError` where an issuer's file can't be used."""
    sources = {name: keys_of(issuer) for name, issuer in issuers.items()}
    for source in sources.values():
        await source.start()
        at_end(source.close)
    return JwtVerifier([(issuer, sources[name]) for name, issuer in issuers.items()]), sources
