"""What a bad policy file still tells of itself: its name, its routes and with whom it shares, so that its requests meet
`policy_missing` and nobody takes over its paths or keys (rule 23).

Law: what couldn't be read is said, never dropped. `whole` is true only where the name and the path of every route were read.

The three keys are looked for as text at the start of a line, and each is read for itself: a mistake elsewhere in the file, a
conflict marker or a byte that is no UTF-8 takes nothing away from them. Reading them is bounded: 4.9 s of CPU were measured
for a file of 60,000 lines that was read again and again, each time a line shorter.
"""

import hashlib
import re
from collections.abc import Collection

from msgspec import Struct, structs

from sidecar.document import Document, parse
from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.file import read_routes
from sidecar.policy.names import workspace_name

MAX_ROUTES_TEXT = 8 * 1024
"""Characters of the routes, about a hundred of them. Reading the worst text of this length takes 15 ms, thrice."""

_KEY = re.compile(r"""^(["']?)([A-Za-z_][A-Za-z0-9_-]*)\1[ \t]*:(?=\s|$)""", re.MULTILINE)
_IDENTITY = re.compile(r"\$(\.workspace|\.routes(\[[0-9]+\]\.path)?)?")
"""Places whose problems leave open which paths are the workspace's."""


class Salvaged(Struct, frozen=True):
    workspace: Workspace | None = None
    """Marked `broken`; it grants nothing. `None` where not even the name can be read."""
    whole: bool = False
    """The name and the paths of all routes are known."""


def salvage(text: str, file: str, *, profiles: Collection[str]) -> Salvaged:
    """`text` is what a bad file says; `profiles` are the names that `client` may say, at least one."""
    sections = _sections(text.removeprefix("\ufeff"))
    name, sure_name = _name(sections.get("workspace", []), file)
    if not name:
        return Salvaged()
    routes, sure_routes = _routes(sections.get("routes", []), file, name, profiles)
    shares = _shares(sections.get("shares", []), file)
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    workspace = Workspace(name, file, sha256, routes, shares=shares, broken=True)
    return Salvaged(workspace, sure_name and sure_routes)


def _sections(text: str) -> dict[str, list[str]]:
    """Top-level key -> the text of each of its appearances, up to the next key."""
    found = list(_KEY.finditer(text))
    sections: dict[str, list[str]] = {"workspace": [], "routes": [], "shares": []}
    for index, match in enumerate(found):
        if match[2] in sections:
            end = found[index + 1].start() if index + 1 < len(found) else len(text)
            sections[match[2]].append(text[match.start() : end])
    return sections


def _name(sections: list[str], file: str) -> tuple[str, bool]:
    """Of the first line that says it; empty where none does. Whether it is sure."""
    if not sections:
        return "", False
    document = parse(sections[0].partition("\n")[0], file)
    name = workspace_name(document.root.block().need("workspace"))
    return ("", False) if document.problems else (name, len(sections) == 1)


def _routes(sections: list[str], file: str, name: str, profiles: Collection[str]) -> tuple[tuple[Route, ...], bool]:
    """Those whose path can be read, and whether these are all."""
    if not sections or len(sections[0]) > MAX_ROUTES_TEXT:
        return (), False
    document = parse(sections[0], file)
    sure = len(sections) == 1 and document.root.is_mapping
    if not document.root.is_mapping:
        document = _above_the_error(sections[0], document)
    value = document.root.block().need("routes")
    found = read_routes(value, name, None, profiles)
    sure = sure and not document.full
    sure = sure and not any(_IDENTITY.fullmatch(problem.path) for problem in document.problems)
    routes: dict[str, Route] = {}
    for route in found:
        client = route.client if route.client in profiles else next(iter(profiles), "")
        upstream = route.upstream or f"unknown to {name}"
        routes.setdefault(route.path, structs.replace(route, client=client, upstream=upstream))
    return tuple(routes.values()), sure and len(found) == len(value.items())


def _above_the_error(section: str, document: Document) -> Document:
    """Tried twice: the parser tells of an open bracket, or of a line without a colon, on the line after it."""
    line = document.problems[0].line if document.problems else 1
    lines = section.splitlines(keepends=True)
    above = parse("".join(lines[: max(line - 1, 0)]), document.file)
    return above if above.root.is_mapping else parse("".join(lines[: max(line - 2, 0)]), document.file)


def _shares(sections: list[str], file: str) -> frozenset[str]:
    if not sections or len(sections[0]) > MAX_ROUTES_TEXT:
        return frozenset()
    block = parse(sections[0], file).root.block()
    return block.get("shares", lambda value: frozenset(value.texts()), frozenset())
