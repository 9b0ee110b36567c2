"""The configuration's `listen`: the data plane's addresses, and what a connection goes through there before its first request.

listen: 127.0.0.1:8080
listen: {address: "[::]:8443", tls: {cert_file: ./tls/tls.crt, key_file: ./tls/tls.key}}
listen:
  - 127.0.0.1:8080
  - {address: "unix:/run/sidecar/data.sock", mode: "0660"}
"""

import re
from typing import Final

from sidecar.config.addresses import listen_address, same_socket
from sidecar.config.values import Folder
from sidecar.document import Value
from sidecar.networks import UNIX, Networks
from sidecar.settings import Listen, ListenerSettings, ProxyProtocolSettings, TlsSettings
from sidecar.yaml_tree import quoted

UNIX_MODE: Final = 0o660
"""Who may connect to a unix socket: its owner and group. Writing is connecting."""
_MODE: Final = re.compile(r"0?[0-7]{3}")


def listeners(value: Value, folder: Folder) -> tuple[ListenerSettings, ...]:
    """At least one. Stand-in: one of an empty address."""
    if not value.is_list:
        return (_listener(value, folder),)
    found: list[ListenerSettings] = []
    for item in value.items():
        listener = _listener(item, folder)
        if any(same_socket(listener.address, other.address) for other in found):
            item.problem("this address is here twice")
        found.append(listener)
    if not found:
        value.problem("an address is needed here, as 127.0.0.1:8080")
        return (ListenerSettings(Listen()),)
    return tuple(found)


def _listener(value: Value, folder: Folder) -> ListenerSettings:
    if not value.is_mapping:
        address = listen_address(value, folder)
        return ListenerSettings(address, UNIX_MODE if address.unix is not None else None)
    block = value.block()
    address = listen_address(block.need("address"), folder)
    unix = address.unix is not None
    mode = block.find("mode")
    if mode is not None and not unix:
        mode.problem("only a unix socket has a mode; leave the key out")
    return ListenerSettings(
        address=address,
        mode=(UNIX_MODE if mode is None else _mode(mode)) if unix else None,
        tls=block.get("tls", lambda tls: _tls(tls, folder), None),
        proxy_protocol=block.get("proxy_protocol", lambda found: _proxy_protocol(found, unix), None),
    )


def _mode(value: Value) -> int:
    text = value.text()
    if text and not _MODE.fullmatch(text):
        value.problem(f'expected permissions in octal, as "0660", not {quoted(text)}')
        return UNIX_MODE
    return int(text or "0", 8)


def _tls(value: Value, folder: Folder) -> TlsSettings:
    block = value.block()
    for key in ("cert", "key", "certificate"):
        block.refuse(key, f"name the file: {'key' if key == 'key' else 'cert'}_file")
    return TlsSettings(folder.path(block.need("cert_file")), folder.path(block.need("key_file")))


def _proxy_protocol(value: Value, unix: bool) -> ProxyProtocolSettings:
    trusted = value.block().need("trusted")
    found: dict[str, None] = {}
    for item in trusted.items():
        text = item.text()
        if not text:
            continue
        if (text == UNIX) != unix:
            item.problem(
                f"expected unix, for whoever may connect to the socket, not {quoted(text)}"
                if unix
                else "unix is for a unix socket; name the balancer's networks"
            )
        elif not _is_network(text):
            item.problem(f"expected a network or an address, as 10.0.0.0/8 or 2001:db8::7, not {quoted(text)}")
        elif text in found:
            item.problem(f"{quoted(text)} is here twice")
        found[text] = None
    if trusted.is_list and not trusted.items():
        trusted.problem("nobody is trusted, so it would do nothing; leave proxy_protocol out")
    return ProxyProtocolSettings(tuple(found))


def _is_network(text: str) -> bool:
    try:
        Networks([text])
    except ValueError:
        return False
    return True
