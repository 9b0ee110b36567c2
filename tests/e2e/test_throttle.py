"""Bad tokens are throttled by network, good ones never are: the real process, with clients of one and of several addresses."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.process import SidecarProcess, until

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
anonymous: read
ci_tokens: read-write
"""
BUCKET = """
workspace: models
routes: [{path: /models, client: s3, upstream: bucket, upstream_path: /models}]
ci_tokens: read-write
"""
BURST = 20
NOISE = "asc_ci_AAAAAAAAAAAA_" + "A" * 49


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    process = SidecarProcess(
        tmp_path_factory.mktemp("throttle"),
        upstreams='  local: {url: "file://./data"}',
        policies={"web.yaml": POLICY},
        more=f"failed_credentials: {{burst: {BURST}, per_minute: 6}}",
    )
    process.start()
    yield process
    process.kill()


def from_address(sidecar: SidecarProcess, address: str, headers: dict[str, str], path: str = "/web/none") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20, source_address=(address, 0))
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        return Answer(response.status, [(name.lower(), value) for name, value in response.getheaders()], body)
    finally:
        connection.close()


def plausible(number: int) -> str:
    """A token whose checksum is right, so that only the store can tell that it doesn't exist."""
    from sidecar.credentials.opaque import checksum

    body = f"asc_ci_{number:012d}_" + "A" * 43
    return body + checksum(body)


def flood(sidecar: SidecarProcess, address: str) -> Answer:
    for number in range(BURST + 1):
        answer = from_address(sidecar, address, bearer(plausible(number)))
    return answer


def test_too_many_bad_tokens_are_a_429_and_a_good_one_passes(sidecar: SidecarProcess) -> None:
    good, late = sidecar.token(), sidecar.token()
    statuses = [from_address(sidecar, "127.0.0.2", bearer(NOISE)).status for _ in range(BURST + 5)]
    assert statuses == [401] * BURST + [429] * 5
    refused = from_address(sidecar, "127.0.0.2", basic("x", NOISE))
    assert (refused.status, refused.reason) == (429, "throttled")
    assert 1 <= int(refused.header("retry-after") or "") <= 10
    assert refused.all("www-authenticate") == []
    assert b"bad tokens came from your network" in refused.body
    for _ in range(3):
        assert from_address(sidecar, "127.0.0.2", bearer(good)).status == 404
    assert from_address(sidecar, "127.0.0.2", basic("x", late)).status == 404
    assert from_address(sidecar, "127.0.0.2", {}).status == 404  # anonymous may read


@pytest.mark.parametrize(
    ("client", "status", "waits"),
    [
        ("plain", 429, 1),
        ("webdav", 429, 1),
        ("turborepo", 429, 1),
        ("bazel", 429, 1),
        ("gradle", 429, 1),
        ("nix", 503, 1),
        ("nx", 401, 0),
    ],
)
def test_each_client_is_told_in_its_form_and_at_most_once_how_long_to_wait(
    sidecar: SidecarProcess, client: str, status: int, waits: int
) -> None:
    policy = f"workspace: {client}\nroutes: [{{path: /{client}, client: {client}, upstream: local}}]\n"
    (sidecar.folder / "policies" / f"{client}.yaml").write_text(policy)
    until(lambda: ask(sidecar.port, "GET", f"/{client}/a").reason != "no_route")
    flood(sidecar, "127.0.0.7")
    path = {"nx": "v1/cache/1", "turborepo": "v8/artifacts/0123456789abcdef", "nix": "nix-cache-info"}.get(client, "a")
    refused = from_address(sidecar, "127.0.0.7", bearer(NOISE), f"/{client}/{path}")
    assert (refused.status, refused.reason) == (status, "throttled")
    assert len(refused.all("retry-after")) == waits


def test_another_address_is_another_network(sidecar: SidecarProcess) -> None:
    assert flood(sidecar, "127.0.0.3").status == 429
    assert from_address(sidecar, "127.0.0.4", bearer(NOISE)).status == 401


def test_whoever_holds_a_revoked_token_is_told_so(sidecar: SidecarProcess) -> None:
    revoked = sidecar.token()
    assert from_address(sidecar, "127.0.0.5", bearer(revoked)).status == 404
    sidecar.revoke(revoked)
    until(lambda: from_address(sidecar, "127.0.0.5", bearer(revoked)).status == 401)
    assert flood(sidecar, "127.0.0.5").status == 429
    assert from_address(sidecar, "127.0.0.5", bearer(revoked)).reason == "revoked"


def test_the_log_says_why_and_is_not_filled(sidecar: SidecarProcess) -> None:
    assert flood(sidecar, "127.0.0.6").status == 429
    assert sidecar.metric('sidecar_decisions_total{decision="unauthenticated",reason="throttled"}') >= 1

    def about() -> list[dict[str, Any]]:
        return [record for record in sidecar.audit() if record["client"]["ip"] == "127.0.0.6"]

    (record,) = until(about)
    assert record["reason"] == "bad_token"


def test_good_tokens_pass_in_the_middle_of_a_flood(sidecar: SidecarProcess) -> None:
    """Each is new to the process, so that each has to be looked up while others from its address keep it busy."""
    good = [sidecar.token() for _ in range(5)]
    flood(sidecar, "127.0.0.7")
    over = threading.Event()

    def guess(first: int) -> None:
        number = first
        while not over.is_set():
            number += 1
            assert from_address(sidecar, "127.0.0.7", bearer(plausible(number))).status in (401, 429)

    guessing = [threading.Thread(target=guess, args=(1_000_000 * each,)) for each in range(1, 9)]
    for thread in guessing:
        thread.start()
    try:
        assert [from_address(sidecar, "127.0.0.7", bearer(token)).status for token in good] == [404] * 5
    finally:
        over.set()
        for thread in guessing:
            thread.join()


def test_requests_bytes_and_streams_are_limited(tmp_path: Path) -> None:
    process = SidecarProcess(
        tmp_path,
        upstreams='  local: {url: "file://./data"}\n  bucket: {url: "http://127.0.0.1:1"}',
        policies={
            "web.yaml": POLICY + "rate_limits: {workspace: {bytes: 1MiB/d}, token: {streams: 1}}\n",
            "models.yaml": BUCKET,
        },
        more="rate_limits: {token: {requests: 5/d}}",
    ).start()
    try:
        lists = process.token(workspaces=("models",))
        listed = [
            ask(process.port, "GET", "/", bearer(lists)) for _ in range(6)
        ]  # of no workspace, so that none counts it
        assert [each.status for each in listed] == [200] * 5 + [503]
        assert b"<Code>SlowDown</Code>" in listed[-1].body
        assert listed[-1].header("retry-after") is not None
        one, other, third = process.token(), process.token(), process.token()
        assert [ask(process.port, "GET", "/web/none", bearer(one)).status for _ in range(6)] == [404] * 5 + [429]
        refused = ask(process.port, "PUT", "/web/a", bearer(one), b"content")
        assert (refused.status, refused.reason) == (429, "rate_limited")
        assert 10_000 < int(refused.header("retry-after") or "") <= 86_400
        with process.connect() as half_sent:
            half_sent.sendall(b"PUT /web/b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nAuthorization: Bearer ")
            half_sent.sendall(other.encode() + b"\r\n\r\nx")
            until(lambda: ask(process.port, "GET", "/web/none", bearer(other)).status == 429)
            assert process.metric('sidecar_rate_limited_total{limit="streams",scope="token"}') >= 1
        assert ask(process.port, "PUT", "/web/large", bearer(third), bytes(2_000_000)).status == 201
        until(lambda: ask(process.port, "GET", "/web/large", {}).status == 429)  # the workspace's bytes are used up
        assert process.metric('sidecar_rate_limited_total{limit="requests",scope="token"}') == 3
        assert process.metric('sidecar_rate_limited_total{limit="bytes",scope="workspace"}') >= 1
        assert process.metric('sidecar_decisions_total{decision="deny",reason="rate_limited"}') >= 4
        records = until(lambda: [each for each in process.audit() if each["reason"] == "rate_limited"])
        assert records[0]["decision"]["detail"] == "requests of the token"
        assert records[0]["actor"]["type"] == "ci"
    finally:
        process.kill()


def test_it_is_on_by_default(tmp_path: Path) -> None:
    process = SidecarProcess(
        tmp_path, upstreams='  local: {url: "file://./data"}', policies={"web.yaml": POLICY}
    ).start()
    try:
        assert 429 in {ask(process.port, "GET", "/web/none", bearer(NOISE)).status for _ in range(300)}
    finally:
        process.kill()
