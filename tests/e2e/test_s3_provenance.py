"""Who wrote what, by S3 tools: after boto3's upload the audit log says whose it is and what it holds, and so does the object."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.e2e.asking import ask
from tests.e2e.issuer import AUDIENCE, key_set
from tests.e2e.issuer import token as jwt
from tests.e2e.process import until
from tests.e2e.s3_house import House, Key, s3_house
from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow
MiB = 1024 * 1024
CORP = "https://idp.example.com"
BUILD = {
    "repository": "acme/web",
    "ref": "refs/heads/main",
    "sha": "1f" * 20,
    "run_id": "77",
    "workflow_ref": "w" * 200,
}
WEB = """
workspace: web
routes: [{path: /artifacts, client: s3, upstream: store, upstream_path: /web, host: "*.s3.localhost"}]
ci_tokens: read-write
rules: [{name: builds, allow: [read, write, delete], issuer: corp}]
"""
OURS = "x-sidecar-provenance"


@pytest.fixture(scope="module")
def house(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    (folder / "corp.jwks.json").write_bytes(key_set("k1"))
    issuers = f"issuers:\n  corp: {{issuer: '{CORP}', audience: {AUDIENCE}, jwks_file: ./corp.jwks.json}}\n"
    digests = "provenance: {digest_up_to: 5MiB}"
    with s3_house(folder, s3_server, {"web.yaml": WEB}, more=issuers + digests) as found:
        yield found


@pytest.fixture(scope="module")
def build(house: House) -> Any:
    """boto3 with a build's JWT as its session token."""
    return house.client(Key("AKIDANY", "any", session=jwt(CORP, sub="repo:acme/web", jti="j-1", **BUILD)))


def records(house: House, action: str, key: str, count: int = 1) -> list[dict[str, Any]]:
    """Those of finished writes of one key, by method and what the query begins with; waits for `count`."""

    def found() -> list[dict[str, Any]] | None:
        told = [
            each
            for each in house.sidecar.audit()
            if each["stage"] == "complete"
            and each["resource"]["name"] == key
            and action == f"{each['request']['method']} {(each['request']['query'] or '').partition('=')[0]}".rstrip()
        ]
        return told if len(told) >= count else None

    told: list[dict[str, Any]] = until(found)
    return told


def kept(house: House, key: str) -> dict[str, str]:
    """What the server itself says of an object."""
    head = house.server.client().head_object(Bucket=house.bucket, Key=f"web/{key}")
    metadata: dict[str, str] = head["Metadata"]
    return metadata


def said(metadata: dict[str, str]) -> Any:
    more = [metadata.get(f"{OURS}-{number}", "") for number in range(2, 5)]
    return json.loads("".join([metadata[OURS], *more]))


def test_an_upload_says_whose_it_is_and_its_reader_is_not_told(house: House, build: Any) -> None:
    build.put_object(Bucket="artifacts", Key="app", Body=b"content", Metadata={"commit": "f00"})
    (record,) = records(house, "PUT", "app")
    assert record["resource"]["digest"] == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    metadata = kept(house, "app")
    assert metadata["commit"] == "f00"
    assert said(metadata) == {
        "request_id": record["request"]["id"],
        "workspace": "web",
        "key": "app",
        "type": "jwt",
        "subject": "repo:acme/web",
        "issuer": "corp",
        "token_id": "j-1",
        "claims": BUILD,
    }
    assert build.head_object(Bucket="artifacts", Key="app")["Metadata"] == {"commit": "f00"}
    assert build.get_object(Bucket="artifacts", Key="app")["Metadata"] == {"commit": "f00"}


def test_nobody_says_so_in_anothers_name(house: House, build: Any) -> None:
    forged = {OURS: '{"subject": "somebody else"}', "x-sidecar-more": "x", "mine": "y"}
    build.put_object(Bucket="artifacts", Key="forged", Body=b"x", Metadata=forged)
    metadata = kept(house, "forged")
    assert said(metadata)["subject"] == "repo:acme/web"
    assert {name.removesuffix("-2") for name in metadata} == {OURS, "mine"}
    assert "somebody else" not in str(metadata)


def test_what_the_client_wants_kept_comes_first(house: House, build: Any) -> None:
    """S3 keeps 2 KiB about an object."""
    theirs = {f"m{number}": "x" * 200 for number in range(9)}
    build.put_object(Bucket="artifacts", Key="full", Body=b"x", Metadata=theirs)
    metadata = kept(house, "full")
    assert metadata.items() >= theirs.items()
    (record,) = records(house, "PUT", "full")
    assert said(metadata) == {"request_id": record["request"]["id"]}
    theirs |= {"last": "x" * 60}
    build.put_object(Bucket="artifacts", Key="fuller", Body=b"x", Metadata=theirs)
    assert kept(house, "fuller") == theirs


def test_an_upload_in_parts_says_who_began_it_and_what_it_was_put_together_of(house: House, build: Any) -> None:
    pieces = [bytes([65 + number]) * (5 * MiB) for number in range(3)] + [b"end"]
    config = TransferConfig(multipart_threshold=5 * MiB, multipart_chunksize=5 * MiB, max_concurrency=4)
    (house.sidecar.folder / "large").write_bytes(b"".join(pieces))
    build.upload_file(
        str(house.sidecar.folder / "large"), "artifacts", "parts", {"Metadata": {"a": "b"}}, Config=config
    )
    hashes = [hashlib.sha256(piece).digest() for piece in pieces]
    (begun,) = records(house, "POST uploads", "parts")
    assert begun["resource"]["digest"] is None
    of_parts = {each["resource"]["digest"] for each in records(house, "PUT uploadId", "parts", 4)}
    assert of_parts >= {f"sha256:{each.hex()}" for each in hashes}
    (done,) = records(house, "POST uploadId", "parts")
    assert done["resource"]["digest"] == f"sha256-parts:{hashlib.sha256(b''.join(hashes)).hexdigest()}-4"
    metadata = kept(house, "parts")
    assert (metadata["a"], said(metadata)["request_id"]) == ("b", begun["request"]["id"])


def test_parts_that_did_not_pass_here_have_the_stores_name(house: House, build: Any) -> None:
    upload = build.create_multipart_upload(Bucket="artifacts", Key="elsewhere")["UploadId"]
    tag = house.server.client().upload_part(
        Bucket=house.bucket, Key="web/elsewhere", UploadId=upload, PartNumber=1, Body=b"past the sidecar"
    )["ETag"]
    done = build.complete_multipart_upload(
        Bucket="artifacts",
        Key="elsewhere",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]},
    )
    (record,) = records(house, "POST uploadId", "elsewhere")
    assert record["resource"]["digest"] == f"etag:{done['ETag'].strip(chr(34))}"


def test_a_bucket_that_the_host_names_is_told_with_the_key(house: House) -> None:
    headers = {"Authorization": f"Bearer {jwt(CORP, **BUILD)}", "Host": "artifacts.s3.localhost"}
    assert ask(house.sidecar.port, "PUT", "/hosted", headers, b"x").status == 200
    (record,) = records(house, "PUT", "hosted")
    assert (record["request"]["path"], record["resource"]["container"]) == ("/hosted", "artifacts")
    assert "  web  /artifacts/hosted  sha256:" in house.sidecar.cli("audit", "who-wrote", "hosted")


def test_keys_that_were_deleted_behind_another_are_known_to_be_gone(house: House, build: Any) -> None:
    keys = [f"many/{number} é" for number in range(1000)]
    for key in (keys[0], keys[500]):
        build.put_object(Bucket="artifacts", Key=key, Body=b"x")
    told = [{"Key": key} for key in keys]
    assert len(build.delete_objects(Bucket="artifacts", Delete={"Objects": told})["Deleted"]) == 1000

    def deletions() -> list[dict[str, Any]] | None:
        found = [each for each in house.sidecar.audit() if each["request"]["operation"] == "DeleteObjects"]
        return found if len(found) == 2000 else None

    found: list[dict[str, Any]] = until(deletions)
    assert [each["resource"]["name"] for each in found if each["stage"] == "intent"] == keys
    assert [each["resource"]["name"] for each in found if each["stage"] == "complete"] == keys
    assert len({each["request"]["id"] for each in found}) == 1
    for asked in (keys[500], "/artifacts/many/500%20%C3%A9"):
        writes = json.loads(house.sidecar.cli("audit", "who-wrote", asked, "--json"))["writes"]
        assert [(each["deleted"], each["current"], each["path"]) for each in writes] == [
            (False, False, "/artifacts/many/500%20%C3%A9"), (True, False, "/artifacts/many/500%20%C3%A9"),
        ]  # fmt: skip


def test_a_write_can_not_hide_behind_its_query(house: House) -> None:
    """A parameter that a record cuts in the middle of its name looks like one of a sub-resource."""
    padding = "A" * (2047 - len("x-id=&x-a"))
    token = jwt(CORP, sub="padding", **BUILD)
    path = f"/artifacts/padded?x-id={padding}&x-amz-meta-foo=bar"
    assert ask(house.sidecar.port, "PUT", path, {"Authorization": f"Bearer {token}"}, b"x").status == 200
    until(
        lambda: any(
            each["resource"]["name"] == "padded" and each["stage"] == "complete" for each in house.sidecar.audit()
        )
    )
    assert "  /artifacts/padded  sha256:" in house.sidecar.cli("audit", "written-by", "padding")


def test_a_larger_body_than_is_hashed_has_the_stores_name(house: House) -> None:
    """Unsigned: one that the client hashed itself is held to that, and costs nothing more."""
    headers = {"Authorization": f"Bearer {jwt(CORP, **BUILD)}"}
    answer = ask(house.sidecar.port, "PUT", "/artifacts/huge", headers, b"x" * (5 * MiB + 1))
    assert answer.status == 200
    (record,) = records(house, "PUT", "huge")
    tag = answer.header("etag")
    assert tag is not None
    assert record["resource"]["digest"] == f"etag:{tag.strip(chr(34))}"
    ask(house.sidecar.port, "PUT", "/artifacts/small", headers, b"x" * (5 * MiB))
    (record,) = records(house, "PUT", "small")
    assert record["resource"]["digest"] == f"sha256:{hashlib.sha256(b'x' * (5 * MiB)).hexdigest()}"


def test_a_copy_says_who_copied_and_is_described_as_its_source(house: House, build: Any) -> None:
    source = {"Bucket": "artifacts", "Key": "source"}
    build.put_object(Bucket="artifacts", Key="source", Body=b"content", Metadata={"a": "b"}, ContentType="text/x-odd")
    done = build.copy_object(Bucket="artifacts", Key="copy", CopySource=source)
    (copied,) = records(house, "PUT", "copy")
    assert copied["resource"]["digest"] == f"etag:{done['CopyObjectResult']['ETag'].strip(chr(34))}"
    of_copy = said(kept(house, "copy"))
    assert (of_copy["request_id"], of_copy["key"]) == (copied["request"]["id"], "copy")
    found = build.get_object(Bucket="artifacts", Key="copy")
    assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"content", {"a": "b"}, "text/x-odd")
    build.copy_object(
        Bucket="artifacts", Key="anew", CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"}
    )
    (anew,) = records(house, "PUT", "anew")
    metadata = kept(house, "anew")
    assert metadata["c"] == "d"
    assert (said(metadata)["request_id"], said(metadata)["key"]) == (anew["request"]["id"], "anew")
