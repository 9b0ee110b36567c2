"""The configuration's `upstreams`: the stores behind the sidecar, and what each asks for itself."""

from typing import Final

from sidecar.config.addresses import host_name, upstream_url
from sidecar.config.s3_store import s3_store
from sidecar.config.values import Folder, header_name, within
from sidecar.document import Value
from sidecar.settings import (
    DAY,
    BasicCredentials,
    HeaderCredentials,
    HealthSettings,
    MiB,
    Timeouts,
    UpstreamCredentials,
    UpstreamSettings,
)

NOT_STORE_CREDENTIALS: Final = frozenset({
    "connection", "content-length", "cookie", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding",
    "upgrade",
})  # fmt: skip
"""Headers that the relay itself sets or takes out."""
_REMOTE_ONLY: Final = (
    "timeouts", "credentials", "connections", "redirects", "ca_file", "server_name", "client_certificate_file",
    "client_key_file", "queue", "queue_timeout", "health", "s3",
)  # fmt: skip
_TLS_ONLY: Final = {
    "ca_file": "a certificate to check",
    "server_name": "a certificate to check",
    "client_certificate_file": "somebody to show a certificate to",
    "client_key_file": "somebody to show a certificate to",
}


def upstream(name: str, value: Value, folder: Folder) -> UpstreamSettings:
    block = value.block()
    urls: tuple[str, ...] = ()
    if (several := block.find("urls")) is None:
        url = upstream_url(block.need("url"), folder)
    else:
        urls = _urls(several, folder)
        url = urls[0] if urls else ""
        if (single := block.find("url")) is not None:
            single.problem("either url or urls, not both")
    if url.startswith("file:"):
        for key in _REMOTE_ONLY:
            if (found := block.find(key)) is not None:
                found.problem(f"the embedded store (file://) has no {key}; leave the key out")
    elif (found := block.find("max_size")) is not None:
        found.problem("only the embedded store (file://) has a max_size; leave the key out")
    if url and not url.startswith(("file:", "https:")):
        for key, what in _TLS_ONLY.items():
            if (found := block.find(key)) is not None:
                found.problem(f"only an https upstream has {what}; leave the key out")
    if block.find("s3") is not None and (found := block.find("credentials")) is not None:
        found.problem("a bucket's keys go under s3.credentials; leave the key out")
    certificate, key_file = block.find("client_certificate_file"), block.find("client_key_file")
    if (given := certificate or key_file) is not None and (certificate is None or key_file is None):
        given.problem("client_certificate_file and client_key_file belong together; name both")
    return UpstreamSettings(
        name=name,
        url=url,
        timeouts=block.get("timeouts", _timeouts, Timeouts()),
        credentials=block.get("credentials", lambda found: _store_credentials(found, folder), None),
        connections=block.get("connections", lambda found: found.number(1, 65_536), 256),
        redirects=block.get("redirects", lambda found: found.choice(("refuse", "pass")), "refuse"),
        ca_file=block.get("ca_file", folder.path, None),
        urls=urls,
        server_name=block.get("server_name", host_name, None),
        client_certificate_file=block.get("client_certificate_file", folder.path, None),
        client_key_file=block.get("client_key_file", folder.path, None),
        queue=block.get("queue", lambda found: found.number(0, 1_000_000), 1024),
        queue_timeout=block.get("queue_timeout", within(0.01, DAY), 5.0),
        health=block.get("health", _health, HealthSettings()),
        max_size=block.get("max_size", lambda found: found.size(MiB), None),
        s3=block.get("s3", lambda found: s3_store(found, urls or (url,), folder), None),
    )


def _urls(value: Value, folder: Folder) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in value.items():
        url = upstream_url(item, folder)
        if url.startswith("file:"):
            item.problem("the embedded store (file://) is one directory; name it as url")
        elif url in found:
            item.problem("this address is here twice")
        elif url and found and _scheme(url) != _scheme(next(iter(found))):
            item.problem("the addresses of one store are all http, all https or all unix")
        elif url:
            found[url] = None
    if value.is_list and not value.items():
        value.problem("at least one address is needed here")
    return tuple(found)


def _scheme(url: str) -> str:
    return url.partition(":")[0]


def _health(value: Value) -> HealthSettings:
    default = HealthSettings()
    block = value.block()
    health = HealthSettings(
        failures=block.get("failures", lambda found: found.number(1, 1000), default.failures),
        ejection=block.get("ejection", within(0.05, DAY), default.ejection),
        max_ejection=block.get("max_ejection", within(0.05, DAY), default.max_ejection),
    )
    if health.ejection > health.max_ejection and block.is_sound:
        (block.find("ejection") or block.need("max_ejection")).problem("ejection is longer than max_ejection")
    return health


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
