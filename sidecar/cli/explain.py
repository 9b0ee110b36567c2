"""One request, walked through the gate as in service, and why it was decided so.

Law: this file decides nothing. It hands the gate what a request would (a stated principal comes in as one more verifier),
and reads the decision and the trace.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.cli.explanation import ActionLine, Explanation, RuleLine
from sidecar.credentials.identities import Identities
from sidecar.credentials.jwt import JwtVerifier, principal_of
from sidecar.directory.file import DirectoryFile
from sidecar.errors import CredentialRefused, SidecarError, Unavailable
from sidecar.gate import Decision, Gate
from sidecar.jwks import keys_of
from sidecar.model import Permissions, Principal, Secret
from sidecar.policy.compiled import Route, Rule
from sidecar.policy.source import PolicySource
from sidecar.policy.trace import ActionTrace, Trace, listed
from sidecar.ports import Revocations, Verifier
from sidecar.profiles import PROFILES
from sidecar.reasons import REASONS, Reason
from sidecar.settings import IssuerSettings, Settings
from sidecar.store.changes import ChangeFeed
from sidecar.store.open import open_token_store
from sidecar.wiring import NothingRevoked

_STATED = "stated-on-the-command-line"


class Question(Struct, frozen=True):
    method: str
    path: str
    """The request-target."""
    token: Secret | None = None
    principal: Principal | None = None
    """Who asks, taken at its word. Without it and without a token: anonymous."""
    exists: bool | None = None


def stated_principal(issuer: IssuerSettings, claims: dict[str, Any]) -> Principal:
    """The principal that a verified token with these claims would be; claims that no rule looks at may be left out.

    Raises `SidecarError` where it would be none.
    """
    try:
        return principal_of({"exp": 0, issuer.subject_claim: "unstated", **claims}, issuer)
    except CredentialRefused as refusal:
        raise SidecarError(f"these claims make nobody: {refusal.detail}") from None


async def explain_request(settings: Settings, question: Question) -> Explanation:
    policies = PolicySource(
        settings.policies, issuers=settings.issuers, upstreams=settings.upstreams, profiles=PROFILES, settle=0.0
    )
    try:
        policies.load_now()
    except OSError as error:
        raise SidecarError(f"{settings.policies} can't be read: {error.strerror}") from None
    directory = DirectoryFile(settings.directory.file, settle=0.0) if settings.directory is not None else None
    if directory is not None:
        directory.load_now()

    assumed = question.exists

    async def exists(route: Route, path: str) -> bool:
        if assumed is None:
            raise Unavailable(
                Reason.EXISTENCE_UNKNOWN, "it depends on whether the key exists: say --exists or --missing"
            )
        return assumed

    async with _verification(settings, question) as (verifiers, revocations):
        gate = Gate(
            snapshot=lambda: policies.snapshot,
            profiles=PROFILES,
            identities=Identities(verifiers, revocations, settings.identity_cache),
            directory=directory,
            existence=exists,
            token_headers=settings.carriers.headers,
        )
        headers = [(b"host", b"sidecar")]
        if question.token is not None:
            headers.append((b"authorization", b"Bearer " + question.token.reveal().encode()))
        elif question.principal is not None:
            headers.append((b"authorization", f"Bearer {_STATED}".encode()))

        async def ask() -> Explanation:
            trace = Trace()
            decision = await gate.decide(question.method, question.path, headers, "", time.time(), trace=trace)
            return _explanation(question, decision, trace)

        explanation = await ask()
        if assumed is not None or explanation.reason != Reason.EXISTENCE_UNKNOWN:
            return explanation
        assumed = True
        if_exists = await ask()
        assumed = False
        return replace(explanation, if_exists=if_exists, if_missing=await ask())


class _Stated:
    """Takes the command line's word for who asks."""

    generation = _STATED

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def verify(self, token: Secret, now: float) -> Principal | None:
        return self._principal


@asynccontextmanager
async def _verification(
    settings: Settings, question: Question
) -> AsyncIterator[tuple[Sequence[Verifier], Revocations]]:
    """The configured verifiers where there is a token to verify; nothing is opened or asked for otherwise."""
    if question.principal is not None:
        yield [_Stated(question.principal)], NothingRevoked()
        return
    if question.token is None:
        yield [], NothingRevoked()
        return
    async with AsyncExitStack() as stack:
        verifiers: list[Verifier] = []
        revocations: Revocations = NothingRevoked()
        if settings.tokens is not None:
            tokens = await open_token_store(settings.tokens)
            stack.push_async_callback(tokens.store.close)
            revocations = feed = ChangeFeed(tokens.store, tokens.watch())
            await feed.start()
            stack.push_async_callback(feed.stop)
            verifiers.append(tokens.verifier)
        if settings.issuers:
            sources = {name: keys_of(issuer) for name, issuer in settings.issuers.items()}
            for source in sources.values():
                await source.start()
                stack.push_async_callback(source.close)
            verifiers.append(JwtVerifier([(issuer, sources[name]) for name, issuer in settings.issuers.items()]))
        yield verifiers, revocations


def _explanation(question: Question, decision: Decision, trace: Trace) -> Explanation:
    route, workspace, row = decision.route, decision.workspace, REASONS[decision.reason]
    return Explanation(
        request=f"{question.method} {question.path}",
        allowed=decision.allowed,
        reason=decision.reason.value,
        status=decision.status,
        hint=row.hint,
        detail=decision.detail,
        rule=decision.rule,
        workspace=route.workspace if route is not None else None,
        file=workspace.file if workspace is not None else None,
        sha256=workspace.sha256 if workspace is not None else None,
        route=route.path if route is not None else None,
        client=route.client if route is not None else None,
        keys_at=f"{route.upstream}:{route.upstream_path or '/'}" if route is not None else None,
        caller=_caller(decision.principal),
        limits=_limits(decision.principal),
        anonymous_level=_names(trace.anonymous),
        ceiling=_names(trace.ceiling),
        rules=[_rule_line(step.rule, step.why_not or _beside(step.rule, trace.actions)) for step in trace.rules],
        actions=[_action_line(step) for step in trace.actions],
    )


def _caller(principal: Principal | None) -> str | None:
    if principal is None:
        return None
    issuer = f" of issuer {principal.issuer}" if principal.issuer else ""
    groups = f", groups {listed(principal.groups)}" if principal.groups else ""
    return f"{principal.kind.value} {principal.subject}".strip() + issuer + groups


def _limits(principal: Principal | None) -> list[str]:
    if principal is None:
        return []
    limits = principal.limits
    stated = [
        ("belongs to workspace", principal.workspace or None),
        ("workspaces", None if limits.workspaces is None else listed(limits.workspaces) or "none"),
        ("permissions", None if limits.permissions is None else listed(limits.permissions) or "none"),
        ("path", limits.path),
    ]
    return [f"{name} {value}" for name, value in stated if value is not None]


def _beside(rule: Rule, actions: Sequence[ActionTrace]) -> str | None:
    """Why a rule that is about the caller says nothing here."""
    keys = [step.action.key for step in actions]
    if rule.path is None or any(rule.path.matches(key) for key in keys):
        return None
    return f"its path {rule.path.pattern} does not match {' or '.join(repr(key) for key in keys)}"


def _rule_line(rule: Rule, why_not: str | None) -> RuleLine:
    effect, permissions = ("deny", rule.deny) if rule.deny else ("allow", rule.allow)
    path = rule.path.pattern if rule.path is not None else None
    return RuleLine(rule.name, rule.line, effect, _names(permissions), path, why_not is None, why_not)


def _action_line(step: ActionTrace) -> ActionLine:
    action = step.action
    return ActionLine(
        key=action.key,
        asks=action.permission.value,
        needs=step.needed.value,
        granted=step.granted,
        granted_by=step.granted_by.name if step.granted_by is not None else None,
        denied_by=step.denied_by.name if step.denied_by is not None else None,
        within_limits=step.within_limits,
    )


def _names(permissions: Permissions) -> list[str]:
    return sorted(permission.value for permission in permissions)
