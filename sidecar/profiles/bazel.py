"""The profile of Bazel's HTTP remote cache (docs: "Remote Caching", HTTP caching protocol; seen with Bazel 4.2.3).

`ac/HASH` says what an action came to: whoever writes it decides what others build, and nothing in it can be checked. `cas/HASH` holds
what hashes to its own name: it is checked here, always. So `cas_writes: open` may let whoever reads write there, and a second
write of a key in `cas/` replaces nothing, whatever `write_once` says: Bazel gives up a whole upload for one refused blob.

No status breaks a build: Bazel warns, shows the text of the answer and goes on.
"""

from msgspec.structs import replace

from sidecar.model import Head, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial
from sidecar.profiles.profile import Errand, LocalAnswer
from sidecar.reasons import Reason


class Bazel:
    name = "bazel"
    allowed = Oddity.NONE

    def classify(self, head: Head, route: Route) -> Errand | LocalAnswer:
        if head.method == "OPTIONS":
            return build_cache.options()
        segments = build_cache.below(head, route)
        if len(segments) < 2 or segments[-2] not in ("ac", "cas"):
            raise build_cache.unknown()
        name = segments[-1]
        if segments[-2] == "ac":
            if build_cache.NAME.fullmatch(name) is None:
                raise build_cache.unknown()
            return build_cache.errand(head, route)
        errand = build_cache.errand(head, route, address=build_cache.digest(name))
        if head.method != "PUT":
            return errand
        action = replace(errand.actions[0], creates=False)
        if route.cas_writes_open and action.permission is Permission.WRITE:
            action = replace(action, proved=True)
        return replace(errand, actions=(action,))

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        told = build_cache.hint(reason, hint, 'pass --remote_header="Authorization=Bearer TOKEN"')
        return denial.plain(head, reason, told, challenge, workspace)

    def answered(self, method: str, status: int) -> int | Reason:
        return Reason.EXISTS if method == "PUT" and status == 412 else status
