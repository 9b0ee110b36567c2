"""What its last answers say of a store. The law: a change is one line of the log, however many requests meet it.

Nobody goes and asks: a store is judged by what happened to the requests that it was asked to serve.
"""

import logging

from sidecar.errors import NoBucket, Refused
from sidecar.reasons import Reason

STORE_FAILED = frozenset(
    {Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_UNTRUSTED, Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_BROKEN}
)
"""Before an answer began. A client whose body breaks off, or an answer that isn't passed on, says nothing against the store."""
QUIET = 10.0
"""Seconds between two lines that say that a store is bad: one that fails now and then must not fill the log."""

log = logging.getLogger(__name__)


class StoreState:
    def __init__(self, name: str) -> None:
        """`name`: the upstream's."""
        self.up: bool | None = None
        """Whether it answered when it was last asked; `None` before."""
        self.problem: str | None = None
        self._name = name
        self._bad: str | None = None
        """What is wrong with it, in words that stay the same as long as it is the same."""
        self._told: str | None = None
        self._told_at = float("-inf")

    def answered(self) -> None:
        """It began an answer, and one that may be passed on."""
        if self.up is not True or self._bad is not None or self._told is not None:
            self.up, self.problem, self._bad = True, None, None
            if self._told is not None:
                self._told = None
                log.warning("the upstream %s answers again", self._name)

    def failed(self, refusal: Refused, at: float) -> None:
        """It was asked and did not begin such an answer. `at` in seconds of any steady clock."""
        if refusal.reason in STORE_FAILED:
            self.up, self._bad = False, "does not answer"
        elif refusal.reason is Reason.UPSTREAM_CREDENTIALS:
            self.up, self._bad = True, "refused the sidecar's own credentials"
        elif isinstance(refusal, NoBucket):
            self.up, self._bad = True, "does not have the bucket that it is asked for"
        else:
            return
        self.problem = str(refusal)
        if self._told != self._bad and at - self._told_at >= QUIET:
            self._told, self._told_at = self._bad, at
            log.warning("the upstream %s %s: %s", self._name, self._bad, refusal)
