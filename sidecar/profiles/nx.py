"""The profile of Nx's self-hosted remote cache (its OpenAPI specification 1.0.0; seen with Nx 24.0.6).

Nx fails a build for more than others do, so that its statuses are bent to what it bears:

- A read takes 200, 404 (a miss) and 401, whose text alone is shown. Anything else fails the build at once: whoever may not read,
  and an outage, are a miss; a bad or missing token is a 401 that says what to do.
- A write takes 200, 403 and 409 alone. Anything else, 201 and 204 included, is tried six times and then fails the build: what a store
  answers becomes 200, 409 where the key is there, and 403 for every other reason.
- A server's address that ends in `/` gives `//v1/cache/...`, which means the same key.
"""

from msgspec.structs import replace

from sidecar.model import Action, Head, Oddity
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial
from sidecar.profiles.profile import Errand, LocalAnswer
from sidecar.reasons import REASONS, Outcome, Reason

_KEPT_READS = frozenset({200, 206, 404, 416})


class Nx:
    name = "nx"
    allowed = Oddity.EMPTY_SEGMENT
    """Only right after the route's path."""

    def classify(self, head: Head, route: Route) -> Errand | LocalAnswer:
        if head.method == "OPTIONS":
            return build_cache.options()
        segments = head.target.segments[len(route.segments) :]
        slashed = segments[:1] == ("",)
        if slashed:
            segments = segments[1:]
        if not all(segments) or segments[-3:-1] != ("v1", "cache") or build_cache.NAME.fullmatch(segments[-1]) is None:
            raise build_cache.unknown()
        address = build_cache.digest(segments[-1]) if route.content_address and head.method == "PUT" else None
        errand = build_cache.errand(head, route, address=address)
        if not slashed:
            return errand
        action = errand.actions[0]
        raw = head.target.raw_segments[len(route.segments) + 1 :]
        path = "/".join((route.upstream_path, *raw))
        return replace(
            errand, path=path, actions=(Action(action.permission, "/".join(segments), creates=action.creates),)
        )

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        told = build_cache.hint(reason, hint, "set NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN")
        answer = _in_plain_text(denial.plain(head, reason, told, challenge, workspace))
        if head is None:
            return answer
        if not build_cache.is_read(head):
            status = 409 if reason is Reason.EXISTS else 403
        elif reason is Reason.THROTTLED:
            status = 401
        elif answer.status in (403, 429) or REASONS[reason].outcome is Outcome.ERROR:
            status = 404
        else:
            return answer
        headers = tuple(pair for pair in answer.headers if pair[0] not in (b"www-authenticate", b"retry-after"))
        return replace(answer, status=status, headers=headers)

    def answered(self, method: str, status: int) -> int | Reason:
        if method in ("GET", "HEAD"):
            if status in _KEPT_READS or 300 <= status < 400:
                return status
            return 404 if status == 410 else Reason.UPSTREAM_ERROR
        if method == "DELETE":
            return status
        if 200 <= status < 300:
            return 200
        return Reason.EXISTS if status in (409, 412) else Reason.UPSTREAM_ERROR


def _in_plain_text(answer: LocalAnswer) -> LocalAnswer:
    """Without a charset: Nx shows a 401's text only if its type is `text/plain` to the letter (24.0.6)."""
    headers = tuple((name, b"text/plain" if name == b"content-type" else value) for name, value in answer.headers)
    return replace(answer, headers=headers)
