"""`sidecar token attenuate`: a narrower Biscuit of one that its holder has, made offline.

The law: what comes out is read as the sidecar will read it, before it is printed; what that would refuse is not made, and neither is
what doesn't do what it seems to.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.biscuit_keys import biscuit_given, opened, public_keys
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.token_work import now, print_json, refused, seconds
from sidecar.token_requests import TokenRequestError, permissions_named, workspace_problem

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.verifier import Opened

PublicKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        "--key",
        metavar="KEY|FILE",
        help="What it is verified with, as `sidecar key list` shows it, or a file with that; repeatable. Without it, the keys of "
        "the token store here.",
    ),
]


def attenuate(
    permission: Annotated[
        list[str] | None,
        typer.Option("--permission", "-p", metavar="NAME", help="Repeatable: only these, of those that it has."),
    ] = None,
    path: Annotated[str | None, typer.Option(metavar="GLOB", help="Only keys that match: releases/**")] = None,
    ttl: Annotated[str | None, typer.Option(metavar="DURATION", help="Only so long from now: 10m, 12h.")] = None,
    ttl_seconds: Annotated[int | None, typer.Option(metavar="N", min=1, help="The same, in seconds.")] = None,
    workspace: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only there; repeatable, for any of them.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="DATALOG", help="A check of one's own; repeatable: check if operations($ops), ..."),
    ] = None,
    public_key: PublicKeyOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Narrow a Biscuit that is read from standard input.

    The narrower one is printed. It needs the public key alone: no store, no network. The new token may never do what the old one may
    not, and ends with it.
    """
    from sidecar.credentials.biscuit import spelling
    from sidecar.credentials.biscuit.library import LibraryError
    from sidecar.credentials.biscuit.meaning import in_words
    from sidecar.credentials.biscuit.verifier import Refusal, examined

    content = biscuit_given()
    try:
        lines = _checks(permission or [], path, _life(ttl, ttl_seconds), workspace or [], check or [])
    except TokenRequestError as error:
        raise refused(error) from None
    keys = public_keys(public_key or [], config)
    if not keys:
        complain(["--public-key: which key is it verified with? `sidecar key list` shows it where tokens are made"])
        raise typer.Exit(Exit.INVALID)
    try:
        parent = opened(content, keys)
        child = examined(parent.verified.narrowed(";\n".join(lines) + ";"), parent.key_id)
        if len(child.verified.content) > spelling.MAX_BYTES:
            raise Refusal(f"it would be longer than {spelling.MAX_BYTES} bytes")
        if len(child.blocks[-1].checks) < len(lines):
            raise Refusal(
                "a check is 'check if ...': nothing else narrows a token, and a comment hides what follows it"
            )
        _check_is_narrower(parent, child)
    except (Refusal, LibraryError) as error:
        complain([error])
        raise typer.Exit(Exit.FAILED) from None
    token = spelling.encoded(child.verified.content)
    words = [in_words(each) for each in child.blocks[-1].checks]
    if json:
        print_json({"token": token, "checks": words, "revocation_ids": child.block_ids})
        return
    typer.echo(token)
    complain([*words, f"To revoke it, and what derives from it: sidecar token revoke {child.block_ids[-1]}"])


def _life(ttl: str | None, ttl_seconds: int | None) -> float | None:
    """Raises `TokenRequestError`."""
    if ttl is not None and ttl_seconds is not None:
        raise TokenRequestError(["--ttl-seconds: it says the same as --ttl; leave one out"])
    return ttl_seconds if ttl is None else seconds("ttl", ttl)


def _checks(
    permissions: list[str], path: str | None, life: float | None, workspaces: list[str], checks: list[str]
) -> list[str]:
    """In Datalog. Raises `TokenRequestError`."""
    from sidecar.credentials.biscuit import narrowing
    from sidecar.policy.glob import key_problem

    lines, problems = [], []
    if permissions:
        found = permissions_named(permissions)
        problems += [f"--{each}" for each in found.problems]
        if found.permissions:
            lines.append(narrowing.permissions(found.permissions))
    if path is not None:
        wrong = (
            "it is empty"
            if not path
            else "every key matches it: it narrows nothing"
            if path == "**"
            else key_problem(path)
        )
        if wrong is not None:
            problems.append(f"--path {path!r}: {wrong}")
        else:
            lines.append(narrowing.path(path))
    if life is not None:
        lines.append(narrowing.ends(now() + int(life)))
    problems += [f"--{wrong}" for name in workspaces if (wrong := workspace_problem(name)) is not None]
    if workspaces:
        lines.append(narrowing.workspaces(workspaces))
    lines += [each.strip().rstrip(";") for each in checks]
    if not (lines or problems):
        problems.append("say what to narrow it to: --permission, --path, --ttl, --workspace or --check")
    if problems:
        raise TokenRequestError(problems)
    return lines


def _check_is_narrower(parent: "Opened", child: "Opened") -> None:
    """Raises `Refusal` where nothing would be left of it."""
    from sidecar.credentials.biscuit.meaning import utc
    from sidecar.credentials.biscuit.verifier import Refusal

    if child.says.operations is not None and not child.says.operations:
        raise Refusal("nothing would be left: the token has none of these permissions")
    if child.says.workspaces is not None and not child.says.workspaces:
        raise Refusal("nothing would be left: the token is for other workspaces")
    if child.says.ends_at is not None and child.says.ends_at <= now():
        raise Refusal(f"nothing would be left: the token ends at {utc(child.says.ends_at)}")
    if parent.says.ends_at is not None and child.says.ends_at == parent.says.ends_at:
        from sidecar.credentials.biscuit.meaning import meaning

        own = meaning(child.blocks[-1:]).ends_at
        if own is not None and own > parent.says.ends_at:
            complain(
                [f"note: it ends at {utc(parent.says.ends_at)} all the same, as the token that it is made of does"]
            )
