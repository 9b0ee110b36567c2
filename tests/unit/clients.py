"""Requests of real clients, verbatim from what they sent, as profiles read them."""

from typing import Any

from sidecar import headers, target
from sidecar.model import Head
from sidecar.policy.compiled import Route
from sidecar.profiles import PROFILES, Errand, LocalAnswer
from sidecar.reasons import REASONS, Reason


def request(text: str) -> Head:
    """A request line and header lines, as they were sent."""
    line, *lines = text.strip().splitlines()
    method, raw, _ = line.split(" ")
    pairs = [(name.strip(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("Host", "127.0.0.1"))
    raw_headers = [(name.encode(), value.encode()) for name, value in pairs]
    return Head(method, target.parse(raw), headers.read(raw_headers, secret_names=frozenset(), set_names=frozenset()))


def route(client: str, path: str = "/ws", **more: Any) -> Route:
    segments = tuple(path.strip("/").split("/")) if path != "/" else ()
    return Route("ws", path, segments, client, "store", more.pop("upstream_path", "/keys"), **more)


def errand(text: str, at: Route) -> Errand:
    """What a request comes to that is no answer of ours."""
    found = PROFILES[at.client].classify(request(text), at)
    assert isinstance(found, Errand)
    return found


def forwarded(of: Errand) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in of.forward}


def denied(client: str, method: str, reason: Reason, *, challenge: bool = False) -> LocalAnswer:
    return PROFILES[client].deny(request(f"{method} /ws/a HTTP/1.1"), reason, REASONS[reason].hint, challenge, "ws")


def statuses(client: str, method: str) -> dict[Reason, int]:
    """What a client gets for each reason that is a refusal; a 401 where the reason asks for a token."""
    return {
        reason: denied(client, method, reason, challenge=row.status == 401).status
        for reason, row in REASONS.items()
        if row.status >= 400
    }


def header(answer: LocalAnswer, name: str) -> list[bytes]:
    return [value for key, value in answer.headers if key == name.encode()]
