"""Who asks: at most one credential, wherever it sits, and the identity behind it.

A credential that is none of ours, expired or revoked raises: it never makes an anonymous caller (rule 4). What a connection sent
with its last request is not read again, but whether it still holds is asked at each.
"""

import asyncio

from sidecar.credentials import carriers
from sidecar.credentials.access_key import AccessKeys, chunk_signing
from sidecar.credentials.failures import Failures
from sidecar.credentials.identities import Identities
from sidecar.credentials.legacy import OldPasswords
from sidecar.credentials.series import BODILESS, PATIENCE, Series
from sidecar.decision import Asking, Decision
from sidecar.errors import CredentialRefused
from sidecar.model import ANONYMOUS, Head, Principal, Secret
from sidecar.policy.compiled import Workspace
from sidecar.reasons import Reason
from sidecar.s3 import query


class Callers:
    def __init__(
        self,
        identities: Identities,
        *,
        token_headers: tuple[str, ...],
        signed: frozenset[str],
        failures: Failures | None,
        old_passwords: OldPasswords | None,
        access_keys: AccessKeys | None,
    ) -> None:
        """`token_headers` in lower case; `signed`: the profiles whose clients may sign their requests. The rest: see `Gate`."""
        self._identities = identities
        self._token_headers = token_headers
        self._signed = signed
        self._failures = failures
        self._old_passwords = old_passwords
        self._access_keys = access_keys

    def at_hand(self, decision: Decision, asking: Asking) -> Principal | None:
        """Who asks, where the connection's last request tells and nobody has to be waited for."""
        last, workspace, profile = asking.last, decision.workspace, decision.profile
        if asking.series is not None:
            return self._signed_again(decision, asking, asking.series)
        if not asking.repeated or workspace is None or workspace.legacy is not None:
            return None
        if profile is None or profile.name in self._signed:
            return None
        decision.token, decision.carrier = last.token, last.carrier
        if last.token is None:
            return ANONYMOUS
        if last.known is None:
            return None
        decision.cache = "hit"
        return self._identities.still(last.known, asking.now)

    async def who(self, decision: Decision, asking: Asking, head: Head) -> Principal:
        """`decision` has the profile, and the workspace where there is one. Raises `CredentialRefused`, `Refused` for two
        credentials, and `Unavailable`."""
        last, peer, now = asking.last, asking.peer, asking.now
        profile, workspace = decision.profile, decision.workspace
        if profile is not None and profile.name in self._signed:
            signer = await self._signer(decision, asking, head)
            if signer is not None:
                return signer
        holder = None
        if workspace is not None and workspace.legacy is not None:
            holder = self._old_password(decision, workspace, head, now)
        if holder is not None:
            return holder
        if not asking.repeated:
            token = carriers.find(head, self._token_headers)
            last.raw, last.headers, last.token, last.known = asking.raw_headers, head.headers, token, None
            last.carrier = carriers.carrier(head, self._token_headers) if token is not None else ""
        token = decision.token = last.token
        decision.carrier = last.carrier
        if token is None:
            return ANONYMOUS
        decision.cache = "hit"
        last.known = last.known or self._identities.recall(token)
        known = self._identities.still(last.known, now) if last.known is not None else None
        if known is not None:
            return known
        decision.cache = "miss"
        principal, decision.cache = await self._identities.identify(token, now, self._lane(peer, now))
        last.known = self._identities.recall(token)
        return principal

    def _signed_again(self, decision: Decision, asking: Asking, series: Series) -> Principal | None:
        """Who signed a request that continues the connection's series; `None` where `who` has to say it."""
        keys, profile, head = self._access_keys, decision.profile, decision.head
        if keys is None or profile is None or profile.name not in self._signed or head is None:
            return None
        principal = keys.again(series, asking.raw_headers, head, asking.now)
        if principal is not None:
            decision.token, decision.carrier, decision.cache = series.token, "sigv4_header", "hit"
        return principal

    async def _signer(self, decision: Decision, asking: Asking, head: Head) -> Principal | None:
        """Who signed the request of an S3 client, or sends a session token; `None` where it has neither.

        Of a connection's requests nothing is repeated here: a signed URL's credential stands in no header.
        """
        peer, now, last = asking.peer, asking.now, asking.last
        parameters = query.pairs(head.target.raw_query)
        token = carriers.session_token(head, parameters, self._token_headers)
        if token is not None:
            decision.token, decision.carrier, decision.cache = token, "session_token", "miss"
            principal, decision.cache = await self._identities.identify(token, now, self._lane(peer, now))
            return principal
        region = self._access_keys.region if self._access_keys is not None else None
        presented = carriers.signature(head, parameters, now, self._token_headers, region=region)
        if presented is None:
            return None
        decision.token = Secret(presented.access_key_id)
        decision.carrier, decision.cache = "sigv4_query" if presented.in_url else "sigv4_header", "miss"
        if self._access_keys is None:
            raise CredentialRefused(Reason.UNKNOWN_ACCESS_KEY, "tokens.access_key_master_file is not set")
        verified = await self._access_keys.identify(presented, now, self._lane(peer, now))
        decision.cache, decision.signed = verified.cache, presented
        decision.chunks = chunk_signing(presented, verified.key)
        if head.method in BODILESS and (last.series is None or last.series.missed >= PATIENCE):
            last.series = self._access_keys.series(presented, verified, asking.raw_headers, head.headers)
        return verified.principal

    def _old_password(self, decision: Decision, workspace: Workspace, head: Head, now: float) -> Principal | None:
        """Who sends the workspace's old shared password; `None` where that isn't what is sent."""
        sent = carriers.old_password(head, self._token_headers)
        if self._old_passwords is None or sent is None:
            return None
        decision.carrier, text = sent
        return self._old_passwords.identify(workspace, decision.carrier, text, head.peer, now)

    def _lane(self, peer: str, now: float) -> asyncio.Semaphore | None:
        return None if self._failures is None else self._failures.lane(peer, now)

    def failed(self, peer: str, now: float) -> int:
        """A bad credential came from there. Seconds for which more of them are not looked at; 0 where they are."""
        return 0 if self._failures is None else self._failures.failed(peer, now)
