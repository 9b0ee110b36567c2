"""What a route of S3 clients says in a policy file, and what it may not say."""

import re
from collections.abc import Collection, Mapping

from sidecar.document import Value
from sidecar.policy.buckets import CLIENT
from sidecar.s3.copy_source import is_bucket
from sidecar.settings import UpstreamSettings

_HOST = re.compile(r"\*(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+")


def read_host(client: str, value: Value) -> str:
    """`*.s3.internal` -> `.s3.internal`: what stands behind the bucket in a request's `Host`."""
    text = value.text()
    if client != CLIENT:
        value.problem("only S3 clients write the bucket into the host; leave the key out")
    elif text and _HOST.fullmatch(text.lower()) is None:
        value.problem(f"{text!r} is no '*.' before a host's name, without a port, as '*.s3.internal'")
    return text[1:].lower()


def check(path: Value, keys: str, upstream: Value, name: str, upstreams: Collection[str] | None) -> None:
    """Adds what is wrong with a route of S3 clients. `keys`: its `upstream_path`, `name`: its upstream's."""
    bucket = path.text()[1:].partition("/")[0]
    if not is_bucket(bucket):
        path.problem(
            "a route of S3 clients is a bucket, or a bucket and a prefix, as /artifacts or /artifacts/team; "
            "a bucket's name has 3 to 63 letters, digits, '-', '.' and '_'"
        )
    settings = upstreams.get(name) if isinstance(upstreams, Mapping) else None
    if not isinstance(settings, UpstreamSettings):
        return
    if settings.url.startswith("file:"):
        upstream.problem(f"{name!r} is the embedded store, which doesn't speak S3; S3 clients need a store that does")
    elif settings.s3 is None and not keys.strip("/"):
        upstream.problem(
            f"{name!r} names no bucket: write 's3: {{bucket: ...}}' there, or the bucket as this route's upstream_path"
        )
