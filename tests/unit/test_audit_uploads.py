"""What S3 tools' requests did to their keys, as the audit log tells."""

import hashlib
import json
from typing import Any

import pytest

from sidecar.audit.lines import Record, record_of
from sidecar.audit.uploads import Uploads

SHA = [hashlib.sha256(name).hexdigest() for name in (b"one", b"two")]


def of(method: str, query: str | None, digest: str | None = None, **more: Any) -> Record:
    said = {
        "v": "sidecar.audit/v1",
        "time": "2026-11-22T10:00:00.000000Z",
        "kind": "access",
        "action": "object.write",
        "stage": "complete",
        "outcome": "allow",
        "workspace": "web",
        "request": {"id": "r", "protocol": "s3", "method": method, "path": "/b/k", "query": query},
        "response": {"status": 200, "upstream_status": 200},
        "resource": {"name": "k", "digest": digest},
    }
    record = record_of(json.dumps(said | more).encode())
    assert record is not None
    return record


def part(number: object, digest: str | None, upload: str = "u", **more: Any) -> Record:
    return of("PUT", f"partNumber={number}&uploadId={upload}", digest, **more)


def completed(uploads: Uploads, digest: str | None = "etag:t-2", upload: str = "u", **more: Any) -> str | None:
    return uploads.digest(of("POST", f"uploadId={upload}", digest, **more))


def composed(*hashes: str) -> str:
    return f"sha256-parts:{hashlib.sha256(bytes.fromhex(''.join(hashes))).hexdigest()}-{len(hashes)}"


@pytest.mark.parametrize(
    ("method", "query", "changes"),
    [
        ("PUT", None, True),
        ("PUT", "x-id=PutObject", True),
        ("PUT", "X-Amz-Signature=REDACTED&X-Amz-Expires=60&x-amz-meta-a=b", True),
        ("PUT", "renameObject", True),
        ("POST", "uploadId=u", True),
        ("POST", "uploads", False),
        ("PUT", "partNumber=1&uploadId=u", False),
        ("DELETE", "uploadId=u", False),
        ("PUT", "tagging", False),
        ("DELETE", "tagging&versionId=v", False),
    ],
)
def test_which_requests_change_what_a_key_holds(method: str, query: str | None, changes: bool) -> None:
    assert Uploads().changes(of(method, query)) is changes
    plain = {"protocol": "plain", "method": method, "query": query}
    assert Uploads().changes(of(method, query, request=plain)), "to others a parameter is just a parameter"


PADDED = "x-id=" + "A" * 2037 + "&x-a…"


@pytest.mark.parametrize(
    ("method", "operation", "query", "changes"),
    [
        ("PUT", "PutObject", PADDED, True),
        ("PUT", "CopyObject", None, True),
        ("PUT", "RenameObject", "renameObject", True),
        ("POST", "CompleteMultipartUpload", PADDED, True),
        ("POST", "DeleteObjects", "delete", True),
        ("PUT", "UploadPart", "partNumber=1&uploadId=u", False),
        ("PUT", "UploadPart", PADDED, False),
        ("PUT", "PutObjectTagging", PADDED, False),
        ("PUT", "PutObjectAcl", None, False),
        ("DELETE", "AbortMultipartUpload", "uploadId=u", False),
    ],
)
def test_the_operations_name_says_whether_it_changes_the_key(
    method: str, operation: str, query: str | None, changes: bool
) -> None:
    asked = {"protocol": "s3", "method": method, "query": query, "operation": operation}
    assert Uploads().changes(of(method, query, request=asked)) is changes


def test_without_it_a_query_that_was_cut_hides_no_write() -> None:
    assert Uploads().changes(of("PUT", PADDED))
    assert not Uploads().changes(of("PUT", PADDED.replace("…", "b")))


def test_a_deletion_is_one_whatever_it_says_besides() -> None:
    assert Uploads().changes(of("POST", "delete", action="object.delete"))
    assert Uploads().changes(of("DELETE", "versionId=v", action="object.delete"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_parts_that_went_through_several_processes_are_put_together(order: tuple[int, int]) -> None:
    uploads = Uploads()
    for index in order:
        uploads.changes(part(index + 1, f"sha256:{SHA[index]}"))
    assert completed(uploads) == composed(*SHA)
    assert completed(uploads) == "etag:t-2"


def test_an_agreeing_part_may_be_there_twice() -> None:
    uploads = Uploads()
    for number, sha256 in ((1, SHA[0]), (2, SHA[1]), (1, SHA[0])):
        uploads.changes(part(number, f"sha256:{sha256}"))
    assert completed(uploads) == composed(*SHA)


@pytest.mark.parametrize(
    "second",
    [
        part(2, None),
        part(2, "etag:x"),
        part(2, "sha256:xx"),
        part(2, f"sha256:{SHA[1]}", upload="other"),
        part(2, f"sha256:{SHA[1]}", workspace="other"),
        part(2, f"sha256:{SHA[1]}", resource={"name": "other", "digest": f"sha256:{SHA[1]}"}),
        part(2, f"sha256:{SHA[1]}", stage="intent"),
        part(2, f"sha256:{SHA[1]}", response={"status": 502, "upstream_status": 500}),
        part(1, f"sha256:{SHA[1]}"),
        part("\u0662", f"sha256:{SHA[1]}"),
        part("9" * 5000, f"sha256:{SHA[1]}"),
    ],
)
def test_with_a_part_missing_or_in_doubt_the_stores_name_stands(second: Record) -> None:
    uploads = Uploads()
    uploads.changes(part(1, f"sha256:{SHA[0]}"))
    uploads.changes(second)
    assert completed(uploads) == "etag:t-2"


@pytest.mark.parametrize("said", [None, "sha256-parts:aa-2", "etag:t", "etag:t-3", "etag:2"])
def test_what_is_recorded_otherwise_stands(said: str | None) -> None:
    uploads = Uploads()
    for index in (0, 1):
        uploads.changes(part(index + 1, f"sha256:{SHA[index]}"))
    assert completed(uploads, said) == said


def test_another_writes_digest_is_its_own() -> None:
    assert Uploads().digest(of("PUT", None, "etag:t-0")) == "etag:t-0"


def test_uploads_without_an_end_do_not_pile_up() -> None:
    uploads = Uploads(most=3)
    for upload in "abcdef":
        uploads.changes(part(1, f"sha256:{SHA[0]}", upload))
    assert [completed(uploads, "etag:t-1", upload) == composed(SHA[0]) for upload in "abcdef"] == [False] * 3 + [
        True
    ] * 3
    assert uploads._count == 0
