"""The one road to a decision. The data plane, the decision endpoint and `policy explain` all walk it, and nothing else does.

Here and nowhere else the steps follow one another: target, headers, route, credential, identity, actions, policy.
A refusal is a value, never an exception: `decide` returns for whatever it is given.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from sidecar import buckets, headers, mapping, target
from sidecar.aws_chunked import ChunkSigning
from sidecar.credentials import carriers
from sidecar.credentials.access_key import AccessKeys, chunk_signing
from sidecar.credentials.failures import Failures
from sidecar.credentials.identities import CacheResult, Identities, Known, KnownBad
from sidecar.credentials.legacy import OldPasswords
from sidecar.errors import CredentialRefused, Refused
from sidecar.model import (
    ANONYMOUS,
    Action,
    Circumstances,
    Head,
    Headers,
    Oddity,
    Permission,
    Person,
    Principal,
    PrincipalKind,
    Secret,
    Verdict,
)
from sidecar.policy import buckets as bucket_routes
from sidecar.policy.compiled import Route, Rule, Workspace
from sidecar.policy.evaluate import Trace, evaluate, rules_about
from sidecar.policy.routes import Snapshot
from sidecar.ports import Directory, HeaderList
from sidecar.profiles import Errand, LocalAnswer, Operation, Profile
from sidecar.profiles.tenant import check_tenant
from sidecar.reasons import REASONS, Reason
from sidecar.s3 import query
from sidecar.s3 import request as s3_request
from sidecar.s3.place import Store
from sidecar.s3.request import Asked
from sidecar.s3.sending import Sending
from sidecar.sigv4_verify import Presented
from sidecar.trees import settle

log = logging.getLogger(__name__)

_JOINING = Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""A store that doesn't read a body with these (RFC 9110 §9.3.1) would take it for the next request on its connection."""


class Decision(Struct):
    """What was decided, and everything that it was decided on. Evidence, answers and forwarding read it; none adds to it."""

    reason: Reason
    detail: str = ""
    """For audit and log alone."""
    rule: str | None = None
    head: Head | None = None
    route: Route | None = None
    workspace: Workspace | None = None
    profile: Profile | None = None
    principal: Principal | None = None
    """`None` where the caller was never identified: the request was malformed, or its credential was not accepted."""
    holder: Principal | None = None
    """Who proved to hold a credential that was refused all the same, as it had expired or was revoked. For evidence alone."""
    token: Secret | None = None
    """The credential that was sent, for the HMAC of one that was refused."""
    carrier: str = ""
    """Where it sat; empty where there was none."""
    signed: Presented | None = None
    """The AWS signature, where one was verified."""
    chunks: ChunkSigning | None = None
    """What the signatures of the body's chunks are held to, where they are."""
    actions: tuple[Action, ...] = ()
    answer: LocalAnswer | None = None
    """Set where the profile answers by itself and the store is not asked."""
    errand: Errand | None = None
    """Set where the store is asked for something else than the request's own words, or its body or answer is looked at."""
    exists: bool = False
    """The key that would be written is known to be there."""
    only_creates: bool = False
    """It was decided on the key's not being there: the store is asked to hold to that (rule 17)."""
    forward: HeaderList | None = None
    """The headers for the store where they aren't those that were read; its answer may be a multistatus then."""
    sending: Sending | None = None
    """Of an S3 client's request: what the store gets, all of it written anew."""
    cache: CacheResult | None = None
    circumstances: Circumstances | None = None
    """Where the principal's token carries checks."""
    generation: int = 0
    """The policy snapshot's number."""
    retry_after: int = 0
    """Seconds until the same may be asked again, where that is why it was refused."""

    @property
    def allowed(self) -> bool:
        reason = self.reason
        return reason is Reason.GRANTED or reason is Reason.ANSWERED_HERE or reason is Reason.WOULD_DENY

    @property
    def would_deny(self) -> Reason | None:
        """What will refuse it once report mode is over (rule 21)."""
        if self.reason is not Reason.WOULD_DENY:
            return None
        return Reason.NO_TOKEN if self.principal is ANONYMOUS else Reason.NO_RULE

    @property
    def known(self) -> bool:
        """Whether somebody with a name asked."""
        return self.principal is not None and self.principal.kind is not PrincipalKind.ANONYMOUS

    @property
    def status(self) -> int:
        """Before the profile suits it to its client: an anonymous caller who is refused is asked for a token (rule 20)."""
        status = REASONS[self.reason].status
        return 401 if status == 403 and self.principal is ANONYMOUS else status


class About(Struct, frozen=True):
    """The rules of a workspace that are about a caller. It holds no longer than all three are the very same objects."""

    workspace: Workspace
    principal: Principal
    person: Person | None
    rules: Sequence[Rule]


class LastRead(Struct):
    """What a connection's last headers said. Clients repeat themselves: equal headers hold the same token and mean the same,
    since nothing else goes into reading them."""

    raw: Sequence[tuple[bytes, bytes]] | None = None
    headers: Headers | None = None
    token: Secret | None = None
    carrier: str = ""
    known: Known | None = None
    about: About | None = None
    circumstances: Circumstances | None = None
    """Of the request under way, where its token carries checks."""


Existence = Callable[[Route, str], Awaitable[bool]]
"""Asks a route's store whether an object exists at an upstream path. Raises `Unavailable`."""


class Gate:
    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        profiles: Mapping[str, Profile],
        identities: Identities,
        directory: Directory | None,
        existence: Existence,
        token_headers: Sequence[str] = (),
        set_names: frozenset[str] = frozenset(),
        brand: str | None = None,
        failures: Failures | None = None,
        old_passwords: OldPasswords | None = None,
        access_keys: AccessKeys | None = None,
        stores: Mapping[str, Store] | None = None,
    ) -> None:
        """`token_headers`, `set_names`: see `headers.read`. `brand`: of the tokens that are issued here, if any are. `failures`:
        what throttles bad credentials, if anything does. `access_keys`: what S3 clients sign with, if any are issued.
        `stores`: by upstream, where S3 clients' keys lie."""
        self._snapshot = snapshot
        self._profiles = profiles
        self._identities = identities
        self._directory = directory
        self._existence = existence
        self._old_passwords = old_passwords
        self._stores = stores or {}
        self._access_keys = access_keys
        self._signed = frozenset(name for name, profile in profiles.items() if getattr(profile, "signed", False))
        """The profiles whose clients may sign their requests."""
        self.let_through = {Reason.NO_RULE: 0, Reason.NO_TOKEN: 0}
        """What report mode let through, by the reason that will refuse it."""
        self._token_headers = tuple(name.lower() for name in token_headers)
        self._secret_names = frozenset(name.encode() for name in self._token_headers)
        self._set_names = set_names
        self._failures = failures
        self._token_shapes = (f"{brand}_pat_".encode(), f"{brand}_ci_".encode()) if brand is not None else ()

    async def decide(
        self,
        method: str,
        raw_target: str,
        raw_headers: Sequence[tuple[bytes, bytes]],
        peer: str,
        now: float,
        *,
        last: LastRead | None = None,
        trace: Trace | None = None,
        vouched: bool = False,
        body: buckets.Receive | None = None,
    ) -> Decision:
        """`now` in Unix seconds; `peer` the TCP peer's address; `last` is the connection's, to be read and written.
        `trace` gathers why each rule did or didn't match. `vouched`: a trusted peer has named `peer` as its client's address.
        `body` gives the request's body, for what says there which keys it is about; nothing is read of any other.
        """
        decision = Decision(Reason.INTERNAL_ERROR)
        try:
            await self._walk(
                decision, method, raw_target, raw_headers, peer, now, last or LastRead(), trace, vouched, body
            )
        except Refused as refusal:
            decision.reason, decision.detail = refusal.reason, refusal.detail
            if decision.profile is None and self._snapshot().routes.buckets and _by_s3(raw_target, raw_headers):
                decision.profile = self._profiles[bucket_routes.CLIENT]  # nobody's route, but they read no other answer
            if isinstance(refusal, CredentialRefused):
                decision.holder = refusal.principal
                if isinstance(refusal, KnownBad):
                    decision.cache = "negative"
                # Whoever proves to hold a token that has expired or was revoked is told so: that is no guess.
                if self._failures is not None and refusal.principal is None:
                    decision.retry_after = self._failures.failed(peer, now)
                    if decision.retry_after:
                        decision.reason, decision.detail = Reason.THROTTLED, f"{refusal.reason}: {refusal.detail}"
        except Exception:
            log.exception("the decision failed; the request is refused")
            decision.reason, decision.detail = Reason.INTERNAL_ERROR, "the decision failed"
        return decision

    async def _walk(
        self,
        decision: Decision,
        method: str,
        raw_target: str,
        raw_headers: Sequence[tuple[bytes, bytes]],
        peer: str,
        now: float,
        last: LastRead,
        trace: Trace | None,
        vouched: bool,
        body: buckets.Receive | None,
    ) -> None:
        snapshot = self._snapshot()
        decision.generation = snapshot.generation
        parsed = target.parse(raw_target)
        repeated = last.raw == raw_headers
        read = last.headers if repeated and last.headers is not None else self._read(raw_headers)
        decision.head = head = Head(method, parsed, read, peer)
        if method in _BODILESS and _has_body(read.values):
            raise Refused(Reason.BAD_REQUEST, f"a body on {method}")
        if parsed.raw_query:
            self._check_query(parsed.raw_query)
        decision.route = route = (
            bucket_routes.find(snapshot.routes, head) if snapshot.routes.buckets else snapshot.match(parsed.segments)
        )
        if route is None:
            if bucket_routes.is_service(snapshot.routes, head):
                await self._list_buckets(decision, head, snapshot, raw_headers, repeated, peer, now, last, vouched)
                return
            raise Refused(Reason.NO_ROUTE)
        decision.workspace = workspace = snapshot.workspaces[route.workspace]
        decision.profile = profile = self._profiles[route.client]
        if parsed.oddities is not Oddity.NONE and parsed.oddities & ~profile.allowed:
            met = target.in_words(parsed.oddities & ~profile.allowed)
            raise Refused(Reason.BAD_TARGET, f"client {route.client} takes no path with {met}")
        if (
            parsed.oddities & _JOINING
            and route.client != bucket_routes.CLIENT
            and snapshot.match(target.flat(parsed)) is not route
        ):
            raise Refused(Reason.BAD_TARGET, "it lies in another route for a store that reads %2f and // as one slash")

        decision.principal = principal = await self._who(decision, head, raw_headers, repeated, peer, now, last)
        if principal.limits.checks is not None:
            decision.circumstances = last.circumstances = Circumstances(method, now, peer if vouched else "")

        if parsed.raw_query:
            check_tenant(parsed.raw_query, route.workspace)
        classified = profile.classify(head, route)
        if isinstance(classified, LocalAnswer):
            decision.reason, decision.answer = Reason.ANSWERED_HERE, classified
            return
        report = workspace.report_until is not None and now < workspace.report_until
        if isinstance(classified, Asked):
            verdict = await self._bucket(decision, classified, snapshot, principal, last, now, trace, body)
            if decision.answer is not None:
                decision.reason = Reason.ANSWERED_HERE
                return
        elif isinstance(classified, Operation):
            verdict = await self._settle(decision, classified, snapshot, principal, last, report, trace)
        else:
            if isinstance(classified, Errand):
                decision.errand, classified = classified, classified.actions
            decision.actions = classified
            verdict = self._evaluate(workspace, principal, classified, None, last, report, trace)
            if verdict.existence_needed:
                decision.exists = await self._existence(route, store_path(decision).partition("?")[0])
                verdict = self._evaluate(workspace, principal, classified, decision.exists, last, report, trace)
                decision.only_creates = not decision.exists
        decision.reason, decision.rule = verdict.reason, verdict.rule
        if verdict.reason is Reason.NO_RULE and principal is ANONYMOUS:
            decision.reason = Reason.NO_TOKEN
        if report and (will_refuse := decision.would_deny) is not None:
            self.let_through[will_refuse] += 1

    async def _who(
        self,
        decision: Decision,
        head: Head,
        raw_headers: Sequence[tuple[bytes, bytes]],
        repeated: bool,
        peer: str,
        now: float,
        last: LastRead,
    ) -> Principal:
        """Who asks. `decision` has the profile, and the workspace where there is one. `repeated`: `raw_headers` are `last`'s."""
        profile, workspace = decision.profile, decision.workspace
        if profile is not None and profile.name in self._signed:
            signer = await self._signer(decision, head, peer, now)
            if signer is not None:
                return signer
        holder = None
        if workspace is not None and workspace.legacy is not None:
            holder = self._old_password(decision, workspace, head, now)
        if holder is not None:
            return holder
        if not repeated:
            token = carriers.find(head, self._token_headers)
            last.raw, last.headers, last.token, last.known = raw_headers, head.headers, token, None
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

    async def _signer(self, decision: Decision, head: Head, peer: str, now: float) -> Principal | None:
        """Who signed the request of an S3 client, or sends a session token; `None` where it has neither.

        Nothing here is the connection's to repeat: a signed URL's credential stands in no header.
        """
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
        return verified.principal

    def _lane(self, peer: str, now: float) -> asyncio.Semaphore | None:
        return None if self._failures is None else self._failures.lane(peer, now)

    async def _list_buckets(
        self,
        decision: Decision,
        head: Head,
        snapshot: Snapshot,
        raw_headers: Sequence[tuple[bytes, bytes]],
        repeated: bool,
        peer: str,
        now: float,
        last: LastRead,
        vouched: bool,
    ) -> None:
        """What names no bucket is answered here: no store is to say which there are."""
        decision.profile = self._profiles[bucket_routes.CLIENT]
        decision.principal = principal = await self._who(decision, head, raw_headers, repeated, peer, now, last)
        circumstances = None
        if principal.limits.checks is not None:
            circumstances = Circumstances(head.method, now, peer if vouched else "")

        def judge(workspace: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            fresh = LastRead(circumstances=circumstances)
            return self._evaluate(snapshot.workspaces[workspace], principal, actions, exists, fresh, False, None)

        decision.answer = await buckets.visible(s3_request.read(head), snapshot.routes, judge)
        if decision.answer is not None:
            decision.reason = Reason.ANSWERED_HERE
        else:
            decision.reason = Reason.NO_TOKEN if principal is ANONYMOUS else Reason.NO_RULE

    async def _bucket(
        self,
        decision: Decision,
        asked: Asked,
        snapshot: Snapshot,
        principal: Principal,
        last: LastRead,
        now: float,
        trace: Trace | None,
        body: buckets.Receive | None,
    ) -> Verdict:
        """The verdict on an S3 client's request."""
        route, head = decision.route, decision.head
        assert route is not None
        assert head is not None

        def judge(name: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            workspace = snapshot.workspaces[name]
            report = workspace.report_until is not None and now < workspace.report_until
            return self._evaluate(workspace, principal, actions, exists, last, report, None)

        async def keys(most: int) -> bytes:
            assert body is not None
            return await buckets.received(buckets.body_of(asked, head, decision.signed, decision.chunks), body, most)

        settled = await buckets.settle(
            asked,
            head,
            route,
            snapshot.routes,
            self._stores,
            judge,
            self._existence,
            keys if body is not None else None,
        )
        decision.route, decision.actions, decision.sending = settled.route, settled.actions, settled.sending
        decision.answer = settled.answer
        decision.workspace = workspace = snapshot.workspaces[settled.route.workspace]
        decision.detail, decision.exists = settled.detail, settled.exists is True
        if trace is not None:
            fresh = LastRead(circumstances=last.circumstances)
            self._evaluate(workspace, principal, settled.actions, settled.exists, fresh, False, trace)
        return settled.verdict

    async def _settle(
        self,
        decision: Decision,
        operation: Operation,
        snapshot: Snapshot,
        principal: Principal,
        last: LastRead,
        report: bool,
        trace: Trace | None,
    ) -> Verdict:
        """The verdict on what may act on trees of keys (rule 18)."""
        workspace, route, head = decision.workspace, decision.route, decision.head
        assert workspace is not None
        assert route is not None
        assert head is not None

        def judge(actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            return self._evaluate(workspace, principal, actions, exists, last, report, None)

        decision.actions = operation.actions
        settled = await settle(operation, head, route, snapshot, judge, lambda path: self._existence(route, path))
        decision.actions, decision.forward = settled.actions, settled.forward
        if trace is not None:
            self._evaluate(workspace, principal, settled.actions, settled.exists, last, report, trace)
        return settled.verdict

    def _old_password(self, decision: Decision, workspace: Workspace, head: Head, now: float) -> Principal | None:
        """Who sends the workspace's old shared password; `None` where that isn't what is sent."""
        sent = carriers.old_password(head, self._token_headers)
        if self._old_passwords is None or sent is None:
            return None
        decision.carrier, text = sent
        return self._old_passwords.identify(workspace, decision.carrier, text, head.peer, now)

    def grants(self, decision: Decision, keys: Sequence[str]) -> list[str]:
        """Which of these keys whoever was decided on may read, in the same workspace."""
        assert decision.workspace is not None
        assert decision.principal is not None
        last = LastRead(circumstances=decision.circumstances)
        return [
            key
            for key in keys
            if self._evaluate(
                decision.workspace, decision.principal, (Action(Permission.READ, key),), None, last, False, None
            ).allowed
        ]

    def is_public(self, decision: Decision) -> bool:
        """Whether anonymous might have read what was decided on, so that shared caches may keep it (law 12)."""
        workspace = decision.workspace
        if workspace is None or Permission.READ not in workspace.anonymous:
            return False
        reads = all(action.permission is Permission.READ for action in decision.actions)
        return reads and self._evaluate(workspace, ANONYMOUS, decision.actions, None, LastRead(), False, None).allowed

    def _read(self, raw_headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        read = headers.read(raw_headers, secret_names=self._secret_names, set_names=self._set_names)
        values = b"\n".join([value for _, value in read.forward])
        for shape in self._token_shapes:
            if shape in values:
                name = next(name for name, value in read.forward if shape in value)
                raise Refused(Reason.MISPLACED_TOKEN, f"in the header {name.decode()}")
        return read

    def _check_query(self, query: str) -> None:
        """A URL is no place for a token: stores and proxies write URLs into their logs."""
        if any(shape in unquote_to_bytes(query) for shape in self._token_shapes):
            raise Refused(Reason.MISPLACED_TOKEN, "in the query")

    def _evaluate(
        self,
        workspace: Workspace,
        principal: Principal,
        actions: tuple[Action, ...],
        exists: bool | None,
        last: LastRead,
        report: bool,
        trace: Trace | None,
    ) -> Verdict:
        directory, person = self._directory, None
        if directory is not None and (principal.kind is PrincipalKind.PERSONAL or principal.owned):
            person = directory.person(principal.subject)
        about = last.about
        if (
            about is None
            or about.workspace is not workspace
            or about.principal is not principal
            or about.person is not person
        ):
            rules = rules_about(workspace, principal, person, directory is not None)
            about = last.about = About(workspace, principal, person, rules)
        return evaluate(
            workspace,
            principal,
            actions,
            person=person,
            directory=directory is not None,
            exists=exists,
            rules=about.rules,
            report=report,
            trace=trace,
            circumstances=last.circumstances,
        )


def _by_s3(raw_target: str, raw_headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the request comes from an S3 client, as far as can be told before it was read."""
    signed = any(name.lower() == b"authorization" and value.startswith(b"AWS") for name, value in raw_headers)
    return signed or "X-Amz-Signature=" in raw_target


def _has_body(values: Mapping[str, str]) -> bool:
    return "transfer-encoding" in values or values.get("content-length", "").strip("0") != ""


def upstream_path(route: Route, head: Head) -> str:
    """Path and query to ask the store for, as received but for the prefix."""
    path = mapping.to_store(route, head.target)
    return f"{path}?{head.target.raw_query}" if head.target.raw_query else path


def store_path(decision: Decision) -> str:
    """The same of a decision that has a route: where its profile has words of its own, those."""
    if decision.errand is not None:
        return decision.errand.path
    assert decision.route is not None
    assert decision.head is not None
    return upstream_path(decision.route, decision.head)
