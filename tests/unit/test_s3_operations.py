"""The table of S3 operations, held to botocore's own model: every operation has its row, and no request slips past the table."""

import botocore.session
import pytest
from botocore.model import OperationModel
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.model import Permission
from sidecar.reasons import Reason
from sidecar.s3 import headers as s3_headers
from sidecar.s3.operations import IGNORED, OPERATIONS, SOURCES, Level, Operation, recognise
from sidecar.sigv4_verify import QUERY_NAMES

MODEL = botocore.session.get_session().get_service_model("s3")
TWINS = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
}
"""Deprecated operations that look like their successor, and one that only the host tells apart."""
LEVELS = {
    "/": Level.SERVICE,
    "/WriteGetObjectResponse": Level.SERVICE,
    "/{Bucket}": Level.BUCKET,
    "/{Bucket}/{Key+}": Level.OBJECT,
}


class Modelled:
    """One operation as botocore would send it."""

    def __init__(self, operation: OperationModel) -> None:
        path, _, fixed = operation.http["requestUri"].partition("?")
        self.method, self.level = operation.http["method"], LEVELS[path]
        self.query = {key: value for key, _, value in (part.partition("=") for part in fixed.split("&")) if key}
        self.headers: dict[str, str] = {}
        self.optional_query: set[str] = set()
        self.optional_headers: set[str] = set()
        shape = operation.input_shape
        for member, what in shape.members.items() if shape is not None else ():
            where, name = what.serialization.get("location"), what.serialization.get("name", member)
            required = member in shape.required_members
            if where == "querystring" and required:
                self.query[name] = "1"
            elif where == "querystring":
                self.optional_query.add(name)
            elif where == "header" and required:
                self.headers[name.lower()] = "1"
            elif where in ("header", "headers"):
                self.optional_headers.add(name.lower())


MODELLED = {name: Modelled(MODEL.operation_model(name)) for name in MODEL.operation_names}


@pytest.mark.parametrize("name", sorted(MODELLED))
def test_every_modelled_operation_has_its_row(name: str) -> None:
    assert name in OPERATIONS, f"{name} is new in botocore: give it a row, and think about who may do it"
    asked, row = MODELLED[name], OPERATIONS[name]
    assert (row.method, row.level) == (asked.method, asked.level)
    found = recognise(asked.method, asked.level, asked.query, asked.headers)
    assert found is OPERATIONS[TWINS.get(name, name)]
    assert asked.optional_query <= row.allows
    for key in asked.optional_query if name not in TWINS else ():
        assert recognise(asked.method, asked.level, asked.query | {key: "1"}, asked.headers) is row


def test_no_row_is_invented() -> None:
    assert set(OPERATIONS) == set(MODELLED)


@pytest.mark.parametrize("name", sorted(set(MODELLED) - {"WriteGetObjectResponse", "CreateSession"}))
def test_every_modelled_header_is_known(name: str) -> None:
    asked = MODELLED[name]
    for header in asked.optional_headers | asked.headers.keys():
        if header in s3_headers.REFUSED:
            continue
        s3_headers.asks_admin({header: s3_headers.DIRECTIVES.get(header, "1")[0]})
        known = s3_headers.goes_on(header) or header in s3_headers.ENDS_HERE | SOURCES | {"content-length"}
        assert known, f"{header} of {name} would be dropped unread"


ASKS: dict[Permission, str] = {
    Permission.READ: (
        "GetBucketLocation GetBucketVersioning GetObject GetObjectAnnotation GetObjectAttributes "
        "GetObjectLegalHold GetObjectLockConfiguration GetObjectRetention GetObjectTagging GetObjectTorrent "
        "HeadBucket HeadObject ListBuckets ListDirectoryBuckets ListMultipartUploads ListObjectAnnotations "
        "ListObjectVersions ListObjects ListObjectsV2 ListParts SelectObjectContent"
    ),
    Permission.WRITE: (
        "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateMultipartUpload DeleteObjectTagging "
        "PutObject PutObjectAnnotation PutObjectTagging RenameObject UploadPart UploadPartCopy"
    ),
    Permission.DELETE: ("DeleteObject DeleteObjectAnnotation DeleteObjects"),
}


def test_whatever_is_not_named_here_is_for_admins() -> None:
    named = {name: permission for permission, names in ASKS.items() for name in names.split()}
    for name, row in OPERATIONS.items():
        if row.permission is not None:
            assert row.permission is named.get(name, Permission.ADMIN), name


def test_what_reads_another_object_and_what_may_replace_one() -> None:
    assert {name for name, row in OPERATIONS.items() if row.source} == {"CopyObject", "UploadPartCopy", "RenameObject"}
    writes = {name for name, row in OPERATIONS.items() if row.permission is Permission.WRITE}
    assert {name for name, row in OPERATIONS.items() if row.creates} == writes - {"AbortMultipartUpload"}


@pytest.mark.parametrize(
    ("method", "level", "query", "headers"),
    [
        ("POST", Level.BUCKET, {}, {"content-type": "multipart/form-data; boundary=x"}),  # a browser's form
        ("POST", Level.OBJECT, {}, {}),
        ("OPTIONS", Level.OBJECT, {}, {}),
        ("PATCH", Level.OBJECT, {}, {}),
        ("get", Level.OBJECT, {}, {}),
        ("PUT", Level.BUCKET, {"unheard-of": ""}, {}),  # would create the bucket at a store that doesn't know it
        ("PUT", Level.OBJECT, {"unheard-of": ""}, {}),
        ("GET", Level.OBJECT, {"ACL": ""}, {}),
        ("GET", Level.OBJECT, {"acl": "", "tagging": ""}, {}),
        ("GET", Level.BUCKET, {"list-type": "1"}, {}),
        ("GET", Level.BUCKET, {"list-type": "2", "acl": ""}, {}),
        ("GET", Level.BUCKET, {"policy": "", "prefix": ""}, {}),
        ("GET", Level.OBJECT, {}, {"x-amz-copy-source": "/b/k"}),
        ("POST", Level.OBJECT, {"uploads": ""}, {"x-amz-copy-source": "/b/k"}),
        ("PUT", Level.OBJECT, {"tagging": ""}, {"x-amz-copy-source": "/b/k"}),
        ("PUT", Level.OBJECT, {}, {"x-amz-copy-source": "/b/k", "x-amz-rename-source": "/b/k"}),
        ("PUT", Level.OBJECT, {"uploadId": "1"}, {}),
        ("PUT", Level.OBJECT, {"partNumber": "1"}, {}),
        ("DELETE", Level.OBJECT, {"uploadId": "1", "versionId": "1"}, {}),
        ("DELETE", Level.SERVICE, {}, {}),
        ("GET", Level.OBJECT, {"AWSAccessKeyId": "1", "Signature": "1", "Expires": "1"}, {}),
    ],
)
def test_what_no_row_accounts_for_is_unknown(
    method: str, level: Level, query: dict[str, str], headers: dict[str, str]
) -> None:
    assert recognise(method, level, query, headers) is None


@pytest.mark.parametrize("name", ["CreateSession", "WriteGetObjectResponse"])
def test_what_nobody_may(name: str) -> None:
    assert OPERATIONS[name].permission is None


KEYS = sorted({key for row in OPERATIONS.values() for key in row.needs | row.allows})
EXTRA_QUERY = st.dictionaries(
    st.sampled_from(KEYS) | st.sampled_from(sorted(IGNORED)) | st.text("acltogingXY-_", max_size=8),
    st.sampled_from(["", "1", "2"]),
    max_size=3,
)
EXTRA_HEADERS = st.dictionaries(
    st.sampled_from([*sorted(SOURCES), "x-amz-acl", "range", "x-http-method-override", "content-type"])
    | st.text("x-amzcopyure", max_size=8),
    st.sampled_from(["", "/b/k", "GET"]),
    max_size=3,
)


def fits(row: Operation, query: dict[str, str], headers: dict[str, str]) -> bool:
    """Whether the row accounts for all that the request says, and the request for all that the row needs."""
    own = query.keys() - QUERY_NAMES - {"x-id"}
    sources = {name for name in headers if name in SOURCES}
    return row.needs <= own <= row.needs | row.allows and sources == ({row.source} - {""})


@given(st.sampled_from(sorted(OPERATIONS)), EXTRA_QUERY, EXTRA_HEADERS)
def test_a_query_key_or_header_moves_a_request_only_to_another_row(
    name: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """Never off the table: what comes out is the row that accounts for all of it, or nothing, which is refused."""
    asked = MODELLED[name]
    query, headers = query | asked.query, headers | asked.headers
    found = recognise(asked.method, asked.level, query, headers)
    fitting = {row.name for row in OPERATIONS.values() if (row.method, row.level) == (asked.method, asked.level)}
    fitting = {each for each in fitting if fits(OPERATIONS[each], query, headers)}
    if found is None:
        assert {each for each in fitting if all(query[key] == value for key, value in OPERATIONS[each].values)} == set()
    else:
        assert OPERATIONS[found.name] is found
        assert found.name in fitting
        assert {TWINS.get(each, each) for each in fitting} == {found.name}  # one meaning, not the first of several


@given(st.sampled_from(sorted(OPERATIONS)), st.sampled_from(sorted(QUERY_NAMES | {"x-id"})))
def test_the_signature_in_a_url_changes_nothing(name: str, key: str) -> None:
    asked = MODELLED[name]
    plain = recognise(asked.method, asked.level, asked.query, asked.headers)
    assert recognise(asked.method, asked.level, asked.query | {key: "anything"}, asked.headers) is plain


@pytest.mark.parametrize(
    ("headers", "admin"),
    [
        ({}, False),
        ({"x-amz-acl": "private"}, False),
        ({"x-amz-acl": "Private"}, True),
        ({"x-amz-acl": ""}, True),
        ({"x-amz-acl": "public-read"}, True),
        ({"x-amz-acl": "bucket-owner-full-control"}, True),
        ({"x-amz-acl": "private", "x-amz-grant-read": "id=1"}, True),
        ({"x-amz-grant-read": "id=1", "x-amz-acl": "private"}, True),
        ({"x-amz-grant-full-control": ""}, True),
        ({"x-amz-object-lock-mode": "COMPLIANCE"}, True),
        ({"x-amz-object-lock-anything-new": "1"}, True),
        ({"x-amz-website-redirect-location": "/x"}, True),
        ({"x-amz-bypass-governance-retention": "true"}, True),
        ({"x-amz-meta-acl": "public-read", "x-amz-tagging": "a=b", "x-amz-storage-class": "GLACIER"}, False),
        ({"range": "bytes=0-1", "x-minio-force-delete": "true"}, False),
    ],
)
def test_which_headers_ask_for_admin(headers: dict[str, str], admin: bool) -> None:
    assert s3_headers.asks_admin(headers) is admin


QUIET = [
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-tagging",
    "x-amz-copy-source",
    "content-length",
    "accept",
    "x-other",
]


@pytest.mark.parametrize("name", QUIET)
def test_what_asks_for_nothing_asks_for_nothing_beside_what_does(name: str) -> None:
    assert not s3_headers.asks_admin({name: "1", "x-amz-acl": "private"})
    assert s3_headers.asks_admin({name: "1", "x-amz-acl": "public-read"})


@pytest.mark.parametrize(
    "name", ["x-amz-aclx", "x-amz-fwd-status", "x-amz-", "x-amz-meta", "x-amz-create-session-mode"]
)
def test_an_x_amz_header_that_is_unknown_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        s3_headers.asks_admin({name: "1"})
    assert refused.value.reason is Reason.UNKNOWN_OPERATION
    assert not s3_headers.goes_on(name)


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "cookie",
        "x-minio-force-delete",
        "x-object-manifest",
        "x-amz-security-token",
        "x-amz-date",
        "expect",
    ],
)
def test_what_the_store_never_gets(name: str) -> None:
    assert not s3_headers.goes_on(name)


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token", "x-amz-trailer", "x-amz-user-agent",
    ],
)  # fmt: skip
def test_what_is_about_the_signature_or_the_wrapping_is_known_and_ends_here(name: str) -> None:
    assert s3_headers.asks_admin({name: "1"}) is False
    assert not s3_headers.goes_on(name)


def test_headers_in_a_signed_url_count_as_headers() -> None:
    query = {
        "X-Amz-Acl": "public-read",
        "versionId": "1",
        "X-Amz-Date": "20261122T084500Z",
        "x-amz-checksum-mode": "ENABLED",
    }
    own, merged = s3_headers.said(query, {"host": "h"})
    assert own == {"versionId": "1", "X-Amz-Date": "20261122T084500Z"}
    assert merged == {"host": "h", "x-amz-acl": "public-read", "x-amz-checksum-mode": "ENABLED"}
    assert s3_headers.asks_admin(merged)


@pytest.mark.parametrize(
    ("query", "headers", "reason"),
    [
        ({"x-amz-acl": "private"}, {"x-amz-acl": "public-read"}, Reason.BAD_HEADER),
        ({"x-amz-acl": "private", "X-Amz-Acl": "public-read"}, {}, Reason.BAD_HEADER),
        ({"x-amz-security-token": "t"}, {}, Reason.MISPLACED_TOKEN),
        ({"X-Amz-Security-Token": "t"}, {}, Reason.MISPLACED_TOKEN),
        ({"x-amz-meta-a: b": "c"}, {}, Reason.BAD_HEADER),  # would be another header's line
        ({"x-amz-meta-a ": "c"}, {}, Reason.BAD_HEADER),
        ({"x-amz-meta-ä": "c"}, {}, Reason.BAD_HEADER),
        ({"x-amz-meta-a": "ä"}, {}, Reason.BAD_HEADER),  # as where it is a header
    ],
)
def test_nothing_is_said_in_two_places(query: dict[str, str], headers: dict[str, str], reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        s3_headers.said(query, headers)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        ("x-amz-meta-built_by", True),
        ("x-amz-meta-v1.2", True),
        ("x-amz-meta-x-sidecar-provenance", False),
        ("x-amz-meta-x_sidecar.provenance", False),  # some stores read these as one
    ],
)
def test_metadata_goes_on_by_any_name_but_ours(name: str, goes: bool) -> None:
    assert s3_headers.goes_on(name) is goes
