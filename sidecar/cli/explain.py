"""One request, walked through the gate as in service, and why it was decided so.

Law: this file decides nothing. It hands the gate what a request would (a stated principal comes in as one more verifier),
and reads the decision and the trace.
"""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.cli.explanation import Explanation, explanation_of
from sidecar.credentials.identities import Identities, NothingRevoked
from sidecar.credentials.jwt import principal_of
from sidecar.credentials.legacy import OldPasswords
from sidecar.directory.file import DirectoryFile
from sidecar.errors import CredentialRefused, SidecarError, Unavailable
from sidecar.gate import Gate
from sidecar.model import ANONYMOUS, Principal, Secret
from sidecar.policy.compiled import Route
from sidecar.policy.passwords import PasswordFiles
from sidecar.policy.source import PolicySource
from sidecar.policy.trace import Trace
from sidecar.ports import Revocations, Verifier
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.settings import IssuerSettings, Settings
from sidecar.store.open import open_token_store
from sidecar.trial import STATED_HEADER, stated
from sidecar.wiring_verifiers import jwt_verifier


class Question(Struct, frozen=True):
    method: str
    path: str
    """The request-target."""
    token: Secret | None = None
    basic: bool = False
    """`token` is `user:password`, to be sent in Basic; else it is sent as Bearer."""
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

    async with _identities(settings, question) as identities:
        gate = Gate(
            snapshot=lambda: policies.snapshot,
            profiles=PROFILES,
            identities=identities,
            directory=directory,
            existence=exists,
            token_headers=settings.carriers.headers,
            old_passwords=_old_passwords(settings, policies),
        )
        headers = [(b"host", b"sidecar")]
        if question.token is not None:
            headers.append((b"authorization", _authorization(question.token, question.basic)))
        elif question.principal is not None:
            headers.append(STATED_HEADER)

        async def ask() -> Explanation:
            trace = Trace()
            decision = await gate.decide(question.method, question.path, headers, "", time.time(), trace=trace)
            return explanation_of(f"{question.method} {question.path}", decision, trace)

        explanation = await ask()
        if assumed is not None or explanation.reason != Reason.EXISTENCE_UNKNOWN:
            return explanation
        assumed = True
        if_exists = await ask()
        assumed = False
        return replace(explanation, if_exists=if_exists, if_missing=await ask())


def _authorization(sent: Secret, basic: bool) -> bytes:
    text = sent.reveal().encode()
    return b"Basic " + base64.b64encode(text) if basic else b"Bearer " + text


def _old_passwords(settings: Settings, policies: PolicySource) -> OldPasswords:
    files = PasswordFiles(settings.policies, lambda: policies.snapshot, settle=0.0, quiet=True)
    files.load_now()
    return OldPasswords(files.digest)


@asynccontextmanager
async def _identities(settings: Settings, question: Question) -> AsyncIterator[Identities]:
    """The configured verifiers where there is a token to verify; nothing is opened or asked for otherwise."""
    if question.token is None:
        yield stated(question.principal or ANONYMOUS)
        return
    async with AsyncExitStack() as stack:
        verifiers: list[Verifier] = []
        revocations: Revocations = NothingRevoked()
        if settings.tokens is not None:
            tokens = await open_token_store(settings.tokens)
            stack.push_async_callback(tokens.store.close)
            revocations = feed = tokens.feed()
            await feed.start()
            stack.push_async_callback(feed.stop)
            verifiers += tokens.onlooker(), tokens.biscuit_verifier
        if settings.issuers:
            verifier, _ = await jwt_verifier(settings.issuers, stack.push_async_callback)
            verifiers.append(verifier)
        yield Identities(verifiers, revocations, settings.identity_cache)
