"""What WebDAV clients may ask of the embedded store besides its objects: the properties of one resource (RFC 4918 §9.1).

The store has keys and no folders, as S3 has: so each folder is there, and making one does nothing. That is all that clients need
which ask for a folder before they write into it. What is in a folder the store doesn't know: it keeps keys by their digest.
"""

from xml.sax.saxutils import escape

from sidecar.upstream.conditions import http_date
from sidecar.upstream.file_format import Meta

XML = (b"Content-Type", b"application/xml; charset=utf-8")
NOT_LISTED = b'<?xml version="1.0" encoding="utf-8"?><D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>'
"""RFC 4918 §9.1: a `Depth` that isn't served."""

# sccache takes no answer without a time (observed with 0.16.0); a folder that was never made has none of its own.
_FOLDER = f"<D:resourcetype><D:collection/></D:resourcetype><D:getlastmodified>{http_date(0)}</D:getlastmodified>"


def listing(upstream_path: str, meta: Meta | None) -> bytes:
    """The multistatus of one object, or of a folder where there is no `meta`. `upstream_path` as it was
    asked for, percent-encoded, without query."""
    properties = _FOLDER
    if meta is not None:
        properties = (
            f"<D:resourcetype/><D:getcontentlength>{meta.size}</D:getcontentlength><D:getetag>{escape(meta.etag)}</D:getetag>"
            f"<D:getlastmodified>{http_date(meta.modified)}</D:getlastmodified>"
        )
    return (
        '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:"><D:response>'
        f"<D:href>{escape(upstream_path)}</D:href><D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
        "</D:response></D:multistatus>"
    ).encode()
