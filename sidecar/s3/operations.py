"""The table of S3 operations: what each is by method, level, sub-resource and header, and which permission it asks.

The law: a request is an operation of this table with all that it says accounted for, or nothing. A store that doesn't know a
sub-resource falls through to the plain operation (`PUT /bucket?anything` creates the bucket), so a query key that no row
expects makes the request unknown, and unknown is refused. A test holds the rows to botocore's own model.

`list` is `read`. Where the table asks more than the method shows: tags and annotations change an object that exists; a restore
can name another bucket in its body for what it writes, so it is `admin`. `None` is refused to everybody: a session is a
credential of the store's own, and `WriteGetObjectResponse` belongs to no bucket.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from sidecar.model import Permission
from sidecar.sigv4_verify import QUERY_NAMES


class Level(StrEnum):
    """What the path names. `/bucket/` with an empty key is the bucket."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Operation(Struct, frozen=True):
    name: str
    """As in AWS's own model."""
    method: str
    level: Level
    permission: Permission | None
    """`None`: refused, whoever asks."""
    needs: frozenset[str]
    """Query keys that make it this operation."""
    values: tuple[tuple[str, str], ...]
    """Of them, those whose value counts too."""
    allows: frozenset[str]
    """Query keys that it may have."""
    source: str
    """The header that names another object, which must be readable; empty for most."""
    creates: bool
    """It may replace or alter an object that exists (`docs/policy.md` rule 17). Each step of a multipart upload asks what the PUT
    would, so that it fails at its first."""


COPY_SOURCE, RENAME_SOURCE = "x-amz-copy-source", "x-amz-rename-source"
SOURCES = frozenset({COPY_SOURCE, RENAME_SOURCE})

IGNORED = QUERY_NAMES | {"x-id"}
"""Query keys that say nothing about the operation: the signature's, and the operation's name as AWS's JavaScript SDK adds it."""

_READ, _WRITE, _DELETE, _ADMIN = Permission.READ, Permission.WRITE, Permission.DELETE, Permission.ADMIN
SERVICE, BUCKET, OBJECT = Level.SERVICE, Level.BUCKET, Level.OBJECT
_VERSION = ("versionId",)
_RESPONSE = (
    "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
    "response-content-type", "response-expires", "versionId", "partNumber",
)  # fmt: skip


def _row(
    name: str,
    method: str,
    level: Level,
    permission: Permission | None,
    *needs: str,
    allows: tuple[str, ...] = (),
    source: str = "",
    creates: bool = False,
) -> Operation:
    pairs = [need.partition("=") for need in needs]
    values = tuple((key, value) for key, equals, value in pairs if equals)
    keys = frozenset(key for key, _, _ in pairs)
    return Operation(name, method, level, permission, keys, values, frozenset(allows), source, creates)


# Where two rows have the same shape, the first is meant: the second is its deprecated twin, or the same call to another host.
_ROWS = (
    # service, GET
    _row("ListBuckets", "GET", SERVICE, _READ, allows=("max-buckets", "continuation-token", "prefix", "bucket-region")),
    _row("ListDirectoryBuckets", "GET", SERVICE, _READ, allows=("continuation-token", "max-directory-buckets")),
    # service, POST
    _row("WriteGetObjectResponse", "POST", SERVICE, None),
    # bucket, DELETE
    _row("DeleteBucket", "DELETE", BUCKET, _ADMIN),
    _row("DeleteBucketAnalyticsConfiguration", "DELETE", BUCKET, _ADMIN, "analytics", "id"),
    _row("DeleteBucketCors", "DELETE", BUCKET, _ADMIN, "cors"),
    _row("DeleteBucketEncryption", "DELETE", BUCKET, _ADMIN, "encryption"),
    _row("DeleteBucketIntelligentTieringConfiguration", "DELETE", BUCKET, _ADMIN, "intelligent-tiering", "id"),
    _row("DeleteBucketInventoryConfiguration", "DELETE", BUCKET, _ADMIN, "inventory", "id"),
    _row("DeleteBucketLifecycle", "DELETE", BUCKET, _ADMIN, "lifecycle"),
    _row("DeleteBucketMetadataConfiguration", "DELETE", BUCKET, _ADMIN, "metadataConfiguration"),
    _row("DeleteBucketMetadataTableConfiguration", "DELETE", BUCKET, _ADMIN, "metadataTable"),
    _row("DeleteBucketMetricsConfiguration", "DELETE", BUCKET, _ADMIN, "metrics", "id"),
    _row("DeleteBucketOwnershipControls", "DELETE", BUCKET, _ADMIN, "ownershipControls"),
    _row("DeleteBucketPolicy", "DELETE", BUCKET, _ADMIN, "policy"),
    _row("DeleteBucketReplication", "DELETE", BUCKET, _ADMIN, "replication"),
    _row("DeleteBucketTagging", "DELETE", BUCKET, _ADMIN, "tagging"),
    _row("DeleteBucketWebsite", "DELETE", BUCKET, _ADMIN, "website"),
    _row("DeletePublicAccessBlock", "DELETE", BUCKET, _ADMIN, "publicAccessBlock"),
    # bucket, GET
    _row("CreateSession", "GET", BUCKET, None, "session"),
    _row("GetBucketAbac", "GET", BUCKET, _ADMIN, "abac"),
    _row("GetBucketAccelerateConfiguration", "GET", BUCKET, _ADMIN, "accelerate"),
    _row("GetBucketAcl", "GET", BUCKET, _ADMIN, "acl"),
    _row("GetBucketAnalyticsConfiguration", "GET", BUCKET, _ADMIN, "analytics", "id"),
    _row("GetBucketCors", "GET", BUCKET, _ADMIN, "cors"),
    _row("GetBucketEncryption", "GET", BUCKET, _ADMIN, "encryption"),
    _row("GetBucketIntelligentTieringConfiguration", "GET", BUCKET, _ADMIN, "intelligent-tiering", "id"),
    _row("GetBucketInventoryConfiguration", "GET", BUCKET, _ADMIN, "inventory", "id"),
    _row("GetBucketLifecycleConfiguration", "GET", BUCKET, _ADMIN, "lifecycle"),
    _row("GetBucketLifecycle", "GET", BUCKET, _ADMIN, "lifecycle"),
    _row("GetBucketLocation", "GET", BUCKET, _READ, "location"),
    _row("GetBucketLogging", "GET", BUCKET, _ADMIN, "logging"),
    _row("GetBucketMetadataConfiguration", "GET", BUCKET, _ADMIN, "metadataConfiguration"),
    _row("GetBucketMetadataTableConfiguration", "GET", BUCKET, _ADMIN, "metadataTable"),
    _row("GetBucketMetricsConfiguration", "GET", BUCKET, _ADMIN, "metrics", "id"),
    _row("GetBucketNotificationConfiguration", "GET", BUCKET, _ADMIN, "notification"),
    _row("GetBucketNotification", "GET", BUCKET, _ADMIN, "notification"),
    _row("GetBucketOwnershipControls", "GET", BUCKET, _ADMIN, "ownershipControls"),
    _row("GetBucketPolicy", "GET", BUCKET, _ADMIN, "policy"),
    _row("GetBucketPolicyStatus", "GET", BUCKET, _ADMIN, "policyStatus"),
    _row("GetBucketReplication", "GET", BUCKET, _ADMIN, "replication"),
    _row("GetBucketRequestPayment", "GET", BUCKET, _ADMIN, "requestPayment"),
    _row("GetBucketTagging", "GET", BUCKET, _ADMIN, "tagging"),
    _row("GetBucketVersioning", "GET", BUCKET, _READ, "versioning"),
    _row("GetBucketWebsite", "GET", BUCKET, _ADMIN, "website"),
    _row("GetObjectLockConfiguration", "GET", BUCKET, _READ, "object-lock"),
    _row("GetPublicAccessBlock", "GET", BUCKET, _ADMIN, "publicAccessBlock"),
    _row("ListBucketAnalyticsConfigurations", "GET", BUCKET, _ADMIN, "analytics", allows=("continuation-token",)),
    _row("ListBucketIntelligentTieringConfigurations", "GET", BUCKET, _ADMIN, "intelligent-tiering", allows=("continuation-token",)),
    _row("ListBucketInventoryConfigurations", "GET", BUCKET, _ADMIN, "inventory", allows=("continuation-token",)),
    _row("ListBucketMetricsConfigurations", "GET", BUCKET, _ADMIN, "metrics", allows=("continuation-token",)),
    _row("ListMultipartUploads", "GET", BUCKET, _READ, "uploads", allows=("delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker")),
    _row("ListObjectVersions", "GET", BUCKET, _READ, "versions", allows=("delimiter", "encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker")),
    _row("ListObjects", "GET", BUCKET, _READ, allows=("delimiter", "encoding-type", "marker", "max-keys", "prefix")),
    _row("ListObjectsV2", "GET", BUCKET, _READ, "list-type=2", allows=("delimiter", "encoding-type", "max-keys", "prefix", "continuation-token", "fetch-owner", "start-after")),
    # bucket, HEAD
    _row("HeadBucket", "HEAD", BUCKET, _READ),
    # bucket, POST
    _row("CreateBucketMetadataConfiguration", "POST", BUCKET, _ADMIN, "metadataConfiguration"),
    _row("CreateBucketMetadataTableConfiguration", "POST", BUCKET, _ADMIN, "metadataTable"),
    _row("DeleteObjects", "POST", BUCKET, _DELETE, "delete"),
    # bucket, PUT
    _row("CreateBucket", "PUT", BUCKET, _ADMIN),
    _row("PutBucketAbac", "PUT", BUCKET, _ADMIN, "abac"),
    _row("PutBucketAccelerateConfiguration", "PUT", BUCKET, _ADMIN, "accelerate"),
    _row("PutBucketAcl", "PUT", BUCKET, _ADMIN, "acl"),
    _row("PutBucketAnalyticsConfiguration", "PUT", BUCKET, _ADMIN, "analytics", "id"),
    _row("PutBucketCors", "PUT", BUCKET, _ADMIN, "cors"),
    _row("PutBucketEncryption", "PUT", BUCKET, _ADMIN, "encryption"),
    _row("PutBucketIntelligentTieringConfiguration", "PUT", BUCKET, _ADMIN, "intelligent-tiering", "id"),
    _row("PutBucketInventoryConfiguration", "PUT", BUCKET, _ADMIN, "inventory", "id"),
    _row("PutBucketLifecycleConfiguration", "PUT", BUCKET, _ADMIN, "lifecycle"),
    _row("PutBucketLifecycle", "PUT", BUCKET, _ADMIN, "lifecycle"),
    _row("PutBucketLogging", "PUT", BUCKET, _ADMIN, "logging"),
    _row("PutBucketMetricsConfiguration", "PUT", BUCKET, _ADMIN, "metrics", "id"),
    _row("PutBucketNotificationConfiguration", "PUT", BUCKET, _ADMIN, "notification"),
    _row("PutBucketNotification", "PUT", BUCKET, _ADMIN, "notification"),
    _row("PutBucketOwnershipControls", "PUT", BUCKET, _ADMIN, "ownershipControls"),
    _row("PutBucketPolicy", "PUT", BUCKET, _ADMIN, "policy"),
    _row("PutBucketReplication", "PUT", BUCKET, _ADMIN, "replication"),
    _row("PutBucketRequestPayment", "PUT", BUCKET, _ADMIN, "requestPayment"),
    _row("PutBucketTagging", "PUT", BUCKET, _ADMIN, "tagging"),
    _row("PutBucketVersioning", "PUT", BUCKET, _ADMIN, "versioning"),
    _row("PutBucketWebsite", "PUT", BUCKET, _ADMIN, "website"),
    _row("PutObjectLockConfiguration", "PUT", BUCKET, _ADMIN, "object-lock"),
    _row("PutPublicAccessBlock", "PUT", BUCKET, _ADMIN, "publicAccessBlock"),
    _row("UpdateBucketMetadataAnnotationTableConfiguration", "PUT", BUCKET, _ADMIN, "metadataAnnotationTable"),
    _row("UpdateBucketMetadataInventoryTableConfiguration", "PUT", BUCKET, _ADMIN, "metadataInventoryTable"),
    _row("UpdateBucketMetadataJournalTableConfiguration", "PUT", BUCKET, _ADMIN, "metadataJournalTable"),
    # object, DELETE
    _row("AbortMultipartUpload", "DELETE", OBJECT, _WRITE, "uploadId"),
    _row("DeleteObject", "DELETE", OBJECT, _DELETE, allows=_VERSION),
    _row("DeleteObjectAnnotation", "DELETE", OBJECT, _DELETE, "annotation", "annotationName", allows=_VERSION),
    _row("DeleteObjectTagging", "DELETE", OBJECT, _WRITE, "tagging", allows=_VERSION, creates=True),
    # object, GET
    _row("GetObject", "GET", OBJECT, _READ, allows=_RESPONSE),
    _row("GetObjectAcl", "GET", OBJECT, _ADMIN, "acl", allows=_VERSION),
    _row("GetObjectAnnotation", "GET", OBJECT, _READ, "annotation", "annotationName", allows=_VERSION),
    _row("GetObjectAttributes", "GET", OBJECT, _READ, "attributes", allows=_VERSION),
    _row("GetObjectLegalHold", "GET", OBJECT, _READ, "legal-hold", allows=_VERSION),
    _row("GetObjectRetention", "GET", OBJECT, _READ, "retention", allows=_VERSION),
    _row("GetObjectTagging", "GET", OBJECT, _READ, "tagging", allows=_VERSION),
    _row("GetObjectTorrent", "GET", OBJECT, _READ, "torrent"),
    _row("ListObjectAnnotations", "GET", OBJECT, _READ, "annotation", allows=("versionId", "max-annotation-results", "annotation-prefix", "continuation-token")),
    _row("ListParts", "GET", OBJECT, _READ, "uploadId", allows=("max-parts", "part-number-marker")),
    # object, HEAD
    _row("HeadObject", "HEAD", OBJECT, _READ, allows=_RESPONSE),
    # object, POST
    _row("CompleteMultipartUpload", "POST", OBJECT, _WRITE, "uploadId", creates=True),
    _row("CreateMultipartUpload", "POST", OBJECT, _WRITE, "uploads", creates=True),
    _row("RestoreObject", "POST", OBJECT, _ADMIN, "restore", allows=_VERSION),
    _row("SelectObjectContent", "POST", OBJECT, _READ, "select", "select-type=2"),
    # object, PUT
    _row("CopyObject", "PUT", OBJECT, _WRITE, source="x-amz-copy-source", creates=True),
    _row("PutObject", "PUT", OBJECT, _WRITE, creates=True),
    _row("PutObjectAcl", "PUT", OBJECT, _ADMIN, "acl", allows=_VERSION),
    _row("PutObjectAnnotation", "PUT", OBJECT, _WRITE, "annotation", "annotationName", allows=_VERSION, creates=True),
    _row("PutObjectLegalHold", "PUT", OBJECT, _ADMIN, "legal-hold", allows=_VERSION),
    _row("PutObjectRetention", "PUT", OBJECT, _ADMIN, "retention", allows=_VERSION),
    _row("PutObjectTagging", "PUT", OBJECT, _WRITE, "tagging", allows=_VERSION, creates=True),
    _row("RenameObject", "PUT", OBJECT, _WRITE, "renameObject", source="x-amz-rename-source", creates=True),
    _row("UpdateObjectEncryption", "PUT", OBJECT, _ADMIN, "encryption", allows=_VERSION),
    _row("UploadPart", "PUT", OBJECT, _WRITE, "partNumber", "uploadId", creates=True),
    _row("UploadPartCopy", "PUT", OBJECT, _WRITE, "partNumber", "uploadId", source="x-amz-copy-source", creates=True),
)  # fmt: skip

OPERATIONS: dict[str, Operation] = {row.name: row for row in _ROWS}
_BY_PLACE: dict[tuple[str, Level], list[Operation]] = {}
for _each in _ROWS:
    _BY_PLACE.setdefault((_each.method, _each.level), []).append(_each)


_PLAINEST = {
    place: next((row for row in rows if not row.needs and not row.source), None) for place, rows in _BY_PLACE.items()
}
"""What a request without parameters is, that names no other object."""


def recognise(method: str, level: Level, query: Mapping[str, str], headers: Mapping[str, str]) -> Operation | None:
    """The operation, or `None` for what is unknown.

    `query`: decoded, each key once (`s3.query.pairs`). `headers`: lower-case names; those that a signed URL carries as
    parameters belong to them (`s3.headers.said`).
    """
    if not query and COPY_SOURCE not in headers and RENAME_SOURCE not in headers:
        return _PLAINEST.get((method, level))
    names = query.keys() - IGNORED
    sources = SOURCES & headers.keys()
    for row in _BY_PLACE.get((method, level), ()):
        if (
            row.needs <= names
            and names <= row.needs | row.allows
            and sources == ({row.source} if row.source else set())
        ):
            return row if all(query[key] == value for key, value in row.values) else None
    return None
