"""Gradle's build cache: one hash below any path, and 413 for a key that is there."""

import pytest

from sidecar.errors import Refused
from sidecar.model import Action, Permission
from sidecar.profiles import PROFILES
from sidecar.reasons import REASONS, Reason
from tests.unit.clients import denied, errand, forwarded, route, statuses

KEY = "360566a6089c428c9e1dfa44902419f3"
GET = f"""
GET /ws/cache/{KEY} HTTP/1.1
Accept: application/vnd.gradle.build-cache-artifact.v1, */*
X-Gradle-Version: 4.4.1
Host: 127.0.0.1:18087
Connection: Keep-Alive
User-Agent: Gradle/4.4.1 (Linux;KERNEL;amd64) (Debian;17.0.15;17.0.15+6-Debian-1deb12u1)
Accept-Encoding: gzip,deflate
Authorization: Basic YWNtZS13ZWI6dG9rLWFiYw==
"""
PUT = f"""
PUT /ws/cache/{KEY} HTTP/1.1
Content-Type: application/vnd.gradle.build-cache-artifact.v1
X-Gradle-Version: 4.4.1
Content-Length: 441
Host: 127.0.0.1:18087
Connection: Keep-Alive
Accept-Encoding: gzip,deflate
Authorization: Basic YWNtZS13ZWI6dG9rLWFiYw==
"""


def test_what_it_sends() -> None:
    read = errand(GET, route("gradle"))
    assert (read.actions, read.path) == ((Action(Permission.READ, f"cache/{KEY}"),), f"/keys/cache/{KEY}")
    assert set(forwarded(read)) == {"accept", "x-gradle-version", "user-agent", "accept-encoding"}
    written = errand(PUT, route("gradle"))
    assert written.actions == (Action(Permission.WRITE, f"cache/{KEY}", creates=True),)


def test_what_it_shows_of_an_answer_says_what_to_do() -> None:
    for reason, row in REASONS.items():
        phrase = denied("gradle", "PUT", reason, challenge=row.status == 401).phrase
        assert phrase is not None
        assert phrase.decode().isprintable()
        assert phrase.isascii()
        assert phrase.endswith(f" ({reason.value})".encode())
    assert denied("gradle", "GET", Reason.REVOKED, challenge=True).phrase == (
        b"The token has been revoked; create a new one. (revoked)"
    )


@pytest.mark.parametrize("path", ["", "a/", "a.b", "cache//x", "a~b"])
def test_anything_else_is_unknown(path: str) -> None:
    with pytest.raises(Refused) as refused:
        errand(f"GET /ws/{path} HTTP/1.1", route("gradle"))
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


def test_a_key_that_is_there_does_not_turn_the_cache_off() -> None:
    for method in ("GET", "PUT"):
        found = statuses("gradle", method)
        assert found.pop(Reason.EXISTS) == 413
        assert found == {
            reason: row.status
            for reason, row in REASONS.items()
            if row.status >= 400 and reason is not Reason.EXISTS
        }  # fmt: skip
    assert {PROFILES["gradle"].answered("PUT", status) for status in (409, 412)} == {Reason.EXISTS}
    assert [PROFILES["gradle"].answered("GET", status) for status in (200, 404, 409, 412, 503)] == [
        200,
        404,
        409,
        412,
        503,
    ]
