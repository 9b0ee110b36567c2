"""Requests, bytes and streams that a token and a workspace may have. The law: where a limit is reached the request is refused before
the store is asked, and nothing that runs is ever cut off.

- A token issued here is one by its id; a JWT, of which a build mints as many as it likes, by its issuer and subject; a workspace's old
  password by the workspace; callers without a token by their network.
- Bytes are known when they have passed: they are charged at a request's end, and whoever took more than there was waits until that
  is paid back.
- What the configuration says and what the policy says hold both; each counts for itself. What is asked of no workspace, as which
  buckets there are, counts for who asks it alone.
- Each process counts for itself. With several workers one may have up to as many times as much as there are workers.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sidecar.bucket import Bucket
from sidecar.decision import Decision
from sidecar.model import Principal, PrincipalKind, Quota, Quotas, Rate
from sidecar.networks import network
from sidecar.reasons import Reason

ACCOUNTS = 32_768
_TRIES = 16
_ISSUED_HERE = frozenset({PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.BISCUIT})
NOTHING = Quota()


class Refusal(Struct, frozen=True):
    scope: str
    """`token` or `workspace`."""
    limit: str
    """`requests`, `bytes` or `streams`."""
    wait: float
    """Seconds."""


class Account:
    """What one has had, and has."""

    __slots__ = ("_bytes", "_quota", "_requests", "scope", "streams")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.streams = 0
        self._quota = NOTHING
        self._requests: Bucket | None = None
        self._bytes: Bucket | None = None

    def hold_to(self, quota: Quota, now: float) -> None:
        """From now on; what was taken stays taken."""
        if quota is not self._quota:
            self._requests = _resized(self._requests, quota.requests, now)
            self._bytes = _resized(self._bytes, quota.bytes, now)
            self._quota = quota

    def refusal(self, now: float) -> Refusal | None:
        quota = self._quota
        if quota.streams is not None and self.streams >= quota.streams:
            return Refusal(self.scope, "streams", 1.0)
        if self._requests is not None and (wait := self._requests.wait(1, now)):
            return Refusal(self.scope, "requests", wait)
        if self._bytes is not None and (wait := self._bytes.wait(1, now)):
            return Refusal(self.scope, "bytes", wait)
        return None

    def begin(self, now: float) -> None:
        self.streams += 1
        if self._requests is not None:
            self._requests.charge(1, now)

    def end(self, size: int, now: float) -> None:
        self.streams -= 1
        if self._bytes is not None:
            self._bytes.charge(size, now)


def _resized(bucket: Bucket | None, rate: Rate | None, now: float) -> Bucket | None:
    if rate is None or bucket is None:
        return None if rate is None else Bucket(rate, now)
    bucket.resize(rate)
    return bucket


class Permit:
    """A request that was let in; `end` it once."""

    __slots__ = ("_accounts",)

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._accounts = accounts

    def end(self, size: int, now: float) -> None:
        """`size`: bytes of both bodies."""
        for account in self._accounts:
            account.end(size, now)


class Allowances:
    def __init__(self, quotas: Quotas, refused: Callable[[str, str], None] = lambda scope, limit: None) -> None:
        """`quotas`: the configuration's, of every token and every workspace. `refused` hears of each scope and limit."""
        self._quotas = quotas
        self._refused = refused
        self._accounts: OrderedDict[tuple[str, ...], Account] = OrderedDict()
        self.general = quotas != Quotas()
        """Whether there is something to look at where the workspace says nothing."""

    def __len__(self) -> int:
        return len(self._accounts)

    def admit(self, decision: Decision, peer: str, now: float) -> tuple[Decision, Permit | None]:
        """The decision and its permit; where a limit is reached, another decision and none. What was refused anyway by no known
        caller is left alone."""
        workspace, principal = decision.workspace, decision.principal
        if principal is None or not (decision.allowed or decision.known):
            return decision, None
        accounts = []
        name = "" if workspace is None else workspace.name
        for origin, quotas in (("", self._quotas), (name, None if workspace is None else workspace.quotas)):
            if quotas is None:
                continue
            if quotas.token != NOTHING:
                accounts.append(self._account("token", (origin, *_whose(principal, peer)), quotas.token, now))
            if quotas.workspace != NOTHING and workspace is not None:
                accounts.append(self._account("workspace", (origin, name), quotas.workspace, now))
        refusals = [refusal for account in accounts if (refusal := account.refusal(now)) is not None]
        if not refusals:
            for account in accounts:
                account.begin(now)
            return decision, Permit(accounts)
        worst = max(refusals, key=lambda refusal: refusal.wait)
        self._refused(worst.scope, worst.limit)
        return replace(
            decision,
            reason=Reason.RATE_LIMITED,
            detail=f"{worst.limit} of the {worst.scope}",
            rule=None,
            answer=None,
            retry_after=max(1, math.ceil(worst.wait)),
        ), None

    def _account(self, scope: str, key: tuple[str, ...], quota: Quota, now: float) -> Account:
        accounts, key = self._accounts, (scope, *key)
        account = accounts.get(key)
        if account is None:
            if len(accounts) >= ACCOUNTS:
                self._forget_one()
            account = accounts[key] = Account(scope)
        else:
            accounts.move_to_end(key)
        account.hold_to(quota, now)
        return account

    def _forget_one(self) -> None:
        """Whoever was longest away, and has nothing under way; else a limit on streams could be walked around."""
        for _ in range(_TRIES):
            key, account = self._accounts.popitem(last=False)
            if not account.streams:
                return
            self._accounts[key] = account
        self._accounts.popitem(last=False)


def _whose(principal: Principal, peer: str) -> tuple[str, ...]:
    if principal.kind is PrincipalKind.ANONYMOUS:
        return ("anonymous", network(peer))
    kind = principal.token_kind or principal.kind  # a token and its access key have one account
    if kind in _ISSUED_HERE and principal.token_id:
        return (kind, principal.token_id)
    return (principal.kind, principal.issuer, principal.workspace, principal.subject)
