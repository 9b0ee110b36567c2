"""Who an S3 request is by, as unmodified clients sign it and over real sockets: an access key, a session token or a plain token;
whatever is signed wrongly is refused before the store hears of it, and no credential ever reaches the store or what is written."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec import Struct

from sidecar import sigv4
from sidecar.model import Secret
from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.echo_store import EchoStore
from tests.e2e.process import SidecarProcess, until

REGION = "eu-central-1"
POLICY = """
workspace: web
routes: [{path: /bkt, client: s3, upstream: store}]
anonymous: read
ci_tokens: read-write
rules:
  - {name: no reports by access key, deny: [read], kinds: [access_key], path: reports/**}
"""
AWS_SESSION = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDnotours" * 4
SOON = 20.0
"""Seconds for what takes a moment."""


class House(Struct):
    sidecar: SidecarProcess
    store: EchoStore
    key_id: str
    secret: str
    token: str

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.sidecar.port}"

    def client(
        self, key_id: str | None = None, secret: str | None = None, token: str | None = None, **config: Any
    ) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"http://{self.host}",
            region_name=REGION,
            aws_access_key_id=key_id or self.key_id,
            aws_secret_access_key=secret or self.secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, **config),
        )

    def signer(self, secret: str | None = None, region: str = REGION) -> sigv4.Signer:
        return sigv4.Signer(self.key_id, Secret(secret or self.secret), region)

    def signed(
        self, method: str = "GET", path: str = "/bkt/a", now: float | None = None, **headers: str
    ) -> dict[str, str]:
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        added = self.signer().sign(method, path, "", sent, now or time.time(), host=self.host)
        return {name.decode(): value.decode() for name, value in [*sent, *added]}

    def presigned(self, path: str = "/bkt/a", now: float | None = None, expires: int = 600, **signer: str) -> str:
        query = self.signer(**signer).presign("GET", path, "", now or time.time(), host=self.host, expires=expires)
        return f"{path}?{query}"

    def ask(self, headers: dict[str, str], path: str = "/bkt/a", method: str = "GET") -> Answer:
        return ask(self.sidecar.port, method, path, headers)

    def actor(self, path: str) -> dict[str, Any]:
        """Of the one request for this path, as the audit log has it."""
        record = until(
            lambda: [
                each for each in self.sidecar.audit() if each["request"]["path"] == path and each["stage"] == "complete"
            ]
        )
        assert len(record) == 1
        actor: dict[str, Any] = record[0]["actor"]
        return actor


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, store = tmp_path_factory.mktemp("who"), EchoStore(b"")
    for name, text in (("store-id", "STOREKEYID"), ("store-secret", "the-stores-own-secret")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    keys = "{access_key_id_file: ./store-id, secret_access_key_file: ./store-secret}"
    sidecar = SidecarProcess(
        folder,
        upstreams=f"  store: {{url: 'http://127.0.0.1:{store.port}', s3: {{bucket: real, region: {REGION}, credentials: {keys}}}}}",
        policies={"web.yaml": POLICY},
        access_keys=True,
        more="failed_credentials: {enabled: false}\nlimits: {drain_delay: 0s, grace: 2s}",
    )
    try:
        sidecar.start()
        yield House(sidecar, store, *sidecar.access_key())
    finally:
        sidecar.kill()
        store.close()


def code(answer: Answer) -> str:
    return answer.body.decode().partition("<Code>")[2].partition("</Code>")[0]


def failed(call: Any, **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as error:
        call(Bucket="bkt", Key="a", **arguments)
    said = error.value.response
    return said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"], said["Error"].get("Message", "")


# As clients do


def test_boto3_signs_with_an_access_key(house: House) -> None:
    client = house.client()
    assert (
        client.put_object(Bucket="bkt", Key="a b/ü+~.txt", Body=b"hello")["ResponseMetadata"]["HTTPStatusCode"] == 200
    )
    assert house.store.seen[-1].body == b"hello"
    assert client.get_object(Bucket="bkt", Key="a b/ü+~.txt")["Body"].read() == b""
    client.head_object(Bucket="bkt", Key="who/header")
    actor = house.actor("/bkt/who/header")
    assert (actor["type"], actor["auth_method"]) == ("access_key", "sigv4_header")
    assert actor["token_id"] == house.token.split("_")[2]


def test_boto3_signs_urls(house: House) -> None:
    client = house.client(signature_version="s3v4")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bkt", "Key": "who/url"}, ExpiresIn=60)
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.status == 200
    actor = house.actor("/bkt/who/url")
    assert (actor["type"], actor["auth_method"]) == ("access_key", "sigv4_query")
    assert b"X-Amz" not in house.store.seen[-1].target


@pytest.mark.parametrize("secret", ["whatever", None])
def test_boto3_sends_a_token_as_its_session_token(house: House, secret: str | None) -> None:
    client = house.client("anything", secret, house.token)
    client.put_object(Bucket="bkt", Key=f"who/session-{secret}", Body=b"by session")
    assert house.store.seen[-1].body == b"by session"
    actor = house.actor(f"/bkt/who/session-{secret}")
    assert (actor["type"], actor["auth_method"]) == ("ci", "session_token")


def test_tools_that_can_send_the_token_itself(house: House) -> None:
    for way, headers in (("bearer", bearer(house.token)), ("basic", basic("x", house.token))):
        assert ask(house.sidecar.port, "PUT", f"/bkt/who/{way}", headers, b"plain").status == 200
        actor = house.actor(f"/bkt/who/{way}")
        assert (actor["type"], actor["auth_method"]) == ("ci", way)


def test_a_rule_about_access_keys_is_about_them_alone(house: House) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        house.client().get_object(Bucket="bkt", Key="reports/1")
    assert house.client("anything", "x", house.token).get_object(Bucket="bkt", Key="reports/1")["Body"].read() == b""


# What they are told


def test_boto3_reads_why_it_was_refused(house: House) -> None:
    seen = len(house.store.seen)
    assert failed(house.client(secret="x" * 40).get_object)[:2] == (403, "SignatureDoesNotMatch")
    assert failed(house.client("AKIAIOSFODNN7EXAMPLE").get_object)[:2] == (403, "InvalidAccessKeyId")
    assert failed(house.client(token=AWS_SESSION).get_object)[:2] == (400, "InvalidToken")
    assert failed(house.client(token=house.token[:-1] + "_").put_object, Body=b"x")[:2] == (400, "InvalidToken")
    assert failed(house.client(secret="x" * 40).head_object)[:2] == (403, "403"), "an answer to HEAD has no body"
    assert len(house.store.seen) == seen


def test_version_2_is_told_what_to_set(house: House) -> None:
    status, _, message = failed(house.client(signature_version="s3").get_object)
    assert (status, "s3v4" in message) == (400, True)
    old = house.client(signature_version="s3").generate_presigned_url(
        "get_object", Params={"Bucket": "bkt", "Key": "a"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(old, timeout=20)
    assert "s3v4" in refused.value.read().decode()


def test_what_is_signed_at_another_time_is_refused(house: House) -> None:
    now = time.time()
    for headers, path, expected in (
        (house.signed(now=now - 1000), "/bkt/a", (403, "RequestTimeTooSkewed")),
        (house.signed(now=now + 1000), "/bkt/a", (403, "RequestTimeTooSkewed")),
        ({}, house.presigned(now=now - 61, expires=60), (403, "AccessDenied")),
    ):
        answer = house.ask(headers, path)
        assert (answer.status, code(answer)) == expected


def test_a_signed_url_can_be_used_again_until_it_expires(house: House) -> None:
    path = house.presigned(now=time.time() - 592, expires=600)
    assert house.ask({}, path).status == 200
    answer = until(lambda: each if (each := house.ask({}, path)).status != 200 else None, SOON)
    assert (answer.status, code(answer), answer.reason) == (403, "AccessDenied", "url_expired")


def test_a_token_is_never_taken_from_a_query(house: House) -> None:
    for token in (house.token, "IQoJb3JpZ2luX2VjEJr"):
        answer = house.ask({}, f"/bkt/a?X-Amz-Security-Token={token}")
        assert (answer.status, answer.reason) == (400, "misplaced_token")


def test_two_credentials_are_none(house: House) -> None:
    for headers, path in (
        (bearer(house.token), house.presigned()),
        (house.signed(), house.presigned()),
        ({"X-Amz-Security-Token": house.token}, house.presigned()),
        ({**bearer(house.token), "X-Amz-Security-Token": house.token}, "/bkt/a"),
    ):
        assert house.ask(headers, path).reason == "two_credentials"


def test_a_header_that_nobody_signed_is_refused(house: House) -> None:
    answer = house.ask({**house.signed(), "x-amz-meta-added": "1"})
    assert (answer.status, code(answer), answer.reason) == (403, "AccessDenied", "unsigned_header")


def test_every_changed_part_of_what_is_signed_is_refused(house: House) -> None:
    """A sample of bytes over the socket; anonymous may read here, so that none of them is taken for nobody."""
    seen = len(house.store.seen)
    signed = house.signed(x_amz_meta_note="some words")
    changed = 0
    for name, value in signed.items():
        for at in range(0, len(value), 7):
            other = value[:at] + ("1" if value[at] != "1" else "2") + value[at + 1 :]
            answer = house.ask({**signed, name: other})
            assert answer.status in (400, 401, 403), (name, other)
            changed += 1
    url = house.presigned()
    for at in range(len("/bkt/"), len(url), 7):
        other = url[:at] + ("1" if url[at] != "1" else "2") + url[at + 1 :]
        answer = house.ask({}, other)
        assert answer.status in (400, 401, 403), other
        changed += 1
    assert changed >= 70
    for method, path, host in (("DELETE", "/bkt/a", house.host), ("GET", "/bkt/b", house.host), ("GET", "/bkt/a", "b")):
        assert house.ask({**house.signed(), "Host": host}, path, method).reason == "bad_signature"
    assert len(house.store.seen) == seen


def test_any_region_is_taken_where_none_is_configured(house: House) -> None:
    assert house.ask({}, house.presigned(region="us-east-1")).status == 200


# It dies with its token


def test_a_revoked_token_ends_its_access_key_within_moments(house: House) -> None:
    key_id, secret, token = house.sidecar.access_key()
    client, url = house.client(key_id, secret), house.client(key_id, secret, signature_version="s3v4")
    link = url.generate_presigned_url("get_object", Params={"Bucket": "bkt", "Key": "a"}, ExpiresIn=3600)
    assert client.get_object(Bucket="bkt", Key="a")["Body"].read() == b""
    house.sidecar.revoke(token)
    signer = sigv4.Signer(key_id, Secret(secret), REGION)

    def standing() -> int:
        added = signer.sign("GET", "/bkt/a", "", [], time.time(), host=house.host)
        return house.ask({name.decode(): value.decode() for name, value in added}).status

    until(lambda: standing() == 403, SOON)
    assert failed(client.get_object)[1] == "InvalidAccessKeyId"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(link, timeout=20)
    assert refused.value.code == 403
    assert failed(house.client(key_id, "x" * 40).get_object)[1] == "SignatureDoesNotMatch", (
        "who has the id alone learns nothing"
    )
    assert failed(house.client("any", "x", token).get_object)[1] == "InvalidAccessKeyId"


def test_a_rotated_access_key_and_its_replacement_both_work(house: House) -> None:
    key_id, secret, token = house.sidecar.access_key()
    printed = house.sidecar.cli("token", "rotate", token.split("_")[2])
    pair = dict(line.split("=", 1) for line in printed.splitlines())
    client = house.client(pair["AWS_ACCESS_KEY_ID"], pair["AWS_SECRET_ACCESS_KEY"])
    assert house.client(key_id, secret).get_object(Bucket="bkt", Key="a")["Body"].read() == b""
    assert client.get_object(Bucket="bkt", Key="a")["Body"].read() == b""


# What is left of it


def test_neither_the_store_nor_anything_written_holds_a_credential(house: House) -> None:
    client = house.client()
    client.put_object(Bucket="bkt", Key="a", Body=b"x", Metadata={"note": "kept"})
    house.ask({}, house.presigned())
    house.ask({"X-Amz-Security-Token": house.token})
    link = house.presigned("/bkt/who/written")
    signature = link.rpartition("=")[2]
    assert house.ask({}, link).status == 200
    house.actor("/bkt/who/written")
    for seen in house.store.seen:
        sent = b"\n".join([seen.target, *(name + b": " + value for name, value in seen.headers)])
        for credential in (house.key_id, house.token, house.secret):
            assert credential.encode() not in sent
        assert [
            value.startswith(b"AWS4-HMAC-SHA256 Credential=STOREKEYID/") for value in seen.header(b"authorization")
        ] == [True]
    assert not house.store.faults
    written = (house.sidecar.folder / "log").read_bytes() + (house.sidecar.folder / "audit.jsonl").read_bytes()
    for credential in (house.token, house.secret, signature):
        assert credential.encode() not in written


def test_its_verifications_and_its_use_are_counted(house: House) -> None:
    def verified() -> float:
        return house.sidecar.metric('sidecar_verify_seconds_count{kind="access_key"}')

    before = verified()
    key_id, secret, _ = house.sidecar.access_key()
    for _ in range(3):
        house.client(key_id, secret).get_object(Bucket="bkt", Key="a")
    assert verified() == before + 1, "the id is looked up once; each signature is checked beside it"


def test_a_list_is_recorded_as_all_that_it_shows_whatever_came_before_on_its_connection(house: House) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", house.sidecar.port, timeout=20)
    agent = {**bearer(house.token), "User-Agent": "lists"}
    for path in ("/bkt/who", "/bkt/who", "/bkt", "/bkt", "/bkt"):
        connection.request("GET", path, headers=agent)
        connection.getresponse().read()
    connection.close()

    def named() -> list[str]:
        return [
            each["resource"]["name"]
            for each in house.sidecar.audit()
            if each["request"]["user_agent"] == "lists" and each["stage"] == "complete"
        ]

    assert until(lambda: names if len(names := named()) == 5 else None) == ["who", "who", "/", "/", "/"]
