"""The engines that the token store runs on. A new one is a line here, and the whole suite runs against it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sidecar.settings import TokenSettings
from sidecar.store.open import OpenStore, open_token_store

PEPPER = "5f0c3b7e91d24a86b0e7c1f2a3948d6c5b7a8091e2f3d4c5b6a798081726354f"
DAY = 86400.0


def sqlite_settings(folder: Path) -> TokenSettings:
    pepper = folder / "pepper"
    pepper.write_text(PEPPER + "\n")
    return TokenSettings(store=f"sqlite://{folder}/tokens.db", pepper_file=pepper)


@contextlib.asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[OpenStore]:
    opened = await open_token_store(sqlite_settings(folder))
    try:
        yield opened
    finally:
        await opened.store.close()


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[OpenStore]]] = {"sqlite": sqlite}
