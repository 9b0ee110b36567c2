"""Law 12: a store's answer can't act on our origin, on a proxy or on a shared cache, and can't lead out of the route."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import answers, mapping
from sidecar.errors import Refused
from sidecar.headers import fold
from sidecar.model import Oddity
from sidecar.policy.compiled import Route
from sidecar.reasons import Reason

Line = tuple[bytes, bytes]
NOSNIFF = (b"x-content-type-options", b"nosniff")
SANDBOX = (b"content-security-policy", b"default-src 'none'; sandbox")
PRIVATE = (b"cache-control", b"private")
ORIGINS = ("http://127.0.0.1:3000",)


def kept(*lines: Line, public: bool = False) -> list[Line]:
    """What is left of the store's own headers."""
    filtered = answers.filter_headers(lines, public=public)
    assert filtered[-2:] == [NOSNIFF, SANDBOX]
    if public:
        return filtered[:-2]
    assert filtered[-3][0] == b"cache-control"
    return filtered[:-3]


DROPPED = (
    "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length",
    "WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Proxy-Authentication-Info",
    "Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins",
    "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Max-Age", "Service-Worker-Allowed",
    "Public-Key-Pins-Report-Only", "Expect-CT", "Origin-Agent-Cluster", "Feature-Policy", "Document-Policy", "Surrogate-Key",
    "Report-To", "Reporting-Endpoints", "NEL", "Refresh", "Accept-CH", "Permissions-Policy",
    "Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy",
    "Content-Security-Policy", "Content-Security-Policy-Report-Only", "X-Content-Type-Options", "Sidecar-Reason",
    "X-Accel-Redirect", "X-Accel-Expires", "X-Sendfile", "X-LIGHTTPD-send-file",
    "Surrogate-Control", "CDN-Cache-Control", "Cloudflare-CDN-Cache-Control",
)  # fmt: skip

KEPT: tuple[Line, ...] = (
    (b"Content-Type", b"text/html"), (b"ETag", b'"a"'), (b"Last-Modified", b"Sun, 22 Nov 2026 06:00:00 GMT"),
    (b"Content-Range", b"bytes 0-1/2"), (b"Accept-Ranges", b"bytes"), (b"Content-Encoding", b"gzip"), (b"Vary", b"Accept"),
    (b"Server", b"nginx"), (b"Date", b"Sun, 22 Nov 2026 06:00:00 GMT"), (b"Content-Disposition", b'attachment; filename="\xe9"'),
    (b"x-artifact-tag", b"a"), (b"x-a", b"a\tb"), (b"Age", b"1"), (b"Vary", b"Origin"), (b"Allow", b"GET"),
    (b"X" * 65, b"a"),
)  # fmt: skip


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("name", DROPPED)
def test_dropped(name: str, public: bool) -> None:
    for spelling in (name, name.lower(), name.upper(), name.replace("-", "_")):
        assert kept((spelling.encode(), b"x"), KEPT[0], public=public) == [KEPT[0]]


def test_the_rest_is_kept_as_it_came_in_its_order() -> None:
    assert kept(*KEPT) == list(KEPT)


def test_what_connection_names_is_dropped() -> None:
    assert kept((b"Connection", b"close, x-hop"), (b"X-Hop", b"1"), KEPT[0]) == [KEPT[0]]


def test_only_connection_names_other_headers() -> None:
    lines = [(b"Keep-Alive", b"x-a"), (b"Set-Cookie", b"x-a"), (b"Connection", b"close"), (b"X-A", b"1")]
    assert kept(*lines) == [lines[-1]]


def test_an_answer_without_headers_still_gets_ours() -> None:
    assert answers.filter_headers([], public=True) == [NOSNIFF, SANDBOX]
    assert answers.filter_headers([], public=False) == [PRIVATE, NOSNIFF, SANDBOX]


@pytest.mark.parametrize(
    "line",
    [
        (b"X", b"a\nb"),
        (b"X", b"a\rb"),
        (b"X", b"\0"),
        (b"X", b"\x7f"),
        (b"X Y", b""),
        (b"", b""),
        (b"X\r\nSet-Cookie", b""),
    ],
)
def test_what_is_no_header_breaks_the_answer(line: Line) -> None:
    with pytest.raises(Refused) as refused:
        answers.filter_headers([KEPT[0], line], public=True)
    assert refused.value.reason is Reason.UPSTREAM_BROKEN


def test_a_value_is_printable_bytes_tabs_and_what_older_charsets_say() -> None:
    def passes(byte: int) -> bool:
        try:
            return kept((b"X-A", bytes([byte]))) == [(b"X-A", bytes([byte]))]
        except Refused:
            return False

    assert [byte for byte in range(256) if not passes(byte)] == [*range(0x09), *range(0x0A, 0x20), 0x7F]


def test_an_answers_headers_have_a_largest_size() -> None:
    half = (b"X-A", b"a" * (32 * 1024))
    assert kept(half, half) == [half, half]
    with pytest.raises(Refused) as refused:
        kept(half, half, (b"X-B", b"b"))
    assert refused.value.reason is Reason.UPSTREAM_BROKEN


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("", "private"),
        ("public", "private"),
        ("private", "private"),
        ("no-store", "private, no-store"),
        ("public, max-age=60", "private, max-age=60"),
        ("s-maxage=60", "private"),
        ("s-maxage=60, max-age=5, immutable", "private, max-age=5, immutable"),
        ("MAX-AGE=5, No-Cache", "private, max-age=5, no-cache"),
        ('private="set-cookie"', "private"),
        ('no-cache="x", must-revalidate', "private, no-cache, must-revalidate"),
        ("max-age=5, max-age=5", "private, max-age=5"),
        ("x-max-age=5, max-age-x=5, max-age=5x, max-age=99999999999", "private"),
        ("stale-while-revalidate=60, no-transform", "private, no-transform"),
        ("\xe9", "private"),
    ],
)
def test_no_shared_cache_keeps_what_only_some_may_read(said: str, becomes: str) -> None:
    filtered = answers.filter_headers([(b"Cache-Control", said.encode("latin-1"))], public=False)
    assert filtered == [(b"cache-control", becomes.encode()), NOSNIFF, SANDBOX]


def test_cache_control_on_several_lines_is_one() -> None:
    lines = [(b"cache-control", b"no-store"), (b"Cache-Control", b"public, max-age=1")]
    assert answers.filter_headers(lines, public=False)[0] == (b"cache-control", b"private, no-store, max-age=1")


def test_what_anonymous_may_read_is_cached_as_the_store_says() -> None:
    assert kept((b"Cache-Control", b"public, s-maxage=60"), public=True) == [(b"Cache-Control", b"public, s-maxage=60")]


@given(
    st.lists(
        st.tuples(st.sampled_from([*DROPPED, "Cache-Control", "X-A"]).map(str.encode), st.binary(max_size=8)),
        max_size=5,
    )
)
def test_whatever_the_store_says_nothing_of_it_acts_on_others(lines: Sequence[Line]) -> None:
    try:
        filtered = answers.filter_headers(lines, public=False)
    except Refused as refused:
        if refused.reason is not Reason.UPSTREAM_BROKEN:
            raise
        return
    names = [fold(name.decode()) for name, _ in filtered]
    assert set(names) <= {"x-a", "cache-control", "x-content-type-options", "content-security-policy"}
    assert names.count("cache-control") == 1
    assert dict(filtered)[b"cache-control"].startswith(b"private")


def test_a_store_that_asks_for_credentials_speaks_to_us() -> None:
    assert {401, 407} == answers.STORE_REFUSED_US


def route(path: str = "/web", upstream_path: str = "/store/web") -> Route:
    segments = tuple(path.strip("/").split("/")) if path != "/" else ()
    return Route("web", path, segments, "plain", "artifacts", upstream_path)


@pytest.mark.parametrize(
    ("location", "mapped"),
    [
        ("/store/web/a", "/web/a"),
        ("/store/web?x=y", "/web?x=y"),
        ("/store/web/a/", "/web/a/"),
        ("/store/web", "/web"),
        ("/store/web/", "/web/"),
        ("/store/web/a%20b?x=%2f", "/web/a%20b?x=%2f"),
        ("http://127.0.0.1:3000/store/web/a", "/web/a"),
        ("HTTP://127.0.0.1:3000/store/web/a", "/web/a"),
        ("/store/w%65b/a", "/web/a"),
    ],
)
def test_a_redirect_within_the_route_is_mapped_to_what_the_client_knows(location: str, mapped: str) -> None:
    assert mapping.to_client(route(), location, origins=ORIGINS) == mapped


@pytest.mark.parametrize(
    ("path", "upstream_path", "location", "mapped"),
    [
        ("/", "", "/a/b", "/a/b"),
        ("/", "", "/", "/"),
        ("/", "/web", "/web", "/"),
        ("/", "/web", "/web/a", "/a"),
        ("/web", "", "/a", "/web/a"),
        ("/web", "", "/", "/web/"),
        ("/a/b", "/c", "/c/d?e", "/a/b/d?e"),
    ],
)
def test_routes_and_store_paths_of_every_depth(path: str, upstream_path: str, location: str, mapped: str) -> None:
    assert mapping.to_client(route(path, upstream_path), location, origins=ORIGINS) == mapped


LEAVES = (
    "", "/", "/store", "/store/", "/store/other", "/store/webx", "/store/web2/a", "/other", "/web/a", "//evil.example/a",
    "///evil.example", "/\\evil.example", "\\\\evil.example", "/store/web\\..\\x", "/store/web/../other", "/store/web/./a",
    "/store/web/%2e%2e/x", "/store/web/..%2fx", "/store/web/..;/x", "/store/web//a", "/store/web/a%2fb", "/store/web/a;b",
    "/store/web/a%00", "/store/web/a b", "/store/web/a#b", "/store/web/%", "/store/web/\xe9", "/store//web/a", "/store/web/a?b#c",
    "/STORE/WEB/a", "http://evil.example/store/web/a", "https://127.0.0.1:3000/store/web/a", "http://127.0.0.1/store/web/a",
    "http://127.0.0.1:30000/store/web/a", "http://127.0.0.1:3000@evil.example/store/web/a", "http://127.0.0.1:3000.evil.example/store/web",
    "http://127.0.0.1:3000", "http://127.0.0.1:3000?x", "http://127.0.0.1:3000\\store\\web", "http://127.0.0.1:3000//store/web/a",
    "http:/store/web/a", "http:store/web/a", "http:///store/web/a", "http://user@127.0.0.1:3000/store/web/a", "store/web/a", "a", "./a",
    "../web/a", "?x", "#x", "javascript:alert(1)", "data:text/html,x", "file:///store/web/a", " /store/web/a", "\t/store/web/a",
    "\r\n/store/web/a", "//127.0.0.1:3000/store/web/a",
)  # fmt: skip


@pytest.mark.parametrize("location", LEAVES)
def test_every_other_redirect_leaves(location: str) -> None:
    assert mapping.to_client(route(), location, origins=ORIGINS) is None


def test_each_of_a_stores_origins_is_its_own_even_where_one_begins_like_another() -> None:
    origins = ("http://store", "http://store:80")
    for origin in origins:
        assert mapping.to_client(route(), f"{origin}/store/web/a", origins=origins) == "/web/a"
        assert mapping.to_client(route(), f"{origin}00/store/web/a", origins=origins) is None


def test_a_profile_may_allow_odd_paths_in_a_redirect_too() -> None:
    mapped = mapping.to_client(route(), "/store/web/a%2fb", origins=ORIGINS, allowed=Oddity.ENCODED_SLASH)
    assert mapped == "/web/a%2fb"


@given(st.text(max_size=20), st.sampled_from(["", "/store/web", "/store/web/", "http://127.0.0.1:3000/store/web/"]))
def test_a_mapped_redirect_is_always_below_the_route(tail: str, start: str) -> None:
    mapped = mapping.to_client(route(), start + tail, origins=ORIGINS)
    assert mapped is None or mapped.split("?")[0] == "/web" or mapped.startswith(("/web/", "/web?"))


def rules(*, pass_redirects: bool = False, public: bool = False) -> answers.AnswerRules:
    return answers.AnswerRules(route(), ORIGINS, public, pass_redirects)


def passed_on(status: int, *lines: Line, pass_redirects: bool = False) -> list[Line]:
    return answers.passed_on(rules(pass_redirects=pass_redirects), status, lines)[:-3]


@pytest.mark.parametrize("status", [401, 407])
def test_a_store_that_refuses_our_credential_has_not_refused_the_client(status: int) -> None:
    with pytest.raises(Refused) as refused:
        passed_on(status, (b"WWW-Authenticate", b"Basic"))
    assert refused.value.reason is Reason.UPSTREAM_CREDENTIALS


@pytest.mark.parametrize("status", [201, 300, 301, 302, 303, 307, 308, 399])
def test_a_location_within_the_route_is_mapped(status: int) -> None:
    lines = [(b"X-A", b"1"), (b"location", b"/store/web/a"), (b"X-B", b"2")]
    assert passed_on(status, *lines) == [(b"X-A", b"1"), (b"location", b"/web/a"), (b"X-B", b"2")]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize("name", [b"Location", b"LOCATION", b"location"])
def test_a_redirect_that_leaves_is_refused_unless_the_upstream_says_otherwise(status: int, name: bytes) -> None:
    line = (name, b"http://evil.example/")
    with pytest.raises(Refused) as refused:
        passed_on(status, line)
    assert refused.value.reason is Reason.UPSTREAM_REDIRECT
    assert passed_on(status, line, pass_redirects=True) == [line]


@pytest.mark.parametrize("status", [200, 202, 299, 400, 404])
def test_a_location_that_nobody_follows_stays_as_it_is(status: int) -> None:
    line = (b"Location", b"http://evil.example/")
    assert passed_on(status, line) == [line]


def test_where_a_created_object_is_that_the_client_can_not_reach_is_not_said() -> None:
    assert passed_on(201, (b"Location", b"/elsewhere"), (b"X-A", b"1"), pass_redirects=True) == [(b"X-A", b"1")]


@pytest.mark.parametrize("status", [200, 201, 204, 206, 302, 304, 404, 500])
def test_whose_token_ends_soon_is_told_so_and_a_store_can_not_say_it(status: int) -> None:
    lines = [(b"Sidecar-Token-Expires", b"never"), (b"sidecar_token.expires", b"never"), (b"X-A", b"1")]
    told = answers.AnswerRules(route(), ORIGINS, False, False, expiry_notice=b"2027-01-15T08:00:00Z")
    notice = (b"sidecar-token-expires", b"2027-01-15T08:00:00Z")
    assert answers.passed_on(told, status, lines) == [lines[2], PRIVATE, NOSNIFF, SANDBOX, notice]
    assert answers.passed_on(rules(), status, lines) == [lines[2], PRIVATE, NOSNIFF, SANDBOX]


@pytest.mark.parametrize("status", [200, 204, 206, 304, 404, 409, 500])
def test_other_answers_are_held_to_the_same_laws(status: int) -> None:
    lines = [(b"Set-Cookie", b"a=b"), (b"X-A", b"1")]
    assert answers.passed_on(rules(), status, lines) == [lines[1], PRIVATE, NOSNIFF, SANDBOX]
    assert answers.passed_on(rules(public=True), status, lines) == [lines[1], NOSNIFF, SANDBOX]


NAMES = [b"Server", b"Date", b"Content-Type", b"content-type", b"ETag", b"X-A", b"Connection", b"Cache-Control", b"Location",
         b"Set-Cookie", b"Content-Length", b"Vary", b"X" * 65, b"bad name"]  # fmt: skip
VALUES = [b"", b"a", b"nginx/1.22", b"close", b"keep-alive", b"X-A", b"no-store", b"/upstream/x", b"\x00", b"\r\n", b"\xff", b"y" * 65,
          b"z" * 9000]  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=12),
    st.sampled_from([200, 201, 206, 302, 304, 401, 404, 500]),
    st.booleans(),
    st.sampled_from([b"", b"2027-01-15T08:00:00Z"]),
)
def test_lines_are_what_is_passed_on_as_it_is_written(
    raw: list[Line], status: int, public: bool, notice: bytes
) -> None:
    held = answers.AnswerRules(route(), ORIGINS, public, False, expiry_notice=notice)
    for _ in range(2):  # the second time much of it is known
        try:
            expected: bytes | Reason = b"".join(b"%b: %b\r\n" % pair for pair in answers.passed_on(held, status, raw))
        except Refused as refusal:
            expected = refusal.reason
        try:
            said: bytes | Reason = answers.lines(held, status, raw)
        except Refused as refusal:
            said = refusal.reason
        assert said == expected


@pytest.mark.parametrize("value", [b"a\0", b"a\r\nX: b", b"\x7f"])
def test_no_line_is_known_that_is_no_header(value: bytes) -> None:
    held = answers.AnswerRules(route(), ORIGINS, False, False)
    for _ in range(2):
        with pytest.raises(Refused):
            answers.lines(held, 200, [(b"Server", value)])


def test_lines_that_a_store_invents_do_not_pile_up() -> None:
    held = answers.AnswerRules(route(), ORIGINS, False, False)
    for number in range(5000):
        answers.lines(held, 200, [(b"Server", b"%d" % number), (b"ETag", b"%d" % number)])
    assert len(answers._known_lines) <= 1024
