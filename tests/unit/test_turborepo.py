"""Turborepo: what it asks of a server besides artifacts is answered; errors are JSON; what it sends along comes back."""

import json

import pytest

from sidecar.errors import Refused
from sidecar.model import Action, Permission
from sidecar.profiles import PROFILES, LocalAnswer, Work, turborepo
from sidecar.reasons import REASONS, Reason
from tests.unit.clients import denied, errand, forwarded, header, request, route, statuses

TURBO = PROFILES["turborepo"]
STATUS = """
GET /ws/v8/artifacts/status?slug=ws HTTP/1.1
user-agent: turbo 2.11.11 1.98.0-nightly linux x86_64
content-type: application/json
authorization: Bearer tok-abc
accept: */*
host: 127.0.0.1:18081
"""
GET = """
GET /ws/v8/artifacts/14f7607fa8463799?slug=ws HTTP/1.1
user-agent: turbo 2.11.11 1.98.0-nightly linux x86_64
authorization: Bearer tok-abc
accept: */*
host: 127.0.0.1:18081
"""
EVENTS = """
POST /ws/v8/artifacts/events?slug=ws HTTP/1.1
content-type: application/json
authorization: Bearer tok-abc
accept: */*
host: 127.0.0.1:18081
content-length: 250
"""
PUT = """
PUT /ws/v8/artifacts/14f7607fa8463799?teamId=ws HTTP/1.1
content-type: application/octet-stream
x-artifact-duration: 189
user-agent: turbo 2.11.11 1.98.0-nightly linux x86_64
content-length: 329
authorization: Bearer tok-abc
x-artifact-tag: WeGnh5Cl3G6Axi4zNZl32f8Sy4f1WbgD5ud1UHmoaoU=
x-artifact-sha: a5171c33cca7a328107da3636c7376785e6ecd8a
x-artifact-dirty-hash: 5613f9590bbcd6412f03d42b143edf021d0dd84a5b8a4f4d67a7fe27f4a0e8bb
accept: */*
host: 127.0.0.1:18081
"""
PREFLIGHT = """
OPTIONS /ws/v8/artifacts/14f7607fa8463799?slug=ws HTTP/1.1
user-agent: turbo 2.11.11 1.98.0-nightly linux x86_64
access-control-request-method: PUT
access-control-request-headers: Authorization, Content-Type, User-Agent, x-artifact-duration, x-artifact-tag, x-artifact-sha, x-artifact-dirty-hash
authorization: Bearer tok-abc
accept: */*
host: 127.0.0.1:18081
"""
KEY = "v8/artifacts/14f7607fa8463799"


def test_artifacts() -> None:
    read = errand(GET, route("turborepo"))
    assert (read.actions, read.path) == ((Action(Permission.READ, KEY),), f"/keys/{KEY}?slug=ws")
    written = errand(PUT, route("turborepo"))
    assert written.actions == (Action(Permission.WRITE, KEY, creates=True),)
    assert written.path == f"/keys/{KEY}?teamId=ws"
    assert set(forwarded(written)) == {
        "content-type", "x-artifact-duration", "user-agent", "x-artifact-tag", "x-artifact-sha", "x-artifact-dirty-hash", "accept",
    }  # fmt: skip
    assert read.work is written.work is Work.KEEP_HEADERS


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("slug=ws&x=1", "?slug=ws"),
        ("x=1", ""),
        ("teamId=ws&slug=ws", "?teamId=ws&slug=ws"),
        ("%73lug=ws", "?%73lug=ws"),
        ("Slug=ws&team[]=ws", ""),
        ("a;slug=ws", ""),
    ],
)
def test_parameters_that_reach_the_store(query: str, kept: str) -> None:
    found = errand(GET.replace("slug=ws", query), route("turborepo"))
    assert found.path == f"/keys/{KEY}{kept}"


def test_what_is_asked_of_the_server_itself() -> None:
    status = errand(STATUS, route("turborepo"))
    assert status.actions == (Action(Permission.READ, "v8/artifacts/status"),)
    assert status.work is Work.ANSWER
    assert status.missing is not None
    assert json.loads(status.missing.body) == {"status": "enabled"}
    events = errand(EVENTS, route("turborepo"))
    assert events.actions == (Action(Permission.READ, "v8/artifacts/events"),)
    assert events.work is Work.ANSWER
    query = errand("POST /ws/v8/artifacts?slug=ws HTTP/1.1\ncontent-length: 20", route("turborepo"))
    assert query.actions == (Action(Permission.READ, "v8/artifacts"),)
    assert query.work is Work.QUERY


def test_the_preflight_names_every_header_that_it_asks_for() -> None:
    answer = TURBO.classify(request(PREFLIGHT), route("turborepo"))
    assert isinstance(answer, LocalAnswer)
    (allowed,) = header(answer, "access-control-allow-headers")
    asked = request(PREFLIGHT).headers.values["access-control-request-headers"]
    assert {name.strip().lower() for name in asked.split(",")} <= {
        name.strip().lower() for name in allowed.decode().split(",")
    }
    assert header(answer, "access-control-allow-origin") == []


@pytest.mark.parametrize(
    "line",
    [
        "GET /ws/v8/artifacts",
        "GET /ws/v8/artifacts/",
        "PUT /ws/v8/artifacts/status",
        "PUT /ws/v8/artifacts/events",
        "GET /ws/v8/artifacts/events",
        "DELETE /ws/v8/artifacts/status",
        "POST /ws/v8/artifacts/14f7607fa8463799",
        "POST /ws/v8/artifacts/status",
        "GET /ws/v8/artifacts/14f7607fa8463799.headers",
        "PUT /ws/v8/artifacts/14f7607fa8463799.headers",
        "GET /ws/v2/user",
        "GET /ws/v8/artifacts/a/b",
        "POST /ws/v8",
    ],
)
def test_anything_else_is_unknown(line: str) -> None:
    with pytest.raises(Refused) as refused:
        errand(f"{line} HTTP/1.1", route("turborepo"))
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


def test_every_refusal_is_json() -> None:
    for reason, row in REASONS.items():
        answer = denied("turborepo", "GET", reason)
        error = json.loads(answer.body)["error"]
        assert error["message"] == f"{row.hint} ({reason.value})"
        assert header(answer, "content-type") == [b"application/json"]
        assert header(answer, "sidecar-reason") == [reason.value.encode()]
        assert denied("turborepo", "HEAD", reason).body == b""
    assert json.loads(denied("turborepo", "PUT", Reason.TOKEN_LIMIT).body)["error"]["code"] == "remote_caching_disabled"
    assert json.loads(denied("turborepo", "PUT", Reason.EXISTS).body)["error"]["code"] == "exists"


def test_statuses_are_the_reasons_own() -> None:
    for method in ("GET", "PUT"):
        assert statuses("turborepo", method) == {
            reason: row.status for reason, row in REASONS.items() if row.status >= 400
        }


def test_what_a_store_says() -> None:
    assert {TURBO.answered("PUT", status) for status in (200, 201, 202, 204)} == {200}
    assert {TURBO.answered("PUT", status) for status in (409, 412)} == {Reason.EXISTS}
    assert [TURBO.answered("GET", status) for status in (200, 206, 304, 404, 416)] == [200, 206, 304, 404, 416]
    assert {TURBO.answered("GET", status) for status in (400, 403, 500, 503)} == {Reason.UPSTREAM_ERROR}


def test_a_query_s_body() -> None:
    assert turborepo.hashes(b'{"hashes": ["a", "b", "a"], "more": 1}') == ("a", "b")
    assert turborepo.hashes(b'{"hashes": []}') == ()
    many = json.dumps({"hashes": [f"{number:x}" for number in range(1001)]}).encode()
    for body in (
        b"",
        b"\xff",
        b"{}",
        b'{"hashes": ["a/b"]}',
        b'{"hashes": ["events"]}',
        b'{"hashes": ["a.headers"]}',
        many,
    ):
        with pytest.raises(Refused) as refused:
            turborepo.hashes(body)
        assert refused.value.reason is Reason.MALFORMED_BODY


def test_what_is_told_of_an_artifact() -> None:
    kept = [(b"X-Artifact-Duration", b"205"), (b"x-artifact-tag", b"dGFn")]
    assert turborepo.found(7, kept) == {"size": 7, "taskDurationMs": 205, "tag": "dGFn"}
    assert turborepo.found(None, [(b"x-artifact-duration", b"long")]) == {"size": 0, "taskDurationMs": 0}


def test_answers_of_ours_as_they_are() -> None:
    json_headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
    status = errand(STATUS, route("turborepo")).missing
    events = errand(EVENTS, route("turborepo")).missing
    assert status == LocalAnswer(200, json_headers, b'{"status":"enabled"}')
    assert events == LocalAnswer(200, json_headers, b"{}")
    assert turborepo.answer_to_query({"a": None}) == LocalAnswer(200, json_headers, b'{"a":null}')
    head = errand(STATUS.replace("GET", "HEAD"), route("turborepo"))
    assert head.work is Work.ANSWER
    absent = errand(GET, route("turborepo")).missing
    assert absent is not None
    assert (absent.status, absent.headers) == (404, ((b"content-type", b"application/json"),))
    assert json.loads(absent.body)["error"]["code"] == "not_found"
    assert errand(GET.replace("GET", "HEAD"), route("turborepo")).missing == LocalAnswer(404, absent.headers)


def test_the_preflight_as_it_is() -> None:
    answer = TURBO.classify(request(PREFLIGHT), route("turborepo"))
    assert isinstance(answer, LocalAnswer)
    assert (answer.status, answer.body) == (204, b"")
    assert header(answer, "allow") == [b"GET, HEAD, PUT, POST, DELETE, OPTIONS"]
    assert header(answer, "access-control-allow-methods") == [b"GET, HEAD, PUT, POST, OPTIONS"]
    assert header(answer, "access-control-allow-headers") == [
        b"Authorization, Content-Type, User-Agent, x-artifact-client-ci, x-artifact-client-interactive, "
        b"x-artifact-dirty-hash, x-artifact-duration, x-artifact-sha, x-artifact-tag"
    ]


def test_the_edges_of_what_a_store_says() -> None:
    assert [TURBO.answered("PUT", status) for status in (199, 299, 300, 404)] == [199, 200, 300, 404]
    assert [TURBO.answered("GET", status) for status in (201, 399, 409, 412)] == [
        201,
        399,
        Reason.UPSTREAM_ERROR,
        Reason.UPSTREAM_ERROR,
    ]


def test_the_edges_of_a_query() -> None:
    exactly = json.dumps({"hashes": [f"{number:x}" for number in range(1000)]}).encode()
    assert len(turborepo.hashes(exactly)) == 1000
    with pytest.raises(Refused):
        turborepo.hashes(b'{"hashes": ["\xff"]}')
    assert turborepo.found(1, [(b"x-artifact-duration", b"9" * 15)])["taskDurationMs"] == int("9" * 15)
    assert turborepo.found(1, [(b"x-artifact-duration", b"9" * 16)])["taskDurationMs"] == 0
    assert turborepo.found(1, [])["taskDurationMs"] == 0


def test_artifact_headers_are_named_one_by_one() -> None:
    text = GET + "".join(f"{name}: v\n" for name in sorted(turborepo.ARTIFACT_HEADERS)) + "x-artifact-other: v\n"
    assert set(forwarded(errand(text, route("turborepo")))) == {"user-agent", "accept", *turborepo.ARTIFACT_HEADERS}
    assert {
        "x-artifact-tag", "x-artifact-duration", "x-artifact-sha", "x-artifact-dirty-hash", "x-artifact-client-ci",
        "x-artifact-client-interactive",
    } == turborepo.ARTIFACT_HEADERS  # fmt: skip
    assert errand(GET.replace("slug=ws", "team=ws&slug=ws&teamId=ws"), route("turborepo")).path.endswith(
        "?team=ws&slug=ws&teamId=ws"
    )


def test_an_artifact_s_digest_where_the_route_asks_for_it() -> None:
    at, name = route("turborepo", content_address=True), "a" * 64
    assert errand(f"PUT /ws/v8/artifacts/{name} HTTP/1.1", at).sha256 == name
    assert errand(f"GET /ws/v8/artifacts/{name[1:]} HTTP/1.1", at).sha256 is None
    assert errand(f"PUT /ws/v8/artifacts/{name} HTTP/1.1", route("turborepo")).sha256 is None


def test_several_caches_in_one_workspace() -> None:
    at = route("turborepo")
    assert errand(GET.replace("/ws/", "/ws/linux/"), at).path == f"/keys/linux/{KEY}?slug=ws"
    assert errand(STATUS.replace("/ws/", "/ws/linux/"), at).work is Work.ANSWER
    assert errand("POST /ws/linux/v8/artifacts HTTP/1.1\ncontent-length: 2", at).work is Work.QUERY
