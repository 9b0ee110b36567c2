"""Client profiles: what a kind of client means by its requests. A new one is a file here and a line in `PROFILES`."""

from sidecar.profiles.plain import Plain
from sidecar.profiles.profile import LocalAnswer, Operation, Profile
from sidecar.profiles.webdav import Webdav

__all__ = ["PROFILES", "LocalAnswer", "Operation", "Profile"]

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (Plain(), Webdav())}
