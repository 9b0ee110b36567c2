"""A policy after its file was read and found right: values that `evaluate` and `routes` work on, swapped whole.

Made by `policy.file` alone, so that whatever holds one of these holds a policy without contradictions.
None of them refers back to its owner, hence `gc=False`: ten thousand workspaces cost the collector nothing.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sidecar.model import NOTHING, Action, Permission, Permissions, Person, Principal, PrincipalKind, Quotas
from sidecar.policy.glob import Glob
from sidecar.reasons import Reason


class ClaimGlob(Struct, frozen=True, gc=False):
    """`{glob: "release/*"}` in a rule (rule 15)."""

    glob: Glob


class Rule(Struct, frozen=True, gc=False):
    """One `allow` or `deny` rule. It matches when all that it states holds (rule 14); `None` states nothing."""

    name: str
    line: int
    allow: Permissions = NOTHING
    deny: Permissions = NOTHING
    issuer: str | None = None
    claims: Mapping[str, Any] | None = None
    """Literal claim name -> what it must be (rule 15); a `ClaimGlob`, a tuple is any-of, a mapping a subset."""
    groups: frozenset[str] | None = None
    users: frozenset[str] | None = None
    kinds: frozenset[PrincipalKind] | None = None
    path: Glob | None = None


class Case(Struct, frozen=True):
    """One policy case: who asks for what, and what the answer must be. Read and run by `policy.cases`."""

    name: str
    line: int
    principal: Principal
    expect: Reason
    rule: str | None = None
    """The name of the rule that must have decided; `None` doesn't ask."""
    method: str = ""
    path: str = ""
    """With `method`: the request. Otherwise `actions` are asked of `workspace`."""
    workspace: str = ""
    actions: tuple[Action, ...] = ()
    exists: bool | None = None
    person: Person | None = None
    """The directory's row of the caller."""
    directory: bool = False
    """Whether a directory is configured."""
    headers: Mapping[str, str] = {}
    """What the request says besides who asks."""
    at: float | None = None
    """When it is asked, in Unix seconds; `None` is now."""


class Legacy(Struct, frozen=True, gc=False):
    """The old shared password, for as long as it may stay."""

    scheme: str
    """`basic`: the file holds `user:password`. `bearer`: the file holds what follows `Bearer`."""
    file: str
    """As the policy says it; a relative one lies beside the policy."""
    level: Permissions
    """The most that its holder may do here."""
    until: float
    """Unix seconds: the end of its last day, in UTC."""
    line: int = 1


class Workspace(Struct, frozen=True, gc=False):
    name: str
    file: str
    sha256: str
    """Hex digest of the file's bytes."""
    routes: tuple["Route", ...] = ()
    anonymous: Permissions = NOTHING
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    personal_tokens: Permissions = NOTHING
    ci_tokens: Permissions = NOTHING
    rules: tuple[Rule, ...] = ()
    write_once: bool = False
    shares: frozenset[str] = frozenset()
    settings: Mapping[str, str] = {}
    cases: tuple[Case, ...] = ()
    guard: bool = False
    """Its cases must hold before it is served (rule 26)."""
    report_until: float | None = None
    """Until then (Unix seconds) what nothing grants is let through and recorded (rule 21); `None` enforces."""
    legacy: Legacy | None = None
    quotas: Quotas | None = None
    """What its tokens, and all its requests together, may have beside what the configuration says; `None` says nothing."""
    broken: bool = False
    """Its file was bad at a cold start: nothing but its routes is known, everything is refused with `policy_missing` (rule 23)."""


class TrustedKey(Struct, frozen=True, gc=False):
    """A public key of Nix's kind."""

    name: str
    key: bytes
    """Ed25519, 32 bytes."""


class Route(Struct, frozen=True, gc=False):
    workspace: str
    path: str
    """`/web`; `/` for everything."""
    segments: tuple[str, ...]
    """`("web",)`; empty for `/`."""
    client: str
    """The client profile's name."""
    upstream: str
    upstream_path: str
    """Where the keys live behind the sidecar: `/web`, or empty for the store's root."""
    verbs: Mapping[str, Permission] = {}
    """Method -> permission, overriding the profile's own table."""
    content_address: bool = False
    """Whether each key that is written ends in the SHA-256 of what is written."""
    cas_writes_open: bool = False
    """Of `bazel`: whoever may read may write what its digest proves."""
    trusted_keys: tuple[TrustedKey, ...] | None = None
    """Of `nix`: whose signatures count; `None` asks for none."""
    host: str = ""
    """Of `s3`: what follows the bucket in a request's `Host`, as `.s3.internal`; empty where paths alone say the bucket."""
    line: int = 1
    """Where the file says it."""
