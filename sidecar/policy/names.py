"""Names and paths as policy files may write them."""

import re
from collections.abc import Collection

from sidecar.document import Value, suggestion

_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(r"/|(?:/[A-Za-z0-9._~@+=:,-]+)+")
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")


def known_name(value: Value, names: Collection[str] | None, what: str) -> str:
    """A name that the configuration must know; `None` for `names` doesn't check."""
    text = value.text()
    if text and names is not None and text not in names:
        near = suggestion(text, names) if names else "; none is configured"
        value.problem(f"unknown {what} {text!r}{near}")
    return text


def workspace_name(value: Value) -> str:
    """It appears in metrics, audit records and `--workspace`, so it is short and plain."""
    text = value.text()
    if text and _WORKSPACE.fullmatch(text) is None:
        value.problem(
            "a workspace's name is up to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return text


def plain_path(value: Value) -> str:
    """A path that every client writes in one way only: nothing in it is ever percent-encoded. Stand-in: empty."""
    text = value.text()
    if not text:
        return ""
    if not text.startswith("/"):
        value.problem(f"a path starts with a slash; write {'/' + text!r}")
    elif text != "/" and text.endswith("/"):
        value.problem(f"a path has no trailing slash; write {text.rstrip('/') or '/'!r}")
    elif _PATH.fullmatch(text) is None:
        value.problem("a path's segments are letters, digits and '._~@+=:,-', and none is empty")
    elif any(segment in (".", "..") for segment in text.split("/")):
        value.problem("a path has no segment '.' or '..'")
    else:
        return text
    return ""


def method_name(value: Value, method: str) -> None:
    if _METHOD.fullmatch(method) is None:
        value.problem(f"{method!r} is no HTTP method; they are written in capitals, as GET")
