"""Which public keys a command verifies a Biscuit with: those that it is given, or those of the token store here.

The law: given a key, nothing else is opened: no configuration, no store, no network.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sidecar.cli.options import Exit, complain
from sidecar.cli.token_work import given, loaded, run

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.library import Verified
    from sidecar.credentials.biscuit.verifier import Opened
    from sidecar.store.open import OpenStore

_KEY = re.compile(r"(?:([0-9]{1,10})=)?(?:ed25519/)?([0-9A-Fa-f]{64})")
_LARGEST = 4096
ANY = -1
"""The id of a key that was given without one."""


def public_keys(texts: Sequence[str], config: Path) -> dict[int, list[str]]:
    """Keys by id. `texts`: `ed25519/HEX`, `ID=ed25519/HEX`, or files that hold one; none: those of the store that `config` names,
    if there is such a file. Ends the program for what is neither."""
    found: dict[int, list[str]] = {}
    for text in texts:
        for number, digits in _read(text):
            found.setdefault(number, []).append(f"ed25519/{digits.lower()}")
    if found or texts or not config.exists():
        return found

    async def work(opened: "OpenStore") -> dict[int, list[str]]:
        return {number: [key] for number, key in (await opened.root_keys.believed()).items()}

    return run(loaded(config)[1], work)


def _read(text: str) -> list[tuple[int, str]]:
    key = _KEY.fullmatch(text.strip())
    lines = [] if key is not None else _lines(Path(text))
    matches = [key] if key is not None else [_KEY.fullmatch(line) for line in lines]
    found = [(ANY if match[1] is None else int(match[1]), match[2]) for match in matches if match is not None]
    if not (found and all(_is_key(digits) for _, digits in found)):
        complain(
            ["--public-key: ed25519/ and 64 hexadecimal digits, as `sidecar key list` shows it, or a file with that"]
        )
        raise typer.Exit(Exit.INVALID)
    return found


def _is_key(digits: str) -> bool:
    from sidecar.credentials.biscuit.library import LibraryError, PublicKey

    try:
        PublicKey(f"ed25519/{digits}")
    except LibraryError:
        return False
    return True


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            return [line.strip() for line in opened.read(_LARGEST).decode("ascii", "replace").splitlines()]
    except OSError:
        return []


def biscuit_given() -> bytes:
    """The token on standard input. Ends the program for what is none."""
    from sidecar.credentials.biscuit import spelling

    try:
        content = spelling.decoded(given("-").reveal())
    except spelling.TooLong:
        content, why = None, f"it is longer than {spelling.MAX_BYTES} bytes"
    else:
        why = "a Biscuit is read from standard input; other tokens can't be narrowed by their holders"
    if content is None:
        complain([f"that is not a Biscuit: {why}"])
        raise typer.Exit(Exit.INVALID)
    return content


def opened(content: bytes, keys: dict[int, list[str]]) -> "Opened":
    """Verified, and found acceptable. Raises `Refusal`."""
    from sidecar.credentials.biscuit.verifier import examined

    return examined(*verified(content, keys))


def verified(content: bytes, keys: dict[int, list[str]]) -> tuple["Verified", int]:
    """With whichever of the keys it names. Raises `Refusal`."""
    from sidecar.credentials.biscuit.verifier import Refusal, RootKeys

    number = key_id(content)
    refusal = Refusal(
        "no root key is known here: say --public-key" if not keys else f"none of the keys given is root key {number}"
    )
    for key in (*keys.get(number, ()), *keys.get(ANY, ())):
        try:
            return RootKeys({number: key}).verified(content)
        except Refusal as error:
            refusal = error
    raise refusal


def key_id(content: bytes) -> int:
    """Of the root key that it names; it is not signed. 0 where it names none."""
    from sidecar.credentials.biscuit import wire

    try:
        return wire.key_id(content)
    except wire.Malformed:
        return 0
