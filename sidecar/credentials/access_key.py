"""Who signed: from an access key id and a signature to a principal. An access key lives and dies with its token.

Three things are looked at, and none stands for another. Whose id it is comes through the identity cache, of which there is one for
access keys alone: an id is no secret, and in the cache of tokens it would pass for one. The revoked set is asked at every request.
The signature is verified at every request too, as no cache's key could hold all that it covers.

The law: until the signature has matched nobody has proved anything. Then alone a token counts as used, and is anybody told that it
was revoked or has expired. Day keys are all that is kept of a secret; a new one is made by whoever holds the master key.
"""

from asyncio import Semaphore
from collections.abc import Awaitable, Callable

from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import replace

from sidecar import sigv4, sigv4_verify
from sidecar.aws_chunked import ChunkSigning
from sidecar.credentials import master_key, series
from sidecar.credentials.identities import CacheResult, Identities
from sidecar.credentials.opaque import Reused, StoredVerifier, TokenLookup, ended, principal_of
from sidecar.credentials.pepper import Peppers
from sidecar.credentials.series import Series
from sidecar.credentials.token_row import TokenRow, intact
from sidecar.errors import CredentialRefused
from sidecar.model import Head, Headers, Principal, PrincipalKind, Secret
from sidecar.ports import HeaderList
from sidecar.reasons import Reason
from sidecar.sigv4 import Mac
from sidecar.sigv4_verify import STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, Presented

DAY_KEY_LIFE = 3600.0
"""Seconds that a day key is used before it is made anew: as long as a master key that was taken away may go on."""
_ISSUED = frozenset({PrincipalKind.PERSONAL.value, PrincipalKind.CI.value})

DayKeyOf = Callable[[str, str], Awaitable[bytes | None]]
"""An access key id of ours and a day -> its `sigv4.day_key`; `None` where its master key isn't known. Raises `Unavailable`."""


class AccessKeyVerifier(StoredVerifier):
    """`ports.Verifier` of access key ids, which only name somebody; the signature is `AccessKeys`'s."""

    def __init__(self, peppers: Peppers, lookup: TokenLookup) -> None:
        super().__init__("access_key", peppers, lookup)

    async def verify(self, token: Secret, now: float) -> Principal | None:
        """`token` is the id. A refusal with a principal is for whoever proves to have the secret."""
        text = token.reveal()
        named = master_key.parse(text)
        if named is None:
            raise CredentialRefused(Reason.UNKNOWN_ACCESS_KEY, "no access key id of this sidecar")
        row = await self._lookup.get(named.token_id)
        if row is None:
            raise CredentialRefused(Reason.UNKNOWN_ACCESS_KEY, f"{text}: unknown id")
        if not intact(row, self._peppers):
            raise CredentialRefused(Reason.UNKNOWN_ACCESS_KEY, f"{text}: row MAC, or made under another pepper")
        if row.access_key != text or row.kind not in _ISSUED:
            raise CredentialRefused(Reason.UNKNOWN_ACCESS_KEY, f"{text}: its token has another access key, or none")
        principal = _principal(row, now)
        refusal = ended(row, principal, now)
        if refusal is not None:
            raise refusal
        return principal


class Verified(Struct, frozen=True):
    principal: Principal
    cache: CacheResult
    key: bytes
    """`sigv4.signing_key`, for the signatures of chunks."""
    mac: Mac
    """Of the same."""
    until: float
    """When it has to be made anew, in Unix seconds."""

    def __repr__(self) -> str:
        return f"Verified({self.principal.token_id})"


class _DayKey(Struct):
    key: bytes
    until: float
    region: str = ""
    """What was last signed for: clients name one and the same. The next two are for it."""
    signing_key: bytes = b""
    mac: Mac | None = None

    def __repr__(self) -> str:
        return "<day key>"


class AccessKeys:
    """What the gate asks of a signature."""

    def __init__(
        self,
        identities: Identities,
        day_key_of: DayKeyOf,
        lookup: TokenLookup,
        *,
        reused: Reused,
        used: Callable[[Principal, float], None],
        size: int,
        region: str | None = None,
    ) -> None:
        """`identities`: with an `AccessKeyVerifier` alone, telling nobody of use. `size`: how many day keys are kept. `region`:
        the only one that clients may sign for, if given."""
        self.identities = identities
        self.region = region
        self._day_key_of = day_key_of
        self._lookup = lookup
        self._reused = reused
        self._used = used
        self._day_keys: LRUCache[tuple[str, str], _DayKey] = LRUCache(max(1, size))

    def __repr__(self) -> str:
        return f"<access keys, {len(self._day_keys)} day keys>"

    async def identify(self, presented: Presented, now: float, lane: Semaphore | None = None) -> Verified:
        """Raises `CredentialRefused` (`UNKNOWN_ACCESS_KEY`, `BAD_SIGNATURE`, and as their tokens `REVOKED` and `EXPIRED`), and
        `Unavailable`. `lane` as for `Identities.identify`."""
        named = Secret(presented.access_key_id)
        try:
            principal, cache = await self.identities.identify(named, now, lane)
        except CredentialRefused as refusal:
            if refusal.principal is not None:
                await self._key(presented, now)  # else whoever has the id alone would learn it
                if refusal.reason is Reason.EXPIRED:
                    await self._report(refusal.principal, now)
            raise
        day_key, mac = await self._key(presented, now)
        self._used(principal, now)
        return Verified(principal, cache, day_key.signing_key, mac, day_key.until)

    def series(self, presented: Presented, verified: Verified, raw: HeaderList, headers: Headers) -> Series | None:
        """What requests of the same connection may go on from that are signed alike; `None` where none can."""
        known = self.identities.recall(Secret(presented.access_key_id))
        return series.begin(raw, headers, presented, known=known, mac=verified.mac, until=verified.until)

    def again(self, going_on: Series, raw: HeaderList, head: Head, now: float) -> Principal | None:
        """Who signed a request that continues a series, without waiting; `None` where `identify` has to say it, as for a signature that
        doesn't match. Raises `CredentialRefused` and `Unavailable` as that does."""
        if now >= going_on.until or not going_on.holds(raw, head, now):
            return None
        principal = self.identities.still(going_on.known, now)
        if principal is not None:
            self._used(principal, now)
        return principal

    async def _key(self, presented: Presented, now: float) -> tuple[_DayKey, Mac]:
        """The key that made the signature. Raises `CredentialRefused(BAD_SIGNATURE)` for one that was made otherwise."""
        day_key, region = await self._day_key(presented, now), presented.scope.region
        mac = day_key.mac
        if mac is None or day_key.region != region:
            key = sigv4.signing_key(day_key.key, region)
            day_key.region, day_key.signing_key, day_key.mac = region, key, (mac := Mac(key))
        if not sigv4_verify.matches(presented, mac):
            raise CredentialRefused(
                Reason.BAD_SIGNATURE, f"{presented.access_key_id}: signature of another key or request"
            )
        return day_key, mac

    async def _day_key(self, presented: Presented, now: float) -> _DayKey:
        wanted = presented.access_key_id, presented.scope.day
        known = self._day_keys.get(wanted)
        if known is not None and now < known.until:
            return known
        key = await self._day_key_of(*wanted)
        if key is None:
            raise CredentialRefused(
                Reason.UNKNOWN_ACCESS_KEY, f"{presented.access_key_id}: made under a master key that is not configured"
            )
        made = self._day_keys[wanted] = _DayKey(key, now + DAY_KEY_LIFE)
        return made

    async def _report(self, principal: Principal, now: float) -> None:
        """A replaced token's access key may have been used after its replacement had taken over."""
        row = await self._lookup.get(principal.token_id)
        if row is not None and row.rotated_at is not None:
            await self._reused(row, int(now))


def chunk_signing(presented: Presented, key: bytes) -> ChunkSigning | None:
    """For the signatures of a body's chunks; `None` where it has none. `key`: what made the request's own signature."""
    if presented.payload not in (STREAMING_SIGNED, STREAMING_SIGNED_TRAILER):
        return None
    return ChunkSigning(key, presented.date, str(presented.scope), presented.signature)


def _principal(row: TokenRow, now: float) -> Principal:
    kind = PrincipalKind(row.kind)
    return replace(
        principal_of(row, kind, now),
        kind=PrincipalKind.ACCESS_KEY,
        token_kind=kind,
        owned=kind is PrincipalKind.PERSONAL,
    )
