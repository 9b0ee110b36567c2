"""The profile of S3 clients: the AWS SDKs and CLI, rclone, s3fs, and whatever else signs its requests with AWS's signature.

Keys may be spelled in any way that S3 knows (`a//b`, `%2F`, any script): each is one key to it, and what the store gets is
written anew in one spelling. What an operation asks is `s3.request`'s; how its source, its body and its answer are dealt with
is `buckets`' and the data plane's.
"""

from sidecar.model import Head, Oddity
from sidecar.policy import buckets
from sidecar.policy.compiled import Route
from sidecar.profiles import s3_errors
from sidecar.profiles.profile import LocalAnswer
from sidecar.reasons import Reason
from sidecar.s3 import request
from sidecar.s3.request import Asked

_EVERY = ~Oddity.NONE


class S3:
    name = "s3"
    allowed = _EVERY
    signed = True
    """Its clients sign their requests instead of sending a token."""

    def classify(self, head: Head, route: Route) -> Asked:
        """What is asked; what it comes to, `buckets.settle` says. Raises `Refused` as `s3.request.read` does."""
        return request.read(head, bucket=buckets.bucket_in_host(route, head))

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        return s3_errors.refusal(head, reason, hint, challenge, workspace)

    def answered(self, method: str, status: int) -> int | Reason:
        return status
