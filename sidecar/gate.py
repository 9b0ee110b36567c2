"""The one road to a decision. The data plane, `policy explain` and the policy cases walk it, and nothing else does.

Here and nowhere else the steps follow one another: target, headers, route, credential, identity, actions, policy.
A refusal is a value, never an exception: `decide` returns for whatever it is given.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from msgspec.structs import replace

from sidecar import buckets, headers, target
from sidecar.callers import Callers
from sidecar.credentials.access_key import AccessKeys
from sidecar.credentials.failures import Failures
from sidecar.credentials.identities import Identities, KnownBad
from sidecar.credentials.legacy import OldPasswords
from sidecar.credentials.series import PATIENCE, Series
from sidecar.decision import About, Asking, Decision, LastRead, store_path
from sidecar.errors import CredentialRefused, Refused
from sidecar.model import (
    ANONYMOUS,
    Action,
    Head,
    Headers,
    Oddity,
    Permission,
    Principal,
    PrincipalKind,
    Target,
    Verdict,
)
from sidecar.policy import buckets as bucket_routes
from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.evaluate import Trace, evaluate, rules_about
from sidecar.policy.routes import Snapshot
from sidecar.ports import Directory
from sidecar.profiles import Errand, LocalAnswer, Operation, Profile
from sidecar.profiles.tenant import check_tenant
from sidecar.reasons import Reason
from sidecar.s3 import reading
from sidecar.s3 import request as s3_request
from sidecar.s3.place import Places, Store
from sidecar.s3.request import Asked
from sidecar.s3.sending import of_one
from sidecar.trees import settle

log = logging.getLogger(__name__)

_PLAIN = Oddity.NONE
_JOINING = Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""A store that doesn't read a body with these (RFC 9110 §9.3.1) would take it for the next request on its connection."""


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
        self._directory = directory
        self._existence = existence
        self._stores = stores or {}
        self._places = Places(self._stores)
        self.let_through = {Reason.NO_RULE: 0, Reason.NO_TOKEN: 0}
        """What report mode let through, by the reason that will refuse it."""
        names = tuple(name.lower() for name in token_headers)
        self._secret_names = frozenset(name.encode() for name in names)
        self._set_names = set_names
        self._callers = Callers(
            identities,
            token_headers=names,
            signed=frozenset(name for name, profile in profiles.items() if getattr(profile, "signed", False)),
            failures=failures,
            old_passwords=old_passwords,
            access_keys=access_keys,
        )
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
        asking = Asking(method, raw_target, raw_headers, peer, now, last or LastRead(), trace, vouched, body)
        try:
            await self._walk(decision, asking)
        except Refused as refusal:
            decision.reason, decision.detail = refusal.reason, refusal.detail
            if decision.profile is None and self._snapshot().routes.buckets and _by_s3(raw_target, raw_headers):
                decision.profile = self._profiles[bucket_routes.CLIENT]  # nobody's route, but they read no other answer
            if isinstance(refusal, CredentialRefused):
                decision.holder = refusal.principal
                if isinstance(refusal, KnownBad):
                    decision.cache = "negative"
                # Whoever proves to hold a token that has expired or was revoked is told so: that is no guess.
                if refusal.principal is None:
                    decision.retry_after = self._callers.failed(peer, now)
                    if decision.retry_after:
                        decision.reason, decision.detail = Reason.THROTTLED, f"{refusal.reason}: {refusal.detail}"
        except Exception:
            log.exception("the decision failed; the request is refused")
            decision.reason, decision.detail = Reason.INTERNAL_ERROR, "the decision failed"
        return decision

    async def _walk(self, decision: Decision, asking: Asking) -> None:
        snapshot, last = self._snapshot(), asking.last
        decision.generation = snapshot.generation
        parsed = target.parse(asking.raw_target)
        asking.repeated = last.headers is not None and last.raw == asking.raw_headers
        if asking.repeated and last.headers is not None:
            read = last.headers
        elif last.series is not None and last.series.continued(asking.raw_headers):
            asking.series, read = last.series, last.series.headers
        else:
            read = self._read(asking.raw_headers)
        decision.head = head = Head(asking.method, parsed, read, asking.peer)
        if asking.method in _BODILESS and _has_body(read.values):
            raise Refused(Reason.BAD_REQUEST, f"a body on {asking.method}")
        if parsed.raw_query:
            self._check_query(parsed.raw_query)
        route = (
            bucket_routes.find(snapshot.routes, head) if snapshot.routes.buckets else snapshot.match(parsed.segments)
        )
        if route is None:
            if bucket_routes.is_service(snapshot.routes, head):
                await self._list_buckets(decision, asking, head, snapshot)
                return
            raise Refused(Reason.NO_ROUTE)
        decision.route = route
        decision.workspace = workspace = snapshot.workspaces[route.workspace]
        decision.profile = profile = self._profiles[route.client]
        if parsed.oddities is not _PLAIN:
            _check_oddities(parsed, route, profile, snapshot)

        principal = self._callers.at_hand(decision, asking)
        if principal is None:
            if asking.series is not None:
                head = self._apart(decision, asking, asking.series)
            principal = await self._callers.who(decision, asking, head)
        decision.principal = principal
        if principal.limits.checks is not None:
            decision.circumstances = last.circumstances = asking.circumstances()

        if asking.series is not None and self._one_more(decision, asking, asking.series, workspace, principal):
            return
        if parsed.raw_query:
            check_tenant(parsed.raw_query, route.workspace)
        classified = profile.classify(head, route)
        report = workspace.report_until is not None and asking.now < workspace.report_until
        if type(classified) is tuple:  # nearly all; to ask what else it is costs more than this
            decision.actions = classified
            verdict = self._evaluate(workspace, principal, classified, None, last, report, asking.trace)
            if verdict.existence_needed:
                verdict = await self._knowing_existence(decision, workspace, principal, route, asking, report)
        elif isinstance(classified, LocalAnswer):
            decision.reason, decision.answer = Reason.ANSWERED_HERE, classified
            return
        elif isinstance(classified, Asked):
            if classified.reads_one and asking.trace is None:
                verdict = self._one_object(decision, asking, classified, workspace, principal, report)
            else:
                verdict = await self._bucket(decision, asking, classified, snapshot, principal)
            if decision.answer is not None:
                decision.reason = Reason.ANSWERED_HERE
                return
        elif isinstance(classified, Operation):
            verdict = await self._settle(decision, asking, classified, snapshot, principal, report)
        else:
            assert isinstance(classified, Errand)
            decision.errand, decision.actions = classified, classified.actions
            verdict = self._evaluate(workspace, principal, decision.actions, None, last, report, asking.trace)
            if verdict.existence_needed:
                verdict = await self._knowing_existence(decision, workspace, principal, route, asking, report)
        decision.reason, decision.rule = verdict.reason, verdict.rule
        if verdict.reason is Reason.NO_RULE and principal is ANONYMOUS:
            decision.reason = Reason.NO_TOKEN
        if report and (will_refuse := decision.would_deny) is not None:
            self.let_through[will_refuse] += 1

    async def _knowing_existence(
        self,
        decision: Decision,
        workspace: Workspace,
        principal: Principal,
        route: Route,
        asking: Asking,
        report: bool,
    ) -> Verdict:
        """The verdict where it depends on whether the key is there (rule 17)."""
        decision.exists = await self._existence(route, store_path(decision).partition("?")[0])
        decision.only_creates = not decision.exists
        actions, last = decision.actions, asking.last
        return self._evaluate(workspace, principal, actions, decision.exists, last, report, asking.trace)

    async def _list_buckets(self, decision: Decision, asking: Asking, head: Head, snapshot: Snapshot) -> None:
        """What names no bucket is answered here: no store is to say which there are."""
        decision.profile = self._profiles[bucket_routes.CLIENT]
        if asking.series is not None:
            head = self._apart(decision, asking, asking.series)
        decision.principal = principal = await self._callers.who(decision, asking, head)
        circumstances = asking.circumstances() if principal.limits.checks is not None else None

        def judge(workspace: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            fresh = LastRead(circumstances=circumstances)
            return self._evaluate(snapshot.workspaces[workspace], principal, actions, exists, fresh, False, None)

        decision.answer = await buckets.visible(s3_request.read(head), snapshot.routes, judge)
        if decision.answer is not None:
            decision.reason = Reason.ANSWERED_HERE
        else:
            decision.reason = Reason.NO_TOKEN if principal is ANONYMOUS else Reason.NO_RULE

    def _one_object(
        self,
        decision: Decision,
        asking: Asking,
        asked: Asked,
        workspace: Workspace,
        principal: Principal,
        report: bool,
    ) -> Verdict:
        """The verdict on an S3 client's request to read one object; what `_bucket` would say, without its waiting."""
        route, head, series = decision.route, decision.head, asking.series
        assert route is not None
        assert head is not None
        here = self._places.of(route)
        decision.actions = both = s3_request.actions_on_one(asked, here.prefix)
        if head.target.oddities or asked.key.endswith("/"):
            both = bucket_routes.in_both_forms(both)
        verdict = self._evaluate(workspace, principal, both, None, asking.last, report, None)
        if verdict.allowed:
            decision.sending = of_one(asked, head, here)
            if series is not None:
                series.reading = reading.begin(head, route, decision.sending)
        return verdict

    def _one_more(
        self, decision: Decision, asking: Asking, series: Series, workspace: Workspace, principal: Principal
    ) -> bool:
        """Whether it reads another object as one of its series did, and may; then that is decided."""
        route, head = decision.route, decision.head
        if series.reading is None or route is None or head is None:
            return False
        found = series.reading.again(head, route)
        if found is None:
            return False
        actions, sending = found
        verdict = self._evaluate(workspace, principal, actions, None, asking.last, False, None)
        if verdict.reason is not Reason.GRANTED:
            return False
        decision.reason, decision.rule = verdict.reason, verdict.rule
        decision.actions, decision.sending = actions, sending
        return True

    async def _bucket(
        self, decision: Decision, asking: Asking, asked: Asked, snapshot: Snapshot, principal: Principal
    ) -> Verdict:
        """The verdict on an S3 client's request."""
        route, head, last, body = decision.route, decision.head, asking.last, asking.body
        assert route is not None
        assert head is not None

        def judge(name: str, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            workspace = snapshot.workspaces[name]
            report = workspace.report_until is not None and asking.now < workspace.report_until
            both = bucket_routes.in_both_forms(actions)
            return self._evaluate(workspace, principal, both, exists, last, report, None)

        async def keys(most: int) -> bytes:
            assert body is not None
            within = bucket_routes.within(snapshot.routes, asked.bucket)
            if principal is ANONYMOUS and not any(
                _anybody_deletes(snapshot.workspaces[each.workspace]) for each in within
            ):
                raise Refused(Reason.NO_TOKEN)  # megabytes that are kept are for whoever may do something by them
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
        decision.detail, decision.exists, decision.removed = settled.detail, settled.occupied, settled.removed
        if asking.trace is not None:
            fresh = LastRead(circumstances=last.circumstances)
            both = bucket_routes.in_both_forms(settled.actions)
            self._evaluate(workspace, principal, both, settled.exists, fresh, False, asking.trace)
        return settled.verdict

    async def _settle(
        self,
        decision: Decision,
        asking: Asking,
        operation: Operation,
        snapshot: Snapshot,
        principal: Principal,
        report: bool,
    ) -> Verdict:
        """The verdict on what may act on trees of keys (rule 18)."""
        workspace, route, head, last = decision.workspace, decision.route, decision.head, asking.last
        assert workspace is not None
        assert route is not None
        assert head is not None

        def judge(actions: tuple[Action, ...], exists: bool | None) -> Verdict:
            return self._evaluate(workspace, principal, actions, exists, last, report, None)

        decision.actions = operation.actions
        settled = await settle(operation, head, route, snapshot, judge, lambda path: self._existence(route, path))
        decision.actions, decision.forward = settled.actions, settled.forward
        decision.exists = settled.exists is True and not settled.verdict.allowed
        if asking.trace is not None:
            self._evaluate(workspace, principal, settled.actions, settled.exists, last, report, asking.trace)
        return settled.verdict

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
        actions = decision.actions
        if not all(action.permission is Permission.READ for action in actions):
            return False
        both = actions if decision.sending is None else bucket_routes.in_both_forms(actions)
        return self._evaluate(workspace, ANONYMOUS, both, None, LastRead(), False, None).allowed

    def _read(self, raw_headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        read = headers.read(raw_headers, secret_names=self._secret_names, set_names=self._set_names)
        values = b"\n".join([value for _, value in read.forward])
        for shape in self._token_shapes:
            if shape in values:
                name = next(name for name, value in read.forward if shape in value)
                raise Refused(Reason.MISPLACED_TOKEN, f"in the header {name.decode()}")
        return read

    def _apart(self, decision: Decision, asking: Asking, series: Series) -> Head:
        """The head of a request whose headers looked like the series', but which doesn't go on from it."""
        assert decision.head is not None
        series.missed, asking.series = PATIENCE, None
        try:
            decision.head = replace(decision.head, headers=self._read(asking.raw_headers))
        except Refused:  # as where its headers are read first: then nothing else of it is known
            decision.head = decision.route = decision.workspace = decision.profile = None
            raise
        return decision.head

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


def _check_oddities(parsed: Target, route: Route, profile: Profile, snapshot: Snapshot) -> None:
    if parsed.oddities & ~profile.allowed:
        met = target.in_words(parsed.oddities & ~profile.allowed)
        raise Refused(Reason.BAD_TARGET, f"client {route.client} takes no path with {met}")
    joined = parsed.oddities & _JOINING and route.client != bucket_routes.CLIENT
    if joined and snapshot.match(target.flat(parsed)) is not route:
        raise Refused(Reason.BAD_TARGET, "it lies in another route for a store that reads %2f and // as one slash")


def _anybody_deletes(workspace: Workspace) -> bool:
    """Whether there may be a key that somebody without a token may delete."""
    granted = [workspace.anonymous, *(rule.allow for rule in rules_about(workspace, ANONYMOUS, None, False))]
    return any(Permission.DELETE in permissions for permissions in granted)


def _by_s3(raw_target: str, raw_headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the request comes from an S3 client, as far as can be told before it was read."""
    signed = any(name.lower() == b"authorization" and value.startswith(b"AWS") for name, value in raw_headers)
    return signed or "X-Amz-Signature=" in raw_target


def _has_body(values: Mapping[str, str]) -> bool:
    return "transfer-encoding" in values or values.get("content-length", "").strip("0") != ""
