"""What a policy answers to a question that nobody sent: policy cases, `policy explain`, a replayed audit record.

Law: nothing is decided here. A question becomes a request, its caller one more verified identity, and the gate decides as it
does in service; what the store would be asked is answered by the question.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct, structs

from sidecar import target
from sidecar.credentials import legacy
from sidecar.credentials.identities import Identities, NothingRevoked
from sidecar.decision import Decision
from sidecar.errors import CredentialRefused, Problem, Refused, Unavailable
from sidecar.gate import Gate
from sidecar.model import ANONYMOUS, Action, Head, Headers, Oddity, Person, Principal, PrincipalKind, Secret
from sidecar.policy import buckets
from sidecar.policy.compiled import Case, Legacy, Route, Workspace
from sidecar.policy.routes import Routes, Snapshot
from sidecar.policy.trace import Trace
from sidecar.profiles import PROFILES, LocalAnswer, Profile
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings

_STATED = "stated"
STATED_HEADER = (b"authorization", f"Bearer {_STATED}".encode())
"""Sent by whom `stated` takes at their word."""
_SMALL = IdentityCacheSettings(size=1)


class Result(Struct, frozen=True):
    """A case and what became of it."""

    case: Case
    reason: Reason
    rule: str | None
    """What decided; `None` where no rule did."""

    @property
    def passed(self) -> bool:
        return self.reason is self.case.expect and self.case.rule in (None, self.rule)

    def __str__(self) -> str:
        met, case = said(self.reason, self.rule), self.case
        return (
            f"{case.name}: {met}" if self.passed else f"{case.name}: expected {said(case.expect, case.rule)}, got {met}"
        )


def said(reason: Reason, rule: str | None) -> str:
    """An answer as cases write it: `allow`, or `rule_deny by 'the rule'`."""
    word = "allow" if reason is Reason.GRANTED else reason.value
    return word if rule is None else f"{word} by {rule!r}"


def stated(principal: Principal) -> Identities:
    """Identities in which whoever sends `STATED_HEADER` is `principal`."""
    return _believing(_Stated(principal))


async def decide_case(
    case: Case,
    snapshot: Snapshot,
    now: float,
    *,
    profiles: Mapping[str, Profile] = PROFILES,
    trace: Trace | None = None,
) -> Decision:
    """What the gate says to a case's question. `now` in Unix seconds. Where it matters and the case doesn't say whether the key
    exists, the reason is `existence_unknown`.

    Report mode counts as over, as cases say what a policy is to be; unless the case expects `would_deny`, or is about a day.
    """
    method, path = case.method, case.path
    headers = {name.lower(): value for name, value in case.headers.items()}
    headers.setdefault("host", "sidecar")
    if not method:
        snapshot, path = _only_where(case.workspace, snapshot)
        method = "GET"
        profiles = {name: _StatedActions(name, case.actions) for name in profiles}
    if case.at is None and case.expect is not Reason.WOULD_DENY:
        snapshot = _enforcing(_workspace_at(path, headers, snapshot), snapshot)

    async def exists(route: Route, stored: str) -> bool:
        if case.exists is None:
            raise Unavailable(Reason.EXISTENCE_UNKNOWN, "the case doesn't say whether the key exists")
        return case.exists

    gate = Gate(
        snapshot=lambda: snapshot,
        profiles=profiles,
        identities=_believing(_old_password(case.principal, path, headers, snapshot))
        if case.principal.kind is PrincipalKind.LEGACY
        else stated(case.principal),
        directory=_Row(case.person) if case.directory else None,
        existence=exists,
    )
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    if case.principal is not ANONYMOUS:
        lines.append(STATED_HEADER)
    return await gate.decide(method, path, lines, "", now if case.at is None else case.at, trace=trace)


async def run_case(case: Case, snapshot: Snapshot, now: float) -> Result:
    decision = await decide_case(case, snapshot, now)
    return Result(case, decision.reason, decision.rule)


def guard_problems(workspace: Workspace, cases: Iterable[tuple[str, Case]], now: float) -> tuple[Problem, ...]:
    """Which of a guarded workspace's cases don't hold (rule 26); with each, the file that it is in.

    A file stands alone (rule 23): the cases are asked as if there were no other workspace. May be called anywhere, a running
    loop included: it waits for a thread that has a loop of its own.
    """
    alone = Snapshot(Routes().adding(workspace.routes), {workspace.name: workspace})

    async def ask() -> list[tuple[str, Result]]:
        return [(file, await run_case(case, alone, now)) for file, case in cases]

    with ThreadPoolExecutor(1, "guard") as thread:
        results = thread.submit(asyncio.run, ask()).result()
    if not results:
        problem = "a guard without a case guards nothing; write 'cases', or leave 'guard' out"
        return (Problem(workspace.file, 1, "$.guard", problem),)
    return tuple(
        Problem(file, result.case.line, "$.cases", f"the guard {result}")
        for file, result in results
        if not result.passed
    )


def _believing(word: "_Stated") -> Identities:
    return Identities([word], NothingRevoked(), _SMALL)


def _old_password(principal: Principal, path: str, headers: Mapping[str, str], snapshot: Snapshot) -> "_OldPassword":
    """That of the principal's workspace, sent to a path: anywhere else it means nothing."""
    workspace = _workspace_at(path, headers, snapshot)
    known = workspace.legacy if workspace is not None and workspace.name == principal.workspace else None
    return _OldPassword(principal, known)


def _workspace_at(path: str, headers: Mapping[str, str], snapshot: Snapshot) -> Workspace | None:
    """`headers` have lower-case names."""
    try:
        route = buckets.find(snapshot.routes, Head("", target.parse(path), Headers(dict(headers), ())))
    except Refused:
        return None
    return snapshot.workspaces[route.workspace] if route is not None else None


def _enforcing(workspace: Workspace | None, snapshot: Snapshot) -> Snapshot:
    """The snapshot after the workspace's report mode."""
    if workspace is None or workspace.report_until is None:
        return snapshot
    over = structs.replace(workspace, report_until=None)
    return structs.replace(snapshot, workspaces={**snapshot.workspaces, workspace.name: over})


def _only_where(workspace: str, snapshot: Snapshot) -> tuple[Snapshot, str]:
    """The snapshot and a path that is the workspace's; one without any route where there is no such workspace."""
    known = snapshot.workspaces.get(workspace)
    return (snapshot, known.routes[0].path) if known is not None and known.routes else (Snapshot(), "/")


class _Stated:
    """Takes the question's word for who asks."""

    generation = _STATED

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def verify(self, token: Secret, now: float) -> Principal | None:
        return self._principal


class _OldPassword(_Stated):
    """A workspace's shared password, as `credentials.legacy` takes it."""

    def __init__(self, principal: Principal, legacy: Legacy | None) -> None:
        super().__init__(principal)
        self._legacy = legacy

    async def verify(self, token: Secret, now: float) -> Principal | None:
        if self._legacy is None:
            return None
        if now >= self._legacy.until:
            raise CredentialRefused(Reason.EXPIRED, "the shared password is past its last day")
        return legacy.principal_of(self._principal.workspace, self._legacy)


class _Row:
    """A directory that holds one row, whoever is asked for."""

    def __init__(self, person: Person | None) -> None:
        self._person = person

    def person(self, subject: str) -> Person | None:
        return self._person


class _StatedActions:
    """A profile that takes any request for the actions of a question."""

    allowed = Oddity.NONE

    def __init__(self, name: str, actions: Sequence[Action]) -> None:
        self.name = name
        self._actions = tuple(actions)

    def classify(self, head: Head, route: Route) -> tuple[Action, ...] | LocalAnswer:
        return self._actions

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        return PROFILES[self.name].deny(head, reason, hint, challenge, workspace)

    def answered(self, method: str, status: int) -> int | Reason:
        return PROFILES[self.name].answered(method, status)
