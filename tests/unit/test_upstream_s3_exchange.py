"""Between the store and the client: an object passes untouched, an error never reaches the client by itself."""

import pytest

from sidecar.errors import Unavailable
from sidecar.upstream.s3_errors import MAX_BODY
from sidecar.upstream.s3_exchange import S3Exchange
from tests.unit.relays import Client

DATE = (b"Date", b"Sun, 22 Nov 2026 08:45:00 GMT")


def between(client: Client) -> tuple[S3Exchange, list[bytes]]:
    heard: list[bytes] = []
    return S3Exchange(client, "/bucket/key", (), heard.append), heard


def test_a_body_goes_to_the_client_as_it_comes() -> None:
    client = Client("GET", "/key")
    exchange, heard = between(client)
    exchange.start(200, [(b"ETag", b'"a"'), (b"x-amz-id-2", b"b"), DATE], 4)
    exchange.write(b"ab")
    assert client.pieces == [b"ab"], "nothing is kept back"
    exchange.write(b"cd")
    exchange.finish()
    assert (client.status, client.answer, client.finished) == (200, b"abcd", True)
    assert set(client.answer_headers) == {"etag", "date"}
    assert heard == [DATE[1]]
    assert exchange.error is None


@pytest.mark.parametrize("congested", [True, False])
def test_the_clients_pace_is_the_stores(congested: bool) -> None:
    client = Client("GET", "/key")
    client.congested = congested
    assert between(client)[0].congested is congested


async def test_an_error_is_collected_and_the_client_hears_nothing_of_it() -> None:
    client = Client("GET", "/key")
    exchange, heard = between(client)
    exchange.start(403, [DATE, (b"x-amz-request-id", b"1")], None)
    exchange.write(b"<Code>Access")
    exchange.write(b"Denied</Code>")
    await exchange.drain()
    assert await exchange.sink() is None
    assert exchange.error is None, "it has not ended"
    exchange.finish()
    assert exchange.error is not None
    assert (exchange.error.status, exchange.error.code) == (403, "AccessDenied")
    assert (client.status, client.pieces, client.finished) == (0, [], False)
    assert heard == [DATE[1]]


def test_an_error_without_end_ends_the_exchange() -> None:
    exchange, _ = between(Client("GET", "/key"))
    exchange.start(500, [], None)
    exchange.write(b"x" * MAX_BODY)
    with pytest.raises(Unavailable):
        exchange.write(b"x")


def test_an_unmodified_object_is_not_said_to_be_empty() -> None:
    client = Client("GET", "/key")
    exchange, _ = between(client)
    exchange.start(304, [(b"ETag", b'"a"')], 0)
    exchange.finish()
    assert (client.status, client.length, client.answer_headers) == (304, None, {"etag": '"a"'})


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_answer_to_a_write_is_not_described_as_a_body(method: str) -> None:
    client = Client(method, "/key")
    exchange, _ = between(client)
    exchange.start(200, [(b"Content-Type", b"text/html"), (b"ETag", b'"a"')], 0)
    assert client.answer_headers == {"etag": '"a"'}
