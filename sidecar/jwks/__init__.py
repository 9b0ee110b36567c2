"""Keeps the keys of an issuer at hand: one object per issuer, from a URL or from a file.

Laws: a set of keys is swapped whole, and a failed look never takes one away; an issuer that is down is an outage (503), never
a verdict on a token.
"""

from sidecar.jwks.file import FileKeys
from sidecar.jwks.remote import RemoteKeys
from sidecar.jwks.source import KeyStatus, Pace
from sidecar.settings import IssuerSettings

__all__ = ["FileKeys", "IssuerKeys", "KeyStatus", "Pace", "RemoteKeys", "keys_of"]

IssuerKeys = RemoteKeys | FileKeys


def keys_of(settings: IssuerSettings) -> IssuerKeys:
    """The source of keys that an issuer's settings ask for, not yet started."""
    if settings.secret_file or settings.pem_file or settings.jwks_file:
        return FileKeys(settings)
    return RemoteKeys(settings)
