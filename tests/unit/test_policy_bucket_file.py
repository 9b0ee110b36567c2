"""What a route of S3 clients may say in a policy file."""

import pytest

from sidecar.errors import DocumentError
from sidecar.policy.compiled import Route
from sidecar.policy.file import compile_file
from sidecar.profiles import PROFILES
from sidecar.settings import S3Credentials, S3Settings, UpstreamSettings

UPSTREAMS = {
    "bucket": UpstreamSettings("bucket", "https://s3.test", s3=S3Settings("real", S3Credentials())),
    "server": UpstreamSettings("server", "http://s3.test"),
    "files": UpstreamSettings("files", "file:///data"),
}


def compiled(route: str) -> Route:
    text = f"workspace: web\nroutes: [{{{route}}}]\n"
    return compile_file(text, "web.yaml", issuers={}, upstreams=UPSTREAMS, profiles=PROFILES).routes[0]


def test_a_bucket_a_prefix_and_a_host() -> None:
    found = compiled('path: /artifacts/team, client: s3, upstream: bucket, host: "*.S3.internal"')
    assert (found.segments, found.host) == (("artifacts", "team"), ".s3.internal")
    assert compiled("path: /artifacts, client: s3, upstream: bucket").host == ""
    assert compiled("path: /artifacts, client: s3, upstream: server").upstream_path == "/artifacts"


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("path: /, client: s3, upstream: bucket", "a bucket, or a bucket and a prefix"),
        ("path: /ab, client: s3, upstream: bucket", "3 to 63"),
        ("path: /artifacts, client: s3, upstream: files", "doesn't speak S3"),
        ("path: /artifacts, client: s3, upstream: server, upstream_path: /", "names no bucket"),
        ("path: /artifacts, client: s3, upstream: bucket, verbs: {POST: read}", "leave 'verbs' out"),
        ('path: /artifacts, client: plain, upstream: bucket, host: "*.s3.internal"', "only S3 clients"),
        ("path: /artifacts, client: s3, upstream: bucket, host: s3.internal", "'*.s3.internal'"),
        ('path: /artifacts, client: s3, upstream: bucket, host: "*.s3.internal:80"', "without a port"),
        ('path: /artifacts, client: s3, upstream: bucket, host: "*"', "'*.s3.internal'"),
    ],
)
def test_what_is_refused(route: str, problem: str) -> None:
    with pytest.raises(DocumentError) as refused:
        compiled(route)
    assert problem in str(refused.value)
