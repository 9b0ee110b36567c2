"""The process's own log: one line of JSON for each event, and no secret in it, wherever it hides (law 7)."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar import logs

PAT = "asc_pat_" + "a" * 12 + "_" + "B" * 49
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("sidecar.x").warning("two\nlines and %s", "é")
    (line,) = lines(capsys)
    assert line.keys() == {"ts", "level", "logger", "msg"}
    assert (line["level"], line["logger"]) == ("warning", "sidecar.x")
    assert "lines and" in line["msg"]
    assert line["ts"].endswith("Z")
    assert len(line["ts"]) == len("2026-01-01T00:00:00.000Z")


def test_a_workers_lines_carry_its_number(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    logs.set_up(worker=0)
    logging.getLogger("sidecar.x").warning("ready")
    assert [(line["worker"], line["msg"]) for line in lines(capsys)] == [(0, "ready")]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.set_up(worker=0)
    logging.getLogger("sidecar.x").warning("ready")
    assert capsys.readouterr().err == "WARNING worker 0 sidecar.x: ready\n"


@pytest.mark.parametrize("secret", [PAT, JWT])
@pytest.mark.parametrize("tty", [False, True])
def test_a_token_never_leaves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, secret: str, tty: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    logs.set_up()
    log = logging.getLogger("sidecar.x")
    log.error("in the text %s, in an argument %s" % (secret, "x"))  # noqa: UP031 (what a careless caller does)
    log.error("in an argument: %s", secret)
    log.error("in an argument's repr: %r", {"token": [secret]})
    try:
        raise ValueError(f"in an exception: {secret}") from KeyError(secret)
    except ValueError:
        log.exception("failed")
    written = capsys.readouterr().err
    assert written.count("in an") >= 4
    assert "ValueError" in written
    assert secret not in written
    assert secret[-30:] not in written


def test_an_exception_is_told_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("sidecar.x").exception("failed")
    (line,) = lines(capsys)
    assert line["msg"] == "failed"
    assert "ValueError: a bug" in line["exception"]
    assert "test_logs.py" in line["exception"]


def test_a_line_has_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger("sidecar.x").error("x" * 1_000_000)
    (line,) = lines(capsys)
    assert len(json.dumps(line)) < 20_000


def test_libraries_speak_only_of_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    for name in ("asyncio", "aiohttp.access", "sqlalchemy.engine"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    logging.getLogger("sidecar.x").info("news")
    logging.getLogger("sidecar.x").debug("detail")
    assert [line["msg"] for line in lines(capsys)] == ["trouble"] * 3 + ["news"]


def test_it_is_set_up_once_however_often_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.set_up()
    logging.getLogger("sidecar.x").info("once")
    assert len(lines(capsys)) == 1
