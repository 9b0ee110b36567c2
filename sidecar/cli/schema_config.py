"""The JSON Schema of the configuration file, made of the settings themselves: a setting that is there is in it.

Its keys are strict; of values it knows the kind, and leaves the rest to `sidecar config check`.
"""

import typing
from pathlib import Path
from typing import Any

import msgspec

from sidecar.cli.schema_words import (
    BOOLEAN,
    BYTE_RATE,
    DURATION,
    RATE,
    TEXT,
    Schema,
    block,
    document,
    named,
    one_of,
    several,
)
from sidecar.model import Rate
from sidecar.settings import Listen, Settings

_NOT_WRITTEN = {"path", "upstreams.NAME.name", "issuers.NAME.name"}
"""Filled in by the reader."""
_NOT_NEEDED = {"upstreams.NAME.url"}
"""Another key may stand for it."""
_NEEDED = {"audit[].file"}
_GATHERED = {"audit[].rotate_size": ("rotate", "size"), "audit[].keep": ("rotate", "keep")}
"""Written one level deeper than they are kept."""
_CHOICES = {
    "upstreams.NAME.redirects": ("refuse", "pass"),
    "upstreams.NAME.s3.addressing": ("path", "virtual"),
    "upstreams.NAME.s3.credentials.source": ("files", "environment", "aws"),
    "audit[].fsync": ("group", "none"),
    "tokens.reuse": ("event", "revoke_family"),
    "revocation.running": ("finish", "cut"),
}
_NUMBER: Schema = {"type": ["integer", "string"]}
"""A number, or a size such as 64KiB."""


def config_schema() -> Schema:
    return document("Configuration of the sidecar", _block(Settings, ""))


def _block(struct: type[msgspec.Struct], prefix: str) -> Schema:
    hints = typing.get_type_hints(struct)
    keys: dict[str, Schema] = {}
    gathered: dict[str, dict[str, Schema]] = {}
    needed: list[str] = []
    for field in msgspec.structs.fields(struct):
        name = f"{prefix}{field.name}"
        if name in _NOT_WRITTEN:
            continue
        if name in _GATHERED:
            outer, inner = _GATHERED[name]
            gathered.setdefault(outer, {})[inner] = _value(hints[field.name], name)
            continue
        keys[field.name] = _value(hints[field.name], name)
        if (field.required and name not in _NOT_NEEDED) or name in _NEEDED:
            needed.append(field.name)
    keys |= {outer: block(**inner) for outer, inner in gathered.items()}
    return block("", needed, **keys)


def _value(hint: Any, name: str) -> Schema:
    if name in _CHOICES:
        return one_of(_CHOICES[name])
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    origin = typing.get_origin(hint)
    if origin is dict:
        return named(_value(options[1], f"{name}.NAME"))
    if origin is tuple:
        items = _value(options[0], f"{name}[]")
        return {"anyOf": [TEXT, items, several(items)]} if name == "listen" else several(items)
    if options:
        return _value(options[0], name)
    if hint is Listen or hint is Path or hint is str:
        return TEXT
    if hint is Rate:
        return BYTE_RATE if name.endswith("bytes") else RATE
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        inner = _block(hint, f"{name}.")
        return {"anyOf": [TEXT, inner]} if name == "listen[]" else inner
    if hint is bool:
        return BOOLEAN
    return DURATION if hint is float else _NUMBER
