"""The answer to ListBuckets, which no store is asked: it would show every bucket of the key pair that the sidecar holds.

Source: S3 API Reference, ListBuckets.
"""

from collections.abc import Iterable
from xml.sax.saxutils import escape

CREATED = "2000-01-01T00:00:00.000Z"
"""Clients insist on a date; what it was is the store's to know."""


def document(names: Iterable[str], prefix: str = "") -> bytes:
    """The buckets that the caller may see, by the names that it knows them by; of them those that begin with `prefix`."""
    buckets = "".join(
        f"<Bucket><Name>{escape(name)}</Name><CreationDate>{CREATED}</CreationDate></Bucket>"
        for name in sorted(set(names))
        if name.startswith(prefix)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Owner><ID>sidecar</ID></Owner><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>"
    ).encode()
