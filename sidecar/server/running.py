"""Requests under way, where `revocation: {running: cut}` wants them ended with their tokens.

Law: whoever enters was not revoked, and whoever is found revoked later doesn't finish: no answer that was cut off looks whole, and no
upload becomes an object. Whoever leaves before is none of this file's business.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sidecar.errors import CredentialRefused
from sidecar.model import Principal
from sidecar.reasons import Reason
from sidecar.server.exchange import Exchange


class Running:
    """Give `look` to whoever hears of revocations."""

    def __init__(self) -> None:
        self.revoked: Callable[[Principal], bool] = lambda principal: False
        """As `ports.Revocations` has it."""
        self._entries: dict[Exchange, Principal] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @contextmanager
    def entered(self, exchange: Exchange, principal: Principal | None) -> Iterator[None]:
        """Raises `CredentialRefused(REVOKED)` where it came to that since the decision."""
        if principal is None:
            yield
            return
        if self.revoked(principal):
            raise CredentialRefused(Reason.REVOKED, "revoked before the store was asked", principal)
        self._entries[exchange] = principal
        try:
            yield
        finally:
            del self._entries[exchange]

    def look(self) -> None:
        """Ends what belongs to tokens that are revoked by now."""
        for exchange in [each for each, principal in self._entries.items() if self.revoked(principal)]:
            exchange.cut_off()
