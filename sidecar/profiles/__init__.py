"""Client profiles: what a kind of client means by its requests. A new one is a file here and a line in `PROFILES`."""

from sidecar.profiles.bazel import Bazel
from sidecar.profiles.gradle import Gradle
from sidecar.profiles.nix import Nix
from sidecar.profiles.nx import Nx
from sidecar.profiles.plain import Plain
from sidecar.profiles.profile import Errand, LocalAnswer, Operation, Profile, Work
from sidecar.profiles.s3 import S3
from sidecar.profiles.turborepo import Turborepo
from sidecar.profiles.webdav import Webdav

__all__ = ["PROFILES", "Errand", "LocalAnswer", "Operation", "Profile", "Work"]

PROFILES: dict[str, Profile] = {
    profile.name: profile for profile in (Plain(), Webdav(), Nx(), Turborepo(), Bazel(), Gradle(), Nix(), S3())
}
