"""Addresses to listen on: bound before anybody accepts, so that several processes can share them."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sidecar.errors import SidecarError
from sidecar.settings import Listen, ListenerSettings

BACKLOG = 1024


class StartError(SidecarError):
    """The process can't come up. The text says what to do."""


def bind(listen: Listen, mode: int | None = None) -> list[socket.socket]:
    """Listening sockets, one for each address that the host's name has; `mode` is a unix socket's permissions, by default what the
    umask leaves. Raises `OSError`; then nothing stays bound."""
    sockets = _bound(listen, mode)
    with contextlib.ExitStack() as bound:
        for each in sockets:
            bound.enter_context(each).listen(BACKLOG)
        bound.pop_all()
    return sockets


def _bound(listen: Listen, mode: int | None = None) -> list[socket.socket]:
    """What `bind` makes, before anybody can connect to it."""
    if listen.unix is not None:
        return [_bound_unix(str(listen.unix), mode)]
    found = socket.getaddrinfo(listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as bound:
        sockets = [
            bound.enter_context(_bound_tcp(family, address)) for family, _, _, _, address in dict.fromkeys(found)
        ]
        bound.pop_all()
    return sockets


def _bound_tcp(family: int, address: Any) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _bound_unix(path: str, mode: int | None) -> socket.socket:
    """A socket that an earlier process left behind makes room; one that somebody listens on, and any other file, is in the way."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answered(path):
            os.unlink(path)
    bound = socket.socket(socket.AF_UNIX)
    try:
        if mode is not None:
            # Linux makes the file with the socket's own mode, less the umask: at no moment may others connect than are meant to.
            os.fchmod(bound.fileno(), mode)
        bound.bind(path)
        if mode is not None:
            os.chmod(path, mode)
    except OSError:
        bound.close()
        raise
    return bound


def _answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its backlog is full
            return True
    return True


def bind_all(listeners: Sequence[ListenerSettings]) -> list[list[socket.socket]]:
    """The sockets of each. Raises `StartError`; then nothing stays bound."""
    with contextlib.ExitStack() as bound:
        sockets: list[list[socket.socket]] = []
        for each in listeners:
            with address(each.address, "listen"):
                sockets.append([bound.enter_context(one) for one in bind(each.address, each.mode)])
        bound.pop_all()
    return sockets


def in_the_way(addresses: Iterable[tuple[str, Listen]]) -> Iterator["StartError"]:
    """Settings and their addresses: which can't be had, all at once. They are bound and let go, and never listened on: a client
    that comes meanwhile is refused, as before, and not cut off. Whoever takes one of them in between is told of when it is bound
    for good."""
    for setting, listen in addresses:
        try:
            with address(listen, setting):
                for bound in _bound(listen):
                    bound.close()
        except StartError as error:
            yield error


@contextlib.contextmanager
def address(listen: Listen, setting: str) -> Iterator[None]:
    """Where the address can't be had inside, a `StartError` says what to do."""
    try:
        yield
    except OSError as error:
        what = "is in use already" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        advice = "stop what listens there, or set another address"
        raise StartError(f"`{setting}: {listen}` {what}; {advice} in the configuration") from None
