"""Scopes as a person writes them: one after another on the command line, or as a list in a file."""

from collections.abc import Sequence
from pathlib import Path

from sidecar.tokens import TokenRequestError, WantedScope

_KEYS = ("workspace", "path", "permissions")
_SINGULAR = {"permission": "permissions"}
_LONGEST_FILE = 256 * 1024


def scopes(texts: Sequence[str], file: Path | None) -> tuple[WantedScope, ...]:
    """Of `--scope` and `--scope-file` together. Raises `TokenRequestError`, and `DocumentError` for what is wrong in the file."""
    return (*map(parse, texts), *(() if file is None else read(file)))


def parse(text: str) -> WantedScope:
    """`workspace=web,path=releases/**,permissions=read+write`; only `workspace` is needed. A path with a comma goes into a file.

    Raises `TokenRequestError`.
    """
    stated: dict[str, str] = {}
    for part in text.split(","):
        name, found, value = part.partition("=")
        name = _SINGULAR.get(name.strip(), name.strip())
        if name not in _KEYS or not found:
            raise _bad(text, f"{part!r} is none of workspace=NAME, path=GLOB, permissions=NAME+NAME")
        if name in stated:
            raise _bad(text, f"{name} is there twice")
        stated[name] = value.strip()
    if "workspace" not in stated:
        raise _bad(text, "it names no workspace")
    permissions = stated.get("permissions")
    return WantedScope(
        stated["workspace"], stated.get("path"), () if permissions is None else tuple(permissions.split("+"))
    )


def _bad(text: str, problem: str) -> TokenRequestError:
    return TokenRequestError([f"--scope {text!r}: {problem}"])


def read(file: Path) -> tuple[WantedScope, ...]:
    """A YAML (or JSON) list of mappings with `workspace`, `path` and `permissions`. Raises `DocumentError` and
    `TokenRequestError`."""
    from sidecar import document  # loads the reader of documents: few commands need it

    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise TokenRequestError([f"--scope-file {file}: {error.strerror}"]) from None
    if len(content) > _LONGEST_FILE:
        raise TokenRequestError([f"--scope-file {file}: larger than {_LONGEST_FILE} bytes"])

    def permissions(value: document.Value) -> tuple[str, ...]:
        if value.is_list and not value.items():
            value.problem("name at least one, or leave the key out: then it may do all that the policy grants")
        return value.texts()

    def scope(block: document.Block) -> WantedScope:
        return WantedScope(
            block.need("workspace").text(),
            block.get("path", document.Value.text, None),
            block.get("permissions", permissions, ()),
        )

    tree = document.parse(content, str(file))
    found = tuple(scope(item.block()) for item in tree.root.items())
    if tree.root.is_list and not found:
        tree.root.problem("at least one scope is needed")
    tree.finish()
    return found
