"""`docs/configuration.md` names every setting, no other, and its real default."""

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sidecar import config
from sidecar.document import Value, parse
from sidecar.settings import Settings

ROOT = Path(__file__).parent.parent
ROWS = re.compile(r"^\| `([a-z_A-Z0-9.\[\]]+)` \| *([^|]*?) *\|", re.MULTILINE)
NOT_IN_THE_FILE = {"path", "upstreams.NAME.name", "issuers.NAME.name"}
WRITTEN = {"audit[].rotate_size": "audit[].rotate.size", "audit[].keep": "audit[].rotate.keep"}
READ = {float: Value.duration, int: Value.number, str: Value.text, bool: Value.boolean}


def documented() -> dict[str, str]:
    return dict(ROWS.findall((ROOT / "docs" / "configuration.md").read_text()))


def settings(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, typing.Any, object]]:
    """Each setting as it is written, its type, and its default."""
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        hint, suffix = hints[field.name], ""
        arguments = [inner for inner in typing.get_args(hint) if inner not in (type(None), str, Ellipsis)]
        if typing.get_origin(hint) is dict:
            suffix = ".NAME"
        elif typing.get_origin(hint) is tuple:
            suffix = "[]"
        inner = arguments[0] if arguments and isinstance(arguments[0], type) else hint
        name = f"{prefix}{field.name}"
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and inner.__name__ not in ("Listen", "Rate"):
            yield from settings(inner, f"{name}{suffix}.")
        elif name not in NOT_IN_THE_FILE:
            yield WRITTEN.get(name, name), hint, field.default


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert set(documented()) == {name for name, _, _ in settings(Settings)}


IN_WORDS = {"issuers.NAME.multi_tenant"}


@pytest.mark.parametrize(
    ("name", "hint", "default"),
    [
        row
        for row in settings(Settings)
        if row[0] not in IN_WORDS and not isinstance(row[1], types.UnionType | types.GenericAlias)
    ],
)
def test_the_documented_default_is_the_real_one(name: str, hint: type, default: object) -> None:
    said = documented()[name]
    if default is msgspec.NODEFAULT:
        assert said in ("required", "none", "")
        return
    match = re.match(r"`([^`]*)`", said)
    assert match, said
    value = parse(f"k: {match[1]}\n", "docs").root.block().need("k")
    size = name.endswith(("size", "_up_to")) and match[1].endswith("B")
    assert (Value.size if size else READ[hint])(value) == default


def test_the_example_is_a_configuration() -> None:
    assert config.load(ROOT / "config" / "sidecar.example.yaml").upstreams
