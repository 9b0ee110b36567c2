"""What is protected stays, however its key is spelled and by whichever operation it would be replaced: against real servers.

Versity's gateway keeps objects as files, and reads some keys as others. Both servers hold what is written once.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.s3_house import House, s3_house
from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes: [{path: /artifacts, client: s3, upstream: store, upstream_path: /web}]
ci_tokens: read-write
rules:
  - {name: deletes, allow: [delete], kinds: [ci]}
  - {name: sealed, deny: [read, write, delete], path: sealed/one}
"""
ONCE = """
workspace: once
write_once: true
routes: [{path: /once, client: s3, upstream: store, upstream_path: /once}]
ci_tokens: read-write
"""
Call = Callable[[Any, str], Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[House]:
    with s3_house(tmp_path_factory.mktemp("house"), s3_server, {"web.yaml": POLICY, "once.yaml": ONCE}) as built:
        yield built


def refused(call: Call, client: Any, key: str) -> bool:
    with pytest.raises(ClientError) as error:
        call(client, key)
    return bool(error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403)


def taken(call: Call, client: Any, key: str) -> bool:
    """Refused for the key's being there, as S3 tools know it."""
    with pytest.raises(ClientError) as error:
        call(client, key)
    return bool(error.value.response["Error"]["Code"] == "PreconditionFailed")


AT: dict[str, Call] = {
    "get": lambda c, k: c.get_object(Bucket="artifacts", Key=k),
    "head": lambda c, k: c.head_object(Bucket="artifacts", Key=k),
    "put": lambda c, k: c.put_object(Bucket="artifacts", Key=k, Body=b"another"),
    "begin an upload": lambda c, k: c.create_multipart_upload(Bucket="artifacts", Key=k),
    "copy onto it": lambda c, k: c.copy_object(Bucket="artifacts", Key=k, CopySource="artifacts/other"),
    "copy from it": lambda c, k: c.copy_object(Bucket="artifacts", Key="copied", CopySource=f"artifacts/{k}"),
    "tag": lambda c, k: c.put_object_tagging(
        Bucket="artifacts", Key=k, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    ),
    "delete": lambda c, k: c.delete_object(Bucket="artifacts", Key=k),
    "delete many": lambda c, k: c.delete_objects(
        Bucket="artifacts", Delete={"Objects": [{"Key": "other"}, {"Key": k}]}
    ),
    "list": lambda c, k: c.list_objects_v2(Bucket="artifacts", Prefix=f"{k}/"),
}


def test_a_rule_holds_for_each_key_that_a_store_of_files_takes_for_the_same(house: House) -> None:
    house.put("web/sealed/one", b"sealed")
    house.put("web/other", b"other")
    store = house.server.client()
    if not house.server.any_key:
        same = store.get_object(Bucket=house.bucket, Key="web/sealed//one")["Body"].read()
        assert same == b"sealed", "it doesn't fold keys any more: take another store for this test"
    client = house.client(house.key())
    for key in ("sealed/one", "sealed//one", "/sealed/one", "sealed/one/"):
        for name, call in AT.items():
            assert refused(call, client, key), (name, key)
    assert house.stored() == {"web/sealed/one": b"sealed", "web/other": b"other"}
    assert store.get_object_tagging(Bucket=house.bucket, Key="web/sealed/one")["TagSet"] == []


def test_an_id_that_is_a_path_leads_nowhere(house: House) -> None:
    """Versity's gateway makes a path of an upload's id, and Swift a key."""
    house.put("web/sealed/one", b"sealed")
    house.put("web/other", b"other")
    client = house.client(house.key())
    kept = house.stored()
    for path in ("..", "../..", "../../../web/sealed", "../../..", "sealed/one"):
        where = {"Bucket": "artifacts", "Key": "mine", "UploadId": path}
        for call in (
            lambda where=where: client.abort_multipart_upload(**where),
            lambda where=where: client.upload_part(**where, PartNumber=1, Body=b"x"),
            lambda where=where: client.list_parts(**where),
            lambda path=path: client.get_object(Bucket="artifacts", Key="mine", VersionId=path),
        ):
            with pytest.raises(ClientError) as error:
                call()
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert house.stored() == kept


@pytest.fixture
def once(house: House) -> Any:
    return house.client(house.key(workspaces=("once",)))


def completed(client: Any, key: str, upload: str, content: bytes) -> None:
    where = {"Bucket": "once", "Key": key, "UploadId": upload}
    etag = client.upload_part(**where, PartNumber=1, Body=content)["ETag"]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})


REPLACE: dict[str, Call] = {
    "put": lambda c, k: c.put_object(Bucket="once", Key=k, Body=b"another"),
    "copy": lambda c, k: c.copy_object(Bucket="once", Key=k, CopySource="once/source"),
    "begin an upload": lambda c, k: c.create_multipart_upload(Bucket="once", Key=k),
}
RETAG: dict[str, Call] = {
    "tag": lambda c, k: c.put_object_tagging(Bucket="once", Key=k, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}),
    "untag": lambda c, k: c.delete_object_tagging(Bucket="once", Key=k),
}


def test_what_is_written_once_is_made_by_each_operation_and_replaced_by_none(house: House, once: Any) -> None:
    upload = once.create_multipart_upload(Bucket="once", Key="in parts")["UploadId"]
    late = once.create_multipart_upload(Bucket="once", Key="put")["UploadId"]
    once.put_object(Bucket="once", Key="source", Body=b"source")
    once.put_object(Bucket="once", Key="put", Body=b"put")
    once.copy_object(Bucket="once", Key="copied", CopySource="once/source")
    completed(once, "in parts", upload, b"in parts")
    for key in ("put", "copied", "in parts"):
        for name, call in REPLACE.items():
            assert taken(call, once, key), (name, key)
        for name, call in RETAG.items():
            assert refused(call, once, key), (name, key)
    assert taken(lambda c, k: completed(c, k, late, b"another"), once, "put")
    stored = {key.removeprefix("once/"): data for key, data in house.stored().items() if key.startswith("once/")}
    assert stored == {"source": b"source", "put": b"put", "copied": b"source", "in parts": b"in parts"}
