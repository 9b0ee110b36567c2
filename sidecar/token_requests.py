"""What may be asked for: of a token that is made, checked here and nowhere else, with all that is wrong said at once; and of a list."""

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from sidecar.document import suggestion
from sidecar.errors import SidecarError
from sidecar.model import NOTHING, Permission, Permissions, PrincipalKind, Scope
from sidecar.policy import glob
from sidecar.settings import DAY

LONGEST_SUBJECT, LONGEST_NAME, LONGEST_OWNER_ID = 256, 100, 256
MOST_WORKSPACES, MOST_SCOPES = 100, 32
LONGEST_PATHS = 4096
"""Characters of all scopes' paths: they are held in memory with every identity that is remembered."""
SHORTEST_TTL = 1.0

_PERMISSIONS: dict[str, tuple[Permission, ...]] = {
    **{permission.value: (permission,) for permission in Permission},
    "read-write": (Permission.READ, Permission.WRITE),
}
PERMISSION_NAMES = tuple(_PERMISSIONS)
_PREFIX = "store:"
"""`store:read`: what people know from elsewhere, where other things than stores have permissions too."""
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TokenRequestError(SidecarError):
    """What was asked for can't be. All that is wrong with it, one sentence each; it begins with the name of what is wrong
    (`kind`, `subject`, `workspace`, `permission`, `path`, `scope`, `ttl`, `overlap`, `name`) where that is one thing."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class WantedScope(Struct, frozen=True):
    """One entry of a token for several places, as asked for."""

    workspace: str
    path: str | None = None
    permissions: tuple[str, ...] = ()


class NewToken(Struct, frozen=True):
    """What is asked for. `None` and an empty tuple don't narrow (rules 6 and 13)."""

    kind: PrincipalKind
    subject: str
    workspaces: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    """Names of `Permission`, or `read-write`; `store:` before one says nothing."""
    path: str | None = None
    ttl: float | None = None
    """Seconds; the configuration's default if `None`."""
    name: str = ""
    scopes: tuple[WantedScope, ...] = ()
    """Instead of `permissions` and `path`; `workspaces` may repeat theirs."""
    owner_id: str = ""
    """The directory's id of a personal token's owner."""
    all_permissions: bool = False
    """Said aloud: not narrowed to some."""
    owned: bool = False
    """Of a Biscuit: its subject is a person of the directory."""
    s3: bool = False
    """With an access key, for S3 tools."""


class TokenFilter(Struct, frozen=True):
    """All that is set must hold. Times are whole Unix seconds."""

    kind: PrincipalKind | None = None
    subject: str | None = None
    workspace: str | None = None
    """Bound or narrowed to it."""
    ended: bool = False
    """Expired and revoked ones too."""
    after: str | None = None
    """The last id of the page before."""
    limit: int = 100
    created_by: str | None = None
    expiring_by: int | None = None
    """It ends then at the latest."""
    unused_since: int | None = None
    """Neither made nor used since then."""


def check(wanted: NewToken, ttl: float, longest: float) -> None:
    """Raises `TokenRequestError`."""
    problems = [
        *_identity_problems(wanted),
        *(_scopes_problems(wanted) if wanted.scopes else _narrowing_problems(wanted)),
        *ttl_problems(ttl, longest),
    ]
    if problems:
        raise TokenRequestError(problems)


def permissions_of(names: Sequence[str]) -> Permissions | None:
    """Of names that were checked; `None` where there are none."""
    return frozenset(part for name in names for part in _PERMISSIONS[name.removeprefix(_PREFIX)]) or None


def scopes_of(wanted: NewToken) -> tuple[Scope, ...]:
    """Of a request that was checked; without repetitions."""
    found = (Scope(each.workspace, permissions_of(each.permissions), each.path) for each in wanted.scopes)
    return tuple(dict.fromkeys(found))


class NamedPermissions(Struct, frozen=True):
    permissions: Permissions
    problems: tuple[str, ...]


def permissions_named(names: Sequence[str]) -> NamedPermissions:
    """Of names that were not checked yet."""
    problems = tuple(_permission_problems(names))
    return NamedPermissions(NOTHING if problems else permissions_of(names) or NOTHING, problems)


def workspace_problem(name: str) -> str | None:
    return next(iter(_workspace_problems(name)), None)


def ttl_problems(ttl: float, longest: float) -> list[str]:
    if not ttl >= SHORTEST_TTL:
        return ["ttl: at least 1s"]
    if ttl > longest:
        return [f"ttl: at most {longest / DAY:g}d here (tokens.max_ttl)"]
    return []


def _identity_problems(wanted: NewToken) -> list[str]:
    problems = []
    if wanted.kind not in (PrincipalKind.PERSONAL, PrincipalKind.CI, PrincipalKind.BISCUIT):
        problems.append("kind: personal, ci or biscuit")
    if wanted.all_permissions and wanted.permissions:
        problems.append("all-permissions: it can't stand beside permission; leave one out")
    if wanted.kind is PrincipalKind.BISCUIT:
        problems += _biscuit_problems(wanted)
    if not wanted.subject:
        problems.append("subject: who the token belongs to is needed")
    problems += _text_problems("subject", wanted.subject, LONGEST_SUBJECT)
    problems += _text_problems("name", wanted.name, LONGEST_NAME)
    return problems


def _biscuit_problems(wanted: NewToken) -> Iterator[str]:
    """Whoever holds one can't ask for it anew, so that what it may and until when is said when it is made."""
    if not wanted.permissions and not wanted.all_permissions:
        yield "permission: a Biscuit says what it may; name some, or say --all-permissions"
    if wanted.ttl is None:
        yield "ttl: a Biscuit says when it ends, and there is no default; say --ttl 30d, or --ttl-seconds"
    if wanted.scopes:
        yield "scope: a Biscuit has none; make one for each place"
    if wanted.s3:
        yield "s3: a Biscuit has no access key; make a CI token with one"


def _narrowing_problems(wanted: NewToken) -> list[str]:
    problems = []
    if wanted.kind is PrincipalKind.CI and len(wanted.workspaces) != 1:
        problems.append("workspace: a CI token belongs to exactly one")
    if len(wanted.workspaces) > MOST_WORKSPACES:
        problems.append(f"workspace: at most {MOST_WORKSPACES}")
    for name in wanted.workspaces:
        problems += _workspace_problems(name)
    problems += _permission_problems(wanted.permissions)
    problems += _path_problems(wanted.path)
    return problems


def _scopes_problems(wanted: NewToken) -> Iterator[str]:
    if wanted.permissions or wanted.path is not None:
        yield "scope: it says permissions and path itself; leave the token's own out"
    if wanted.workspaces and set(wanted.workspaces) != {scope.workspace for scope in wanted.scopes}:
        yield "workspace: not those of its scopes; leave it out"
    if len(wanted.scopes) > MOST_SCOPES:
        yield f"scope: at most {MOST_SCOPES}"
    if sum(len(scope.path or "") for scope in wanted.scopes) > LONGEST_PATHS:
        yield f"scope: their paths have at most {LONGEST_PATHS} characters together"
    if wanted.kind is PrincipalKind.CI and len({scope.workspace for scope in wanted.scopes}) != 1:
        yield "scope: a CI token belongs to exactly one workspace"
    for number, scope in enumerate(wanted.scopes, 1):
        for problem in (
            *_workspace_problems(scope.workspace),
            *_permission_problems(scope.permissions),
            *_path_problems(scope.path),
        ):
            yield f"scope {number}: {problem}"


def _workspace_problems(name: str) -> list[str]:
    if _WORKSPACE.fullmatch(name) is not None:
        return []
    return [f"workspace {name!r}: letters, digits, '.', '_' and '-', at most 64"]


def _permission_problems(names: Sequence[str]) -> list[str]:
    return [
        f"permission {name!r} is unknown{suggestion(name, PERMISSION_NAMES)}"
        for name in names
        if name.removeprefix(_PREFIX) not in _PERMISSIONS
    ]


def _path_problems(path: str | None) -> list[str]:
    if path is None or (wrong := glob.key_problem(path) if path else "it is empty") is None:
        return []
    return [f"path {path!r}: {wrong}"]


def _text_problems(what: str, text: str, longest: int) -> list[str]:
    problems = []
    if len(text) > longest:
        problems.append(f"{what}: at most {longest} characters")
    if not text.isprintable() or text != text.strip():
        problems.append(f"{what}: printable characters, no space at either end")
    return problems
