"""Keys as AWS hands them to a workload: web identity, pod identity, a container's or an instance's role, a profile.

botocore finds them and refreshes them a quarter of an hour before they end, all in a thread: it blocks, and it is slow to import, so
that only a process that is configured so loads it. While a refresh fails, the keys that are there are used until they end.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sidecar.background import Follower
from sidecar.upstream.own_files import Keys, OwnFilesUnusable, checked_keys

INTERVAL = 15.0
"""Seconds between two looks at whether botocore has, or wants, new ones."""

log = logging.getLogger(__name__)

Frozen = Callable[[], Any]
"""botocore's `get_frozen_credentials`: refreshes if that is due, blocking; has `access_key`, `secret_key` and `token`."""


def find() -> Frozen:
    """Blocking. Raises `OwnFilesUnusable` where there are none, or no botocore."""
    try:
        from botocore.session import Session
    except ImportError:
        raise OwnFilesUnusable("`s3.credentials: aws` needs botocore: install the extra `aws`") from None
    found = Session().get_credentials()
    if found is None:
        raise OwnFilesUnusable(
            "the AWS chain finds no credentials: no web identity, pod identity, role, profile or variable"
        )
    frozen: Frozen = found.get_frozen_credentials
    return frozen


class AwsChain:
    """`changed` is called in the loop with each new pair of keys, for the first time before `start()` returns."""

    def __init__(
        self,
        name: str,
        changed: Callable[[Keys], None],
        *,
        find: Callable[[], Frozen] = find,
        interval: float = INTERVAL,
    ) -> None:
        self._name = name
        self._changed = changed
        self._find = find
        self._told: tuple[str, bytes, bytes | None] | None = None
        self._frozen: Frozen | None = None
        self.problem: str | None = None
        """Why they can't be refreshed."""
        self.refreshes = self.failures = 0
        self._follower = Follower(
            f"keys of {name}", look=self._look, publish=self._publish, pause=lambda took: interval
        )

    async def start(self) -> None:
        """Raises `OwnFilesUnusable`."""
        found = await asyncio.to_thread(self._look)
        if isinstance(found, str):
            raise OwnFilesUnusable(found)
        self._publish(found)
        await self._follower.start()

    async def stop(self) -> None:
        await self._follower.stop()

    def _look(self) -> Keys | str:
        """In a thread."""
        try:
            if self._frozen is None:
                self._frozen = self._find()
            found = self._frozen()
            return checked_keys(found.access_key, found.secret_key, found.token or "")
        except OwnFilesUnusable as error:
            return str(error)
        except Exception as error:  # botocore's own are many, and none of them may end the looking
            return f"the AWS chain: {type(error).__name__}"

    def _publish(self, found: Keys | str) -> None:
        if isinstance(found, str):
            self.failures += 1
            if found != self.problem:
                log.warning("the upstream %s keeps its keys: %s", self._name, found)
            self.problem = found
            return
        self.problem = None
        token = found.session_token
        told = found.access_key_id, found.secret.digest, None if token is None else token.digest
        if told != self._told:
            self.refreshes += 1
            self._told = told
            self._changed(found)
