"""`sidecar token leaked`: revokes what was found where it doesn't belong, and tells what it has done until now."""

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct, field

from sidecar.audit.query import Query, Use
from sidecar.cli.audit_files import configured, read, with_rotated
from sidecar.cli.audit_query import line_of, shown
from sidecar.cli.leak_judge import Judge, Judged, judging, name_of, revoke
from sidecar.cli.leak_scan import Scan
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, complain
from sidecar.cli.token_work import actor, loaded, now, print_json, run
from sidecar.model import Principal
from sidecar.settings import Settings

if TYPE_CHECKING:
    from sidecar.store.open import OpenStore

LAST_USES = 10
MOST_KEYS = 100_000
"""Keys that are listed for one token."""
MOST_PLACES = 100
_SHOWN_KEYS = 20
_STDIN = Path("-")


class Leak(Struct):
    """One credential of ours."""

    id: str
    """As the audit log knows it: a token's id, a `jti`, a Biscuit's block. Empty for a JWT without `jti`."""
    kind: str
    issuer: str | None
    subject: str
    name: str | None
    workspace: str | None
    places: list[str] = field(default_factory=list)
    """`FILE:LINE`."""
    state: str = "active"
    """What it was when it was found: `active`, `expired` or `revoked`."""
    revoked: bool = False
    """By this call."""
    requests: int = 0
    first_use: str | None = None
    last_use: str | None = None
    last_uses: list[Use] = field(default_factory=list)
    """The newest last."""
    wrote: dict[str, str] = field(default_factory=dict)
    """Every key that it wrote, replaced or deleted, as `STORE WORKSPACE:KEY`, and when it last did; through what derives from it, too."""
    wrote_more: int = 0
    """Writes of further keys."""


class Found(Struct):
    leaks: list[Leak]
    others: int
    """Texts of that shape that are no credentials of this sidecar."""
    unverified: list[str]
    """What could not be verified at present, and why."""
    unreadable: list[str]
    files: int
    dry_run: bool
    audited: bool
    """Whether there was an audit log to look into."""


def leaked(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE|DIR|-]...",
            help="What to search; standard input if left out: a token, or any text that holds some.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Revoke nothing.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Revoke tokens that were found where they don't belong.

    Each that is this sidecar's is revoked; it is told whose it was, its last uses, and every key that it wrote.

    Tokens are found in plain text, percent-encoded, and in base64, as .npmrc and HTTP's Basic write them.
    """
    settings, token_settings = loaded(config)
    scan = Scan(paths or [_STDIN], lambda text: complain([text]))

    async def work(opened: "OpenStore") -> Found:
        async with judging(opened, settings) as judge:
            return await _judged(opened, judge, scan, dry_run)

    found = run(token_settings, work)
    if found.leaks:
        _ask_the_log(settings, found)
    if json:
        print_json(found)
    else:
        for line in _lines(found):
            typer.echo(shown(line))
    if found.unverified or found.unreadable:
        raise typer.Exit(Exit.FAILED)


async def _judged(opened: "OpenStore", judge: Judge, scan: Scan, dry_run: bool) -> Found:
    """Each is revoked as soon as it is found: a long search must not give anybody time."""
    by, at = actor(), now()
    found = Found([], 0, [], [], 0, dry_run, False)
    known: dict[bytes, Leak | None] = {}
    for place in scan.places():
        where = f"{place.file}:{place.line}"
        digest = place.candidate.secret.digest
        # An access key id is judged wherever it stands: its secret may stand beside it in one place and not in another.
        if known.get(digest) is None and (digest not in known or place.candidate.kind == "access_key"):
            judged = await judge.judge(place)
            if judged.problem:
                found.unverified.append(f"{where}: {judged.problem}")
                continue
            if judged.principal is None:
                found.others += digest not in known
                known[digest] = None
                continue
            leak = _leak(judged.principal, judged)
            # The same token may be written in several ways, and its access key be found beside it.
            same = next((each for each in found.leaks if leak.id and _same(each, leak)), None)
            if same is None:
                found.leaks.append(leak)
                if judged.ended is None and not dry_run:
                    await revoke(opened, judged.principal, by, at)
                    leak.revoked = True
            known[digest] = same or leak
        known_leak = known.get(digest)
        if known_leak is not None and len(known_leak.places) < MOST_PLACES:
            known_leak.places.append(where)
    found.files, found.unreadable = scan.files, scan.unreadable
    return found


def _same(one: Leak, other: Leak) -> bool:
    return (one.kind, one.issuer, one.id) == (other.kind, other.issuer, other.id)


def _leak(principal: Principal, judged: Judged) -> Leak:
    return Leak(
        id=name_of(principal),
        kind=principal.kind,
        issuer=principal.issuer or None,
        subject=principal.subject,
        name=principal.token_name or None,
        workspace=principal.workspace or None,
        state="active" if judged.ended is None else str(judged.ended),
    )


def _ask_the_log(settings: Settings, found: Found) -> None:
    if all(sink.file is None for sink in settings.audit):
        return
    files = with_rotated(configured(settings)[0])
    if not files[-1].exists():
        return
    found.audited = True
    told = [(Query(leak.id), leak, deque[Use](maxlen=LAST_USES)) for leak in found.leaks if leak.id]
    for line in read(files, lambda text: complain([text])):
        for query, leak, last in told:
            if (use := query.add(line)) is not None:
                _count(leak, use, last)
    for query, leak, last in told:
        for use in query.unfinished():
            _count(leak, use, last)
        leak.last_uses = list(last)


def _count(leak: Leak, use: Use, last: "deque[Use]") -> None:
    if use.kind != "access":
        return
    leak.requests += 1
    leak.first_use = leak.first_use or use.time
    leak.last_use = use.time
    last.append(use)
    if not use.wrote:
        return
    key = f"{use.store or '?'} {use.workspace or '?'}:{use.key or ''}"
    if key in leak.wrote or len(leak.wrote) < MOST_KEYS:
        leak.wrote[key] = use.time
    else:
        leak.wrote_more += 1


def _lines(found: Found) -> Iterable[str]:
    for leak in found.leaks:
        yield from _leak_lines(leak, found)
        yield ""
    for problem in found.unverified:
        yield f"not verified  {problem}"
    for problem in found.unreadable:
        yield f"not read  {problem}"
    files = "1 file" if found.files == 1 else f"{found.files} files"
    others = f", {found.others} of other origin or forged" if found.others else ""
    yield f"{_count_of(len(found.leaks), 'credential')} of this sidecar in {files}{others}"


def _leak_lines(leak: Leak, found: Found) -> Iterable[str]:
    what = f"{leak.kind} {leak.id or '(without jti)'}"
    if leak.revoked:
        done = "revoked now; every running sidecar on this store refuses it within half a second"
    elif leak.state == "active":
        done = "ACTIVE: nothing was revoked, as --dry-run was said"
    else:
        done = f"was {leak.state} before"
    yield f"{what}: {done}"
    issuer = f" of issuer {leak.issuer}" if leak.issuer else ""
    workspace = f", workspace {leak.workspace}" if leak.workspace else ""
    yield f"  whose     {leak.subject}{issuer}{workspace}{f', {leak.name}' if leak.name else ''}"
    yield f"  where     {', '.join(leak.places[:_SHOWN_KEYS])}"
    if not found.audited:
        yield "  used      not known: there is no audit file here"
        return
    if not leak.requests:
        yield "  used      never, as far as the audit log goes"
        return
    yield f"  used      {_count_of(leak.requests, 'time')}, the last ones:"
    for use in leak.last_uses:
        yield f"            {line_of(use)}"
    yield from _written(leak)


def _written(leak: Leak) -> Iterable[str]:
    keys: Sequence[str] = list(leak.wrote)
    yield f"  wrote     {_count_of(len(keys), 'key')}{f' and more, in {leak.wrote_more} writes' if leak.wrote_more else ''}"
    for key in keys[:_SHOWN_KEYS]:
        yield f"            {key}"
    if len(keys) > _SHOWN_KEYS:
        yield f"            and {len(keys) - _SHOWN_KEYS} more, which --json lists"


def _count_of(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
