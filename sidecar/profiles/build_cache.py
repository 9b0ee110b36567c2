"""What the clients of build caches have in common: one object at one key, read, written or deleted whole.

- The key is what follows the route's path. How its last segments must look is each profile's own; what stands before them may
  be anything (`/web/linux/v1/cache/1`), so that one workspace may hold several caches.
- Headers and parameters reach the store by an allow-list, never otherwise (law 2).
- A key that is the SHA-256 of its body (`content_address`, Bazel's `cas/`) is written by PUT alone: of anything else nothing
  could be proved.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

from sidecar import mapping, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles.profile import Errand, LocalAnswer, Work
from sidecar.reasons import Reason

VERBS = {
    "GET": Permission.READ,
    "HEAD": Permission.READ,
    "PUT": Permission.WRITE,
    "DELETE": Permission.DELETE,
}

FORWARDED = frozenset({
    "accept", "accept-encoding", "user-agent", "content-type",
    "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
})  # fmt: skip
"""Lower-case names. `Content-Encoding` isn't among them: a body that a reader has to decode isn't the one that was hashed."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""A hash in whatever form the client writes it."""
SHA256 = re.compile(r"[0-9a-f]{64}")


def options(allowed: str = "GET, HEAD, PUT, DELETE, OPTIONS") -> LocalAnswer:
    return LocalAnswer(204, ((b"allow", allowed.encode()),))


def permission(head: Head, route: Route) -> Permission:
    """Raises `Refused(UNKNOWN_OPERATION)` for a method that neither these clients use nor the route teaches."""
    found = route.verbs.get(head.method) or VERBS.get(head.method)
    if found is None:
        raise Refused(Reason.UNKNOWN_OPERATION, "a method that this client is not known to use")
    return found


def below(head: Head, route: Route) -> tuple[str, ...]:
    """The key's segments, decoded. Raises `Refused(UNKNOWN_OPERATION)` for what names no object."""
    segments = head.target.segments[len(route.segments) :]
    if not segments or not all(segments):
        raise unknown()
    return segments


def unknown() -> Refused:
    return Refused(Reason.UNKNOWN_OPERATION, "a path that this client is not known to use")


def errand(
    head: Head,
    route: Route,
    *,
    headers: frozenset[str] = FORWARDED,
    parameters: frozenset[str] = frozenset(),
    address: str | None = None,
    work: Work = Work.NOTHING,
    missing: LocalAnswer | None = None,
) -> Errand:
    """One object, at the request's own path.

    `headers` and `parameters` are forwarded. `address`: the digest in the key, where the key is one; `None` where it isn't or
    where nothing asks for it.
    """
    asked = permission(head, route)
    if address is not None and head.method not in ("PUT", "GET", "HEAD", "DELETE"):
        raise Refused(Reason.UNKNOWN_OPERATION, "a key that is its content's digest is written by PUT alone")
    key = target.key(head.target, len(route.segments))
    path = mapping.to_store(route, head.target)
    query = kept_query(head.target.raw_query, parameters)
    return Errand(
        (Action(asked, key, creates=asked is Permission.WRITE),),
        f"{path}?{query}" if query else path,
        kept_headers(head.headers, headers),
        sha256=address if head.method == "PUT" else None,
        work=work,
        missing=missing,
    )


def kept_headers(headers: Headers, allowed: frozenset[str]) -> tuple[tuple[bytes, bytes], ...]:
    names = _in_bytes(allowed)
    return tuple([pair for pair in headers.forward if pair[0].lower() in names])


@lru_cache(maxsize=64)
def _in_bytes(names: frozenset[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names)


def kept_query(raw_query: str, allowed: frozenset[str]) -> str:
    """The parameters whose decoded names are allowed, as they were spelled."""
    return "&".join(part for part in raw_query.split("&") if unquote_plus(part.partition("=")[0]) in allowed)


def digest(name: str) -> str:
    """A key's last segment, where it has to be a SHA-256. Raises `Refused(BODY_MISMATCH)`: no body could be right."""
    if SHA256.fullmatch(name) is None:
        raise Refused(Reason.BODY_MISMATCH, "the key is no SHA-256 in lower-case hex")
    return name


def hint(reason: Reason, usual: str, where: str) -> str:
    """What a person reads. `where` this client takes its token from, which the usual text can't know."""
    return f"A token is needed: {where}." if reason is Reason.NO_TOKEN else usual


def is_read(head: Head | None) -> bool:
    return head is None or head.method in ("GET", "HEAD", "OPTIONS")
