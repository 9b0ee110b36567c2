"""The same calls directly and through the sidecar: the same results, and the same stored bytes.

What may differ is listed in docs/s3.md; here it is taken out by name, and nothing else is.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.e2e.process import until
from tests.e2e.s3_house import House, s3_house
from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow
MiB = 1024 * 1024

POLICY = """
workspace: web
routes: [{{path: /{bucket}, client: s3, upstream: store, upstream_path: /}}]
ci_tokens: read-write
rules: [{{name: everything, allow: [delete, overwrite, admin], kinds: [ci]}}]
"""
DIFFERS = frozenset({
    "RequestId", "HostId", "HTTPHeaders", "RetryAttempts", "MaxAttemptsReached",  # of the answer, not of the object
    "LastModified", "Initiated", "UploadId", "VersionId", "Owner", "Initiator",  # made anew with each object
    "CacheControl",  # becomes `private`
    "Message", "Resource", "Location", "NextContinuationToken",
})  # fmt: skip

Call = Callable[[Any, str], Any]


def multipart(client: Any, bucket: str) -> Any:
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    where = {"Bucket": bucket, "Key": "parts", "UploadId": upload}
    etags = [
        client.upload_part(**where, PartNumber=number, Body=bytes([number]) * 5 * MiB)["ETag"] for number in (1, 2)
    ]
    listed = client.list_parts(**where)["Parts"]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    parts = [
        part | {k: v for k, v in each.items() if k.startswith("Checksum")}
        for part, each in zip(parts, listed, strict=True)
    ]
    return etags, client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


CALLS: dict[str, Call] = {
    "put": lambda c, b: c.put_object(
        Bucket=b, Key="a/b c+é~", Body=b"content", ContentType="text/x-odd", Metadata={"k": "v"}
    ),
    "put with names of one's own": lambda c, b: c.put_object(
        Bucket=b, Key="named", Body=b"content", Metadata={"built_by": "ci", "v1.2": "x", "UPPER": "y", "empty": ""}
    ),
    "head its names and its checksum": lambda c, b: c.head_object(Bucket=b, Key="named", ChecksumMode="ENABLED"),
    "put with another checksum": lambda c, b: c.put_object(
        Bucket=b, Key="summed", Body=b"x" * 60_000, ChecksumAlgorithm="SHA256"
    ),
    "get it with its checksum": lambda c, b: c.get_object(Bucket=b, Key="summed", ChecksumMode="ENABLED"),
    "put empty": lambda c, b: c.put_object(Bucket=b, Key="empty", Body=b""),
    "put a stream": lambda c, b: c.put_object(Bucket=b, Key="stream", Body=io.BytesIO(b"streamed")),
    "put encoded": lambda c, b: c.put_object(
        Bucket=b, Key="gz", Body=b"x", ContentEncoding="gzip", CacheControl="no-store"
    ),
    "get": lambda c, b: c.get_object(Bucket=b, Key="a/b c+é~"),
    "get a range": lambda c, b: c.get_object(Bucket=b, Key="a/b c+é~", Range="bytes=1-3"),
    "get beyond": lambda c, b: c.get_object(Bucket=b, Key="a/b c+é~", Range="bytes=100-"),
    "get if none match": lambda c, b: c.get_object(
        Bucket=b, Key="a/b c+é~", IfNoneMatch='"9a0364b9e99bb480dd25e1f0284c8555"'
    ),
    "get if match": lambda c, b: c.get_object(Bucket=b, Key="a/b c+é~", IfMatch='"other"'),
    "get with another type": lambda c, b: c.get_object(Bucket=b, Key="a/b c+é~", ResponseContentType="text/y"),
    "get what is missing": lambda c, b: c.get_object(Bucket=b, Key="missing"),
    "head": lambda c, b: c.head_object(Bucket=b, Key="gz"),
    "head what is missing": lambda c, b: c.head_object(Bucket=b, Key="missing"),
    "head the bucket": lambda c, b: c.head_bucket(Bucket=b),
    "where it is": lambda c, b: c.get_bucket_location(Bucket=b),
    "upload in parts": lambda c, b: c.upload_fileobj(
        io.BytesIO(b"0123456789abcdef" * (MiB // 2)),
        b,
        "big",
        Config=TransferConfig(multipart_threshold=5 * MiB, multipart_chunksize=5 * MiB),
    ),
    "multipart by hand": multipart,
    "abort nothing": lambda c, b: c.abort_multipart_upload(
        Bucket=b, Key="k", UploadId="00000000-0000-0000-0000-000000000000"
    ),
    "list": lambda c, b: c.list_objects(Bucket=b),
    "list v2": lambda c, b: c.list_objects_v2(Bucket=b),
    "list folders": lambda c, b: c.list_objects_v2(Bucket=b, Delimiter="/"),
    "list a prefix": lambda c, b: c.list_objects_v2(Bucket=b, Prefix="a/", FetchOwner=False),
    "list by pages": lambda c, b: [
        [each["Key"] for each in page["Contents"]]
        for page in c.get_paginator("list_objects_v2").paginate(Bucket=b, PaginationConfig={"PageSize": 2})
    ],
    "list uploads": lambda c, b: c.list_multipart_uploads(Bucket=b),
    "copy": lambda c, b: c.copy_object(Bucket=b, Key="copied", CopySource={"Bucket": b, "Key": "a/b c+é~"}),
    "copy what is missing": lambda c, b: c.copy_object(Bucket=b, Key="x", CopySource={"Bucket": b, "Key": "missing"}),
    "copy a part": lambda c, b: c.copy_object(
        Bucket=b,
        Key="replaced",
        CopySource={"Bucket": b, "Key": "gz"},
        MetadataDirective="REPLACE",
        Metadata={"n": "1"},
    ),
    "delete": lambda c, b: c.delete_object(Bucket=b, Key="copied"),
    "delete what is missing": lambda c, b: c.delete_object(Bucket=b, Key="missing"),
    "get tags": lambda c, b: c.get_object_tagging(Bucket=b, Key="gz"),
    "versioning": lambda c, b: c.get_bucket_versioning(Bucket=b),
}


@pytest.fixture
def house(s3_server: S3Server, tmp_path: Path) -> Iterator[House]:
    policy = {"web.yaml": "workspace: web\nroutes: [{path: /nothing, client: s3, upstream: store}]\n"}
    with s3_house(tmp_path, s3_server, policy) as found:
        found.sidecar.policy("web.yaml", POLICY.format(bucket=found.bucket))
        yield found


def plain(value: Any) -> Any:
    """What is compared of a result: all of it, but for what differs by name."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in DIFFERS}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.read() if hasattr(value, "read") else value


def outcome(call: Call, client: Any, bucket: str) -> Any:
    try:
        return plain(call(client, bucket))
    except ClientError as error:
        return {"refused": plain(error.response)}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_same_calls_have_the_same_results(house: House, scheme: str) -> None:
    server, direct = house.server, house.server.client()
    through = house.client(house.key(permissions=("read", "write", "delete", "overwrite", "admin")), scheme)
    until(lambda: "refused" not in outcome(CALLS["head the bucket"], through, house.bucket))
    other = server.bucket()
    differing = {}
    for name, call in CALLS.items():
        here, there = outcome(call, through, house.bucket), outcome(call, direct, other)
        here = _renamed(here, house.bucket, other)
        if here != there:
            differing[name] = {"through": here, "directly": there}
    assert differing == {}
    assert house.stored() == server.stored(other)


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, old, new) for each in value]
    return value.replace(old, new) if isinstance(value, str) else value
