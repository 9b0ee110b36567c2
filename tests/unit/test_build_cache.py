"""What the profiles of build caches share: lists of what is forwarded, and keys that prove their bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.headers import DROP, LOCAL, fold
from sidecar.model import Action, Headers, Permission
from sidecar.profiles import PROFILES, Errand, LocalAnswer, build_cache
from sidecar.reasons import Reason
from tests.unit.clients import errand, forwarded, request, route

CLIENTS = {
    "nx": "v1/cache/{}",
    "turborepo": "v8/artifacts/{}",
    "bazel": "ac/{}",
    "gradle": "{}",
    "nix": "nar/{}.nar",
}
SHA = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
clients = pytest.mark.parametrize("client", CLIENTS)


@clients
def test_the_key_s_bytes_travel_unchanged(client: str) -> None:
    key = CLIENTS[client].format("a1")
    found = errand(f"GET /ws/{key.replace('a1', '%61%31')} HTTP/1.1", route(client))
    assert found.actions == (Action(Permission.READ, key),)
    assert found.path == f"/keys/{key.replace('a1', '%61%31')}"


@clients
def test_nothing_that_is_not_on_the_list_is_forwarded(client: str) -> None:
    text = f"GET /ws/{CLIENTS[client].format('a1')}?x=1&versionId=2 HTTP/1.1\n" + "".join(
        f"{name}: v\n"
        for name in (
            "X-Amz-Acl",
            "X-Custom",
            "Content-Encoding",
            "Overwrite",
            "X-HTTP-Method-Override",
            "Destination",
            "Cookie",
        )
    )
    found = errand(text, route(client))
    assert (found.forward, found.path.partition("?")[1]) == ((), "")


@clients
def test_a_content_address_is_asked_for_where_the_route_says_so(client: str) -> None:
    at = route(client, content_address=True)
    if client in ("nx", "turborepo", "gradle"):
        assert errand(f"PUT /ws/{CLIENTS[client].format(SHA)} HTTP/1.1", at).sha256 == SHA
        with pytest.raises(Refused) as refused:
            errand(f"PUT /ws/{CLIENTS[client].format('a1')} HTTP/1.1", at)
        assert refused.value.reason is Reason.BODY_MISMATCH
    assert errand(f"GET /ws/{CLIENTS[client].format('a1')} HTTP/1.1", at).sha256 is None


@clients
def test_every_other_profile_word_is_an_errand(client: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        found = PROFILES[client].classify(
            request(f"{method} /ws/{CLIENTS[client].format('a1')} HTTP/1.1"), route(client)
        )
        assert isinstance(found, Errand)
        assert len(found.actions) == 1


def test_the_list_names_nothing_that_never_leaves() -> None:
    names = build_cache.FORWARDED
    assert not names & (LOCAL | DROP)
    assert all(name == fold(name) for name in names)
    assert "content-encoding" not in names


@given(
    st.lists(
        st.tuples(st.sampled_from(["slug", "teamId", "x", "sl%75g", "Slug"]), st.text("ab%=;+", max_size=4)), max_size=5
    )
)
def test_a_kept_query_holds_only_what_is_allowed(parts: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in parts)
    kept = build_cache.kept_query(query, frozenset({"slug"}))
    assert [part for part in query.split("&") if part.split("=")[0] in ("slug", "sl%75g")] == (
        kept.split("&") if kept else []
    )


def test_headers_are_kept_as_they_were_spelled() -> None:
    headers = Headers({}, ((b"ACCEPT", b"*/*"), (b"X-A", b"1")))
    assert build_cache.kept_headers(headers, frozenset({"accept"})) == ((b"ACCEPT", b"*/*"),)


@clients
def test_options_is_answered_without_the_store(client: str) -> None:
    found = PROFILES[client].classify(request("OPTIONS /ws HTTP/1.1"), route(client))
    assert isinstance(found, LocalAnswer)
    assert found.status == 204
    (allowed,) = [value for name, value in found.headers if name == b"allow"]
    assert {b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"} <= set(allowed.split(b", "))


@clients
def test_conditions_and_ranges_reach_the_store(client: str) -> None:
    names = {
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "accept-encoding",
    }
    text = f"GET /ws/{CLIENTS[client].format('a1')} HTTP/1.1\n" + "".join(f"{name}: v\n" for name in sorted(names))
    assert set(forwarded(errand(text, route(client)))) == names


def test_what_reads_and_deletes_a_blob_is_held_to_nothing() -> None:
    for method in ("GET", "HEAD", "DELETE"):
        assert errand(f"{method} /ws/cas/{SHA} HTTP/1.1", route("bazel")).sha256 is None
    with pytest.raises(Refused) as refused:
        errand(f"POST /ws/cas/{SHA} HTTP/1.1", route("bazel", verbs={"POST": Permission.WRITE}))
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


def test_what_counts_as_reading() -> None:
    assert [build_cache.is_read(request(f"{method} / HTTP/1.1")) for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert build_cache.is_read(None)
