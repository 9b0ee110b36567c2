"""The tenant is bound to the route (law 9, rule 19): a parameter or header that names a workspace must name the route's.

Stores of many tenants (Turborepo's API, Loki and Mimir behind `X-Scope-OrgID`) take the tenant from there and would serve
another workspace's keys under this route's permission.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from sidecar.errors import Refused
from sidecar.reasons import Reason

PARAMETERS = frozenset({"team", "teamid", "teamslug", "slug", "workspace", "workspaceid", "tenant", "tenantid"})
"""Compared without case and without what isn't a letter or digit: `teamId`, `team_id` and `team[]` are `teamid`, `team`."""

HEADERS = frozenset({"x-scope-orgid", "x-tenant", "x-tenant-id", "x-team-id", "x-workspace", "x-workspace-id"})
"""Lower-case names; `headers.ONCE` holds all of them, so that what is read here is what the store reads."""

MOST_PARAMETERS = 256
"""As many as a target has segments at most: each costs the event loop microseconds, and an unknown caller may send any number."""

_CUT = re.compile(r"[\[\0]")  # where PHP ends a parameter's name
_SEPARATOR = re.compile("[&;]")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def check_tenant(raw_query: str, workspace: str) -> None:
    """Raises `Refused(WRONG_WORKSPACE)` if the query (as received, without `?`) names another workspace, however spelled.

    Each occurrence counts, since a store may read the first or the last. Raises `Refused(BAD_TARGET)` for too many to look at.
    """
    for name, value in parameters(raw_query):
        if _NOT_ALPHANUMERIC.sub("", _CUT.split(name, maxsplit=1)[0]) in PARAMETERS and value != workspace:
            raise Refused(Reason.WRONG_WORKSPACE, "a query parameter names another workspace")


def parameters(raw_query: str) -> Iterator[tuple[str, str]]:
    """Name (case-folded) and value of all that any store may read as a parameter: some split at `;` as well as at `&`.

    Raises `Refused(BAD_TARGET)` for more than `MOST_PARAMETERS`.
    """
    if not raw_query:
        return
    if raw_query.count("&") + raw_query.count(";") >= MOST_PARAMETERS:
        raise Refused(Reason.BAD_TARGET, f"more than {MOST_PARAMETERS} query parameters")
    parts = raw_query.split("&")
    if ";" in raw_query:
        parts += _SEPARATOR.split(raw_query)
    for part in parts:
        name, _, value = part.partition("=")
        yield unquote_plus(name).casefold(), unquote_plus(value)


def check_headers(values: Mapping[str, str], workspace: str) -> None:
    """The same for headers (`Headers.values`); for profiles that forward headers that they don't know."""
    if not HEADERS.isdisjoint(values) and any(values[name] != workspace for name in HEADERS & values.keys()):
        raise Refused(Reason.WRONG_WORKSPACE, "a header names another workspace")
