"""Ids of records and of requests: they sort by time, and no two are the same."""

import itertools
import secrets

_COUNT = itertools.count(secrets.randbits(26))
_TAIL = f"{secrets.randbits(48):012x}"
_moment = _variant = (-1, "")
_LOW = tuple(f"-7{count:03x}-" for count in range(1 << 12))


def record_id(now: float) -> str:
    """A UUIDv7 (RFC 9562 §5.7), so that ids sort by time: milliseconds, a counter of 26 bits (§6.2), and 48 bits of chance that
    are this process's own. Ids must not collide; nobody has to be unable to guess them. `now` in Unix seconds."""
    global _moment, _variant
    count, milliseconds = next(_COUNT), int(now * 1000)
    moment, variant = _moment, _variant
    # Each is one assignment of a pair: the loop and the writer's thread both come here.
    if moment[0] != milliseconds:
        text = f"{milliseconds >> 16 & 0xFFFFFFFF:08x}-{milliseconds & 0xFFFF:04x}"
        moment = _moment = milliseconds, text
    if variant[0] != count >> 12:
        variant = _variant = count >> 12, f"{0x8000 | count >> 12 & 0x3FFF:04x}-{_TAIL}"
    return moment[1] + _LOW[count & 0xFFF] + variant[1]
