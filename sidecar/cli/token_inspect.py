"""`sidecar token inspect`: what a Biscuit says, block by block, in plain words; and whether it verified."""

from typing import TYPE_CHECKING, Any

import typer

from sidecar.cli.biscuit_keys import biscuit_given, key_id, public_keys, verified
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.token_attenuate import PublicKeyOption
from sidecar.cli.token_work import now, print_json

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.wire import Block


def inspect(
    public_key: PublicKeyOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show what a Biscuit on standard input says.

    That is its blocks, their checks in plain words, its end and its revocation ids. One that no key here verifies, or that a sidecar
    would not accept, is shown all the same, and that is said: exit 1.
    """
    from sidecar.credentials.biscuit import library, profile, wire
    from sidecar.credentials.biscuit.meaning import meaning, utc
    from sidecar.credentials.biscuit.verifier import Refusal

    content = biscuit_given()
    unverified: str | None = None
    try:
        token, _ = verified(content, public_keys(public_key or [], config))
        content = token.content
    except Refusal as refusal:
        unverified = str(refusal)
    try:
        blocks, ids = wire.blocks(content), library.unverified_ids(content)
    except (wire.Malformed, library.LibraryError) as error:
        complain([f"that can't be read: {error}"])
        raise typer.Exit(Exit.FAILED) from None
    refused = _problem(profile.examine, blocks)
    ends_at = meaning(blocks).ends_at
    shown: dict[str, Any] = {
        "verified": unverified is None,
        "accepted": unverified is None and refused is None,
        "problem": unverified or refused,
        "root_key": key_id(content),
        "token_id": _text(blocks[0], "token_id"),
        "subject": _text(blocks[0], "subject"),
        "expires_at": None if ends_at is None else utc(ends_at),
        "expired": ends_at is not None and ends_at <= now(),
        "revocation_ids": list(ids),
        "blocks": [_block(number, block, ids) for number, block in enumerate(blocks)],
    }
    if json:
        print_json(shown)
    else:
        for line in _lines(shown):
            typer.echo(line)
    if not shown["accepted"]:
        raise typer.Exit(Exit.FAILED)


def _problem(examine: Any, blocks: tuple["Block", ...]) -> str | None:
    from sidecar.credentials.biscuit.profile import OutOfProfile

    try:
        examine(blocks)
    except OutOfProfile as error:
        return f"not accepted here: {error}"
    return None


def _text(block: "Block", fact: str) -> str | None:
    found = [each.terms[0] for each in block.facts if each.name == fact and len(each.terms) == 1]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _block(number: int, block: "Block", ids: tuple[str, ...]) -> dict[str, Any]:
    from sidecar.credentials.biscuit.meaning import in_words, written

    return {
        "revocation_id": ids[number] if number < len(ids) else None,
        "checks": [{"says": in_words(check), "datalog": written(check)} for check in block.checks],
        "third_party": block.third_party,
    }


def _lines(shown: dict[str, Any]) -> list[str]:
    plain = {
        "verified": f"yes, with root key {shown['root_key']}" if shown["verified"] else f"NO: {shown['problem']}",
        "id": shown["token_id"] or "-",
        "subject": shown["subject"] or "-",
        "expires": f"{shown['expires_at'] or 'never'}{' (it has)' if shown['expired'] else ''}",
    }
    lines = [f"{name:12} {_printable(value)}" for name, value in plain.items()]
    for number, block in enumerate(shown["blocks"]):
        lines.append(f"block {number:<6} {block['revocation_id']}")
        lines += [f"{'':12} {_printable(check['says'])}" for check in block["checks"]]
    if shown["verified"] and shown["problem"]:
        lines.append(f"{'refused':12} {shown['problem']}")
    return lines


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
