"""What stands between a store and a client: a body that is held to its digest, an answer that the client can bear."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused, Unavailable
from sidecar.ports import HeaderList
from sidecar.profiles import PROFILES, LocalAnswer
from sidecar.reasons import Reason
from sidecar.server.exchange import Exchange
from sidecar.server.through import Creating, Held, Own, Told, Verified


class Client:
    """Sends `pieces`, and keeps what it is told."""

    def __init__(self, pieces: Sequence[bytes] = (), *, method: str = "PUT", length: int | None = None) -> None:
        self.method, self.upstream_path = method, "/keys/a"
        self.headers: HeaderList = ()
        self.content_length = length if length is not None or pieces else 0
        self._pieces = list(pieces)
        self.status = 0
        self.told: HeaderList = ()
        self.length: int | None = None
        self.body = b""
        self.finished = False
        self.upstream_status: int | None = None

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        self.status, self.told, self.length = status, headers, length
        self.upstream_status = status

    def write(self, data: bytes) -> None:
        self.body += data

    congested = False

    async def drain(self) -> None: ...

    async def sink(self) -> int | None:
        return 7

    def sank(self, size: int) -> None: ...

    def finish(self) -> None:
        self.finished = True


def told(client: Client, profile: str = "nx", missing: LocalAnswer | None = None) -> Told:
    exchange: Exchange = client  # type: ignore[assignment]  # as much of one as is asked for
    return Told(exchange, PROFILES[profile], missing)


@pytest.mark.parametrize("status", [200, 201, 204, 403, 409, 500])
def test_whoever_creates_hears_what_the_store_says(status: int) -> None:
    client = Client([b"x"])
    exchange: Exchange = client  # type: ignore[assignment]
    Creating(exchange).start(status, [(b"ETag", b"e")], 0)
    assert (client.status, client.told) == (status, [(b"ETag", b"e")])


def test_whoever_loses_a_race_hears_that_the_key_is_there() -> None:
    client = Client([b"x"])
    exchange: Exchange = client  # type: ignore[assignment]
    with pytest.raises(Refused) as refused:
        Creating(exchange).start(412, [], 0)
    assert (refused.value.reason, client.status, client.upstream_status) == (Reason.EXISTS, 0, 412)


async def sent(body: Verified) -> tuple[list[bytes], Reason | None]:
    pieces: list[bytes] = []
    try:
        while piece := await body.read():
            pieces.append(piece)
    except Refused as refused:
        return pieces, refused.reason
    return pieces, None


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6))
async def test_a_right_body_passes_whole(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    passed, refused = await sent(Verified(Client(pieces, length=len(body)), hashlib.sha256(body).hexdigest()))
    assert (b"".join(passed), refused) == (body, None)


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6), st.booleans())
async def test_a_wrong_body_never_comes_to_its_end(pieces: list[bytes], chunked: bool) -> None:
    """The last bytes stay here, so that the length that the store was told is never reached."""
    body = b"".join(pieces)
    client = Client(pieces, length=None if chunked else len(body))
    client.content_length = None if chunked else len(body)
    passed, refused = await sent(Verified(client, hashlib.sha256(body + b"!").hexdigest()))
    assert refused is Reason.BODY_MISMATCH
    assert len(b"".join(passed)) < len(body)


async def test_an_empty_body() -> None:
    empty = hashlib.sha256().hexdigest()
    assert await Verified(Client(), empty).read() == b""
    with pytest.raises(Refused) as refused:
        Verified(Client(), "0" * 64)
    assert refused.value.reason is Reason.BODY_MISMATCH
    chunked = Client()
    chunked.content_length = None
    assert await sent(Verified(chunked, "0" * 64)) == ([], Reason.BODY_MISMATCH)


async def test_a_store_that_is_content_before_it_had_everything_is_not_believed() -> None:
    client = Client([b"ab", b"c"], length=3)
    body = Verified(client, hashlib.sha256(b"abc").hexdigest())
    assert await body.read() == b"ab"
    with pytest.raises(Unavailable):
        body.start(201, (), 0)
    body.start(403, (), 0)
    assert client.status == 403


async def test_what_comes_after_the_end_is_the_end() -> None:
    body = Verified(Client([b"abc"], length=3), hashlib.sha256(b"abc").hexdigest())
    assert [await body.read() for _ in range(3)] == [b"abc", b"", b""]


def test_a_status_that_becomes_another() -> None:
    client = Client()
    answer = told(client)
    answer.start(201, [(b"Location", b"/elsewhere"), (b"ETag", b'"a"')], 2)
    answer.write(b"ok")
    answer.finish()
    assert (client.status, client.told, client.length, client.body) == (200, [(b"ETag", b'"a"')], 2, b"ok")
    assert (client.upstream_status, client.finished) == (201, True)


@pytest.mark.parametrize("status", [204, 205])
def test_an_answer_without_a_body_gets_an_empty_one(status: int) -> None:
    client = Client()
    told(client).start(status, (), None)
    assert (client.status, client.length) == (200, 0)


def test_a_status_that_is_a_refusal() -> None:
    client = Client()
    with pytest.raises(Refused) as refused:
        told(client).start(503, (), 5)
    assert refused.value.reason is Reason.UPSTREAM_ERROR
    assert (client.status, client.upstream_status) == (0, 503)


@pytest.mark.parametrize("status", [401, 407])
def test_what_is_about_our_credentials_is_left_to_the_exchange(status: int) -> None:
    for method in ("GET", "PUT"):
        client = Client(method=method)
        told(client).start(status, (), 0)
        assert client.status == status


async def test_what_is_said_where_nothing_is() -> None:
    client = Client(method="GET")
    answer = told(client, "nix", LocalAnswer(200, ((b"a", b"b"),), b"here"))
    answer.start(404, [(b"c", b"d")], 9)
    answer.write(b"not found")
    assert await answer.sink() is None
    answer.finish()
    assert (client.status, client.told, client.length, client.body) == (200, ((b"a", b"b"),), 4, b"here")
    assert (client.upstream_status, client.finished) == (404, True)


async def test_what_needs_no_word_of_ours_passes() -> None:
    client = Client(method="GET")
    answer = told(client)
    answer.start(200, [(b"Location", b"x")], 1)
    assert await answer.sink() == 7
    answer.write(b"a")
    answer.finish()
    assert (client.status, client.told, client.body) == (200, [(b"Location", b"x")], b"a")


def test_headers_from_beside_are_for_a_store_that_kept_none() -> None:
    for own, expected in (([], b"ours"), ([(b"X-Artifact-Tag", b"theirs")], b"theirs")):
        client = Client(method="GET")
        answer = told(client, "turborepo")
        answer.beside = [(b"x-artifact-tag", b"ours")]
        answer.start(200, own, 0)
        assert [value for _, value in client.told] == [expected]
        assert answer.store_keeps is bool(own)
    missing = Client(method="GET")
    answer = told(missing, "turborepo")
    answer.beside = [(b"x-artifact-tag", b"ours")]
    answer.start(404, (), 0)
    assert missing.told == ()


async def test_an_exchange_of_our_own() -> None:
    own = Own("PUT", "/keys/b", body=b"small")
    assert (own.content_length, await own.read(), await own.read()) == (5, b"small", b"")
    own.start(200, [(b"a", b"b")], None)
    own.write(b"one ")
    own.write(b"two")
    client = Client()
    with pytest.raises(Unavailable):
        own.tell(client)
    own.finish()
    own.tell(client)
    assert (client.status, client.length, client.body, client.finished) == (200, 7, b"one two", True)


def test_an_answer_that_is_too_long_for_us() -> None:
    own = Own("GET", "/", limit=3)
    own.write(b"abc")
    with pytest.raises(Unavailable):
        own.write(b"d")
    head = Own("HEAD", "/", limit=0)
    head.write(b"a careless store")
    assert head.body == b""


async def test_an_upload_whose_answer_waits() -> None:
    client = Client([b"body"], length=4)
    held = Held(client)
    assert (held.method, held.content_length, await held.read()) == ("PUT", 4, b"body")
    held.start(201, (), 0)
    held.finish()
    assert client.status == 0
    held.tell(client)
    assert client.status == 201
