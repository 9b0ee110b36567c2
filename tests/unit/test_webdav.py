"""The WebDAV profile: what each method comes to, of one key and of a tree, and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles import PROFILES, LocalAnswer, Operation
from sidecar.profiles.webdav import Webdav, destination
from sidecar.reasons import REASONS, Reason

WEBDAV = Webdav()
READ, WRITE, DELETE = Permission.READ, Permission.WRITE, Permission.DELETE


def route(path: str = "/dav", **verbs: Permission) -> Route:
    segments = tuple(path.strip("/").split("/")) if path != "/" else ()
    return Route("web", path, segments, "webdav", "artifacts", path, verbs=verbs)


def head(method: str, raw: str = "/dav/a/b", host: str = "cache.example:8080", **values: str) -> Head:
    named = {name.replace("_", "-"): text for name, text in values.items()}
    return Head(method, target.parse(raw), Headers({"host": host, **named}, ()))


def operation(request: Head) -> Operation:
    found = WEBDAV.classify(request, route())
    assert isinstance(found, Operation)
    return found


def refusal(request: Head, at: Route | None = None) -> Reason:
    with pytest.raises(Refused) as refused:
        WEBDAV.classify(request, at or route())
    return refused.value.reason


# --- one key ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "permission", "creates"), [("GET", READ, False), ("HEAD", READ, False), ("PUT", WRITE, True)]
)
def test_what_every_http_client_sends_means_what_it_means_to_plain(
    method: str, permission: Permission, creates: bool
) -> None:
    assert WEBDAV.classify(head(method), route()) == (Action(permission, "a/b", creates=creates),)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (head("PUT", "/dav/a/"), Reason.KEY_REQUIRED),
        (head("PUT", "/dav"), Reason.KEY_REQUIRED),
        (head("PUT", content_range="bytes 0-1/2"), Reason.UNKNOWN_OPERATION),
        (head("PUT", destination="/dav/c"), Reason.UNKNOWN_OPERATION),
        (head("PUT", x_amz_copy_source="/other"), Reason.UNKNOWN_OPERATION),
        (head("PROPFIND", x_copy_from="/other", depth="0"), Reason.UNKNOWN_OPERATION),
        (head("PROPFIND", "/dav/a?_method=DELETE"), Reason.UNKNOWN_OPERATION),
        (head("MKCOL", x_scope_orgid="other"), Reason.WRONG_WORKSPACE),
    ],
)
def test_what_plain_refuses_is_refused_here(request_: Head, reason: Reason) -> None:
    assert refusal(request_) is reason


def test_a_new_collection_is_one_key_named_without_its_slash() -> None:
    for path in ("/dav/a/b", "/dav/a/b/"):
        assert operation(head("MKCOL", path)) == Operation((Action(WRITE, "a/b"),))


@pytest.mark.parametrize("path", ["/dav/a/b", "/dav/a/b/"])
def test_properties_of_one_resource_are_a_read_of_it(path: str) -> None:
    assert operation(head("PROPFIND", path, depth="0")) == Operation((Action(READ, "a/b"),))


# --- trees --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, "1", "infinity", "Infinity"])
def test_a_depth_reads_all_below(depth: str | None) -> None:
    """A missing one is infinity, RFC 4918 §10.2."""
    values = {"depth": depth} if depth is not None else {}
    tree = (Action(READ, "a/b", below=True),)
    assert operation(head("PROPFIND", "/dav/a/b/", **values)) == Operation(tree)
    assert operation(head("PROPFIND", "/dav/a/b", **values)) == Operation(tree, alone=(Action(READ, "a/b"),))
    for root in ("/dav", "/dav/"):
        assert operation(head("PROPFIND", root, **values)) == Operation((Action(READ, "", below=True),))


@pytest.mark.parametrize("values", [{}, {"depth": "0"}, {"depth": "infinity"}])
def test_a_delete_takes_all_below_whatever_depth_says(values: dict[str, str]) -> None:
    tree = (Action(DELETE, "a/b", below=True),)
    assert operation(head("DELETE", "/dav/a/b/", **values)) == Operation(tree)
    assert operation(head("DELETE", "/dav/a/b", **values)) == Operation(tree, alone=(Action(DELETE, "a/b"),))


@pytest.mark.parametrize(("source", "goal"), [("/dav/a", "/dav/b"), ("/dav/a/", "/dav/b/"), ("/dav/a", "/dav/b/")])
def test_move_reads_and_deletes_at_its_source_and_writes_at_its_destination(source: str, goal: str) -> None:
    found = operation(head("MOVE", source, destination=goal))
    assert found.actions == (
        Action(READ, "a", below=True),
        Action(DELETE, "a", below=True),
        Action(WRITE, "b", creates=True, below=True),
    )
    single = (Action(READ, "a"), Action(DELETE, "a"), Action(WRITE, "b", creates=True))
    assert found.alone == (None if goal.endswith("/") else single)
    assert found.destination == target.parse(goal)
    assert found.replaces


@pytest.mark.parametrize("values", [{}, {"depth": "0"}, {"depth": "infinity"}])
def test_copy_reads_and_writes(values: dict[str, str]) -> None:
    found = operation(head("COPY", "/dav/a", destination="http://cache.example:8080/dav/x/b", overwrite="f", **values))
    assert found.actions == (Action(READ, "a", below=True), Action(WRITE, "x/b", creates=True, below=True))
    assert found.alone == (Action(READ, "a"), Action(WRITE, "x/b", creates=True))
    assert not found.replaces


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (head("DELETE", "/dav"), Reason.KEY_REQUIRED),
        (head("DELETE", "/dav/"), Reason.KEY_REQUIRED),
        (head("MOVE", "/dav/", destination="/dav/b"), Reason.KEY_REQUIRED),
        (head("COPY", "/dav/", destination="/dav/b"), Reason.KEY_REQUIRED),
        (head("COPY", "/dav/a", destination="/dav/"), Reason.KEY_REQUIRED),
        (head("PROPFIND", depth="2"), Reason.BAD_HEADER),
        (head("PROPFIND", depth="1,noroot"), Reason.BAD_HEADER),
        (head("PROPFIND", depth=""), Reason.BAD_HEADER),
        (head("MOVE"), Reason.BAD_HEADER),
        (head("DELETE", destination="/dav/b"), Reason.BAD_HEADER),
        (head("PROPFIND", destination="/dav/b"), Reason.BAD_HEADER),
        (head("COPY", destination="/dav/c", overwrite="yes"), Reason.BAD_HEADER),
        (head("DELETE", "/dav/a", if_="(<urn:uuid:x>)"), Reason.BAD_HEADER),
        # the one within the other
        (head("COPY", "/dav/a", destination="/dav/a"), Reason.UNKNOWN_OPERATION),
        (head("MOVE", "/dav/a/", destination="/dav/a/b/"), Reason.UNKNOWN_OPERATION),
        (head("MOVE", "/dav/a/b", destination="/dav/a"), Reason.UNKNOWN_OPERATION),
        (head("COPY", "/dav/%61/b", destination="/dav/a/"), Reason.UNKNOWN_OPERATION),
    ],
)
def test_what_is_incomplete_or_contradicts_itself_is_refused(request_: Head, reason: Reason) -> None:
    if "if-" in request_.headers.values:
        request_.headers.values["if"] = request_.headers.values.pop("if-")
        reason = Reason.UNKNOWN_OPERATION
    assert refusal(request_) is reason


def test_at_a_content_address_nothing_is_copied_and_all_else_is_as_elsewhere() -> None:
    addressed = replace(route(), content_address=True)
    for method in ("COPY", "MOVE"):
        assert refusal(head(method, destination="/dav/c"), addressed) is Reason.UNKNOWN_OPERATION
    for request in (head("DELETE"), head("MKCOL"), head("PROPFIND"), head("PROPFIND", depth="0")):
        assert WEBDAV.classify(request, addressed) == WEBDAV.classify(request, route())


@pytest.mark.parametrize("status", [200, 207, 404, 412, 503])
def test_a_stores_status_is_the_answer(status: int) -> None:
    assert WEBDAV.answered("PUT", status) == status


def test_names_that_begin_alike_do_not_lie_within_each_other() -> None:
    assert operation(head("MOVE", "/dav/a", destination="/dav/ab")).actions[2].key == "ab"
    assert operation(head("MOVE", "/dav/ab/", destination="/dav/a/")).actions[2].key == "a"


# --- where it goes to ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("h", "/dav/b"),
        ("h", "http://h/dav/b"),
        ("h", "https://h/dav/b"),
        ("h", "http://h:80/dav/b"),
        ("h", "https://h:443/dav/b"),
        ("H", "HTTP://h/dav/b"),
        ("h:80", "http://h/dav/b"),
        ("h:443", "https://h/dav/b"),
        ("h:8080", "http://h:8080/dav/b"),
        ("h:8080", "https://h:8080/dav/b"),
        ("[::1]", "http://[::1]:80/dav/b"),
        ("[::1]:8080", "http://[::1]:8080/dav/b"),
    ],
)
def test_a_destination_is_a_path_or_a_url_of_this_host(host: str, text: str) -> None:
    assert destination(head("COPY", host=host, destination=text), route()).raw_path == "/dav/b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.BAD_HEADER),
        ("b", Reason.BAD_HEADER),
        ("../b", Reason.BAD_HEADER),
        ("http://cache.example:8080", Reason.BAD_HEADER),
        ("http://cache.example/dav/b", Reason.BAD_HEADER),
        ("http://cache.example:80800/dav/b", Reason.BAD_HEADER),
        ("http://cache.example:8080@evil/dav/b", Reason.BAD_HEADER),
        ("http://u:p@cache.example:8080/dav/b", Reason.BAD_HEADER),
        ("http://evil/dav/b", Reason.BAD_HEADER),
        ("http://127.0.0.1:3000/dav/b", Reason.BAD_HEADER),
        ("ftp://cache.example:8080/dav/b", Reason.BAD_HEADER),
        ("file:///dav/b", Reason.BAD_HEADER),
        (" /dav/b", Reason.BAD_HEADER),
        ("/dav/b?x=y", Reason.BAD_HEADER),
        ("/dav/b?", Reason.BAD_HEADER),
        ("//evil/dav/b", Reason.BAD_TARGET),
        ("http://cache.example:8080//evil/dav/b", Reason.BAD_TARGET),
        ("/dav/../b", Reason.BAD_TARGET),
        ("/dav/%2e%2e/b", Reason.BAD_TARGET),
        ("/dav/..%2fb", Reason.BAD_TARGET),
        ("/dav/b%2fc", Reason.BAD_TARGET),
        ("/dav/b%00", Reason.BAD_TARGET),
        ("/dav/b#c", Reason.BAD_TARGET),
        ("/dav/b;c", Reason.BAD_TARGET),
        ("/dav/b%3fc", Reason.BAD_TARGET),
        ("/dav/b%252f", Reason.BAD_TARGET),
        ("/dav//b", Reason.BAD_TARGET),
        ("/dav/b c", Reason.BAD_TARGET),
        ("/dav/b\\c", Reason.BAD_TARGET),
        ("/dav/%ff", Reason.BAD_TARGET),
        ("/davx/b", Reason.WRONG_WORKSPACE),
        ("/b", Reason.WRONG_WORKSPACE),
        ("/", Reason.WRONG_WORKSPACE),
        ("/DAV/b", Reason.WRONG_WORKSPACE),
    ],
)
@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_any_other_destination_is_refused(method: str, text: str, reason: Reason) -> None:
    assert refusal(head(method, "/dav/a", destination=text)) is reason


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.sampled_from(["", "/dav/", "http://h/dav/"]),
)
def test_whatever_is_accepted_lies_below_the_route_and_reads_one_way(text: str, start: str) -> None:
    request = head("COPY", "/dav/source", host="h", destination=start + text)
    try:
        found = WEBDAV.classify(request, route())
    except Refused:
        return
    assert isinstance(found, Operation)
    assert found.destination is not None
    assert found.destination.segments[0] == "dav"
    assert (start + text).endswith(found.destination.raw_path)
    assert not found.destination.oddities & ~WEBDAV.allowed


# --- what is not served -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["LOCK", "UNLOCK", "PROPPATCH", "POST", "PATCH", "REPORT", "SEARCH", "propfind", "TRACE", "BIND"]
)
def test_other_methods_are_refused(method: str) -> None:
    assert refusal(head(method)) is Reason.UNKNOWN_OPERATION


def test_a_route_may_name_what_another_method_asks_for() -> None:
    assert WEBDAV.classify(head("REPORT"), route(REPORT=READ)) == Operation((Action(READ, "a/b"),))
    assert WEBDAV.classify(head("PATCH"), route(PATCH=WRITE)) == (Action(WRITE, "a/b", creates=True),)


@pytest.mark.parametrize("method", ["LOCK", "UNLOCK", "PROPPATCH"])
def test_but_not_locks_and_properties(method: str) -> None:
    assert refusal(head(method), route(**{method: WRITE})) is Reason.UNKNOWN_OPERATION


def test_nor_may_it_make_a_tree_one_key() -> None:
    found = WEBDAV.classify(head("DELETE", "/dav/a/"), route(DELETE=READ))
    assert found == Operation((Action(DELETE, "a", below=True),))


def test_options_are_answered_here_and_say_what_is_served() -> None:
    found = WEBDAV.classify(head("OPTIONS"), route())
    assert isinstance(found, LocalAnswer)
    assert found.status == 200
    assert dict(found.headers)[b"dav"] == b"1"
    assert b"LOCK" not in dict(found.headers)[b"allow"]


def test_names_may_be_of_any_script_and_nothing_else_odd() -> None:
    assert WEBDAV.allowed == Oddity.NON_ASCII


# --- refusals ---------------------------------------------------------------------------------------------------------------------


def denied(request: Head, reason: Reason, challenge: bool = False) -> int:
    return WEBDAV.deny(request, reason, REASONS[reason].hint, challenge, "web").status


def test_a_key_that_is_there_is_no_folder_that_is_missing() -> None:
    """Which is what a 409 to a PUT says (RFC 4918 §9.7.1)."""
    for method in ("PUT", "MOVE", "COPY"):
        assert denied(head(method, "/dav/cache/x"), Reason.EXISTS) == 412
    assert PROFILES["plain"].deny(head("PUT", "/dav/x"), Reason.EXISTS, "hint", False, "web").status == 409


def test_sccache_s_own_probe_is_no_key_that_could_be_replaced() -> None:
    """Else `write_once` would let the first server write, and none after it."""
    assert WEBDAV.classify(head("PUT", "/dav/cache/.sccache_check"), route()) == (
        Action(WRITE, "cache/.sccache_check"),
    )
    for other in ("/dav/cache/x.sccache_check", "/dav/cache/.sccache_check/x", "/dav/cache/%2esccache_check"):
        (action,) = WEBDAV.classify(head("PUT", other), route())  # type: ignore[misc, union-attr]
        assert action.creates


def test_sccaches_first_question_is_a_miss_where_reading_is_refused_and_in_an_outage() -> None:
    """Anything else ends the build that asks."""
    check = head("GET", "/dav/cache/.sccache_check")
    assert denied(check, Reason.NO_RULE) == 404
    assert denied(check, Reason.BAD_TOKEN, challenge=True) == 401
    for outage in (Reason.UPSTREAM_UNREACHABLE, Reason.VERIFIER_UNAVAILABLE, Reason.AUDIT_UNAVAILABLE):
        assert denied(check, outage) == 404
        assert denied(head("GET", "/dav/cache/x"), outage) in (502, 503)
    assert denied(head("PUT", "/dav/cache/.sccache_check"), Reason.NO_RULE) == 403
    assert denied(head("GET", "/dav/cache/x.sccache_check"), Reason.NO_RULE) == 403
    assert WEBDAV.deny(None, Reason.BAD_REQUEST, "hint", False, "").status == 400
