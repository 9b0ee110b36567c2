"""Law 2: what decides is there once; what a store must not believe never reaches it, however it is spelled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import headers
from sidecar.errors import Refused
from sidecar.model import Headers
from sidecar.reasons import Reason
from tests.corpus.headers import BASE, DANGEROUS, DECIDING, FORWARDED, NOT_FORWARDED, REFUSED_LINES, Line

SECRETS = frozenset({b"x-cache-token"})
SET = frozenset({"x-store-key"})


def read(*lines: Line) -> Headers:
    return headers.read(lines, secret_names=SECRETS, set_names=SET)


def refusal(*lines: Line) -> Reason:
    with pytest.raises(Refused) as refused:
        read(*lines)
    return refused.value.reason


def outcome(lines: list[Line]) -> Headers | Reason:
    try:
        return read(*BASE, *lines)
    except Refused as refused:
        return refused.reason


def test_refused() -> None:
    """Hundreds of lines, so one test with all that went wrong instead of one test each."""
    got = {name: outcome(lines) for name, lines in REFUSED_LINES.items()}
    assert {name: what for name, what in got.items() if what is not Reason.BAD_HEADER} == {}


def test_not_forwarded() -> None:
    got = {name: outcome(lines) for name, lines in NOT_FORWARDED.items()}
    assert {
        name: what for name, what in got.items() if not isinstance(what, Headers) or what.forward != (BASE[1],)
    } == {}


@pytest.mark.parametrize("lines", FORWARDED.values(), ids=FORWARDED.keys())
def test_forwarded_as_it_came(lines: list[Line]) -> None:
    assert read(*BASE, *lines).forward == (BASE[1], *lines)


@pytest.mark.parametrize(
    "host", ["", "a b", "a,b", "a/b", "user@a", "a:b", "a:123456", "[::1", "a#b", "http://a", "a\\b"]
)
def test_a_host_must_be_a_host(host: str) -> None:
    assert refusal((b"Host", host.encode())) is Reason.BAD_HEADER


@pytest.mark.parametrize("host", ["a", "cache.example.com:8080", "127.0.0.1:1", "[::1]:8080", "under_score"])
def test_hosts(host: str) -> None:
    assert read((b"Host", host.encode())).values == {"host": host}


def test_no_host_is_refused() -> None:
    assert refusal() is Reason.BAD_HEADER
    assert refusal(BASE[1]) is Reason.BAD_HEADER


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_upgrade_is_refused_by_name(name: bytes) -> None:
    assert refusal(*BASE, (name, b"h2c")) is Reason.UPGRADE_REFUSED


def test_what_the_program_reads_is_there_in_lower_case() -> None:
    values = read(*BASE, (b"AUTHORIZATION", b"Bearer x"), (b"x-cache-Token", b"y"), (b"Content-Length", b"5")).values
    assert values == {
        "host": "cache.example.com",
        "user-agent": "curl/8",
        "authorization": "Bearer x",
        "x-cache-token": "y",
        "content-length": "5",
    }


@pytest.mark.parametrize("name", ["Cookie", "X-Forwarded-For", "X-HTTP-Method-Override", "X-Store-Key", "X-Auth-User"])
def test_what_no_decision_may_read_is_not_there(name: str) -> None:
    assert read(*BASE, (name.encode(), b"x")).values.keys() == {"host", "user-agent"}


def test_an_alias_is_never_read_under_the_name_that_it_imitates() -> None:
    values = read(*BASE, (b"X_Cache_Token", b"x"), (b"Content_Length", b"5"), (b"X.Amz.Copy.Source", b"y")).values
    assert values.keys() == {"host", "user-agent"}


def test_an_imitation_is_held_to_the_bytes_of_what_it_imitates() -> None:
    assert refusal(*BASE, (b"Content_Length", b"5\xe9")) is Reason.BAD_HEADER
    assert refusal(*BASE, (b"X_Cache_Token", b"a\tb")) is Reason.BAD_HEADER


def test_what_s3_clients_name_themselves_is_spelled_as_they_like() -> None:
    """`Metadata={"built_by": ...}` is a header with an underscore, which the client has signed."""
    own = [(b"x-amz-meta-built_by", b"ci"), (b"X-Amz-Meta-v1.2", b"x"), (b"x-amz-meta-built-by", b"another")]
    read_ = read(*BASE, *own)
    assert {name: read_.values[name] for name in read_.values if name.startswith("x-amz-")} == {
        "x-amz-meta-built_by": "ci",
        "x-amz-meta-v1.2": "x",
        "x-amz-meta-built-by": "another",
    }
    assert read_.forward == (BASE[1], *own)
    assert read(*BASE, (b"x_amz_meta_k", b"x")).forward == (BASE[1],)


def test_lines_of_one_list_are_one_header() -> None:
    """AWS's SDK for Go sends a line for each attribute."""
    lines = [(b"X-Amz-Object-Attributes", b" ETag "), (b"x-amz-object-attributes", b"Checksum"), (b"x-a", b"1")]
    read_ = read(*BASE, *lines, (b"X-Amz-Meta-K", b"a"), (b"x-amz-meta-k", b"b"), (b"X-Amz-Meta-K", b"c"))
    assert read_.values["x-amz-object-attributes"] == "ETag,Checksum"
    joined = ((b"x-amz-object-attributes", b"ETag,Checksum"), (b"x-a", b"1"), (b"X-Amz-Meta-K", b"a,b,c"))
    assert read_.forward == (BASE[1], *joined)
    assert refusal(*BASE, (b"x-amz-acl", b"private"), (b"x-amz-acl", b"private")) is Reason.BAD_HEADER


def test_a_repeated_header_is_not_read_at_all() -> None:
    """Which of the two a store believes is not known; three are no better than two."""
    for count in (2, 3):
        assert "x-a" not in read(*BASE, *[(b"X-A", b"1")] * count).values


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"close",
        b"Keep-Alive",
        b"close, keep-alive",
        b"Keep-Alive, TE,, close , Upgrade, HTTP2-Settings, trailer, proxy-connection",
    ],
)
def test_connection_options_by_themselves_change_nothing(options: bytes) -> None:
    assert read(*BASE, (b"Connection", options)) == read(*BASE)


def test_a_nominated_header_goes_and_its_neighbours_stay() -> None:
    forward = read(*BASE, (b"Connection", b"x-a"), (b"X-A", b"1"), (b"X-B", b"2")).forward
    assert forward == (BASE[1], (b"X-B", b"2"))


def test_two_configurations_do_not_share_what_they_know_of_names() -> None:
    line = (b"X-Cache-Token", b"x")
    assert headers.read((*BASE, line), secret_names=frozenset(), set_names=SET).forward[-1] == line
    assert headers.read((*BASE, line), secret_names=SECRETS, set_names=SET).forward == (BASE[1],)


def test_a_configured_name_is_read_as_it_is_configured() -> None:
    underscored = frozenset({b"x_cache_token"})
    for name in (b"X_Cache_Token", b"x_cache_token"):
        found = headers.read((*BASE, (name, b"t")), secret_names=underscored, set_names=SET)
        assert (found.values["x_cache_token"], found.forward) == ("t", (BASE[1],))


def test_invented_names_neither_grow_the_memory_nor_stay_in_it() -> None:
    secrets = frozenset({b"x-only-here"})

    def known() -> dict[bytes, tuple[int, str]]:
        return headers._remembered(secrets, SET)

    for number in range(3 * headers._MAX_REMEMBERED):
        headers.read((*BASE, (b"X-%d" % number, b"")), secret_names=secrets, set_names=SET)
        assert len(known()) <= headers._MAX_REMEMBERED
    headers.read((*BASE, (b"X" * 65, b"")), secret_names=secrets, set_names=SET)
    assert b"Host" in known()
    assert max(map(len, known())) <= 64


@pytest.mark.parametrize(
    ("name", "folded"), [("X-Auth_User", "x-auth-user"), ("x.a", "x-a"), ("_method", "-method"), ("a!b", "a-b")]
)
def test_fold(name: str, folded: str) -> None:
    assert headers.fold(name) == folded


KNOWN = [*DANGEROUS, *DECIDING, "Content-Length", "Transfer-Encoding", "Host", "Connection", "X-A", "Upgrade"]
SPELLING = st.sampled_from(
    [str, str.upper, str.lower, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]
)
NAMES = st.one_of(
    st.tuples(SPELLING, st.sampled_from(KNOWN)).map(lambda pair: pair[0](pair[1])),
    st.text(st.characters(max_codepoint=127), max_size=6),
)
LINES = st.lists(st.tuples(NAMES.map(str.encode), st.binary(max_size=6)), max_size=4)


@given(LINES)
def test_nothing_dangerous_is_forwarded_and_nothing_but_refused_is_raised(lines: list[Line]) -> None:
    try:
        forward = read(*BASE, *lines).forward
    except Refused as refused:
        if refused.reason not in {Reason.BAD_HEADER, Reason.UPGRADE_REFUSED}:
            raise
        return
    dangerous = {headers.fold(name) for name in DANGEROUS} | {
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
    }
    assert not dangerous & {headers.fold(name.decode()) for name, _ in forward}
    deciding = {headers.fold(name) for name in DECIDING}
    seen = [headers.fold(name.decode()) for name, _ in forward]
    assert all(seen.count(name) <= 1 for name in deciding)
    assert set(forward) <= {*BASE, *lines}
