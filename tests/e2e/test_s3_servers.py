"""The servers that the tests of S3 stand on do verify what they are sent."""

import pytest
from botocore.exceptions import ClientError
from msgspec import structs

from tests.e2e.s3_servers import S3Server

pytestmark = pytest.mark.slow

_UNKNOWN = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "XAdminUserNotFound"}


def test_a_real_server_keeps_what_it_is_given(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a/b c+é~", Body=b"content")
    assert s3_server.stored(bucket) == {"a/b c+é~": b"content"}


@pytest.mark.parametrize("field", ["access_key", "secret_key"])
def test_a_real_server_refuses_a_wrong_key(s3_server: S3Server, field: str) -> None:
    with pytest.raises(ClientError) as refused:
        structs.replace(s3_server, **{field: "acme:nobody"}).bucket()
    assert refused.value.response["Error"]["Code"] in _UNKNOWN
