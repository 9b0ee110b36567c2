"""How a token's row is shown. It is shown as stored, so nothing in it may reach the terminal as a control character."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from sidecar.credentials.token_row import TokenRow, scope_as_json, scopes_of
from sidecar.tokens import Status

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_HEADINGS = ("ID", "KIND", "SUBJECT", "NAME", "LIMITS", "EXPIRES", "USED", "STATUS")
_MAY_BE_CUT = (2, 3, 4)
"""The columns that somebody has written."""
_NARROWEST = 8
_UNBOUND = {"biscuit": "those whose rules grant it something"}


def as_json(row: TokenRow, status: Status) -> dict[str, Any]:
    """Times in ISO 8601, UTC. What doesn't narrow is null."""
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": row.subject,
        "name": row.name,
        "workspaces": _names(row.workspaces),
        "permissions": _names(row.permissions),
        "path": row.path,
        "scopes": _scopes(row),
        "owner_id": row.owner_id,
        "status": status,
        "created_at": iso(row.created_at),
        "created_by": row.created_by,
        "expires_at": iso(row.expires_at),
        "revoked_at": iso(row.revoked_at),
        "revoked_by": row.revoked_by,
        "last_used_at": iso(row.last_used_at),
        "parent": row.parent,
        "family": row.family or row.id,
        "rotated_at": iso(row.rotated_at),
        "reused_at": iso(row.reused_at),
        "pepper": row.pepper_id,
        "access_key_id": row.access_key,
        "root_key": row.root_key,
    }


def lines(row: TokenRow, status: Status, now: int) -> Iterable[str]:
    facts: dict[str, object] = {"id": row.id, "kind": row.kind, "subject": row.subject}
    if row.owner_id is not None:
        facts["owner id"] = row.owner_id
    facts["name"] = row.name or "-"
    if row.scopes is None:
        facts |= {
            "workspaces": row.workspaces or _UNBOUND.get(row.kind, "every one of its person"),
            "permissions": row.permissions or "all that the policy grants",
            "path": row.path or "every key",
        }
    for number, scope in enumerate(_scopes(row) or [], 1):
        facts[f"scope {number}"] = (
            f"{scope['workspace']}, {' '.join(scope['permissions'] or ['all that the policy grants'])}, "
            f"{scope['path'] or 'every key'}"
        )
    facts |= {
        "status": status if status is not Status.ALTERED else "altered: not as it was written here, so it is refused",
        "created": f"{_when(row.created_at, now)} by {row.created_by}",
        "expires": _when(row.expires_at, now),
        "revoked": f"{_when(row.revoked_at, now)} by {row.revoked_by}" if row.revoked_at is not None else "no",
        "last used": _when(row.last_used_at, now) if row.last_used_at is not None else "never",
    }
    if row.access_key is not None:
        facts["access key"] = row.access_key
    if row.parent is not None:
        facts["replaces"] = row.parent
    if row.rotated_at is not None:
        facts["replaced"] = _when(row.rotated_at, now)
    if row.reused_at is not None:
        facts["reused"] = f"{_when(row.reused_at, now)}, after its replacement had taken over"
    return [f"{name:12} {_plain(value)}" for name, value in facts.items()]


def table(rows: Sequence[tuple[TokenRow, Status]], now: int, width: int) -> Iterable[str]:
    """At most `width` columns wide, as long as that leaves something of every cell."""
    cells = [_HEADINGS, *(_cells(row, status, now) for row, status in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(_MAY_BE_CUT, key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return ["  ".join(_fit(cell, size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cells(row: TokenRow, status: Status, now: int) -> tuple[str, ...]:
    used = "never" if row.last_used_at is None else _distance(row.last_used_at, now)
    stated = [row.workspaces, row.permissions, row.path, f"{len(_scopes(row) or [])} scopes" if row.scopes else None]
    limits = " ".join(str(limit) for limit in stated if limit) or "-"
    standing = f"{status}, replaced" if status is Status.ACTIVE and row.rotated_at is not None else status
    shown = (row.id, row.kind, row.subject, row.name or "-", limits, _distance(row.expires_at, now), used, standing)
    return tuple(map(_plain, shown))


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"


def _plain(value: object) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in str(value))


def _scopes(row: TokenRow) -> list[dict[str, Any]] | None:
    """As `--scope-file` takes them; `None` where there are none, or where an edited row has something else there."""
    try:
        return None if row.scopes is None else [scope_as_json(scope) for scope in scopes_of(row.scopes)]
    except (ValueError, TypeError):
        return None


def _names(text: object) -> list[str] | None:
    return None if text is None else str(text).split()


def _when(at: object, now: int) -> str:
    return f"{iso(at)} ({_distance(at, now)})"


def iso(at: object) -> str | None:
    """`None` for what is not a time, as an edited row may hold."""
    if not isinstance(at, int):
        return None
    try:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _distance(at: object, now: int) -> str:
    """`in 90d`, `3h ago`: the nearest whole number of the largest unit."""
    if not isinstance(at, int):
        return "?"
    seconds = abs(at - now)
    amount, unit = next((((seconds + size // 2) // size, unit) for unit, size in _UNITS if seconds >= size), (0, "s"))
    return f"in {amount}{unit}" if at > now else f"{amount}{unit} ago"
