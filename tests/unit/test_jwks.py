"""Keys over real sockets: discovery, rotation, outages, hostile issuers, and how little a caller can make us ask."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from sidecar.credentials import jwk
from sidecar.credentials.jwk import MAX_DOCUMENT
from sidecar.credentials.jwt import JwtVerifier
from sidecar.errors import CredentialRefused, DocumentError, Unavailable
from sidecar.jwks import FileKeys, Pace, RemoteKeys, keys_of
from sidecar.jwks.remote import MAX_MISSING
from sidecar.model import Secret
from sidecar.reasons import Reason
from sidecar.settings import DAY, IssuerSettings
from tests import jose
from tests.ports import free_port
from tests.waiting import until_in_loop as until

FIRST, SECOND = jose.private_key("ES256", "first"), jose.private_key("ES256", "second")
QUICK = Pace(timeout=20.0, soonest=0.02, retry=0.02, retry_latest=0.05, miss=0.0, poll=0.02)
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/keys"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Idp:
    """An issuer that answers as it is told to, and remembers what it was asked."""

    def __init__(self, authority: trustme.CA | None = None) -> None:
        self.authority = authority
        self.keys = [jose.jwk(FIRST, kid="k1")]
        self.answers: dict[str, Callable[[], web.StreamResponse]] = {DISCOVERY: self.discovery, JWKS: self.key_set}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.requests: list[web.BaseRequest] = []
        self.open = asyncio.Event()
        self.open.set()
        self.runner = web.ServerRunner(web.Server(self.handle))
        self.port = free_port()
        self.issuer_path = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://localhost:{self.port}"

    @property
    def issuer(self) -> str:
        return self.url + self.issuer_path

    def discovery(self, **changes: Any) -> web.Response:
        return web.json_response({"issuer": self.issuer, "jwks_uri": self.url + JWKS, **changes})

    def key_set(self) -> web.Response:
        return web.Response(body=jose.key_set(*self.keys), headers=self.headers)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.requests.append(request)
        await self.open.wait()
        answer = self.answers.get(request.path)
        return answer() if answer else web.Response(status=404)

    async def start(self) -> None:
        context = None
        if self.authority:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "localhost", self.port, ssl_context=context)
        await site.start()

    async def stop(self) -> None:
        self.open.set()
        await self.runner.cleanup()


Watch = Callable[..., RemoteKeys]


@pytest.fixture
async def idp() -> AsyncIterator[Idp]:
    server = Idp()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def watch(idp: Idp) -> AsyncIterator[Watch]:
    """Makes key clients of the issuer, and closes them."""
    made = []

    def make(pace: Pace = QUICK, clock: Clock | None = None, **changes: Any) -> RemoteKeys:
        members = {"name": "corp", "issuer": idp.issuer, "audience": "a", "jwks_url": idp.url + JWKS, **changes}
        keys = RemoteKeys(IssuerSettings(**members), pace, clock or Clock())
        made.append(keys)
        return keys

    yield make
    for keys in made:
        await keys.close()


async def refused(keys: RemoteKeys, kid: str = "k1") -> str:
    with pytest.raises(Unavailable) as caught:
        await keys.key(kid, "ES256")
    assert caught.value.reason is Reason.VERIFIER_UNAVAILABLE
    return caught.value.detail


def is_key(key: jwk.Key | None, private: Any) -> bool:
    return key is not None and key.material.public_numbers() == private.public_key().public_numbers()


# --- where the keys are ----------------------------------------------------------------------------------------


async def test_a_pinned_url_is_the_only_thing_asked(idp: Idp, watch: Watch) -> None:
    keys = watch()
    assert keys.find("k1", "ES256") is None
    assert is_key(await keys.key("k1", "ES256"), FIRST)
    assert is_key(keys.find("k1", "ES256"), FIRST)
    assert idp.asked == [JWKS]


async def test_discovery(idp: Idp, watch: Watch) -> None:
    keys = watch(jwks_url=None)
    assert is_key(await keys.key("k1", "ES256"), FIRST)
    assert idp.asked == [DISCOVERY, JWKS]


async def test_discovery_below_a_path(idp: Idp, watch: Watch) -> None:
    idp.issuer_path = "/tenant/"
    idp.answers["/tenant" + DISCOVERY] = idp.discovery
    assert is_key(await watch(jwks_url=None).key("k1", "ES256"), FIRST)


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"issuer": ["http://localhost"]},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": ""},
        {"jwks_uri": "/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "data:application/json,{}"},
        {"jwks_uri": "unix:/run/secret.sock"},
        {"jwks_uri": "http://[::1"},
    ],
)
async def test_discovery_documents_that_arent_believed(idp: Idp, watch: Watch, changes: dict[str, Any]) -> None:
    idp.answers[DISCOVERY] = lambda: idp.discovery(**changes)
    await refused(watch(jwks_url=None))
    assert idp.asked == [DISCOVERY]


async def test_the_issuer_is_compared_exactly(idp: Idp, watch: Watch) -> None:
    idp.answers[DISCOVERY] = lambda: idp.discovery(issuer=idp.issuer + "/")
    assert "another issuer" in await refused(watch(jwks_url=None))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"issuer": 1, "issuer": 2}', b"\xff"])
async def test_discovery_documents_that_are_none(idp: Idp, watch: Watch, body: bytes) -> None:
    idp.answers[DISCOVERY] = lambda: web.Response(body=body)
    await refused(watch(jwks_url=None))


# --- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[Idp, Path]]:
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    server = Idp(authority)
    await server.start()
    yield server, file
    await server.stop()


async def fetched(server: Idp, **changes: Any) -> RemoteKeys:
    keys = RemoteKeys(IssuerSettings(name="corp", issuer=server.issuer, audience="a", **changes), QUICK)
    try:
        await keys.key("k1", "ES256")
    finally:
        await keys.close()
    return keys


async def test_https_with_its_own_authority(tls: tuple[Idp, Path]) -> None:
    server, file = tls
    assert is_key((await fetched(server, ca_file=file)).find("k1", "ES256"), FIRST)


async def test_https_with_the_certificate_of_an_intermediate_authority(tmp_path: Path) -> None:
    middle = trustme.CA().create_child_ca()
    file = tmp_path / "middle.pem"
    middle.cert_pem.write_to_path(str(file))
    server = Idp(middle)
    await server.start()
    try:
        assert is_key((await fetched(server, ca_file=file)).find("k1", "ES256"), FIRST)
    finally:
        await server.stop()


async def test_an_unknown_authority_is_an_outage(tls: tuple[Idp, Path], tmp_path: Path) -> None:
    server, _ = tls
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for ca_file in (None, other, tmp_path / "missing.pem"):
        with pytest.raises(Unavailable):
            await fetched(server, ca_file=ca_file)
    assert server.asked == []


async def test_a_certificate_of_another_name_is_an_outage(tls: tuple[Idp, Path]) -> None:
    server, file = tls
    with pytest.raises(Unavailable):
        await fetched(server, ca_file=file, jwks_url=f"https://localhost.localdomain:{server.port}{JWKS}")


async def test_discovery_over_tls_doesnt_lead_to_plain_http(tls: tuple[Idp, Path]) -> None:
    server, file = tls
    server.answers[DISCOVERY] = lambda: server.discovery(jwks_uri=server.url.replace("https", "http") + JWKS)
    with pytest.raises(Unavailable, match="no jwks_uri with https"):
        await fetched(server, ca_file=file)
    assert server.asked == [DISCOVERY]


# --- hostile and broken answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(idp: Idp, watch: Watch, status: int) -> None:
    idp.answers["/elsewhere"] = idp.key_set
    idp.answers[JWKS] = lambda: web.Response(status=status, headers={"Location": idp.url + "/elsewhere"})
    assert str(status) in await refused(watch())
    assert idp.asked == [JWKS]


@pytest.mark.parametrize("status", [201, 204, 206, 401, 404, 500, 503])
async def test_anything_but_200_is_an_outage(idp: Idp, watch: Watch, status: int) -> None:
    idp.answers[JWKS] = lambda: web.Response(status=status, body=b"" if status == 204 else jose.key_set(*idp.keys))
    assert str(status) in await refused(watch())


def padded(size: int, idp: Idp) -> bytes:
    document = jose.key_set(*idp.keys)
    return document + b" " * (size - len(document))


async def test_the_largest_body(idp: Idp, watch: Watch) -> None:
    idp.answers[JWKS] = lambda: web.Response(body=padded(MAX_DOCUMENT, idp))
    assert await watch().key("k1", "ES256") is not None
    idp.answers[JWKS] = lambda: web.Response(body=padded(MAX_DOCUMENT + 1, idp))
    assert "more than" in await refused(watch())


async def test_a_body_without_end_is_cut_off(idp: Idp, watch: Watch) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    server = web.ServerRunner(web.Server(endless))
    await server.setup()
    port = free_port()
    site = web.TCPSite(server, "localhost", port)
    await site.start()
    try:
        url = f"http://localhost:{port}/"
        assert "more than" in await refused(watch(jwks_url=url))
        assert sent < 64 * MAX_DOCUMENT
    finally:
        await server.cleanup()


async def test_a_compressed_body_is_not_unpacked(idp: Idp, watch: Watch) -> None:
    def bomb() -> web.Response:
        response = web.Response(body=jose.key_set(*idp.keys))
        response.enable_compression(web.ContentCoding.gzip)
        response.headers["Content-Encoding"] = "gzip"
        return response

    idp.answers[JWKS] = bomb
    assert "compressed" in await refused(watch())


async def test_a_silent_issuer_is_given_up(idp: Idp, watch: Watch) -> None:
    idp.open.clear()
    assert "Timeout" in await refused(watch(Pace(timeout=0.05)))


async def test_sets_that_cant_be_read_and_keys_that_cant_be_used(idp: Idp, watch: Watch) -> None:
    for body in (b"", b"{}", b'{"keys": 1}', json.dumps({"keys": [jose.jwk(FIRST)] * 65}).encode()):
        idp.answers[JWKS] = lambda body=body: web.Response(body=body)
        await refused(watch())
    idp.keys += [jose.jwk(SECOND, kid="enc", use="enc"), jose.jwk(SECOND, kid="private", d="AQAB"), "junk"]  # type: ignore[list-item]
    idp.answers[JWKS] = idp.key_set
    keys = watch()
    assert await keys.key("k1", "ES256") is not None
    assert await keys.key("enc", "ES256") is None
    assert await keys.key("private", "ES256") is None
    assert (keys.status().keys, keys.status().ignored) == (1, 3)


async def test_proxies_of_the_environment_are_not_used(idp: Idp, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await watch().key("k1", "ES256") is not None


async def test_cookies_and_credentials_are_not_sent(idp: Idp, watch: Watch) -> None:
    idp.headers = {"Set-Cookie": "a=b"}
    keys = watch()
    await keys.key("k1", "ES256")
    await keys.key("k2", "ES256")
    assert len(idp.requests) == 2
    for request in idp.requests:
        assert not {"Cookie", "Authorization", "Referer"} & set(request.headers)


# --- how often the issuer is asked -----------------------------------------------------------------------------


async def test_one_flight_for_everybody_who_waits(idp: Idp, watch: Watch) -> None:
    keys = watch()
    idp.open.clear()
    waiting = [asyncio.create_task(keys.key("k1", "ES256")) for _ in range(50)]
    await until(lambda: idp.asked)
    idp.open.set()
    assert all(is_key(key, FIRST) for key in await asyncio.gather(*waiting))
    assert idp.asked == [JWKS]


async def test_a_client_that_leaves_doesnt_take_the_fetch_along(idp: Idp, watch: Watch) -> None:
    keys = watch()
    idp.open.clear()
    leaving, staying = (asyncio.create_task(keys.key("k1", "ES256")) for _ in range(2))
    await until(lambda: idp.asked)
    leaving.cancel()
    await asyncio.wait([leaving])
    idp.open.set()
    assert is_key(await staying, FIRST)
    assert idp.asked == [JWKS]


async def test_a_new_kid_is_looked_for_at_once_then_at_most_every_30_seconds(idp: Idp, watch: Watch) -> None:
    clock = Clock()
    keys = watch(Pace(), clock)
    await keys.key("k1", "ES256")
    clock.now += 30
    idp.keys = [jose.jwk(SECOND, kid="k2")]
    assert is_key(await keys.key("k2", "ES256"), SECOND)
    assert await keys.key("k1", "ES256") is None, "rotated out"
    assert len(idp.asked) == 2
    for step in range(300):
        clock.now += 0.125
        assert await keys.key(f"guess-{step}", "ES256") is None
    assert len(idp.asked) == 3, "300 unknown names in 37.5 seconds are one fetch"


async def test_a_kid_that_was_looked_for_asks_for_nothing_for_a_minute(idp: Idp, watch: Watch) -> None:
    clock = Clock()
    keys = watch(Pace(), clock)
    for expected, seconds in [(1, 0), (1, 29), (2, 30), (2, 31), (2, 89), (3, 91)]:
        clock.now = 1000.0 + seconds
        assert await keys.key("nobody", "ES256") is None
        assert len(idp.asked) == expected, seconds


async def test_a_kid_that_was_looked_for_too_early_works_when_it_appears(idp: Idp, watch: Watch) -> None:
    clock = Clock()
    keys = watch(Pace(), clock)
    await keys.key("k1", "ES256")
    clock.now += 30
    assert await keys.key("k2", "ES256") is None
    idp.keys.append(jose.jwk(SECOND, kid="k2"))
    clock.now += 30
    assert await keys.key("other", "ES256") is None
    assert is_key(keys.find("k2", "ES256"), SECOND)


async def test_the_memory_of_unknown_kids_is_bounded(idp: Idp, watch: Watch) -> None:
    keys = watch()
    for step in range(MAX_MISSING + 1):
        await keys.key(f"guess-{step}", "ES256")
    asked = len(idp.asked)
    await keys.key(f"guess-{MAX_MISSING}", "ES256")
    assert len(idp.asked) == asked
    await keys.key("guess-0", "ES256")
    assert len(idp.asked) == asked + 1


async def test_a_known_kid_with_another_algorithm_asks_for_nothing(idp: Idp, watch: Watch) -> None:
    keys = watch()
    assert await keys.key("k1", "RS256") is None
    assert await keys.key(None, "RS256") is None
    assert idp.asked == [JWKS]


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        (None, 300),
        ("max-age=60", 300),
        ("max-age=1000", 800),
        ("public, MAX-AGE=1000, must-revalidate", 800),
        ("max-age=999999999", DAY),
        ("max-age=99999999999999999999", 300),
        ("max-age=-1", 300),
        ("max-age=junk", 300),
        ("s-maxage=9000", 300),
        ("x-max-age=9000", 300),
        ("no-store, max-age=9000", 300),
        ("no-cache, max-age=9000", 300),
    ],
)
async def test_when_a_set_is_fetched_again(idp: Idp, watch: Watch, cache_control: str | None, seconds: float) -> None:
    """Seen from outside: after that time and the day of grace the set isn't believed any longer."""
    idp.headers = {"Cache-Control": cache_control} if cache_control else {}
    clock = Clock()
    keys = watch(Pace(), clock)
    await keys.key("k1", "ES256")
    clock.now += seconds + DAY - 1
    assert keys.find("k1", "ES256") is not None
    clock.now += 1
    assert keys.find("k1", "ES256") is None


async def test_keys_are_kept_fresh_in_the_background(idp: Idp, watch: Watch) -> None:
    keys = watch()
    await keys.start()
    await until(lambda: keys.find("k1", "ES256"))
    before = keys.generation
    idp.keys = [jose.jwk(SECOND, kid="k2")]
    await until(lambda: keys.find("k2", "ES256"))
    assert keys.find("k1", "ES256") is None
    assert keys.generation != before


async def test_the_generation_stands_still_while_the_keys_do(idp: Idp, watch: Watch) -> None:
    keys = watch()
    await keys.start()
    await until(lambda: keys.generation)
    before = keys.generation
    await until(lambda: len(idp.asked) >= 4)
    assert keys.generation == before


# --- outages ---------------------------------------------------------------------------------------------------


async def test_start_doesnt_wait_for_an_issuer_that_is_down(idp: Idp, watch: Watch) -> None:
    await idp.stop()
    keys = watch()
    await asyncio.wait_for(keys.start(), 20)
    await refused(keys)
    assert not keys.status().usable
    back = Idp()
    back.port = idp.port
    await back.start()
    try:
        await until(lambda: keys.find("k1", "ES256"))
        assert keys.status().usable
    finally:
        await back.stop()


async def test_an_outage_keeps_the_keys_for_a_day_and_says_so(
    idp: Idp, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    keys = watch(QUICK, clock)
    await keys.start()
    await until(lambda: keys.status().fetches >= 2)
    idp.answers[JWKS] = lambda: web.Response(status=500)
    with caplog.at_level(logging.INFO):
        await until(lambda: keys.status().failures >= 3)
    assert len([line for line in caplog.records if line.name == "sidecar.jwks.remote"]) == 1, (
        "one line for an outage, not one for each attempt"
    )
    clock.now += DAY - 1
    assert is_key(await keys.key("k1", "ES256"), FIRST)
    status = keys.status()
    assert status.usable
    assert "500" in status.last_error
    assert status.age == pytest.approx(DAY - 1, abs=1)
    clock.now += 2
    assert keys.find("k1", "ES256") is None
    assert "500" in await refused(keys)
    assert not keys.status().usable
    idp.answers[JWKS] = idp.key_set
    await until(lambda: keys.find("k1", "ES256"))
    assert keys.status().last_error == ""


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>maintenance</html>"])
async def test_a_broken_answer_takes_no_key_away(idp: Idp, watch: Watch, body: bytes) -> None:
    """CVE-2026-48524: one failed fetch emptied the cache of another client."""
    keys = watch()
    await keys.key("k1", "ES256")
    idp.answers[JWKS] = lambda: web.Response(body=body)
    await refused(keys, "k2")
    assert is_key(await keys.key("k1", "ES256"), FIRST)


async def test_an_empty_set_is_an_answer(idp: Idp, watch: Watch) -> None:
    """An issuer that withdraws all its keys is believed."""
    keys = watch()
    await keys.key("k1", "ES256")
    idp.keys = []
    assert await keys.key("k2", "ES256") is None
    assert await keys.key("k1", "ES256") is None


async def test_an_unknown_kid_is_no_verdict_while_the_issuer_cant_be_asked(idp: Idp, watch: Watch) -> None:
    clock = Clock()
    keys = watch(Pace(), clock)
    await keys.key("k1", "ES256")
    idp.answers[JWKS] = lambda: web.Response(status=500)
    clock.now += 30
    await refused(keys, "k2")
    await refused(keys, "k2")
    assert len(idp.asked) == 2
    idp.answers[JWKS] = idp.key_set
    clock.now += 30
    assert await keys.key("k2", "ES256") is None


async def test_callers_dont_hammer_an_issuer_that_is_down(idp: Idp, watch: Watch) -> None:
    clock = Clock()
    idp.answers[JWKS] = lambda: web.Response(status=500)
    keys = watch(Pace(), clock)
    for _ in range(20):
        await refused(keys)
    assert len(idp.asked) == 1
    clock.now += 1
    await refused(keys)
    assert len(idp.asked) == 2


async def test_close_ends_what_is_under_way(idp: Idp, watch: Watch) -> None:
    idp.open.clear()
    keys = watch()
    await keys.start()
    await until(lambda: idp.asked)
    await asyncio.wait_for(keys.close(), 20)
    assert not [task for task in asyncio.all_tasks() if "corp" in task.get_name()]


# --- files -----------------------------------------------------------------------------------------------------


def file_keys(path: Path, content: bytes, **changes: Any) -> FileKeys:
    path.write_bytes(content)
    kind = changes.pop("kind", "jwks_file")
    settings = IssuerSettings(name="corp", issuer="https://i", audience="a", **{kind: path}, **changes)
    made = keys_of(settings)
    assert isinstance(made, FileKeys)
    return FileKeys(settings, QUICK)


@pytest.mark.parametrize(
    ("kind", "content", "algorithm"),
    [
        ("jwks_file", jose.key_set(jose.jwk(FIRST)), "ES256"),
        ("pem_file", jose.pem(FIRST), "ES256"),
        ("secret_file", b"s" * 32, "HS256"),
    ],
)
async def test_files(tmp_path: Path, kind: str, content: bytes, algorithm: str) -> None:
    keys = file_keys(tmp_path / "keys", content, kind=kind)
    assert keys.find("k1", algorithm) is None
    assert (await keys.key("k1", algorithm)) is keys.find("k1", algorithm) is not None
    assert keys.status().usable


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("jwks_file", b""),
        ("jwks_file", b'{"keys": []}'),
        ("jwks_file", jose.key_set(jose.jwk(FIRST, use="enc"))),
        ("jwks_file", b" " * (MAX_DOCUMENT + 1)),
        ("pem_file", b"junk"),
        ("secret_file", b"short"),
        ("secret_file", jose.pem(FIRST)),
    ],
)
async def test_a_file_that_cant_be_used_stops_the_start_and_never_verifies(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    keys = file_keys(tmp_path / "keys", content, kind=kind)
    with pytest.raises(DocumentError) as caught:
        await keys.start()
    assert str(tmp_path / "keys") in str(caught.value)
    with pytest.raises(Unavailable):
        await keys.key("k1", "ES256")
    assert not keys.status().usable


async def test_a_file_that_isnt_there(tmp_path: Path) -> None:
    keys = file_keys(tmp_path / "keys", b"")
    (tmp_path / "keys").unlink()
    with pytest.raises(DocumentError, match="No such file"):
        await keys.start()


async def test_a_file_is_read_again_when_it_changes_and_a_bad_one_takes_no_key_away(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = file_keys(path, jose.key_set(jose.jwk(FIRST, kid="k1")))
    await keys.start()
    try:
        before = keys.generation
        path.write_bytes(b"{")
        await until(lambda: keys.status().last_error)
        assert is_key(keys.find("k1", "ES256"), FIRST)
        path.unlink()
        await until(lambda: "No such file" in keys.status().last_error)
        assert is_key(keys.find("k1", "ES256"), FIRST)
        path.write_bytes(jose.key_set(jose.jwk(SECOND, kid="k2")))
        await until(lambda: keys.find("k2", "ES256"))
        assert keys.find("k1", "ES256") is None
        assert keys.generation != before
        await until(lambda: not keys.status().last_error)
    finally:
        await keys.close()


async def test_a_file_that_comes_back_unchanged_is_no_error_any_longer(tmp_path: Path) -> None:
    path, content = tmp_path / "keys", jose.key_set(jose.jwk(FIRST))
    keys = file_keys(path, content)
    await keys.start()
    try:
        path.unlink()
        await until(lambda: keys.status().last_error)
        path.write_bytes(content)
        await until(lambda: not keys.status().last_error)
    finally:
        await keys.close()


def test_which_source_an_issuer_gets() -> None:
    url = IssuerSettings(name="i", issuer="https://i", audience="a", jwks_url="https://i/keys")
    assert isinstance(keys_of(url), RemoteKeys)
    assert isinstance(keys_of(IssuerSettings(name="i", issuer="https://i", audience="a")), RemoteKeys)


# --- together --------------------------------------------------------------------------------------------------


async def test_a_token_from_the_socket_to_the_principal_and_its_key_rotated_away(idp: Idp, watch: Watch) -> None:
    now = 1_800_000_000.0
    keys = watch(jwks_url=None)
    settings = IssuerSettings(name="corp", issuer=idp.issuer, audience="a")
    verifier = JwtVerifier([(settings, keys)])
    claims = {"iss": idp.issuer, "aud": "a", "sub": "ada", "iat": now, "exp": now + 60}
    token = Secret(jose.sign({"alg": "ES256", "kid": "k1"}, claims, FIRST, "ES256"))
    principal = await verifier.verify(token, now)
    assert principal is not None
    assert principal.subject == "ada"
    before = verifier.generation
    idp.keys = [jose.jwk(SECOND, kid="k2")]
    await keys.start()
    await until(lambda: verifier.generation != before)
    with pytest.raises(CredentialRefused):
        await verifier.verify(token, now)
