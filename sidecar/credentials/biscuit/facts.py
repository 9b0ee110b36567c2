"""What a check may ask about: the published facts, the types of their terms, and who supplies them when.

Each is a promise to whoever narrows a token with whatever tool (`docs/biscuit.md`): a fact is never taken back, and each has
exactly one value at a decision, so that "some" and "all" of them are the same. A set is always a set, never an array.
"""

from enum import StrEnum

from msgspec import Struct

from sidecar.model import Permission


class Type(StrEnum):
    DATE = "a date"
    TEXT = "a text"
    SET = "a set of texts"
    TRUTH = "true or false"


class Fact(Struct, frozen=True):
    types: tuple[Type, ...]
    meaning: str
    always: bool = True
    """Whether every decision has it. A check on a fact that isn't there fails."""


FACTS: dict[str, Fact] = {
    "time": Fact((Type.DATE,), "when the request is decided"),
    "operations": Fact((Type.SET,), "what the request needs"),
    "workspace": Fact((Type.TEXT,), "the workspace's name"),
    "path": Fact((Type.TEXT,), "the key: what follows the route's path, decoded once, without its leading slash"),
    "method": Fact((Type.TEXT,), "the request's method, in capitals"),
    "setting": Fact((Type.TEXT, Type.TEXT), "a name and its value in the workspace's settings", always=False),
    "token_id": Fact((Type.TEXT,), "the id that the token was created with"),
    "client_ip": Fact((Type.TEXT,), "the client's address, where a trusted peer vouches for it", always=False),
}

PREFIX = "store:"
OPERATIONS: dict[Permission, frozenset[str]] = {
    **{permission: frozenset({PREFIX + permission}) for permission in Permission},
    # Replacing is writing, too: whoever forbids writing means both.
    Permission.OVERWRITE: frozenset({PREFIX + Permission.WRITE, PREFIX + Permission.OVERWRITE}),
}
"""What `operations` holds for an action that asks for a permission."""
NAMES: tuple[str, ...] = tuple(PREFIX + permission for permission in Permission)
"""All that `operations` can ever hold."""
