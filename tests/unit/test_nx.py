"""Nx: one key in two spellings, and never a status that fails a build without saying what to do."""

import pytest

from sidecar.errors import Refused
from sidecar.model import Action, Oddity, Permission
from sidecar.profiles import PROFILES, LocalAnswer
from sidecar.reasons import REASONS, Outcome, Reason
from tests.unit.clients import denied, errand, forwarded, header, request, route, statuses

NX = PROFILES["nx"]
GET = """
GET /ws/v1/cache/6609577577089188924 HTTP/1.1
accept: application/octet-stream
authorization: Bearer tok-abc
content-type: application/octet-stream
host: 127.0.0.1:18080
"""
PUT = """
PUT /ws/v1/cache/6609577577089188924 HTTP/1.1
accept: */*
authorization: Bearer tok-abc
content-type: application/octet-stream
host: 127.0.0.1:18080
content-length: 370
"""
KEY = "v1/cache/6609577577089188924"


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (GET, Action(Permission.READ, KEY)),
        (GET.replace("GET", "HEAD"), Action(Permission.READ, KEY)),
        (PUT, Action(Permission.WRITE, KEY, creates=True)),
        (GET.replace("GET", "DELETE"), Action(Permission.DELETE, KEY)),
        (GET.replace("/ws/", "/ws//"), Action(Permission.READ, KEY)),
        (PUT.replace("/ws/", "/ws//"), Action(Permission.WRITE, KEY, creates=True)),
    ],
)
def test_what_it_sends(text: str, action: Action) -> None:
    found = errand(text, route("nx"))
    assert found.actions == (action,)
    assert found.path == f"/keys/{KEY}"
    assert found.sha256 is None
    assert set(forwarded(found)) == {"accept", "content-type"}


def test_several_caches_in_one_workspace() -> None:
    assert errand(GET.replace("/ws/", "/ws/linux/"), route("nx")).path == f"/keys/linux/{KEY}"
    assert errand(GET.replace("/ws/", "/ws//linux/"), route("nx")).actions[0].key == f"linux/{KEY}"


def test_the_root_s_route_and_the_store_s_root() -> None:
    text = GET.replace("/ws/", "/")
    assert errand(text, route("nx", "/", upstream_path="")).path == f"/{KEY}"
    assert errand(GET.replace("/ws/", "/ws//"), route("nx", upstream_path="")).path == f"/{KEY}"


@pytest.mark.parametrize(
    "path",
    [
        "/ws", "/ws/", "/ws/v1/cache", "/ws/v1/cache/", "/ws/v1//cache/1", "/ws///v1/cache/1", "/ws/v1/cache//1", "/ws/v2/cache/1",
        "/ws/v1/cache/1/2", "/ws/v1/cache/1.2", "/ws/v1/cache/a~b", "/ws/V1/cache/1", "/ws/v1/Cache/1", f"/ws/v1/cache/{'1' * 129}",
    ],
)  # fmt: skip
def test_any_other_path_is_unknown(path: str) -> None:
    for method in ("GET", "PUT"):
        with pytest.raises(Refused) as refused:
            NX.classify(request(f"{method} {path} HTTP/1.1"), route("nx"))
        assert refused.value.reason is Reason.UNKNOWN_OPERATION


@pytest.mark.parametrize("method", ["POST", "PATCH", "PROPFIND", "get"])
def test_any_other_method_is_unknown_unless_the_route_teaches_it(method: str) -> None:
    with pytest.raises(Refused) as refused:
        errand(GET.replace("GET", method), route("nx"))
    assert refused.value.reason is Reason.UNKNOWN_OPERATION
    assert errand(GET.replace("GET", method), route("nx", verbs={method: Permission.ADMIN})).actions == (
        Action(Permission.ADMIN, KEY),
    )


def test_what_isn_t_known_is_not_forwarded() -> None:
    text = (
        GET.replace("/ws/v1/cache/6609577577089188924", "/ws/v1/cache/1?x=1&slug=ws")
        + 'X-Anything: 1\nContent-Encoding: gzip\nIf-None-Match: "a"\nRange: bytes=0-1\n'
    )
    found = errand(text, route("nx"))
    assert found.path == "/keys/v1/cache/1"
    assert set(forwarded(found)) == {"accept", "content-type", "if-none-match", "range"}


def test_only_an_empty_segment_is_an_oddity_that_it_has() -> None:
    assert NX.allowed == Oddity.EMPTY_SEGMENT
    assert isinstance(NX.classify(request("OPTIONS /ws HTTP/1.1"), route("nx")), LocalAnswer)


def test_no_refusal_of_a_write_fails_a_build() -> None:
    assert {status for reason, status in statuses("nx", "PUT").items() if reason is not Reason.EXISTS} == {403}
    assert statuses("nx", "PUT")[Reason.EXISTS] == 409


def test_reads_fail_a_build_for_what_the_person_has_to_mend_alone() -> None:
    for reason, status in statuses("nx", "GET").items():
        row = REASONS[reason]
        if row.outcome is Outcome.UNAUTHENTICATED:
            assert status == 401, reason
        elif row.outcome is Outcome.ERROR or row.status in (403, 404, 429):
            assert status == 404, reason
        else:
            assert status == row.status, reason


def test_bodies_are_text_that_the_person_reads() -> None:
    answer = denied("nx", "GET", Reason.EXPIRED, challenge=True)
    assert answer.body == b"The token has expired; create a new one. (expired)\n"
    assert header(answer, "content-type") == [b"text/plain"]
    assert len(header(answer, "www-authenticate")) == 2
    assert header(denied("nx", "PUT", Reason.EXPIRED, challenge=True), "www-authenticate") == []
    assert header(denied("nx", "GET", Reason.VERIFIER_UNAVAILABLE), "retry-after") == []


def test_what_a_store_says_to_a_write() -> None:
    told = {
        status: NX.answered("PUT", status)
        for status in (200, 201, 202, 204, 299, 300, 301, 400, 403, 404, 409, 412, 413, 500, 503, 507)
    }
    assert {status for status, answer in told.items() if answer == 200} == {200, 201, 202, 204, 299}
    assert {status for status, answer in told.items() if answer is Reason.EXISTS} == {409, 412}
    assert {status for status, answer in told.items() if answer is Reason.UPSTREAM_ERROR} == {
        300, 301, 400, 403, 404, 413, 500, 503, 507,
    }  # fmt: skip


def test_what_a_store_says_to_a_read() -> None:
    for method in ("GET", "HEAD"):
        assert [NX.answered(method, status) for status in (200, 206, 304, 404, 416)] == [200, 206, 304, 404, 416]
        assert [NX.answered(method, status) for status in (300, 302, 304, 399)] == [300, 302, 304, 399]
        assert NX.answered(method, 410) == 404
        assert {NX.answered(method, status) for status in (400, 403, 429, 500, 503)} == {Reason.UPSTREAM_ERROR}
    assert NX.answered("DELETE", 204) == 204


def test_an_unread_request_is_refused_as_anybody_s() -> None:
    assert NX.deny(None, Reason.BAD_REQUEST, "hint", False, "").status == 400
