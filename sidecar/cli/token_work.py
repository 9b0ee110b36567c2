"""What the commands of `sidecar token` share: opening the store, telling what went wrong, who asks and since when."""

import asyncio
import os
import pwd
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import typer

from sidecar.cli.delivery import DeliveryError
from sidecar.cli.options import Exit, complain
from sidecar.credentials.master_key import MasterKeyUnusable
from sidecar.credentials.opaque import ID_LENGTH
from sidecar.credentials.pepper import PepperUnusable
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.measures import SECONDS
from sidecar.model import Secret
from sidecar.reasons import REASONS
from sidecar.root_keys import RootKeyError
from sidecar.settings import Settings, TokenSettings
from sidecar.tokens import CannotRotate, TokenRequestError, UnknownToken

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

T = TypeVar("T")

_LONGEST_INPUT = 16384


def run(settings: TokenSettings, work: Callable[["OpenStore"], Awaitable[T]]) -> T:
    """Does it with the store open. What a person can mend is told in one line each, and ends the program."""
    from sidecar.store.engine import StoreUnusable  # loads SQLAlchemy: `--help` doesn't need it
    from sidecar.store.open import open_token_store

    async def opened_and_closed() -> T:
        opened = await open_token_store(settings)
        try:
            return await work(opened)
        finally:
            await opened.store.close()

    try:
        return asyncio.run(opened_and_closed())
    except TokenRequestError as error:
        code, problems = Exit.INVALID, list[object](error.problems)
    except CredentialRefused as error:
        code, problems = Exit.INVALID, [REASONS[error.reason].hint]
    except (StoreUnusable, PepperUnusable, MasterKeyUnusable) as error:
        code, problems = Exit.MISSING, [error]
    except UnknownToken as error:
        code, problems = Exit.FAILED, [f"{error}; sidecar token list --all shows those that there are"]
    except (CannotRotate, RootKeyError) as error:
        code, problems = Exit.FAILED, [error]
    except DeliveryError as error:
        code, problems = Exit.FAILED, [error, "The token could not be handed over, so it was revoked."]
    except Unavailable as error:
        code, problems = Exit.FAILED, [error.detail or REASONS[error.reason].hint]
    complain(problems)
    raise typer.Exit(code)


def loaded(config: Path) -> tuple[Settings, TokenSettings]:
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config)
    if settings.tokens is None:
        complain([f"{config}: it has no `tokens:`, so no tokens are issued here"])
        raise typer.Exit(Exit.INVALID)
    return settings, settings.tokens


def given(which: str) -> Secret:
    """What stands for a token on the command line: its id; the token itself on standard input for `-` and `stdin`."""
    return Secret((sys.stdin.read(_LONGEST_INPUT) if which in ("-", "stdin") else which).strip())


def id_of(opened: "OpenStore", named: Secret) -> str:
    """An id is taken as it is; whatever else was given must be a whole token, and is never repeated in a message."""
    text = named.reveal()
    return text if re.fullmatch(rf"[0-9A-Za-z]{{{ID_LENGTH}}}", text) else opened.tokens.id_of(named)


def seconds(option: str, text: str) -> float:
    """Raises `TokenRequestError`."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise TokenRequestError([f"--{option} {text!r}: a duration such as 30s, 5m, 12h or 90d"])
    return float(int(found[1]) * SECONDS[found[2]])


def life(ttl: str | None, ttl_seconds: int | None) -> float | None:
    """Seconds, of either spelling. Raises `TokenRequestError`."""
    if ttl is not None and ttl_seconds is not None:
        raise TokenRequestError(["--ttl-seconds: it says the same as --ttl; leave one out"])
    return ttl_seconds if ttl is None else seconds("ttl", ttl)


def refused(problem: TokenRequestError) -> typer.Exit:
    """To be raised for what is wrong on the command line before the store was opened."""
    complain(problem.problems)
    return typer.Exit(Exit.INVALID)


def actor() -> str:
    """The account that the kernel knows, not what the environment claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def now() -> int:
    return int(time.time())


def print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value))
