"""The profile of Gradle's HTTP build cache (Gradle manual, "Build Cache"; seen with Gradle 4.4.1).

Gradle turns its remote cache off for the rest of a build after any answer but 200 and 404 to a GET, and 2xx and 413 to a PUT; the build
goes on. That is right for a bad token, a refusal and an outage. A key that is there already is no reason: it is a 413,
"not treated as an error" by Gradle's manual (4.4.1 treats it as one, as it would any other status).

Of an answer it shows the status and its reason phrase alone, which RFC 9112 §4 leaves to whoever answers: so that is where a refusal
says what to do.
"""

from msgspec.structs import replace

from sidecar.model import Head, Oddity
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial
from sidecar.profiles.profile import Errand, LocalAnswer
from sidecar.reasons import Reason

_FORWARDED = build_cache.FORWARDED | {"x-gradle-version"}


class Gradle:
    name = "gradle"
    allowed = Oddity.NONE

    def classify(self, head: Head, route: Route) -> Errand | LocalAnswer:
        if head.method == "OPTIONS":
            return build_cache.options()
        name = build_cache.below(head, route)[-1]
        if build_cache.NAME.fullmatch(name) is None:
            raise build_cache.unknown()
        address = build_cache.digest(name) if route.content_address and head.method == "PUT" else None
        return build_cache.errand(head, route, headers=_FORWARDED, address=address)

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        told = build_cache.hint(reason, hint, "it is the password in the remote build cache's credentials")
        answer = denial.plain(head, reason, told, challenge, workspace)
        status = 413 if reason is Reason.EXISTS else answer.status
        return replace(answer, status=status, phrase=f"{told} ({reason.value})".encode())

    def answered(self, method: str, status: int) -> int | Reason:
        return Reason.EXISTS if method == "PUT" and status in (409, 412) else status
