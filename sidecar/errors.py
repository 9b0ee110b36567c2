"""What can be raised, by what it means to the request; and what it means to whoever started the program.

SidecarError
├── Refused            this request is answered with a reason and goes no further
│   ├── CredentialRefused   the token is ours to judge and bad (401)
│   ├── NoBucket            the store has no such bucket as it is asked for (502)
│   └── Unavailable         something that must answer can't (503, 502, 504)
├── DocumentError      a file that a person wrote has problems: all of them, each with its line
└── ClientGone         the client left; nobody is there to answer
"""

from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from sidecar.model import Principal
from sidecar.reasons import Reason


class SidecarError(Exception):
    """The root; raised only through its kinds."""


class Refused(SidecarError):
    """`reason` is what the caller may know; `detail` goes to audit and log alone, and never holds a secret."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class CredentialRefused(Refused):
    """A verdict on the token itself, true until it is revoked or its verifier's configuration changes: it may be cached."""

    def __init__(self, reason: Reason, detail: str = "", principal: Principal | None = None) -> None:
        """`principal`: whose token it is, where the caller has proved to hold it and it is refused nevertheless. For evidence
        alone: nothing is granted to it."""
        super().__init__(reason, detail)
        self.principal = principal


class NoBucket(Refused):
    """The configuration names a bucket that the store doesn't have. No client can mend that."""

    def __init__(self, bucket: str) -> None:
        why = f"the store has no bucket {bucket}: mend the upstream's `s3.bucket`, or without it the route's `upstream_path`"
        super().__init__(Reason.UPSTREAM_ERROR, why)


class Unavailable(Refused):
    """An outage. Never cached, never read as a verdict on the token."""


class ClientGone(SidecarError):
    """The client's connection ended in the middle of an exchange."""


class Problem(Struct, frozen=True):
    """One thing that is wrong in a file, said so that its author can mend it."""

    file: str
    line: int
    """0 where it is about the file as a whole."""
    path: str
    """Where in the document, as `$.rules[1].allow`."""
    message: str
    """What is wrong and what is allowed there."""

    def __str__(self) -> str:
        where = f":{self.line} {self.path}" if self.line else ""
        return f"{self.file}{where}: {self.message}"


class DocumentError(SidecarError):
    """All problems of one or more files at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Exit(IntEnum):
    """The status that a command or the serving process ends with."""

    OK = 0
    FAILED = 1
    """Refused, or it did not work."""
    INVALID = 2
    """Wrong usage, or a file that is not right."""
    MISSING = 3
    """A file that a setting names is missing or unfit."""
