"""The process's own log: JSON lines on standard error, with every secret taken out before a line leaves (law 7).

It is for the person who runs the process. Who did what is the audit log's matter.
"""

import logging
import sys
import time
import traceback

import msgspec

from sidecar.audit import redact

_ENCODER = msgspec.json.Encoder()


class JsonLines(logging.Formatter):
    """`{"ts", "level", "logger", "msg"}`; of one of several workers its number too, as `"worker"`; and `"exception"`, if any."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redact.text(record.getMessage()),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        if record.exc_info:
            line["exception"] = redact.text("".join(traceback.format_exception(*record.exc_info)))
        return _ENCODER.encode(redact.fit(line, 16384, 64)).decode()


class PlainLines(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return redact.text(super().format(record))


def set_up(level: int = logging.INFO, *, worker: int | None = None) -> None:
    """`worker`: the number of this process among several."""
    handler = logging.StreamHandler(sys.stderr)
    plain = sys.stderr.isatty()
    who = "" if worker is None else f"worker {worker} "
    handler.setFormatter(PlainLines(f"%(levelname)s {who}%(name)s: %(message)s") if plain else JsonLines(worker))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # asyncio and aiohttp say at INFO and below what the audit log says better.
    for noisy in ("asyncio", "aiohttp", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
