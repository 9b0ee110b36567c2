"""A bucket, as its store sees it byte by byte, and stores that answer as the real ones in the other tests don't."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.errors import Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import S3Credentials, S3Settings
from sidecar.upstream.s3 import S3Upstream
from tests.unit.relays import OK, Client, Talk, event_loop_policy, on_uvloop, store

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

NOW = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
DATE = b"Date: Sun, 22 Nov 2026 08:45:00 GMT\r\n"
SECRET = "wJalrXUtnFEMI/K7MDENG"


def error(status: bytes, code: bytes, headers: bytes = b"") -> bytes:
    body = b"<Error><Code>" + code + b"</Code></Error>"
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


class Bucket:
    """`heads` are the requests as they arrived; each gets the next of `answers`, the last one again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.heads: list[bytes] = []
        self._answers = list(answers) or [OK]

    async def __call__(self, talk: Talk) -> None:
        while True:
            self.heads.append(await talk.head())
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            talk.say(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if self.heads[-1].startswith(b"HEAD") else answer)


@asynccontextmanager
async def opened(
    bucket: Bucket, folder: Path, *, clock: Callable[[], float] = NOW.timestamp, token: str = ""
) -> AsyncIterator[S3Upstream]:
    for name, content in {"id": "AKID", "secret": SECRET, "token": token}.items():
        (folder / name).write_text(content)
    keys = S3Credentials("files", folder / "id", folder / "secret", folder / "token" if token else None)
    async with store(bucket) as made:
        settings = replace(made.settings(), s3=S3Settings("artifacts", keys, "eu-central-1"))
        upstream = S3Upstream(settings, clock=clock)
        await upstream.open()
        try:
            yield upstream
        finally:
            await upstream.close()


def lines(head: bytes) -> dict[str, str]:
    _, *rest = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    found = [line.split(": ", 1) for line in rest]
    assert len({name.lower() for name, _ in found}) == len(found), "no header is there twice"
    return {name.lower(): value for name, value in found}


def signature_of(head: bytes) -> str:
    """By the letter of AWS' description, over what arrived."""
    method, target, _ = head.decode().split("\r\n", 1)[0].split(" ")
    headers = lines(head)
    names = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    canonical = "\n".join(
        [
            *(method, target, ""),
            *(f"{name}:{headers[name].strip()}" for name in names),
            *("", ";".join(names), headers["x-amz-content-sha256"]),
        ]
    )
    scope = f"{headers['x-amz-date'][:8]}/eu-central-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


async def test_a_read_is_signed_and_says_nothing_else(tmp_path: Path) -> None:
    bucket = Bucket()
    async with opened(bucket, tmp_path) as upstream:
        await upstream.forward(Client("GET", "/a%2Bb?acl", [(b"Range", b"bytes=0-1"), (b"X-Amz-Acl", b"x")]))
    (head,) = bucket.heads
    headers = lines(head)
    assert head.startswith(b"GET /artifacts/a%2Bb HTTP/1.1\r\nHost: 127.0.0.1:")
    assert set(headers) == {"host", "range", "x-amz-date", "x-amz-content-sha256", "authorization"}
    assert headers["x-amz-date"] == "20261122T084500Z"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"").hexdigest()
    assert headers["authorization"].endswith(f"Signature={signature_of(head)}")
    assert "Credential=AKID/20261122/eu-central-1/s3/aws4_request" in headers["authorization"]


async def test_a_write_says_its_length_and_signs_what_is_kept(tmp_path: Path) -> None:
    bucket = Bucket()
    kept = [(b"Content-Type", b"text/x"), (b"X-Artifact-Tag", b"t"), (b"x-amz-acl", b"public-read")]
    async with opened(bucket, tmp_path, token="session") as upstream:
        await upstream.forward(Client("PUT", "/key", kept, b"content"))
    (head,) = bucket.heads
    headers = lines(head)
    assert headers["content-length"] == "7"
    assert "transfer-encoding" not in headers
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-security-token"] == "session"
    assert "x-amz-acl" not in headers
    assert (
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-x-artifact-tag;x-amz-security-token"
        in (headers["authorization"])
    )
    assert headers["authorization"].endswith(f"Signature={signature_of(head)}")


@given(path=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20))
@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_the_key_the_path_that_is_sent_is_the_one_that_is_signed(tmp_path: Path, path: str) -> None:
    bucket = Bucket()
    # As a client spells it that encodes no more than it must.
    spelled = "/" + quote(path, safe="/!$&'()*+,;=:@~")
    async with opened(bucket, tmp_path) as upstream:
        await upstream.forward(Client("GET", spelled))
    if not bucket.heads:
        assert not path.strip("/")
        return
    (head,) = bucket.heads
    target = head.decode().split(" ")[1]
    assert unquote(target) == f"/artifacts/{path}"
    assert target == quote(unquote(target), safe="/-._~")
    assert lines(head)["authorization"].endswith(f"Signature={signature_of(head)}")


@pytest.mark.parametrize("path", ["", "/", "?list-type=2", "/?delete", "//", "///?uploads", "/%2F"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
async def test_without_a_key_the_store_hears_nothing(tmp_path: Path, path: str, method: str) -> None:
    bucket = Bucket()
    async with opened(bucket, tmp_path) as upstream:
        client = Client(method, path, body=b"<Delete/>" if method in ("PUT", "POST") else b"")
        await upstream.forward(client)
        assert not await upstream.exists(path)
    assert client.status in (404, 405)
    assert bucket.heads == []


async def test_a_store_that_is_overrun_is_passed_on_with_when_to_come_again(tmp_path: Path) -> None:
    async with opened(Bucket(error(b"503 Slow Down", b"SlowDown")), tmp_path) as upstream:
        client = Client("GET", "/key")
        await upstream.forward(client)
    assert (client.status, client.answer_headers["retry-after"], client.answer) == (503, "1", b"SlowDown\n")


async def test_an_error_is_read_and_its_connection_used_again(tmp_path: Path) -> None:
    bucket = Bucket(error(b"404 Not Found", b"NoSuchKey"), error(b"403 Forbidden", b"AccessDenied"), OK)
    async with opened(bucket, tmp_path) as upstream:
        missing, got = Client("GET", "/a"), Client("GET", "/c")
        await upstream.forward(missing)
        with pytest.raises(Refused) as refusal:
            await upstream.forward(Client("GET", "/b"))
        await upstream.forward(got)
        assert upstream.pool.idling == 1
    assert (missing.status, missing.answer) == (404, b"NoSuchKey\n")
    assert refusal.value.reason is Reason.UPSTREAM_CREDENTIALS
    assert got.answer == b"ok"


async def test_an_error_without_end_is_not_collected(tmp_path: Path) -> None:
    body = b"x" * 100_000
    async with opened(Bucket(b"HTTP/1.1 404 Gone\r\nContent-Length: 100000\r\n\r\n" + body), tmp_path) as upstream:
        with pytest.raises(Unavailable) as refusal:
            await upstream.forward(Client("GET", "/key"))
    assert refusal.value.reason is Reason.UPSTREAM_BROKEN


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (
            error(b"301 Moved", b"PermanentRedirect", b"x-amz-bucket-region: us-west-2\r\nLocation: http://evil/\r\n"),
            "the bucket artifacts is in us-west-2: mend `s3.region` (eu-central-1) and `url`",
        ),
        (
            error(b"307 Temporary", b"TemporaryRedirect", b"Location: https://evil.example/artifacts/key\r\n"),
            "the bucket artifacts is elsewhere: mend `s3.region` (eu-central-1) and `url`",
        ),
    ],
)
async def test_a_redirect_is_followed_by_nobody(tmp_path: Path, answer: bytes, detail: str) -> None:
    bucket = Bucket(answer)
    async with opened(bucket, tmp_path) as upstream:
        client = Client("GET", "/key")
        with pytest.raises(Refused) as refusal:
            await upstream.forward(client)
    assert (refusal.value.reason, refusal.value.detail) == (Reason.UPSTREAM_REDIRECT, detail)
    assert client.status == 0
    assert len(bucket.heads) == 1


async def test_the_stores_clock_is_followed_from_any_answer(tmp_path: Path) -> None:
    bucket = Bucket(OK.replace(b"\r\n", b"\r\n" + DATE, 1))
    ours = NOW.timestamp() - 3600
    async with opened(bucket, tmp_path, clock=lambda: ours) as upstream:
        for _ in range(2):
            await upstream.forward(Client("GET", "/key"))
    assert [lines(head)["x-amz-date"] for head in bucket.heads] == ["20261122T074500Z", "20261122T084500Z"]


@pytest.mark.parametrize("date", [b"", b"Date: whenever\r\n", b"Date: Sun, 22 Nov 2026 08:44:45 GMT\r\n"])
async def test_what_says_nothing_new_moves_no_clock(tmp_path: Path, date: bytes) -> None:
    async with opened(Bucket(OK.replace(b"\r\n", b"\r\n" + date, 1)), tmp_path) as upstream:
        await upstream.forward(Client("GET", "/key"))
        assert upstream.skew == 0


SKEWED = error(b"403 Forbidden", b"RequestTimeTooSkewed", DATE)


async def test_what_was_refused_for_its_time_is_signed_again_once(tmp_path: Path) -> None:
    bucket = Bucket(SKEWED)
    async with opened(bucket, tmp_path, clock=lambda: NOW.timestamp() + 3600) as upstream:
        with pytest.raises(Refused) as refusal:
            await upstream.forward(Client("GET", "/key"))
    assert refusal.value.reason is Reason.UPSTREAM_ERROR
    assert len(bucket.heads) == 2


async def test_a_body_is_not_sent_a_second_time(tmp_path: Path) -> None:
    class Reading(Bucket):
        async def __call__(self, talk: Talk) -> None:
            self.heads.append(await talk.head())
            await talk.reader.readexactly(7)
            talk.say(SKEWED)

    bucket = Reading()
    async with opened(bucket, tmp_path, clock=lambda: NOW.timestamp() + 3600) as upstream:
        with pytest.raises(Refused):
            await upstream.forward(Client("PUT", "/key", body=b"content"))
        assert abs(upstream.skew + 3600) < 5, "the next one will be right"
    assert len(bucket.heads) == 1


async def test_if_range_is_asked_as_if_match_and_then_as_the_whole(tmp_path: Path) -> None:
    bucket = Bucket(error(b"412 Precondition Failed", b"PreconditionFailed"), OK)
    async with opened(bucket, tmp_path) as upstream:
        client = Client("GET", "/key", [(b"Range", b"bytes=5-"), (b"If-Range", b'"tag"')])
        await upstream.forward(client)
    first, second = (lines(head) for head in bucket.heads)
    assert (first["range"], first["if-match"]) == ("bytes=5-", '"tag"')
    assert not {"range", "if-match", "if-range"} & set(second)
    assert client.status == 200


@pytest.mark.parametrize("tag", [b'W/"weak"', b"Sun, 22 Nov 2026 08:45:00 GMT"])
async def test_another_if_range_is_the_whole_at_once(tmp_path: Path, tag: bytes) -> None:
    bucket = Bucket()
    async with opened(bucket, tmp_path) as upstream:
        await upstream.forward(Client("GET", "/key", [(b"Range", b"bytes=5-"), (b"If-Range", tag)]))
    (head,) = bucket.heads
    assert not {"range", "if-match", "if-range"} & set(lines(head))


async def test_existence_is_not_learnt_from_a_refusal(tmp_path: Path) -> None:
    for answer in (b"403 Forbidden", b"400 Bad Request", b"500 Oops", b"301 Moved", b"503 Slow"):
        async with opened(Bucket(error(answer, b"")), tmp_path) as upstream:
            with pytest.raises(Unavailable) as refusal:
                await upstream.exists("/key")
        assert refusal.value.reason is Reason.EXISTENCE_UNKNOWN


async def test_a_body_of_unknown_length_is_refused_before_it_is_invited(tmp_path: Path) -> None:
    bucket = Bucket()
    async with opened(bucket, tmp_path) as upstream:
        client = Client("PUT", "/key", body=b"content", chunked=True)
        with pytest.raises(Refused) as refusal:
            await upstream.forward(client)
    assert refusal.value.reason is Reason.LENGTH_REQUIRED
    assert (client.invited, bucket.heads) == (False, [])


async def test_a_clock_of_ours_that_is_moved_is_noticed_within_the_second(tmp_path: Path) -> None:
    ours = [NOW.timestamp()]
    bucket = Bucket(OK.replace(b"\r\n", b"\r\n" + DATE, 1), SKEWED, OK)
    async with opened(bucket, tmp_path, clock=lambda: ours[0]) as upstream:
        await upstream.forward(Client("GET", "/key"))
        ours[0] += 7200
        client = Client("GET", "/key")
        await upstream.forward(client)
    assert client.answer == b"ok"
    assert lines(bucket.heads[2])["x-amz-date"].startswith("20261122T0845")
