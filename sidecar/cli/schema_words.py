"""What the JSON Schemas of all files have in common: JSON Schema's draft 2020-12, and how our files write values."""

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.model import Permission
from sidecar.policy.glob import MAX_PATTERN

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

TEXT: Schema = {"type": "string", "minLength": 1}
BOOLEAN: Schema = {"type": "boolean"}
DATE: Schema = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
RATE: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,8}/[smhd]$"}
BYTE_RATE: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,8}([KMGT]i)?B/[smhd]$"}
WORKSPACE: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
GLOB: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}
WHOLE_STARS = "^(\\*\\*|([^*/]|\\*(?!\\*))*)(/(\\*\\*|([^*/]|\\*(?!\\*))*))*$"
KEY_GLOB: Schema = {**GLOB, "pattern": f"^(?!/){WHOLE_STARS[1:]}"}
DURATION: Schema = {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$"}
PERMISSIONS = [permission.value for permission in Permission]


def document(title: str, schema: Schema, definitions: Mapping[str, Schema] | None = None) -> Schema:
    """The schema of a whole file."""
    head = {"$schema": DRAFT, "title": title, **schema}
    return {**head, "$defs": dict(definitions)} if definitions else head


def block(description: str = "", required: Iterable[str] = (), /, **keys: Schema) -> Schema:
    """A mapping that has these keys and no other."""
    found: Schema = {"type": "object", "additionalProperties": False, "properties": keys}
    if description:
        found["description"] = description
    if needed := list(required):
        found["required"] = needed
    return found


def named(values: Schema, pattern: str = "^.+$", least: int = 0) -> Schema:
    """A mapping whose keys are names."""
    found: Schema = {"type": "object", "additionalProperties": values, "propertyNames": {"pattern": pattern}}
    return {**found, "minProperties": least} if least else found


def several(items: Schema, least: int = 0, *, unique: bool = True) -> Schema:
    found: Schema = {"type": "array", "items": items}
    if unique:
        found["uniqueItems"] = True
    return {**found, "minItems": least} if least else found


def one_of(options: Iterable[str]) -> Schema:
    return {"enum": list(options)}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def exactly_one(*keys: str) -> Schema:
    return {"oneOf": [{"required": [key]} for key in keys]}


def refer(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
