"""A bucket of a real S3 server as a store, as a client sees it that knows nothing of S3."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import S3Credentials, S3Settings, UpstreamSettings
from sidecar.upstream.health import Standing
from sidecar.upstream.s3 import S3Upstream
from tests.contract.fake_downstream import FakeDownstream, ask
from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow

MiB = 1024 * 1024
SIZES = [0, 1, 1000, 65_536, 300_001]


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return s3_server.bucket()


@pytest.fixture
def settings(s3_server: S3Server, bucket: str, tmp_path: Path) -> UpstreamSettings:
    (tmp_path / "id").write_text(s3_server.access_key + "\n")
    (tmp_path / "secret").write_text(s3_server.secret_key + "\n")
    keys = S3Credentials(access_key_id_file=tmp_path / "id", secret_access_key_file=tmp_path / "secret")
    s3 = S3Settings(bucket, keys, s3_server.region, conditional_writes=s3_server.conditional_writes)
    return UpstreamSettings("bucket", s3_server.endpoint, s3=s3)


@pytest.fixture
async def store(settings: UpstreamSettings) -> AsyncIterator[S3Upstream]:
    opened = S3Upstream(settings)
    await opened.open()
    yield opened
    await opened.close()


def body_of(size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


# --- bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_body_comes_back_as_it_was(store: S3Upstream, s3_server: S3Server, bucket: str, size: int) -> None:
    put = await ask(store, "PUT", f"/size/{size}", body=body_of(size))
    got = await ask(store, "GET", f"/size/{size}")
    assert (put.status, got.status, got.length) == (200, 200, size)
    assert got.answer == body_of(size)
    assert got.answer_headers["etag"] == put.answer_headers["etag"]
    assert s3_server.stored(bucket)[f"size/{size}"] == body_of(size)


async def test_the_life_of_a_key(store: S3Upstream) -> None:
    assert (await ask(store, "GET", "/life")).status == 404
    assert not await store.exists("/life")
    await ask(store, "PUT", "/life", body=b"one")
    assert await store.exists("/life")
    await ask(store, "PUT", "/life", body=b"two")
    assert (await ask(store, "GET", "/life")).answer == b"two"
    assert (await ask(store, "DELETE", "/life")).status == 204
    assert (await ask(store, "GET", "/life")).status == 404
    assert not await store.exists("/life")
    assert (await ask(store, "DELETE", "/life")).status == 204, "S3 doesn't say whether it was there"


async def test_head_says_what_get_says(store: S3Upstream) -> None:
    await ask(store, "PUT", "/head", {"Content-Type": "text/x"}, body=b"content")
    head, get = await ask(store, "HEAD", "/head"), await ask(store, "GET", "/head")
    assert (head.status, head.length, head.answer) == (200, 7, b"")
    differ = {"date"}
    assert {k: v for k, v in head.answer_headers.items() if k not in differ} == {
        k: v for k, v in get.answer_headers.items() if k not in differ
    }


async def test_what_is_missing_is_missing_for_head_too(store: S3Upstream) -> None:
    head = await ask(store, "HEAD", "/missing")
    assert (head.status, head.answer) == (404, b"")


async def test_a_connection_is_used_again_after_a_miss(store: S3Upstream) -> None:
    for _ in range(3):
        await ask(store, "GET", "/missing")
    assert (store.pool.idling, store.pool.busy) == (1, 0)


@pytest.mark.parametrize("size", [1000, 2 * MiB])
@pytest.mark.parametrize("broken_by", [ClientGone(), Refused(Reason.BODY_TIMEOUT)])
async def test_half_a_body_never_becomes_an_object(store: S3Upstream, broken_by: Exception, size: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * size
        await asyncio.sleep(0.3)  # so that it all has arrived: the store has nothing but the connection's end to go by
        raise broken_by

    exchange = FakeDownstream("PUT", "/half", body=body(), content_length=2 * size)
    with pytest.raises(type(broken_by)):
        await store.forward(exchange)
    for _ in range(5):  # a store takes its time to see it
        assert (await ask(store, "GET", "/half")).status == 404
        await asyncio.sleep(0.05)


async def test_a_body_of_unknown_length_is_refused_before_it_is_invited(store: S3Upstream) -> None:
    exchange = FakeDownstream("PUT", "/chunked", body=b"content", chunked=True)
    with pytest.raises(Refused) as refusal:
        await store.forward(exchange)
    assert refusal.value.reason is Reason.LENGTH_REQUIRED
    assert not exchange.invited


async def test_a_part_is_never_taken_for_the_whole(store: S3Upstream) -> None:
    with pytest.raises(Refused) as refusal:
        await ask(store, "PUT", "/part", {"Content-Range": "bytes 0-2/9"}, body=b"abc")
    assert refusal.value.reason is Reason.BAD_REQUEST
    assert not await store.exists("/part")


async def test_memory_stays_flat_however_large_the_body(store: S3Upstream) -> None:
    """What is not yet taken by the client is not asked of the store."""
    piece, count = body_of(MiB), 32
    seen = hashlib.sha256()

    class Slow(FakeDownstream):
        behind = most = 0
        congested = False

        def write(self, data: bytes) -> None:
            seen.update(data)
            self.behind += len(data)
            self.most = max(self.most, self.behind)
            self.congested = self.behind >= MiB

        async def drain(self) -> None:
            await asyncio.sleep(0.001)
            self.behind, self.congested = 0, False

        def finish(self) -> None:
            self.finished = True

    await ask(store, "PUT", "/large", body=[piece] * count, content_length=count * MiB)
    slow = Slow("GET", "/large")
    await store.forward(slow)
    assert slow.finished
    assert slow.most < 4 * MiB
    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(piece)
    assert seen.digest() == expected.digest()


# --- keys -----------------------------------------------------------------------------------------------------------------

ODD = {
    "/odd/tilde~(1)": "odd/tilde~(1)",
    "/odd/plus+x": "odd/plus+x",
    "/odd/sp%20ace": "odd/sp ace",
    "/odd/%e2%82%ac-%C3%A9": "odd/€-é",
    "/odd/@scope/p": "odd/@scope/p",
    "/odd/semi;a=b,c&d$": "odd/semi;a=b,c&d$",
    "/odd/pct%2541b": "odd/pct%41b",
    "/odd/q%3Fx": "odd/q?x",
    "/odd/hash%23h": "odd/hash#h",
    "/odd/enc%2Foded": "odd/enc/oded",
    "/odd/quo'te*!": "odd/quo'te*!",
    "/odd/a//b": "odd/a//b",
    "/odd//": "odd//",
    "/odd/trail/": "odd/trail/",
}
ONLY_WHERE_ANY_KEY_IS_ONE = {"/odd/a//b", "/odd//", "/odd/trail/"}


async def test_every_key_is_possible_and_is_the_buckets_own(
    store: S3Upstream, s3_server: S3Server, settings: UpstreamSettings
) -> None:
    paths = [path for path in ODD if s3_server.any_key or path not in ONLY_WHERE_ANY_KEY_IS_ONE]
    assert settings.s3 is not None
    for path in paths:
        assert (await ask(store, "PUT", path, body=path.encode())).status == 200, path
    for path in paths:
        assert (await ask(store, "GET", path)).answer == path.encode()
    stored = s3_server.stored(settings.s3.bucket)
    assert {key: stored[key] for key in stored if key.startswith("odd/")} == {
        ODD[path]: path.encode() for path in paths
    }


async def test_two_spellings_of_one_key(store: S3Upstream) -> None:
    await ask(store, "PUT", "/spelled/(a)%7e", body=b"content")
    for other in ("/spelled/%28a%29~", "/spelled/(a%29%7E", "/spelled/%28%61)~"):
        assert (await ask(store, "GET", other)).answer == b"content"


async def test_the_query_is_no_order_to_the_bucket(store: S3Upstream) -> None:
    await ask(store, "PUT", "/query?acl", body=b"content")
    for query in ("acl", "uploads", "versionId=x", "X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256", "tagging"):
        assert (await ask(store, "GET", f"/query?{query}")).answer == b"content"
    assert (await ask(store, "DELETE", "/query?tagging")).status == 204
    assert not await store.exists("/query")


@pytest.mark.parametrize("path", ["/", "/?list-type=2", "/?delete"])
async def test_nothing_is_ever_asked_of_the_bucket_itself(store: S3Upstream, s3_server: S3Server, path: str) -> None:
    await ask(store, "PUT", "/secret-name", body=b"content")
    for method, status in {"GET": 404, "HEAD": 404, "PUT": 405, "DELETE": 405, "POST": 405}.items():
        answer = await ask(store, method, path)
        assert answer.status == status
        assert b"secret-name" not in answer.answer
    assert await store.exists("/secret-name"), "the bucket is still there"
    assert not await store.exists("/")


@pytest.mark.parametrize("method", ["POST", "PATCH", "COPY", "MOVE", "LOCK", "get"])
async def test_other_methods_are_told_which_there_are(store: S3Upstream, method: str) -> None:
    answer = await ask(store, method, "/key", body=b"")
    assert (answer.status, answer.answer_headers["allow"]) == (405, "GET, HEAD, PUT, DELETE, PROPFIND, MKCOL")


# --- headers --------------------------------------------------------------------------------------------------------------

KEPT = {
    "content-type": "text/x; charset=utf-8",
    "content-encoding": "gzip",
    "content-language": "de, en",
    "content-disposition": 'attachment; filename="a;b.txt"',
    "cache-control": "max-age=60, no-transform",
    "x-artifact-tag": "sig+/=",
    "x-artifact-duration": "1234",
    "x-amz-meta-own": "a value, with = signs",
}


async def test_headers_kept_with_an_object_come_back_as_they_were(store: S3Upstream) -> None:
    await ask(store, "PUT", "/kept", KEPT, body=b"content")
    for method in ("GET", "HEAD"):
        answer = await ask(store, method, "/kept")
        assert {name: answer.answer_headers.get(name) for name in KEPT} == KEPT
        assert not [name for name in answer.answer_headers if name.startswith("x-amz-") and name != "x-amz-meta-own"]


async def test_what_is_kept_is_metadata_to_users_of_the_bucket(
    store: S3Upstream, s3_server: S3Server, bucket: str
) -> None:
    await ask(store, "PUT", "/meta", KEPT, body=b"content")
    found = s3_server.client().head_object(Bucket=bucket, Key="meta")
    assert found["Metadata"] == {
        "x-artifact-tag": "sig+/=",
        "x-artifact-duration": "1234",
        "own": "a value, with = signs",
    }
    assert (found["ContentType"], found["CacheControl"]) == (KEPT["content-type"], KEPT["cache-control"])


async def test_headers_are_replaced_with_the_body(store: S3Upstream) -> None:
    await ask(store, "PUT", "/replaced", {"X-Artifact-Tag": "one"}, body=b"1")
    await ask(store, "PUT", "/replaced", body=b"2")
    assert "x-artifact-tag" not in (await ask(store, "GET", "/replaced")).answer_headers


async def test_orders_to_s3_are_not_forwarded(store: S3Upstream, s3_server: S3Server, bucket: str) -> None:
    await ask(store, "PUT", "/source", body=b"source")
    orders = {
        "x-amz-acl": "public-read",
        "x-amz-copy-source": f"/{bucket}/source",
        "x-amz-tagging": "a=b",
        "x-amz-website-redirect-location": "/elsewhere",
        "x-amz-storage-class": "GLACIER",
        "x-amz-date": "19700101T000000Z",
        "x-amz-content-sha256": "0" * 64,
        "x-amz-security-token": "stolen",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-object-lock-mode": "COMPLIANCE",
        "x-amz-unknown": "order",
    }
    assert (await ask(store, "PUT", "/ordered", orders, body=b"content")).status == 200
    assert (await ask(store, "GET", "/ordered", orders)).answer == b"content"
    assert s3_server.stored(bucket)["ordered"] == b"content"


async def test_a_digest_that_a_client_sends_is_held_to(store: S3Upstream) -> None:
    answer = await ask(store, "PUT", "/digest", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, body=b"content")
    assert answer.status == 400
    assert not await store.exists("/digest")


# --- ranges and conditions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "end"), [(0, 1), (1, 3), (500, 1000), (999, 1000), (990, 5000)])
async def test_a_range_is_that_part(store: S3Upstream, first: int, end: int) -> None:
    body = body_of(1000)
    await ask(store, "PUT", "/range", body=body)
    part = await ask(store, "GET", "/range", {"Range": f"bytes={first}-{end - 1}"})
    assert (part.status, part.answer) == (206, body[first:end])
    assert part.answer_headers["content-range"] == f"bytes {first}-{min(end, 1000) - 1}/1000"
    last = await ask(store, "GET", "/range", {"Range": "bytes=-7"})
    assert (last.status, last.answer) == (206, body[-7:])


async def test_a_range_that_is_not_there(store: S3Upstream) -> None:
    await ask(store, "PUT", "/beyond", body=b"content")
    answer = await ask(store, "GET", "/beyond", {"Range": "bytes=7-"})
    assert answer.status == 416
    assert b"content" not in answer.answer


async def test_a_resumed_download_starts_over_once_the_object_has_changed(store: S3Upstream) -> None:
    tag = (await ask(store, "PUT", "/resumed", body=b"first version")).answer_headers["etag"]
    resumed = await ask(store, "GET", "/resumed", {"Range": "bytes=6-", "If-Range": tag})
    assert (resumed.status, resumed.answer) == (206, b"version")
    await ask(store, "PUT", "/resumed", body=b"other content")
    over = await ask(store, "GET", "/resumed", {"Range": "bytes=6-", "If-Range": tag})
    assert (over.status, over.answer) == (200, b"other content")
    date = await ask(store, "GET", "/resumed", {"Range": "bytes=6-", "If-Range": "Sun, 06 Nov 1994 08:49:37 GMT"})
    assert (date.status, date.answer) == (200, b"other content")


async def test_a_client_that_has_it_is_not_sent_it_again(store: S3Upstream, s3_server: S3Server) -> None:
    put = await ask(store, "PUT", "/has", body=b"content")
    tag = put.answer_headers["etag"]
    answer = await ask(store, "GET", "/has", {"If-None-Match": tag})
    assert (answer.status, answer.answer, answer.length) == (304, b"", None)
    assert answer.answer_headers.get("etag", tag) == tag, "Versity's gateway leaves it out"
    modified = (await ask(store, "HEAD", "/has")).answer_headers["last-modified"]
    # Versity's gateway compares with more than the seconds that it says.
    since = await ask(store, "GET", "/has", {"If-Modified-Since": modified})
    assert since.status == (200 if s3_server.name == "versitygw" else 304)
    assert (await ask(store, "GET", "/has", {"If-Match": '"other"'})).status == 412
    assert (await ask(store, "GET", "/has", {"If-Match": tag})).answer == b"content"


async def test_of_two_that_create_a_key_the_second_is_told(store: S3Upstream) -> None:
    assert (await ask(store, "PUT", "/created", {"If-None-Match": "*"}, body=b"first")).status == 200
    second = await ask(store, "PUT", "/created", {"If-None-Match": "*"}, body=b"second")
    assert second.status == 412
    assert (await ask(store, "GET", "/created")).answer == b"first"


async def test_a_replacement_of_another_version_is_not_made(store: S3Upstream, s3_server: S3Server) -> None:
    await ask(store, "PUT", "/version", body=b"first")
    answer = await ask(store, "PUT", "/version", {"If-Match": '"00000000000000000000000000000000"'}, body=b"second")
    assert answer.status == (412 if s3_server.conditional_writes else 501)
    assert (await ask(store, "GET", "/version")).answer == b"first"


@pytest.mark.parametrize(
    ("method", "header"),
    [("PUT", "If-Unmodified-Since"), ("DELETE", "If-Unmodified-Since"), ("DELETE", "If-None-Match")],
)
async def test_a_condition_that_s3_would_pass_over_is_not_taken_for_met(
    store: S3Upstream, method: str, header: str
) -> None:
    await ask(store, "PUT", "/unheeded", body=b"first")
    value = "*" if header == "If-None-Match" else "Sun, 06 Nov 1994 08:49:37 GMT"
    answer = await ask(store, method, "/unheeded", {header: value}, body=b"second" if method == "PUT" else b"")
    assert answer.status == 501
    assert (await ask(store, "GET", "/unheeded")).answer == b"first"


# --- WebDAV ----------------------------------------------------------------------------------------------------------------


async def test_every_folder_is_there_and_objects_have_properties(store: S3Upstream) -> None:
    await ask(store, "PUT", "/dav/object", body=b"content")
    assert (await ask(store, "MKCOL", "/dav/")).status == 201
    for folder in ("/dav/", "/"):
        listed = await ask(store, "PROPFIND", folder, {"Depth": "0"})
        assert (listed.status, b"<D:collection/>" in listed.answer) == (207, True)
        assert (await ask(store, "PROPFIND", folder, {"Depth": "1"})).status == 403
    found = await ask(store, "PROPFIND", "/dav/object", {"Depth": "0"})
    assert b"<D:getcontentlength>7</D:getcontentlength>" in found.answer
    assert (await ask(store, "PROPFIND", "/dav/missing", {"Depth": "0"})).status == 404


# --- what isn't about the client --------------------------------------------------------------------------------------------


async def refused(settings: UpstreamSettings, method: str = "GET", body: bytes = b"") -> Refused:
    store = S3Upstream(settings)
    await store.open()
    try:
        with pytest.raises(Refused) as refusal:
            await ask(store, method, "/key", body=body)
        return refusal.value
    finally:
        await store.close()


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("HEAD", b""), ("PUT", b"content"), ("DELETE", b"")])
async def test_keys_that_the_store_refuses_are_not_the_clients(
    settings: UpstreamSettings, tmp_path: Path, method: str, body: bytes
) -> None:
    (tmp_path / "secret").write_text("wrong-secret")
    refusal = await refused(settings, method, body)
    assert refusal.reason is Reason.UPSTREAM_CREDENTIALS
    assert "wrong-secret" not in str(refusal)


async def test_an_access_key_that_the_store_does_not_know(settings: UpstreamSettings, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("acme:nobody")
    assert (await refused(settings)).reason is Reason.UPSTREAM_CREDENTIALS


async def test_whether_a_key_is_there_is_not_learnt_with_wrong_keys(settings: UpstreamSettings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("wrong-secret")
    store = S3Upstream(settings)
    await store.open()
    with pytest.raises(Unavailable) as refusal:
        await store.exists("/key")
    assert refusal.value.reason is Reason.EXISTENCE_UNKNOWN
    await store.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_another_region_is_said_to_the_operator(settings: UpstreamSettings, method: str) -> None:
    assert settings.s3 is not None
    refusal = await refused(replace(settings, s3=replace(settings.s3, region="eu-west-9")), method)
    assert refusal.reason is Reason.UPSTREAM_CREDENTIALS
    if method == "GET":
        assert "is in us-east-1: mend `s3.region` (eu-west-9)" in refusal.detail


async def test_a_bucket_that_is_not_there_is_no_missing_object(settings: UpstreamSettings) -> None:
    assert settings.s3 is not None
    refusal = await refused(replace(settings, s3=replace(settings.s3, bucket="no-such-bucket")))
    assert refusal.reason is Reason.UPSTREAM_ERROR
    assert refusal.detail.startswith("the store has no bucket no-such-bucket: mend ")


@pytest.mark.parametrize("off", [-7200, 7200])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_wrong_clock_is_mended_by_the_stores(settings: UpstreamSettings, off: float, method: str) -> None:
    ours = [0.0]
    store = S3Upstream(settings, clock=lambda: time.time() + ours[0])
    await ask(store, "PUT", "/clock", body=b"content")
    ours[0] = off
    answer = await ask(store, method, "/clock")
    assert answer.status == (204 if method == "DELETE" else 200)
    assert abs(store.skew + off) < 5
    assert (await ask(store, "PUT", "/clock", body=b"later")).status == 200
    await store.close()


async def test_spaces_within_a_kept_value_break_no_signature(store: S3Upstream) -> None:
    answer = await ask(store, "PUT", "/spaces", {"x-artifact-tag": "a  b   c"}, body=b"content")
    assert answer.status == 200
    assert (await ask(store, "GET", "/spaces")).answer_headers["x-artifact-tag"] == "a  b   c"


async def test_an_address_that_refuses_who_asks_without_a_key_is_well(store: S3Upstream) -> None:
    for address in store.pool.addresses.all:
        assert await store.pool._ask(address) == (Standing.WELL, "")


async def test_in_virtual_hosted_style_the_bucket_is_the_hosts(
    settings: UpstreamSettings, s3_server: S3Server, bucket: str
) -> None:
    if s3_server.domain is None:
        pytest.skip(f"{s3_server.name} is set up for path style alone")
    assert settings.s3 is not None
    looked_up: list[str] = []

    async def lookup(name: str, port: int) -> list[str]:
        looked_up.append(name)
        return ["127.0.0.1"]

    virtual = replace(settings, url=f"http://{s3_server.domain}", s3=replace(settings.s3, addressing="virtual"))
    store = S3Upstream(virtual, lookup)
    await store.open()
    assert (await ask(store, "GET", "/")).status == 404, "and no list"
    assert (await ask(store, "PUT", "/virtual/a%20b", body=b"content")).status == 200
    assert (await ask(store, "GET", "/virtual/a%20b")).answer == b"content"
    await store.close()
    assert s3_server.stored(bucket)["virtual/a b"] == b"content"
    assert looked_up[0] == f"{bucket}.localhost"
