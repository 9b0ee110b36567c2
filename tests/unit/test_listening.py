"""Addresses are bound once, left-over unix sockets are no hindrance, and who can't have one is told what to do."""

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from sidecar.listening import StartError, address, bind, bind_all, in_the_way
from sidecar.settings import Listen, ListenerSettings


def test_a_tcp_address_is_listened_on_before_anybody_accepts() -> None:
    (bound,) = bind(Listen("127.0.0.1", 0))
    with bound, socket.create_connection(bound.getsockname()):
        assert bound.family is socket.AF_INET


def test_no_host_is_every_address() -> None:
    sockets = bind(Listen("", 0))
    hosts = {each.getsockname()[0] for each in sockets}
    for each in sockets:
        each.close()
    assert "0.0.0.0" in hosts


def test_an_address_in_use_is_said_with_what_to_do() -> None:
    (bound,) = bind(Listen("127.0.0.1", 0))
    taken = Listen("127.0.0.1", bound.getsockname()[1])
    said = rf"`listen: {taken}` is in use already; stop what listens there"
    with bound, pytest.raises(StartError, match=said) as raised, address(taken, "listen"):
        bind(taken)
    assert "set another address in the configuration" in str(raised.value)


def test_a_unix_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    listen = Listen(unix=tmp_path / "data.sock")
    for _ in range(2):
        (bound,) = bind(listen)
        bound.close()
    (bound,) = bind(listen)
    with bound, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(listen.unix))


@pytest.mark.parametrize("waiting", [0, 3])
def test_a_unix_socket_that_somebody_listens_on_is_left_to_them(tmp_path: Path, waiting: int) -> None:
    path = tmp_path / "data.sock"
    with contextlib.ExitStack() as opened:
        theirs = opened.enter_context(socket.socket(socket.AF_UNIX))
        theirs.bind(str(path))
        theirs.listen(1)
        for _ in range(waiting):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # the queue of those that wait to be accepted is full
                client.connect(str(path))
        with (
            pytest.raises(StartError, match=r"`listen: unix:.*` is in use already"),
            address(Listen(unix=path), "listen"),
        ):
            bind(Listen(unix=path))
        assert theirs.accept()
        assert path.is_socket()


def test_a_file_in_the_way_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "data.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match=r"`listen: unix:.*` is in use already"), address(Listen(unix=path), "listen"):
        bind(Listen(unix=path))
    assert path.read_text() == "precious"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    listen = Listen(unix=tmp_path / "none" / "data.sock")
    with pytest.raises(StartError, match="No such file or directory"), address(listen, "ops"):
        bind(listen)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_mode_that_was_asked_for_whatever_the_umask(
    tmp_path: Path, mode: int, umask: int
) -> None:
    path = tmp_path / "data.sock"
    before = os.umask(umask)
    try:
        (bound,) = bind(Listen(unix=path), mode)
    finally:
        os.umask(before)
    with bound:
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_at_no_moment_may_others_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between `bind` and `chmod` the file is there already."""
    path, seen = tmp_path / "data.sock", []

    def chmod(file: str, mode: int) -> None:
        seen.append(stat.S_IMODE(os.stat(file).st_mode) & ~mode)

    monkeypatch.setattr("sidecar.listening.os.chmod", chmod)
    before = os.umask(0)
    try:
        (bound,) = bind(Listen(unix=path), 0o600)
    finally:
        os.umask(before)
    bound.close()
    assert seen == [0]


def test_of_several_listeners_none_stays_bound_where_one_can_t_be_had(tmp_path: Path) -> None:
    (taken,) = bind(Listen("127.0.0.1", 0))
    with taken:
        free = ListenerSettings(Listen(unix=tmp_path / "a.sock"), 0o600)
        other = ListenerSettings(Listen("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(StartError, match="is in use already"):
            bind_all([free, other])
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(tmp_path / "a.sock"))
    sockets = bind_all([free, ListenerSettings(Listen("127.0.0.1", 0))])
    assert [len(each) for each in sockets] == [1, 1]
    for (each,) in sockets:
        each.close()


def test_whether_an_address_can_be_had_is_asked_without_letting_a_client_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was let in would be cut off a moment later."""
    (bound,) = bind(Listen("127.0.0.1", 0))
    with bound:
        taken = Listen("127.0.0.1", bound.getsockname()[1])
        monkeypatch.setattr(socket.socket, "listen", lambda *_: pytest.fail("it listened"))
        (said,) = in_the_way([("listen", taken), ("ops", Listen("127.0.0.1", 0))])
    assert str(said).startswith(f"`listen: {taken}` is in use already")
