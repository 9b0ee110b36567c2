"""What is known of one address of a store. The law: no client can have an address left out.

Requests raise a doubt: one that gets no answer, or one that the store answers with a failure of its own. But whoever may ask can
also choose what a store stumbles over, so a doubt is settled by a question of ours (`HEAD /`), and so is the return. Only a
connection that can't be made needs no second question: nothing of a client's was in it.
"""

from enum import Enum

from sidecar.settings import HealthSettings

FAILING = frozenset({500, 502, 503, 504})
"""Answers that speak of the store and not of what it was asked for. Not 501 (a method that it doesn't know) or 507 (its disk)."""


class Standing(Enum):
    WELL = "well"
    FAILING = "failing"
    """It answers, with failures of its own: it is used where no other is better."""
    SILENT = "silent"
    """It can't be reached, or doesn't answer."""


class Health:
    """`now` is any steady clock's, in seconds."""

    __slots__ = ("_returned", "_settings", "_times", "due", "failures", "standing", "why")

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._times = 0
        self._returned = float("-inf")
        self.standing = Standing.WELL
        self.failures = 0
        """In a row."""
        self.why = ""
        """The last failure, for the operator."""
        self.due: float | None = None
        """When it has to be asked; `None` while there is nothing to learn."""

    def answered(self) -> None:
        """A request got an answer. What was left out comes back by our own question alone."""
        self.failures = 0
        if self.standing is Standing.WELL:
            self.due = None

    def doubted(self, why: str, now: float) -> None:
        """A request got no answer, or a failing one."""
        self.failures += 1
        self.why = why
        if self.failures >= self._settings.failures and self.standing is Standing.WELL and self.due is None:
            self.due = now

    def unreachable(self, why: str, now: float) -> bool:
        """A connection could not be made. Whether that leaves it out from now on."""
        self.failures += 1
        self.why = why
        if self.failures < self._settings.failures or self.standing is not Standing.WELL:
            return False
        self._leave_out(Standing.SILENT, now)
        return True

    def asked(self, found: Standing, why: str, now: float) -> bool:
        """What our own question found. Whether its standing changed."""
        before = self.standing
        if found is Standing.WELL:
            if before is not Standing.WELL:
                self._returned = now
            self.standing, self.failures, self.due = Standing.WELL, 0, None
        else:
            self.why = why
            self._leave_out(found, now)
        return self.standing is not before

    def hurry(self, now: float) -> None:
        """It may be needed: ask it now."""
        if self.standing is not Standing.WELL:
            self.due = now

    def _leave_out(self, standing: Standing, now: float) -> None:
        settings = self._settings
        if self.standing is Standing.WELL and now - self._returned > settings.max_ejection:
            self._times = 0  # it had been well for long
        # The exponent is bounded: a float has no 2 ** 2000.
        self.due = now + min(settings.ejection * 2.0 ** min(self._times, 64), settings.max_ejection)
        self._times += 1
        self.standing = standing
