"""The profile of Turborepo's remote cache (Vercel's Remote Caching API, version 8; seen with Turborepo 2.11.11).

- `status`, `events`, the query for many hashes and the preflight are answered here: no store knows them. The preflight must name
  `Authorization`, or Turborepo drops its token from the request that follows. Events are read and dropped.
- `x-artifact-tag` (a signature) and `x-artifact-duration` come back with the artifact, whatever the store keeps of headers.
- Errors are JSON. A 403 says `remote_caching_disabled`, which Turborepo shows as "cache disabled" where any other text is an error
  about JSON. No status breaks a build.
- `teamId`, `team` and `slug` name the route's workspace, or the request is refused before it gets here (rule 19).
"""

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from sidecar import mapping, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial
from sidecar.profiles.profile import Errand, LocalAnswer, Work
from sidecar.reasons import Reason

ARTIFACT_HEADERS = frozenset(
    {
        "x-artifact-tag",
        "x-artifact-duration",
        "x-artifact-sha",
        "x-artifact-dirty-hash",
        "x-artifact-client-ci",
        "x-artifact-client-interactive",
    }
)
_FORWARDED = build_cache.FORWARDED | ARTIFACT_HEADERS
_PARAMETERS = frozenset({"teamId", "team", "slug"})
_JSON = (b"content-type", b"application/json")
_RESERVED = frozenset({"status", "events"})

MOST_HASHES = 1000
"""In one query."""

_STATUS = LocalAnswer(200, (_JSON, (b"cache-control", b"no-store")), b'{"status":"enabled"}')
_EVENTS = LocalAnswer(200, (_JSON, (b"cache-control", b"no-store")), b"{}")
_ABSENT = LocalAnswer(404, (_JSON,), b'{"error":{"code":"not_found","message":"The artifact is not in the cache."}}')
_ABSENT_HEAD = LocalAnswer(404, (_JSON,))
_PREFLIGHT = LocalAnswer(
    204,
    (
        (b"allow", b"GET, HEAD, PUT, POST, DELETE, OPTIONS"),
        (b"access-control-allow-methods", b"GET, HEAD, PUT, POST, OPTIONS"),
        (
            b"access-control-allow-headers",
            b"Authorization, Content-Type, User-Agent, " + ", ".join(sorted(ARTIFACT_HEADERS)).encode(),
        ),
    ),
)


class Turborepo:
    name = "turborepo"
    allowed = Oddity.NONE

    def classify(self, head: Head, route: Route) -> Errand | LocalAnswer:
        if head.method == "OPTIONS":
            return _PREFLIGHT
        segments = build_cache.below(head, route)
        if segments[-2:] == ("v8", "artifacts"):
            if head.method != "POST":
                raise build_cache.unknown()
            return _asked_here(head, route, Work.QUERY, None)
        if segments[-3:-1] != ("v8", "artifacts"):
            raise build_cache.unknown()
        name = segments[-1]
        if name == "status" and head.method in ("GET", "HEAD"):
            return _asked_here(head, route, Work.ANSWER, _STATUS)
        if name == "events" and head.method == "POST":
            return _asked_here(head, route, Work.ANSWER, _EVENTS)
        if name in _RESERVED or build_cache.NAME.fullmatch(name) is None:
            raise build_cache.unknown()
        address = build_cache.digest(name) if route.content_address and head.method == "PUT" else None
        return build_cache.errand(
            head,
            route,
            headers=_FORWARDED,
            parameters=_PARAMETERS,
            address=address,
            work=Work.KEEP_HEADERS,
            missing=_ABSENT_HEAD if head.method == "HEAD" else _ABSENT,
        )

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        plain = denial.plain(head, reason, hint, challenge, workspace)
        code = "remote_caching_disabled" if plain.status == 403 else reason.value
        return _refusal(plain.status, plain.headers, code, f"{hint} ({reason.value})", head)

    def answered(self, method: str, status: int) -> int | Reason:
        if method == "PUT" and 200 <= status < 300:
            return 200
        if method == "PUT" and status in (409, 412):
            return Reason.EXISTS
        return Reason.UPSTREAM_ERROR if status >= 400 and status not in (404, 416) else status


def _asked_here(head: Head, route: Route, work: Work, answer: LocalAnswer | None) -> Errand:
    """What a caller who may read may ask, whatever the method."""
    key = target.key(head.target, len(route.segments))
    return Errand((Action(Permission.READ, key),), mapping.to_store(route, head.target), (), missing=answer, work=work)


def _refusal(
    status: int, headers: Iterable[tuple[bytes, bytes]], code: str, message: str, head: Head | None
) -> LocalAnswer:
    kept = tuple(pair for pair in headers if pair[0] != b"content-type")
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return LocalAnswer(status, (_JSON, *kept), b"" if head is not None and head.method == "HEAD" else body)


def hashes(body: bytes) -> tuple[str, ...]:
    """What a query asks for. Raises `Refused(MALFORMED_BODY)`: not `{"hashes": [...]}`, or too many."""
    try:
        found = msgspec.json.decode(body, type=_Query).hashes
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused(Reason.MALFORMED_BODY, 'not {"hashes": [...]}') from None
    if len(found) > MOST_HASHES or any(build_cache.NAME.fullmatch(each) is None or each in _RESERVED for each in found):
        raise Refused(Reason.MALFORMED_BODY, f"more than {MOST_HASHES} hashes, or what is none")
    return tuple(dict.fromkeys(found))


class _Query(msgspec.Struct):
    hashes: list[str]


def found(size: int | None, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, object]:
    """What a query's answer says of an artifact that is there."""
    kept = {name.lower(): value.decode("latin-1") for name, value in headers}
    about: dict[str, object] = {"size": size or 0, "taskDurationMs": 0}
    duration = kept.get(b"x-artifact-duration", "")
    if duration.isdecimal() and len(duration) < 16:
        about["taskDurationMs"] = int(duration)
    if b"x-artifact-tag" in kept:
        about["tag"] = kept[b"x-artifact-tag"]
    return about


def answer_to_query(artifacts: dict[str, object]) -> LocalAnswer:
    return replace(_EVENTS, body=msgspec.json.encode(artifacts))
