"""The vocabulary: what a request, a caller, an action and a decision are. Values only; no behaviour that reaches out."""

import hashlib
from collections.abc import Mapping
from enum import IntFlag, StrEnum
from typing import Any, Never, Protocol

from msgspec import Struct, field

from sidecar.reasons import Reason


class Permission(StrEnum):
    """`docs/policy.md` rule 11. `overwrite`, `delete` and `admin` are only ever given by name."""

    READ = "read"
    WRITE = "write"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    ADMIN = "admin"


Permissions = frozenset[Permission]

NOTHING: Permissions = frozenset()
LEVELS: dict[str, Permissions] = {
    "none": NOTHING,
    "read": frozenset({Permission.READ}),
    "read-write": frozenset({Permission.READ, Permission.WRITE}),
}
"""What `anonymous`, `personal_tokens` and `ci_tokens` may say (rules 11 and 12)."""


class PrincipalKind(StrEnum):
    ANONYMOUS = "anonymous"
    PERSONAL = "personal"
    CI = "ci"
    JWT = "jwt"
    BISCUIT = "biscuit"
    ACCESS_KEY = "access_key"
    LEGACY = "legacy"
    """A workspace's old shared password: nobody in particular."""


class Secret:
    """A credential's text. It can't be formatted, printed or pickled by accident; `reveal()` is easy to search for."""

    __slots__ = ("_digest", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest: bytes | None = None

    def reveal(self) -> str:
        return self._text

    @property
    def digest(self) -> bytes:
        """SHA-256 of the text: what may stand for it as a key in memory."""
        if self._digest is None:
            self._digest = hashlib.sha256(self._text.encode("utf-8", "surrogatepass")).digest()
        return self._digest

    def __repr__(self) -> str:
        return "<secret>"

    def __str__(self) -> Never:
        raise TypeError("a secret can't be formatted; call reveal() where it must leave")

    def __format__(self, spec: str) -> Never:
        raise TypeError("a secret can't be formatted; call reveal() where it must leave")

    def __reduce__(self) -> Never:
        raise TypeError("a secret can't be serialised")

    def __eq__(self, other: object) -> Never:
        raise TypeError("compare secrets with hmac.compare_digest")


class Oddity(IntFlag):
    """Spellings that stores read differently; refused unless the profile's table allows them (law 1)."""

    NONE = 0
    ENCODED_SLASH = 1
    ENCODED_BACKSLASH = 2
    ENCODED_PERCENT = 4
    ENCODED_QUESTION = 8
    ENCODED_HASH = 16
    EMPTY_SEGMENT = 32
    NON_ASCII = 64
    SEMICOLON = 128
    """Raw or encoded: Java servers cut a segment at it, others don't."""


class Target(Struct, frozen=True, gc=False):
    """A request-target that can be read in one way only. Made by `target.parse` alone."""

    raw_path: str
    """The path's bytes as received, always starting with one `/`."""
    raw_query: str
    """What follows the first `?`, as received; empty where there is none."""
    raw_segments: tuple[str, ...]
    """`raw_path` split at `/`, without the leading empty one; a trailing slash leaves a last empty segment."""
    segments: tuple[str, ...]
    """The same, each percent-decoded once."""
    oddities: Oddity = Oddity.NONE
    """What the route's profile still has to agree to."""


class Headers(Struct, frozen=True, gc=False):
    """A request's headers after the laws on them have held. Made by `headers.read` alone."""

    values: dict[str, str]
    """Lower-case name -> value, of every header that isn't repeated; what the program reads it reads here."""
    forward: tuple[tuple[bytes, bytes], ...]
    """The end-to-end headers as received, minus credentials, cookies, overrides and everything that folds to what we set."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self.values)})"  # names alone: some values are credentials


class Head(Struct, frozen=True, gc=False):
    """Everything that a decision may look at. There is nothing else: no body, no connection, no clock."""

    method: str
    target: Target
    headers: Headers
    peer: str = ""
    """The address of the TCP peer; empty for a unix socket. Never from a header."""


class Scope(Struct, frozen=True):
    """One entry of a token that is made for several places: what it may do in one workspace. `None` doesn't narrow."""

    workspace: str
    permissions: Permissions | None = None
    path: str | None = None
    """A glob over the key, in the form of rule 16."""

    def __str__(self) -> str:
        """As the command line takes it: `workspace=web,path=releases/**,permissions=read+write`."""
        path = "" if self.path is None else f",path={self.path}"
        permissions = "" if self.permissions is None else f",permissions={'+'.join(sorted(self.permissions))}"
        return f"workspace={self.workspace}{path}{permissions}"


class Circumstances(Struct, frozen=True):
    """What a token's own checks may ask of a request, beside the action and its workspace."""

    method: str
    now: float
    """Unix seconds."""
    client_ip: str = ""
    """Empty where no trusted peer vouches for one."""


class Checks(Protocol):
    """Conditions that a token carries itself."""

    def hold(
        self,
        workspace: str,
        settings: Mapping[str, str],
        needed: Permission,
        action: "Action",
        circumstances: Circumstances,
    ) -> bool:
        """Whether all of them let one action through that asks for the permission `needed`. `settings` are the workspace's.

        Raises `Unavailable` where they can't be judged.
        """


class Limits(Struct, frozen=True):
    """What can only narrow (rule 13). `None` doesn't narrow; what is set must all agree."""

    workspaces: frozenset[str] | None = None
    permissions: Permissions | None = None
    path: str | None = None
    """A glob over the key, in the form of rule 16."""
    scopes: tuple[Scope, ...] | None = None
    """If set, each action lies within at least one of these; `workspaces` are then theirs."""
    checks: Checks | None = None
    """What a token says in a language of its own: asked for each action, at each request."""


UNLIMITED = Limits()


class Principal(Struct, frozen=True):
    """Who asks, after verification (rule 5)."""

    kind: PrincipalKind
    subject: str
    issuer: str = ""
    """The configured name of the issuer for a JWT; empty for what was issued here. Identity is issuer and subject."""
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict)
    token_id: str = ""
    """A stable public id: an opaque token's public id, a JWT's `jti`; never the token or a digest of it."""
    token_name: str = ""
    workspace: str = ""
    """For a CI token: the one workspace that it belongs to (rule 7)."""
    bound: bool = False
    """For a Biscuit: it was made for some workspaces, which its limits name; a check added later binds it to none."""
    limits: Limits = UNLIMITED
    expires_at: float | None = None
    """Unix seconds."""
    revocation_ids: tuple[str, ...] = ()
    """Each is looked up in the revoked set at every request."""
    owner_id: str = ""
    """For a personal token: the directory's immutable id of its person when it was made; empty where there was none."""
    expiry_notice: bytes = b""
    """Where it ends soon: when, as the answer's header says it."""
    issued_at: float | None = None
    """Unix seconds; where it isn't known, a revocation of what was issued before some time is one of this, too."""
    parent: str = ""
    """The token that this one was made to replace."""
    family: str = ""
    """The token that the whole chain began with: the first of a rotated line, or a Biscuit's root."""
    owned: bool = False
    """Belongs to a person of the directory, whose standing is asked at each decision. A personal token always does."""
    token_kind: PrincipalKind | None = None
    """Of an access key: its token's kind. What the policy says about that kind holds for it, too."""


ANONYMOUS = Principal(kind=PrincipalKind.ANONYMOUS, subject="")


class Action(Struct, frozen=True):
    """One permission on one key of the route's workspace."""

    permission: Permission
    key: str
    """What follows the route's path, decoded once, without its leading slash (rule 2)."""
    creates: bool = False
    """True where `write` might replace an existing key, so that rule 17 may ask for `overwrite` instead."""
    below: bool = False
    """True where it acts on every key below `key` too (rule 18); `key` then has no trailing slash, and "" is all keys."""
    proved: bool = False
    """A write whose body its key proves, where the route lets whoever may read write that (`cas_writes: open`)."""


class Person(Struct, frozen=True):
    """A row of the directory."""

    active: bool
    groups: frozenset[str]
    id: str = ""
    """Names the person for good, where the directory has such a thing: a name can be given to somebody else."""


class Rate(Struct, frozen=True, gc=False):
    """So much of something at once, and so much of it in each second after that; both are above 0."""

    per_second: float
    burst: float


class Quota(Struct, frozen=True, gc=False):
    """How much of the store one may have; `None` is as much as they like."""

    requests: Rate | None = None
    bytes: Rate | None = None
    """Of bodies, both ways."""
    streams: int | None = None
    """Requests at once."""


class Quotas(Struct, frozen=True, gc=False):
    token: Quota = Quota()
    """Of each token."""
    workspace: Quota = Quota()
    """Of all requests to one workspace together."""


class Verdict(Struct, frozen=True):
    """What the policy says about a set of actions."""

    allowed: bool
    reason: Reason
    rule: str | None = None
    """The name of the rule that decided, where one did."""
    existence_needed: bool = False
    """The answer depends on whether the key exists (rule 17); ask the store and evaluate again."""
