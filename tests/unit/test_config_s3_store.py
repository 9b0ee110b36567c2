"""`upstreams.NAME.s3`: what a bucket may be said to be, and which combinations can't work."""

from pathlib import Path

import pytest

from sidecar.config.s3_store import s3_store
from sidecar.config.values import Folder
from sidecar.document import parse
from sidecar.errors import DocumentError
from sidecar.settings import S3Credentials, S3Settings

KEYS = "credentials: {access_key_id_file: ./id, secret_access_key_file: ./secret}"
HTTPS = ("https://s3.eu-central-1.amazonaws.com",)


def read(text: str, urls: tuple[str, ...] = HTTPS) -> tuple[S3Settings, list[str]]:
    document = parse(text, "sidecar.yaml")
    settings = s3_store(document.root, urls, Folder(Path("/etc/sidecar")))
    try:
        document.finish()
    except DocumentError as error:
        return settings, [f"{problem.path}: {problem.message}" for problem in error.problems]
    return settings, []


def test_a_bucket_with_keys_in_files() -> None:
    settings, problems = read(f"bucket: artifacts\n{KEYS}\n")
    folder = Path("/etc/sidecar")
    assert problems == []
    assert settings == S3Settings(
        "artifacts", S3Credentials("files", folder / "id", folder / "secret"), "us-east-1", "path", True
    )


def test_all_of_it() -> None:
    settings, problems = read(
        "{bucket: my-artifacts, region: eu-central-1, addressing: virtual, conditional_writes: false, credentials: {source: aws}}"
    )
    assert problems == []
    assert settings == S3Settings("my-artifacts", S3Credentials("aws"), "eu-central-1", "virtual", False)


@pytest.mark.parametrize(
    ("text", "urls", "problem"),
    [
        (f"{KEYS}", HTTPS, "$: the key 'bucket' is missing"),
        ("bucket: a-bucket", HTTPS, "$: the key 'credentials' is missing"),
        (f"bucket: a/b\n{KEYS}", HTTPS, "$.bucket: 'a/b' is not a bucket's name"),
        (f"bucket: a..b\n{KEYS}", HTTPS, "$.bucket: 'a..b' is not a bucket's name"),
        (f"bucket: ..\n{KEYS}", HTTPS, "$.bucket: '..' is not a bucket's name"),
        (f"bucket: abc\nregion: EU\n{KEYS}", HTTPS, "$.region: 'EU' is not a region's name"),
        (f"bucket: abc\naddressing: dns\n{KEYS}", HTTPS, "$.addressing: "),
        (f"bucket: a.bc\naddressing: virtual\n{KEYS}", HTTPS, "$.addressing: no certificate covers a bucket with dots"),
        (f"bucket: A_b\naddressing: virtual\n{KEYS}", HTTPS, "$.addressing: 'A_b' can't be a part of a host's name"),
        (
            f"bucket: abc\naddressing: virtual\n{KEYS}",
            ("http://10.0.0.1:9000",),
            "$.addressing: virtual puts the bucket",
        ),
        (f"bucket: abc\naddressing: virtual\n{KEYS}", ("unix:/run/s3.sock",), "$.addressing: virtual puts the bucket"),
        (
            f"bucket: abc\naddressing: virtual\n{KEYS}",
            ("https://abc.s3.amazonaws.com",),
            "$.addressing: virtual puts the bucket before abc.s3.amazonaws.com, where it stands already",
        ),
        ("bucket: abc\ncredentials: {source: vault}", HTTPS, "$.credentials.source: "),
        ("bucket: abc\ncredentials: {}", HTTPS, "$.credentials: the key 'access_key_id_file' is missing"),
        (
            "bucket: abc\ncredentials: {source: aws, access_key_id_file: ./id}",
            HTTPS,
            "$.credentials.access_key_id_file: with `source: aws` no files are read",
        ),
        (
            "bucket: abc\ncredentials: {secret_access_key: abc, access_key_id_file: ./id, secret_access_key_file: ./s}",
            HTTPS,
            "$.credentials.secret_access_key: a secret doesn't stand in this file",
        ),
    ],
)
def test_what_cannot_be(text: str, urls: tuple[str, ...], problem: str) -> None:
    _, problems = read(text, urls)
    assert [found for found in problems if found.startswith(problem)], problems
