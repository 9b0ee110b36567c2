"""`rate_limits` of the configuration and of a policy, read. Pure.

    rate_limits:
      token: {requests: 6000/m, bytes: 10GiB/h, streams: 32}
      workspace: {requests: 500/s, bytes: 1GiB/s, streams: 256}

A rate says what may be had at once, and in what time as much flows in again: after 6000 requests at once 100 follow each second.
"""

import re
from collections.abc import Mapping
from typing import Final

from sidecar.document import Value
from sidecar.measures import BYTES, SECONDS
from sidecar.model import Quota, Quotas, Rate
from sidecar.yaml_tree import quoted

_ONE: Final = {"": 1}
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})([KMGT]iB|B|)/([smhd])")
STREAMS: Final = 1_000_000


def read_quotas(value: Value) -> Quotas:
    block = value.block()
    return Quotas(
        token=block.get("token", _quota, Quota()),
        workspace=block.get("workspace", _quota, Quota()),
    )


def _quota(value: Value) -> Quota:
    block = value.block()
    return Quota(
        requests=block.get("requests", lambda found: _rate(found, _ONE, "a rate such as 100/s or 6000/m"), None),
        bytes=block.get("bytes", lambda found: _rate(found, BYTES, "a rate such as 100MiB/s or 10GiB/h"), None),
        streams=block.get("streams", lambda found: found.number(1, STREAMS), None),
    )


def _rate(value: Value, units: Mapping[str, int], expected: str) -> Rate | None:
    text = value.text()
    match = _RATE.fullmatch(text)
    if match is None or match[2] not in units:
        if text:
            value.problem(f"expected {expected}, not {quoted(text)}")
        return None
    amount = int(match[1]) * units[match[2]]
    return Rate(amount / SECONDS[match[3]], amount)
