"""Nix: an outage is never an absence, and a narinfo has to be signed where the workspace says by whom."""

import hashlib

import pytest
from msgspec import structs

from sidecar import narinfo
from sidecar.errors import Refused
from sidecar.model import Action, Permission
from sidecar.policy.compiled import TrustedKey
from sidecar.profiles import PROFILES, Work
from sidecar.reasons import REASONS, Outcome, Reason
from tests.unit.clients import denied, errand, forwarded, header, route, statuses

NIX = PROFILES["nix"]
NAME = "42xcnx1kddnj0ijayfjbsdf2vxx4l25v"
NAR = "nar/19819j8j3l6rmz11w6374g41c502xpp40k2rif67z208968df73v.nar.xz"
SIGNED = structs.replace(route("nix"), trusted_keys=(TrustedKey("a", bytes(32)),))


def ask(method: str, path: str, more: str = "") -> str:
    return f"""
{method} /ws/{path} HTTP/1.1
Host: 127.0.0.1:18083
Authorization: Basic d3M6dG9rLWFiYw==
User-Agent: curl/7.85.0 Nix/2.8.0
Accept: */*
{more}"""


@pytest.mark.parametrize(
    "path",
    [
        f"{NAME}.narinfo", NAR, "nix-cache-info", f"{NAME}.ls", "nar/x.nar", "log/abc-hello.drv", f"linux/{NAME}.narinfo",
        f"realisations/sha256:{'0' * 64}!out.doi", "debuginfo/00ff",
    ],
)  # fmt: skip
def test_what_it_asks_for(path: str) -> None:
    for method, action in (
        ("GET", Action(Permission.READ, path)),
        ("HEAD", Action(Permission.READ, path)),
        ("PUT", Action(Permission.WRITE, path, creates=True)),
    ):
        found = errand(ask(method, path, "Content-Type: application/x-nix-nar\n"), route("nix"))
        assert (found.actions, found.path) == ((action,), f"/keys/{path}")
        assert set(forwarded(found)) == {"user-agent", "accept", "content-type"}
        assert (found.work, found.sha256) == (Work.NOTHING, None)


@pytest.mark.parametrize(
    "path", ["", "nar/", f"{NAME}.narinfo/", f"{NAME[1:]}.narinfo", f"{'e' * 32}.narinfo", "nar/x.txt", "x/y.nar", f"{NAME}", "log/", "nar/a/b.nar"]
)  # fmt: skip
def test_anything_else_is_unknown(path: str) -> None:
    with pytest.raises(Refused) as refused:
        errand(ask("GET", path), SIGNED)
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


def test_some_caches_say_the_nar_s_hash_once_more() -> None:
    assert errand(ask("GET", f"{NAR}?hash=abc&x=1"), route("nix")).path == f"/keys/{NAR}?hash=abc"


def test_the_cache_s_description_is_never_missing() -> None:
    missing = errand(ask("GET", "nix-cache-info"), route("nix")).missing
    assert missing is not None
    assert (missing.status, missing.body) == (200, b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n")
    assert missing.headers == ((b"content-type", b"text/x-nix-cache-info"), (b"cache-control", b"no-store"))
    assert errand(ask("GET", NAR), route("nix")).missing is None


def test_a_narinfo_is_judged_whole() -> None:
    more = "Range: bytes=0-3\nAccept-Encoding: gzip\nIf-None-Match: *\nContent-Type: text/x-nix-narinfo\n"
    for method in ("GET", "HEAD", "PUT"):
        found = errand(ask(method, f"{NAME}.narinfo", more), SIGNED)
        assert found.work is Work.CHECK_NARINFO
        assert set(forwarded(found)) == {"user-agent", "accept", "content-type"}
    assert errand(ask("GET", f"{NAME}.ls"), SIGNED).work is Work.NOTHING
    assert errand(ask("PUT", NAR), SIGNED).work is Work.NOTHING
    assert errand(ask("DELETE", f"{NAME}.narinfo"), SIGNED).actions == (Action(Permission.DELETE, f"{NAME}.narinfo"),)
    with pytest.raises(Refused):
        errand(ask("POST", f"{NAME}.narinfo"), structs.replace(SIGNED, verbs={"POST": Permission.WRITE}))


def test_a_nar_is_held_to_its_name_where_the_route_says_so() -> None:
    at = structs.replace(route("nix"), content_address=True)
    digest = hashlib.sha256(b"nar").digest()
    assert errand(ask("PUT", f"nar/{narinfo.to_base32(digest)}.nar.xz"), at).sha256 == digest.hex()
    assert errand(ask("PUT", f"{NAME}.narinfo"), at).sha256 is None
    assert errand(ask("PUT", "log/abc.drv"), at).sha256 is None
    assert errand(ask("GET", "nar/x.nar"), at).sha256 is None
    with pytest.raises(Refused) as refused:
        errand(ask("PUT", "nar/x.nar"), at)
    assert refused.value.reason is Reason.BODY_MISMATCH


def test_an_outage_is_never_an_absence() -> None:
    reads, writes = statuses("nix", "GET"), statuses("nix", "PUT")
    for reason, row in REASONS.items():
        if row.outcome is Outcome.ERROR or row.status in (408, 429):
            assert (reads[reason], writes[reason]) == (503, 424), reason
            assert header(denied("nix", "HEAD", reason), "retry-after") == [b"2"]
        elif reason is Reason.UNTRUSTED_NARINFO:
            assert (reads[reason], writes[reason]) == (404, 403)
        elif row.status >= 400:
            assert reads[reason] == writes[reason] == row.status


def test_no_refusal_of_a_write_is_a_5xx() -> None:
    assert max(statuses("nix", "PUT").values()) < 500


def test_what_a_store_says() -> None:
    for method in ("GET", "HEAD"):
        assert [NIX.answered(method, status) for status in (200, 206, 304, 404, 416)] == [200, 206, 304, 404, 416]
        assert {NIX.answered(method, status) for status in (400, 403, 429, 500, 502, 503)} == {Reason.UPSTREAM_ERROR}
    assert [NIX.answered("PUT", status) for status in (200, 201, 204)] == [200, 201, 204]
    assert {NIX.answered("PUT", status) for status in (409, 412)} == {Reason.EXISTS}
    assert {NIX.answered("PUT", status) for status in (403, 413, 500)} == {Reason.UPSTREAM_ERROR}


def test_the_edges_of_what_a_store_says() -> None:
    assert [NIX.answered("GET", status) for status in (299, 300, 302, 399, 410)] == [
        Reason.UPSTREAM_ERROR,
        300,
        302,
        399,
        410,
    ]
    assert [NIX.answered("DELETE", status) for status in (204, 399, 400, 404, 500)] == [
        204, 399, Reason.UPSTREAM_ERROR, 404, Reason.UPSTREAM_ERROR,
    ]  # fmt: skip


def test_a_bent_answer_keeps_what_it_says_and_drops_what_it_asks_for() -> None:
    bent = denied("nix", "GET", Reason.UNTRUSTED_NARINFO)
    assert header(bent, "sidecar-reason") == [b"untrusted_narinfo"]
    late = denied("nix", "PUT", Reason.OVERLOADED)
    assert header(late, "retry-after") == []
    assert header(denied("nix", "GET", Reason.VERIFIER_UNAVAILABLE), "sidecar-reason") == [b"verifier_unavailable"]
