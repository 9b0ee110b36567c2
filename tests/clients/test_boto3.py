"""boto3 as it is published, against buckets behind the sidecar, over http and https and in front of each real S3 server.

What is believed: what boto3 gives back, and what the server itself says that it holds.
"""

import io
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from msgspec.structs import replace

from tests.e2e.process import until
from tests.e2e.s3_house import DOMAIN, House, Key, s3_house
from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow
MiB = 1024 * 1024


@pytest.fixture(scope="module")
def house(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with s3_house(tmp_path_factory.mktemp("house"), s3_server) as found, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(found.ca_file))  # for what opens a signed URL
        yield found


@pytest.fixture(scope="module")
def ci(house: House) -> Key:
    return house.key()


@pytest.fixture(params=["http", "https"])
def client(request: pytest.FixtureRequest, house: House, ci: Key) -> Any:
    return house.client(ci, request.param)


@pytest.fixture
def stored(house: House, ci: Key) -> Iterator[Callable[[], dict[str, bytes]]]:
    """What the server holds; emptied afterwards."""
    yield house.stored
    server = house.server.client()
    for key in house.stored():
        server.delete_object(Bucket=house.bucket, Key=key)


Stored = Callable[[], dict[str, bytes]]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    found: str = error.value.response["Error"]["Code"]
    return found


def test_put_get_head_and_delete(client: Any, stored: Stored) -> None:
    client.put_object(
        Bucket="artifacts", Key="a/b c+é~.txt", Body=b"content", ContentType="text/x-odd", Metadata={"commit": "f00"}
    )
    assert stored() == {"web/a/b c+é~.txt": b"content"}
    got = client.get_object(Bucket="artifacts", Key="a/b c+é~.txt")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"content", "text/x-odd", {"commit": "f00"})
    assert client.head_object(Bucket="artifacts", Key="a/b c+é~.txt")["ContentLength"] == 7
    client.delete_object(Bucket="artifacts", Key="a/b c+é~.txt")
    assert stored() == {}
    with pytest.raises(ClientError) as missing:
        client.get_object(Bucket="artifacts", Key="a/b c+é~.txt")
    assert code(missing) == "NoSuchKey"


def test_an_empty_object(client: Any, stored: Stored) -> None:
    client.put_object(Bucket="artifacts", Key="empty", Body=b"")
    assert stored() == {"web/empty": b""}


def test_a_body_without_a_known_hash(client: Any, stored: Stored) -> None:
    """A file that can't be read twice: over https the SDK wraps it, with its checksum behind it."""
    client.put_object(Bucket="artifacts", Key="streamed", Body=io.BytesIO(b"piece by piece"))
    assert stored() == {"web/streamed": b"piece by piece"}


def test_ranged_get(house: House, client: Any, stored: Stored) -> None:
    house.put("web/digits", b"0123456789")
    assert client.get_object(Bucket="artifacts", Key="digits", Range="bytes=2-4")["Body"].read() == b"234"


def test_lists_stay_in_the_route_and_say_its_names(house: House, client: Any, stored: Stored) -> None:
    for key in ("web/a", "web/dir/é 1", "web/dir/2", "web/dir2/3", "mobile/secret", "webbing"):
        house.put(key, b"x")
    first = client.list_objects_v2(Bucket="artifacts", MaxKeys=2)
    assert (first["Name"], first["IsTruncated"]) == ("artifacts", True)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="artifacts", PaginationConfig={"PageSize": 2})
    assert [each["Key"] for page in pages for each in page["Contents"]] == ["a", "dir/2", "dir/é 1", "dir2/3"]
    pages = client.get_paginator("list_objects").paginate(Bucket="artifacts", PaginationConfig={"PageSize": 3})
    assert [each["Key"] for page in pages for each in page["Contents"]] == ["a", "dir/2", "dir/é 1", "dir2/3"]
    folders = client.list_objects_v2(Bucket="artifacts", Delimiter="/")
    assert [each["Prefix"] for each in folders["CommonPrefixes"]] == ["dir/", "dir2/"]
    below = client.list_objects_v2(Bucket="artifacts", Prefix="dir/", StartAfter="dir/2")
    assert ([each["Key"] for each in below["Contents"]], below["Prefix"]) == (["dir/é 1"], "dir/")


def test_copy_within_a_workspace(house: House, client: Any, stored: Stored) -> None:
    house.put("web/from here+é", b"content")
    client.copy_object(Bucket="artifacts", Key="to", CopySource={"Bucket": "artifacts", "Key": "from here+é"})
    assert stored()["web/to"] == b"content"


def test_copy_across_workspaces(house: House, stored: Stored) -> None:
    ada = house.key(kind="personal", subject="ada@example.com", workspaces=(), permissions=("read", "write"))
    house.put("mobile/theirs", b"content")
    client = house.client(ada)
    client.copy_object(Bucket="artifacts", Key="mine", CopySource={"Bucket": "phones", "Key": "theirs"})
    assert stored() == {"mobile/theirs": b"content", "web/mine": b"content"}
    with pytest.raises(ClientError) as refused:
        client.copy_object(Bucket="phones", Key="back", CopySource={"Bucket": "artifacts", "Key": "mine"})
    assert code(refused) == "AccessDenied"
    assert "mobile/back" not in stored()


def test_delete_many(house: House, client: Any, stored: Stored) -> None:
    for key in ("web/a&b", "web/c", "web/kept/d", "web/e"):
        house.put(key, b"x")
    done = client.delete_objects(Bucket="artifacts", Delete={"Objects": [{"Key": "a&b"}, {"Key": "c"}, {"Key": "no"}]})
    assert {each["Key"] for each in done["Deleted"]} == {"a&b", "c", "no"}
    with pytest.raises(ClientError) as refused:
        client.delete_objects(Bucket="artifacts", Delete={"Objects": [{"Key": "e"}, {"Key": "kept/d"}]})
    assert code(refused) == "AccessDenied"
    assert stored().keys() == {"web/kept/d", "web/e"}


def test_64_mib_in_parallel_parts(client: Any, stored: Stored) -> None:
    content = os.urandom(MiB) * 64
    parts = TransferConfig(multipart_threshold=8 * MiB, multipart_chunksize=8 * MiB, max_concurrency=4)
    client.upload_fileobj(io.BytesIO(content), "artifacts", "big", Config=parts)
    assert stored() == {"web/big": content}
    read = io.BytesIO()
    client.download_fileobj("artifacts", "big", read, Config=parts)
    assert read.getvalue() == content


def test_an_upload_that_is_given_up(client: Any, stored: Stored) -> None:
    upload = client.create_multipart_upload(Bucket="artifacts", Key="k")
    assert (upload["Bucket"], upload["Key"]) == ("artifacts", "k")
    client.upload_part(Bucket="artifacts", Key="k", UploadId=upload["UploadId"], PartNumber=1, Body=b"x")
    listed = client.list_multipart_uploads(Bucket="artifacts")
    assert [each["Key"] for each in listed["Uploads"]] == ["k"]
    client.abort_multipart_upload(Bucket="artifacts", Key="k", UploadId=upload["UploadId"])
    assert not client.list_multipart_uploads(Bucket="artifacts").get("Uploads")
    assert stored() == {}


def test_presigned(house: House, ci: Key, stored: Stored) -> None:
    client = house.client(ci, signature_version="s3v4")
    place = {"Bucket": "artifacts", "Key": "signed é"}
    put = urllib.request.Request(client.generate_presigned_url("put_object", place), data=b"content", method="PUT")
    with urllib.request.urlopen(put, timeout=60) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(client.generate_presigned_url("get_object", place), timeout=60) as answer:
        assert answer.read() == b"content"
    assert stored() == {"web/signed é": b"content"}


def test_conditional_put(house: House, client: Any, stored: Stored) -> None:
    if not house.server.conditional_writes:
        pytest.skip(f"{house.server.name} has no conditional writes")
    client.put_object(Bucket="artifacts", Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket="artifacts", Key="k", Body=b"second", IfNoneMatch="*")
    assert code(refused) == "PreconditionFailed"
    assert stored() == {"web/k": b"first"}


def test_the_buckets_that_one_may_see(house: House) -> None:
    ada = house.key(kind="personal", subject="ada@example.com", workspaces=(), permissions=("read",))
    for key, seen in (
        (house.key(), ["artifacts"]),
        (house.key(workspaces=("mobile",)), ["phones"]),
        (ada, ["artifacts", "phones"]),
    ):
        assert [each["Name"] for each in house.client(key).list_buckets()["Buckets"]] == seen


def test_a_token_in_place_of_a_key(house: House, client: Any, stored: Stored) -> None:
    session = Key("any", "thing", session=house.sidecar.token(permissions=("read",)))
    house.put("web/k", b"content")
    assert house.client(session).get_object(Bucket="artifacts", Key="k")["Body"].read() == b"content"
    with pytest.raises(ClientError) as refused:
        house.client(session).put_object(Bucket="artifacts", Key="k", Body=b"x")
    assert code(refused) == "AccessDenied"
    assert stored() == {"web/k": b"content"}


# --- virtual-hosted style ------------------------------------------------------------------------------------------------------


@pytest.fixture
def wildcard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wildcard in DNS does: every name below `s3.localhost` is this machine's."""
    resolved = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        return resolved("127.0.0.1" if host.endswith(DOMAIN) else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("wildcard")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_bucket_in_the_hosts_name(house: House, ci: Key, stored: Stored, scheme: str) -> None:
    endpoint = f"{scheme}://{DOMAIN}:{house.endpoints[scheme].rpartition(':')[2]}"
    client = house.client(ci, endpoint=endpoint, addressing="virtual", signature_version="s3v4")
    asked: list[str] = []
    client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.url))
    client.put_object(Bucket="artifacts", Key="dir/a b+é", Body=b"content", Metadata={"built_by": "ci"})
    assert client.get_object(Bucket="artifacts", Key="dir/a b+é")["Metadata"] == {"built_by": "ci"}
    listed = client.list_objects_v2(Bucket="artifacts", Prefix="dir/")
    assert (listed["Name"], [each["Key"] for each in listed["Contents"]]) == ("artifacts", ["dir/a b+é"])
    client.copy_object(Bucket="artifacts", Key="copied", CopySource={"Bucket": "artifacts", "Key": "dir/a b+é"})
    client.upload_fileobj(
        io.BytesIO(b"x" * 6 * MiB), "artifacts", "big", Config=TransferConfig(multipart_threshold=5 * MiB)
    )
    url = client.generate_presigned_url("get_object", {"Bucket": "artifacts", "Key": "copied"})
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"content"
    client.delete_objects(Bucket="artifacts", Delete={"Objects": [{"Key": "copied"}]})
    assert stored() == {"web/dir/a b+é": b"content", "web/big": b"x" * 6 * MiB}
    assert {urlsplit(each).hostname for each in (*asked, url)} == {f"artifacts.{DOMAIN}"}
    client.delete_object(Bucket="artifacts", Key="big")
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket="phones")  # whose route knows no host
    assert code(refused) == "NoSuchBucket"


# --- what is refused -----------------------------------------------------------------------------------------------------------


def _presigned(method: str) -> Callable[[Any], object]:
    def ask(client: Any) -> object:
        url = client.generate_presigned_url(f"{method.lower()}_object", {"Bucket": "artifacts", "Key": "k"})
        request = urllib.request.Request(url, data=b"x" if method == "PUT" else None, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            raise ClientError({"Error": {"Code": text.partition("<Code>")[2].partition("<")[0]}}, method) from None

    return ask


def _multipart(client: Any) -> object:
    return client.upload_fileobj(
        io.BytesIO(b"x" * 6 * MiB), "artifacts", "new", Config=TransferConfig(multipart_threshold=5 * MiB)
    )


READS: dict[str, Callable[[Any], object]] = {
    "get": lambda client: client.get_object(Bucket="artifacts", Key="k"),
    "head": lambda client: client.head_object(Bucket="artifacts", Key="k"),
    "list": lambda client: client.list_objects(Bucket="artifacts"),
    "list v2": lambda client: client.list_objects_v2(Bucket="artifacts"),
    "ranged get": lambda client: client.get_object(Bucket="artifacts", Key="k", Range="bytes=0-0"),
    "presigned get": _presigned("GET"),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "put": lambda client: client.put_object(Bucket="artifacts", Key="k", Body=b"other"),
    "copy": lambda client: client.copy_object(
        Bucket="artifacts", Key="new", CopySource={"Bucket": "artifacts", "Key": "k"}
    ),
    "delete": lambda client: client.delete_object(Bucket="artifacts", Key="k"),
    "delete many": lambda client: client.delete_objects(Bucket="artifacts", Delete={"Objects": [{"Key": "k"}]}),
    "multipart": _multipart,
    "abort": lambda client: client.abort_multipart_upload(Bucket="artifacts", Key="k", UploadId="nosuch"),
    "presigned put": _presigned("PUT"),
    "conditional put": lambda client: client.put_object(Bucket="artifacts", Key="new", Body=b"x", IfNoneMatch="*"),
}
ADMINISTERS: dict[str, Callable[[Any], object]] = {
    "public acl": lambda client: client.put_object(Bucket="artifacts", Key="new", Body=b"x", ACL="public-read"),
    "bucket acl": lambda client: client.get_bucket_acl(Bucket="artifacts"),
    "bucket policy": lambda client: client.put_bucket_policy(Bucket="artifacts", Policy="{}"),
    "create": lambda client: client.create_bucket(Bucket="artifacts"),
    "drop": lambda client: client.delete_bucket(Bucket="artifacts"),
}


def _refused(client: Any, operations: dict[str, Callable[[Any], object]]) -> dict[str, str]:
    """Operation -> code, of all that were; none may succeed."""
    codes = {}
    for name, operation in operations.items():
        with pytest.raises(ClientError) as refused:
            operation(client)
        codes[name] = code(refused)
    return codes


def _all(expected: str, *operations: dict[str, Callable[[Any], object]]) -> dict[str, str]:
    """Answers to HEAD have no body, so no code either."""
    return {name: "403" if name == "head" else expected for each in operations for name in each}


@pytest.fixture
def holding_k(house: House, stored: Stored) -> Iterator[None]:
    house.put("web/k", b"content")
    yield
    assert stored() == {"web/k": b"content"}


@pytest.mark.usefixtures("holding_k")
@pytest.mark.parametrize("scheme", ["http", "https"])
class TestRefused:
    def test_a_read_only_token(self, house: House, scheme: str) -> None:
        client = house.client(house.key(permissions=("read",)), scheme, signature_version="s3v4")
        for operation in READS.values():
            operation(client)
        assert _refused(client, WRITES | ADMINISTERS) == _all("AccessDenied", WRITES, ADMINISTERS)

    def test_an_ordinary_token_administers_nothing(self, house: House, scheme: str, ci: Key) -> None:
        refused = _refused(house.client(ci, scheme), ADMINISTERS)
        assert refused == {**_all("AccessDenied", ADMINISTERS), "create": "BucketAlreadyOwnedByYou"}

    def test_a_foreign_workspaces_token(self, house: House, scheme: str) -> None:
        client = house.client(house.key(workspaces=("mobile",)), scheme, signature_version="s3v4")
        assert _refused(client, READS | WRITES) == _all("AccessDenied", READS, WRITES)

    def test_a_tampered_signature(self, house: House, scheme: str, ci: Key) -> None:
        other = replace(ci, secret=ci.secret[:-1] + ("a" if ci.secret[-1] != "a" else "b"))
        client = house.client(other, scheme, signature_version="s3v4")
        assert _refused(client, READS | WRITES) == _all("SignatureDoesNotMatch", READS, WRITES)


@pytest.mark.usefixtures("holding_k")
def test_a_revoked_token(house: House) -> None:
    key = house.key()
    client = house.client(key, signature_version="s3v4")
    client.head_bucket(Bucket="artifacts")
    house.sidecar.revoke(key.token)

    def revoked() -> bool:
        try:
            client.head_bucket(Bucket="artifacts")
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "403")
        return False

    until(revoked)
    assert _refused(client, READS | WRITES) == _all("InvalidAccessKeyId", READS, WRITES)


def test_an_upload_in_parts_whose_token_was_revoked_is_never_completed(house: House, stored: Stored) -> None:
    """Completing it is a new request: what was begun while the token was good makes no object."""
    key = house.key()
    client = house.client(key, signature_version="s3v4")
    where = {"Bucket": "artifacts", "Key": "parts"}
    where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
    part = client.upload_part(**where, PartNumber=1, Body=b"x" * 64)
    house.sidecar.revoke(key.token)

    def refused() -> bool:
        try:
            client.list_parts(**where)
        except ClientError as error:
            return bool(error.response["Error"]["Code"] == "InvalidAccessKeyId")
        return False

    until(refused)
    with pytest.raises(ClientError) as completing:
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert code(completing) == "InvalidAccessKeyId"
    assert "web/parts" not in stored()


def test_a_path_in_the_token_holds(house: House, stored: Stored, tmp_path: Path) -> None:
    client = house.client(house.key(path="mine/**"))
    client.put_object(Bucket="artifacts", Key="mine/k", Body=b"x")
    client.list_objects_v2(Bucket="artifacts", Prefix="mine/")
    for beyond in (
        lambda: client.put_object(Bucket="artifacts", Key="other", Body=b"x"),
        lambda: client.list_objects_v2(Bucket="artifacts"),
        lambda: client.list_objects_v2(Bucket="artifacts", Prefix="mine"),
        lambda: client.delete_objects(Bucket="artifacts", Delete={"Objects": [{"Key": "mine/k"}, {"Key": "other"}]}),
    ):
        with pytest.raises(ClientError) as refused:
            beyond()
        assert code(refused) == "AccessDenied"
    assert stored() == {"web/mine/k": b"x"}
