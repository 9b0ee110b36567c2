"""A workspace's old shared password (`legacy` in its policy): whoever sends it is nobody in particular, and may do little.

Law: what is sent is compared with the digest of what the file says, in constant time, for the workspace that was asked and for no
other. Nothing that was sent is kept, and no verdict is: the file, the policy and the clock are asked at every request. Where no
password can be read from the file, nobody is let in.
"""

import hashlib
import hmac
from collections.abc import Callable

from sidecar.errors import CredentialRefused
from sidecar.model import Limits, Principal, PrincipalKind
from sidecar.networks import network
from sidecar.policy.compiled import Legacy, Workspace
from sidecar.reasons import Reason

SUBJECT = "shared password"
PEERS = 1024
"""The most that are told apart."""
REMEMBERED = 86400.0
"""Seconds that a peer counts as one that still uses it."""


def principal_of(workspace: str, legacy: Legacy) -> Principal:
    return Principal(
        PrincipalKind.LEGACY,
        SUBJECT,
        workspace=workspace,
        limits=Limits(workspaces=frozenset({workspace}), permissions=legacy.level),
        expires_at=legacy.until,
    )


class OldPasswords:
    """Recognises shared passwords, and counts who still uses them."""

    def __init__(self, digest_of: Callable[[Legacy], bytes | None]) -> None:
        """`digest_of`: the SHA-256 of what the file says now; `None` where it has no password."""
        self._digest_of = digest_of
        self._principals: dict[str, tuple[Legacy, Principal]] = {}
        self._peers: dict[str, float] = {}
        self.accepted = self.ended = 0
        """Requests with the password, until its last day and after it."""

    def identify(self, workspace: Workspace, scheme: str, sent: bytes, peer: str, now: float) -> Principal | None:
        """`None`: it isn't this workspace's shared password; it may be a token. `now` in Unix seconds.

        Raises `CredentialRefused(EXPIRED)` after its last day.
        """
        legacy = workspace.legacy
        if legacy is None or scheme != legacy.scheme:
            return None
        digest = self._digest_of(legacy)
        if digest is None or not hmac.compare_digest(digest, hashlib.sha256(sent).digest()):
            return None
        principal = self._principal(workspace.name, legacy)
        self._saw(peer, now)
        if now >= legacy.until:
            self.ended += 1
            raise CredentialRefused(Reason.EXPIRED, "the shared password is past its last day", principal)
        self.accepted += 1
        return principal

    def peers(self, now: float) -> int:
        """How many have sent one within `REMEMBERED` seconds; at most `PEERS` are known."""
        self._forget(now)
        return len(self._peers)

    def _principal(self, name: str, legacy: Legacy) -> Principal:
        known = self._principals.get(name)
        if known is None or known[0] is not legacy:
            known = self._principals[name] = legacy, principal_of(name, legacy)
        return known[1]

    def _saw(self, address: str, now: float) -> None:
        peer = network(address)
        if peer not in self._peers and len(self._peers) >= PEERS:
            self._forget(now)
            if len(self._peers) >= PEERS:
                return
        self._peers[peer] = now

    def _forget(self, now: float) -> None:
        for peer in [peer for peer, last in self._peers.items() if now - last > REMEMBERED]:
            del self._peers[peer]
