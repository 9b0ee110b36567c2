"""Where a new token goes when it isn't shown: one file for each kind of secret manager, one line each in `KINDS`.

Law: whatever the destination, the token is on no terminal and in no message. What can be found wrong is found before the token
is made, and a token that could not be handed over is revoked.
"""

from collections.abc import Callable
from enum import StrEnum

from sidecar.cli.delivery.destination import DeliveryError, Destination, Wish
from sidecar.cli.delivery.env_file import EnvFile
from sidecar.cli.delivery.kubernetes import KubernetesSecret
from sidecar.cli.delivery.vault import Vault

__all__ = ["DeliveryError", "Destination", "To", "Wish", "destination"]


class To(StrEnum):
    kubernetes = "k8s-secret"
    vault = "vault"
    env_file = "env-file"


KINDS: dict[To, Callable[[Wish], Destination]] = {
    To.kubernetes: KubernetesSecret,
    To.vault: Vault,
    To.env_file: EnvFile,
}


def destination(to: To, wish: Wish) -> Destination:
    """Raises `DeliveryError` for what can't be served, each option by its name."""
    return KINDS[to](wish)
