"""The process's own log: one JSON object on a line, plain text on a terminal, and no secret in either."""

import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from sidecar import logs
from sidecar.credentials.opaque import TokenFormat
from sidecar.model import PrincipalKind

SECRETS = [
    TokenFormat("asc").mint(PrincipalKind.CI)[1].reveal(),
    TokenFormat("other").mint(PrincipalKind.PERSONAL)[1].reveal(),
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
]
FORMATS = [logs.JsonLines(), logs.PlainLines("%(levelname)s %(name)s: %(message)s")]


def record(message: str, *arguments: object, exception: Exception | None = None) -> logging.LogRecord:
    info = (type(exception), exception, exception.__traceback__) if exception is not None else None
    made = logging.LogRecord("sidecar.test", logging.WARNING, __file__, 1, message, arguments, info)
    made.created, made.msecs = 1_795_000_000.5, 500.0
    return made


def test_a_line_is_one_json_object() -> None:
    line = logs.JsonLines().format(record("policy %s\nis bad", "web.yaml"))
    assert "\n" not in line
    assert json.loads(line) == {
        "ts": "2026-11-18T11:06:40.500Z",
        "level": "warning",
        "logger": "sidecar.test",
        "msg": "policy web.yaml\nis bad",
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_token_gets_into_a_line(form: logging.Formatter, secret: str) -> None:
    try:
        raise ValueError(f"refused: {secret}")
    except ValueError as error:
        said = form.format(record("from %s", f"Bearer {secret}", exception=error))
    assert secret not in said
    assert secret.rpartition("_")[2] not in said
    assert said.count("REDACTED") == 2
    assert "ValueError" in said


def test_an_exception_comes_with_its_trace() -> None:
    try:
        raise KeyError("gone")
    except KeyError as error:
        said = json.loads(logs.JsonLines().format(record("failed", exception=error)))
    assert re.search(r"Traceback .*test_logs\.py.*KeyError: 'gone'", said["exception"], re.DOTALL)


def test_a_line_has_an_end() -> None:
    assert len(logs.JsonLines().format(record("x" * 1_000_000))) < 20_000


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize(("terminal", "form"), [(False, logs.JsonLines), (True, logs.PlainLines)])
def test_who_reads_it_decides_its_form(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, terminal: bool, form: type
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    logs.set_up()
    (handler,) = root.handlers
    assert isinstance(handler.formatter, form)
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr


def test_libraries_speak_up_only_when_something_is_wrong(root: logging.Logger) -> None:
    logs.set_up()
    assert logging.getLogger("sidecar").isEnabledFor(logging.INFO)
    for name in ("aiohttp.access", "asyncio", "sqlalchemy.engine"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
