"""Addresses in the configuration file: where to listen, where a store is, where an issuer's keys are.

Each is taken in one spelling only and given on in that spelling.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from sidecar.config.values import Folder
from sidecar.document import Value
from sidecar.settings import Listen
from sidecar.yaml_tree import quoted

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/]*):([0-9]{1,5})")
_EXPECTED_LISTEN = "expected HOST:PORT, as 127.0.0.1:8080 or [::1]:8080, or unix:/run/sidecar/data.sock"
_EXPECTED_URL = "expected http://HOST:PORT, https://HOST, unix:/PATH.sock or file://DIRECTORY"
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def listen_address(value: Value, folder: Folder) -> Listen:
    """Stand-in: a `Listen` with nothing in it."""
    text = value.text()
    if not text:
        return Listen()
    if text.startswith("unix:"):
        return Listen(unix=folder.resolve(text[5:], value))
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[2]) > 65_535:
        value.problem(f"{_EXPECTED_LISTEN}, not {quoted(text)}")
        return Listen()
    host = match[1].strip("[]")
    if not host:
        value.problem("the host is missing; write 127.0.0.1, or 0.0.0.0 to listen everywhere")
    elif not _is_host(host):
        value.problem(f"{_EXPECTED_LISTEN}, not {quoted(text)}")
    return Listen(host=host, port=int(match[2]))


def same_socket(one: Listen, other: Listen) -> bool:
    """Whether both would listen on one socket. Port 0 is any free port, so never the same."""
    if one.unix is not None or other.unix is not None:
        return one.unix == other.unix
    same_host = one.host == other.host or one.host in _EVERYWHERE or other.host in _EVERYWHERE
    return one.port == other.port != 0 and same_host


def upstream_url(value: Value, folder: Folder) -> str:
    """As `UpstreamSettings.url` says. Stand-in: empty."""
    text = value.text()
    if text.startswith("file:"):
        if not text.startswith("file://") or text == "file://":
            value.problem("expected file://DIRECTORY, as file://./data or file:///var/lib/sidecar")
            return ""
        return f"file://{folder.resolve(text[7:], value)}"
    if text.startswith("unix:"):
        if text.startswith("unix://") or text == "unix:" or any(mark in text for mark in "?#%"):
            value.problem("expected unix:/PATH.sock")
            return ""
        return f"unix:{folder.resolve(text[5:], value)}"
    parts = _split(value, text, ("http", "https"), _EXPECTED_URL)
    if parts is None:
        return ""
    if parts.path not in ("", "/"):
        value.problem(f"a path doesn't belong here; say {parts.path} as upstream_path in the routes of the policy")
    if "?" in text or "#" in text:
        value.problem("a query or fragment doesn't belong here")
    host = parts.hostname or ""
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}" + (f":{parts.port}" if parts.port else "")


def host_name(value: Value) -> str:
    """The name in a certificate. Stand-in: empty."""
    text = value.text()
    if text and not _is_host(text):
        value.problem(f"expected a host's name, as store.example.com, not {quoted(text)}")
        return ""
    return text


def web_url(value: Value) -> str:
    """An issuer, or where its keys are: https, or http on this machine. The text as written, since an issuer is
    compared character by character (RFC 8725 §3.8). Stand-in: empty."""
    text = value.text()
    parts = _split(value, text, ("https", "http"), "expected an https:// URL")
    if parts is None:
        return ""
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        value.problem("expected an https:// URL; http:// is for this machine only (127.0.0.1, ::1, localhost)")
    if "#" in text:
        value.problem("a fragment doesn't belong here")
    return text


def host_of(url: str) -> str:
    """The host of a URL that `web_url` took, in lower case."""
    return urlsplit(url).hostname or "" if url else ""


def _split(value: Value, text: str, schemes: tuple[str, ...], expected: str) -> SplitResult | None:
    """The parts, if the host and port can be read in one way; otherwise a problem is noted."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        value.problem(f"{expected}, not {quoted(text)}")
        return None
    if "@" in parts.netloc:
        # The text may hold a password: it is not repeated.
        value.problem("a user name or password doesn't belong into a URL; an upstream's go under credentials")
        return None
    host = parts.hostname or ""
    odd = text.partition(":")[0] not in schemes or port == 0 or not _is_host(host) or "\\" in text or " " in text
    if odd or parts.netloc.endswith(":") or not text.isascii():
        value.problem(f"{expected}, not {quoted(text)}")
        return None
    return parts


def _is_host(host: str) -> bool:
    if ":" in host:
        return _is_ip(host)
    # 127.1 and 0x7f.1 are addresses to some resolvers: what ends in a number is four decimal numbers or nothing.
    last = host.rstrip(".").rpartition(".")[2]
    if last.isdigit() or last.lower().startswith("0x"):
        return _is_ip(host)
    return _HOST.fullmatch(host) is not None and ".." not in host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
