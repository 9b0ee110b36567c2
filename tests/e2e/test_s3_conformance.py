"""A public conformance suite, directly and through the sidecar: what passes there passes here, but for what is listed by name.

The suite is the one that Versity's gateway has built in (`versitygw test NAME`): each test is asked for by itself, in a bucket
that it makes and removes, with a key that may do everything. `CONFORMANCE=all` runs all of its tests that ask for nothing but an
S3 server (some 700, ten minutes); otherwise those about objects that take no more than a moment.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import Struct

from tests.e2e.process import SidecarProcess
from tests.e2e.s3_conformance import EXPECTED
from tests.e2e.s3_servers import VERSITYGW, versitygw
from tests.programs import go_program

pytestmark = pytest.mark.slow

BUCKETS = 4
"""The suite calls them test-bucket-1 and so on, beginning anew with each process."""
ABOUT_OBJECTS = (
    "PutObject_", "HeadObject_", "GetObject_", "GetObjectAttributes_", "ListObjectsV2_", "DeleteObject_", "DeleteObjects_",
    "CopyObject_", "PutObjectTagging_", "UploadPart_", "CompleteMultipartUpload_", "UnsignedStreamingPayloadTrailer_",
    "SignedStreamingPayload",
)  # fmt: skip
SLOW = re.compile(
    r"racey|race_with|large_object|conditional_writes|object_lock|retention_lock|final_(composite_)?checksum|"
    r"mp_part_number|mpu_object_size"
)
ELSEWHERE = re.compile(  # wants users, another mode of the gateway, or its web site
    r"IAM|S3IAM|AccessControl|PublicBucket|Website|Versioning|WebsiteHosting|iam_|data_integrity_etag|racey|Concurrency|"
    r"CORSMiddleware|NoAclMode|disabled|ListBuckets_as_|PutBucketWebsite|GetBucketWebsite|DeleteBucketWebsite"
)
POLICY = f"""
workspace: web
routes: [{", ".join(f"{{path: /test-bucket-{n}, client: s3, upstream: s{n}, upstream_path: /}}" for n in range(1, BUCKETS + 1))}]
ci_tokens: read-write
rules: [{{name: everything, allow: [delete, overwrite, admin], kinds: [ci]}}]
"""


class Way(Struct, frozen=True):
    """One way to a server of its own."""

    endpoint: str
    access_key: str
    secret_key: str
    buckets: Path
    """Where the server keeps them."""

    def passes(self, program: str, name: str) -> bool:
        command = [program, "test", "-a", self.access_key, "-s", self.secret_key, "-e", self.endpoint, name]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=120,
                cwd=Path(program).parent,  # some start it again, by the name ./versitygw
                env={"PATH": os.defpath},
            )
        except subprocess.TimeoutExpired:
            return False
        for left in self.buckets.iterdir():  # of one that failed
            shutil.rmtree(left, ignore_errors=True)
        return done.returncode == 0 and "PASS" in done.stdout and "FAIL" not in done.stdout


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Way, Way]]:
    """Directly, and through."""
    here, there, folder = (tmp_path_factory.mktemp(name) for name in ("direct", "behind", "sidecar"))
    with versitygw(here) as direct, versitygw(there) as behind:
        for name, text in (("id", behind.access_key), ("secret", behind.secret_key)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        keys = "credentials: {access_key_id_file: ./id, secret_access_key_file: ./secret}"
        stores = [
            f'  s{n}: {{url: "{behind.endpoint}", s3: {{bucket: test-bucket-{n}, {keys}}}}}'
            for n in range(1, BUCKETS + 1)
        ]
        sidecar = SidecarProcess(
            folder,
            upstreams="\n".join(("", *stores)),
            policies={"web.yaml": POLICY},
            access_keys=True,
            more="limits: {drain_delay: 0s, grace: 2s}",
        ).start()
        try:
            everything = ("read", "write", "delete", "overwrite", "admin")
            access_key, secret_key, _ = sidecar.access_key(permissions=everything)
            yield (
                Way(direct.endpoint, direct.access_key, direct.secret_key, here / "buckets"),
                Way(f"http://127.0.0.1:{sidecar.port}", access_key, secret_key, there / "buckets"),
            )
        finally:
            sidecar.kill()


def wanted(program: str) -> list[str]:
    told = subprocess.run([program, "test", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    names = sorted(set(re.findall(r"Runs (\w+) integration test", told)))
    assert len(names) > 1000, "the suite names its tests in another way"
    names = [name for name in names if ELSEWHERE.search(name) is None]
    if os.environ.get("CONFORMANCE") == "all":
        return names
    return [name for name in names if name.startswith(ABOUT_OBJECTS) and SLOW.search(name) is None]


def test_what_passes_directly_passes_through_but_for_what_is_listed(ways: tuple[Way, Way]) -> None:
    program = go_program(VERSITYGW)
    names = wanted(program)
    with ThreadPoolExecutor(2) as both:
        direct, through = both.map(lambda way: [way.passes(program, name) for name in names], ways)
    passing = {name for name, passed in zip(names, direct, strict=True) if passed}
    assert len(passing) > 0.8 * len(names)
    differing = {name for name, passed in zip(names, through, strict=True) if name in passing and not passed}
    listed = {name for group in EXPECTED.values() for name in group}
    # Where the machine is busy a test may run out of its own time: what is new is asked for again, both ways.
    again = {name for name in differing - listed if ways[0].passes(program, name) and not ways[1].passes(program, name)}
    assert again == set()
    assert (listed & passing) - differing == set(), "these pass now; take them out of the list"


def test_each_difference_is_listed_once() -> None:
    names = [name for group in EXPECTED.values() for name in group]
    assert len(names) == len(set(names))
