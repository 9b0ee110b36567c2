"""The configuration's `upstreams.NAME.s3`: a store that is a bucket."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from sidecar.config.values import Folder
from sidecar.document import Value
from sidecar.settings import S3Credentials, S3Settings
from sidecar.yaml_tree import quoted

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
"""Amazon's rules and, since others take more, what they took before 2018."""
_LABELS: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_KEY_FILES: Final = ("access_key_id_file", "secret_access_key_file")


def s3_store(value: Value, urls: tuple[str, ...], folder: Folder) -> S3Settings:
    block = value.block()
    bucket = block.need("bucket")
    name = bucket.text()
    if name and (_BUCKET.fullmatch(name) is None or ".." in name):
        bucket.problem(f"{quoted(name)} is not a bucket's name: 3 to 63 letters, digits, dots, - and _")
    addressing = block.get("addressing", lambda found: found.choice(("path", "virtual")), "path")
    if addressing == "virtual":
        _check_virtual(block.need("addressing"), name, urls)
    return S3Settings(
        bucket=name,
        credentials=_credentials(block.need("credentials"), folder),
        region=block.get("region", _region, "us-east-1"),
        addressing=addressing,
        conditional_writes=block.get("conditional_writes", lambda found: found.boolean(), True),
    )


def _region(value: Value) -> str:
    text = value.text()
    if text and _REGION.fullmatch(text) is None:
        value.problem(f"{quoted(text)} is not a region's name, as eu-central-1")
    return text


def _check_virtual(value: Value, bucket: str, urls: tuple[str, ...]) -> None:
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "unix" or _is_ip(host):
            value.problem(f"virtual puts the bucket before the host's name, and {url} has none; say path")
        elif host.startswith(f"{bucket}."):
            value.problem(f"virtual puts the bucket before {host}, where it stands already; leave it out of the URL")
        elif parts.scheme == "https" and "." in bucket:
            value.problem("no certificate covers a bucket with dots in its name; say path")
    if bucket and _LABELS.fullmatch(bucket) is None:
        value.problem(f"{quoted(bucket)} can't be a part of a host's name; say path")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _credentials(value: Value, folder: Folder) -> S3Credentials:
    block = value.block()
    for key in ("access_key_id", "secret_access_key", "session_token"):
        block.refuse(key, f"a secret doesn't stand in this file; put it into a file and name that as {key}_file")
    source = block.get("source", lambda found: found.choice(("files", "environment", "aws")), "files")
    if source != "files":
        for key in (*_KEY_FILES, "session_token_file"):
            if (found := block.find(key)) is not None:
                found.problem(f"with `source: {source}` no files are read; leave the key out")
    elif value.is_mapping:
        for key in _KEY_FILES:
            block.need(key)
    return S3Credentials(
        source=source,
        access_key_id_file=block.get("access_key_id_file", folder.path, None),
        secret_access_key_file=block.get("secret_access_key_file", folder.path, None),
        session_token_file=block.get("session_token_file", folder.path, None),
    )
