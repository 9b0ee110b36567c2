"""The configuration's `upstreams`: the stores behind the sidecar, and what each asks for itself."""

from typing import Final

from sidecar.config.addresses import upstream_url
from sidecar.config.values import Folder, header_name, within
from sidecar.document import Value
from sidecar.settings import (
    DAY,
    BasicCredentials,
    HeaderCredentials,
    Timeouts,
    UpstreamCredentials,
    UpstreamSettings,
)

NOT_STORE_CREDENTIALS: Final = frozenset({
    "connection", "content-length", "cookie", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip
"""Headers that the relay itself sets or takes out."""


def upstream(name: str, value: Value, folder: Folder) -> UpstreamSettings:
    block = value.block()
    url = upstream_url(block.need("url"), folder)
    embedded, tls = url.startswith("file:"), url.startswith("https:")
    remote_only = {
        "timeouts": block.find("timeouts"),
        "credentials": block.find("credentials"),
        "connections": block.find("connections"),
        "redirects": block.find("redirects"),
    }
    if embedded:
        for key, found in remote_only.items():
            if found is not None:
                found.problem(f"the embedded store (file://) has no {key}; leave the key out")
    ca_file = block.find("ca_file")
    if ca_file is not None and url and not tls:
        ca_file.problem("only an https upstream has a certificate to check; leave the key out")
    return UpstreamSettings(
        name=name,
        url=url,
        timeouts=block.get("timeouts", _timeouts, Timeouts()),
        credentials=block.get("credentials", lambda found: _store_credentials(found, folder), None),
        connections=block.get("connections", lambda found: found.number(1, 65_536), 256),
        redirects=block.get("redirects", lambda found: found.choice(("refuse", "pass")), "refuse"),
        ca_file=block.get("ca_file", folder.path, None),
    )


def _timeouts(value: Value) -> Timeouts:
    default, read = Timeouts(), within(0.01, DAY)
    block = value.block()
    return Timeouts(
        connect=block.get("connect", read, default.connect),
        first_byte=block.get("first_byte", read, default.first_byte),
        idle=block.get("idle", read, default.idle),
    )


def _store_credentials(value: Value, folder: Folder) -> UpstreamCredentials:
    block = value.block()
    block.refuse("bearer", "a secret doesn't stand in this file; put it into a file and name that as bearer_file")
    found = [key for key in ("basic", "bearer_file", "header") if block.find(key) is not None]
    if len(found) != 1 and value.is_mapping:
        block.problem(f"exactly one of basic, bearer_file, header is needed here, not {' and '.join(found) or 'none'}")
    return UpstreamCredentials(
        basic=block.get("basic", lambda basic: _basic(basic, folder), None),
        bearer_file=block.get("bearer_file", folder.path, None),
        header=block.get("header", lambda header: _header(header, folder), None),
    )


def _basic(value: Value, folder: Folder) -> BasicCredentials:
    block = value.block()
    block.refuse("password", "a secret doesn't stand in this file; put it into a file and name that as password_file")
    username = block.need("username")
    if ":" in username.text():
        username.problem("a user name with a colon can't be sent by Basic (RFC 7617 §2)")
    return BasicCredentials(username.text(), folder.path(block.need("password_file")))


def _header(value: Value, folder: Folder) -> HeaderCredentials:
    block = value.block()
    block.refuse("value", "a secret doesn't stand in this file; put it into a file and name that as value_file")
    name = header_name(block.need("name"))
    if name.lower() in NOT_STORE_CREDENTIALS:
        block.need("name").problem(f"{name} is not a header that may carry a credential to the store")
    return HeaderCredentials(name, folder.path(block.need("value_file")))
