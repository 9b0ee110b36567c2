"""Clients of build caches with a bucket behind the sidecar: digests, headers and races hold there as in every other store."""

import hashlib
from collections.abc import Iterator

import pytest

from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.process import SidecarProcess
from tests.e2e.s3_servers import S3Server
from tests.e2e.test_s3_store import upstream

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes:
  - {path: /bazel, client: bazel, upstream: bucket, upstream_path: /bazel, cas_writes: open}
  - {path: /turbo, client: turborepo, upstream: bucket, upstream_path: /turbo}
  - {path: /nix, client: nix, upstream: bucket, upstream_path: /nix}
  - {path: /nx, client: nx, upstream: bucket, upstream_path: /nx}
ci_tokens: read-write
write_once: true
"""


class Rig:
    def __init__(self, sidecar: SidecarProcess, server: S3Server, bucket: str) -> None:
        self.sidecar, self.server, self.bucket = sidecar, server, bucket
        self.writer, self.reader = sidecar.token(), sidecar.token(permissions=("read",))

    def ask(
        self, method: str, path: str, body: bytes | None = None, token: str | None = None, **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.sidecar.port, method, path, {**bearer(token or self.writer), **named}, body)


@pytest.fixture(scope="module")
def rig(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder, bucket = tmp_path_factory.mktemp("bucket"), s3_server.bucket()
    for name, content in {"id": s3_server.access_key, "secret": s3_server.secret_key}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    files = "{access_key_id_file: ./id, secret_access_key_file: ./secret}"
    sidecar = SidecarProcess(folder, upstreams=upstream(s3_server, bucket, files), policies={"web.yaml": POLICY})
    try:
        sidecar.start()
        yield Rig(sidecar, s3_server, bucket)
    finally:
        sidecar.kill()


def test_a_wrong_body_leaves_no_blob(rig: Rig) -> None:
    good = b"blob" * 100_000
    name = hashlib.sha256(good).hexdigest()
    for bad in (good[:-1] + b"x", good[:-1], b""):
        assert rig.ask("PUT", f"/bazel/cas/{name}", bad, rig.reader).reason == "body_mismatch"
        assert rig.ask("GET", f"/bazel/cas/{name}").status == 404
    assert not any(name in key for key in rig.server.stored(rig.bucket))
    assert rig.ask("PUT", f"/bazel/cas/{name}", good, rig.reader).status in (200, 201, 204)
    assert rig.ask("GET", f"/bazel/cas/{name}", token=rig.reader).body == good
    assert rig.ask("PUT", f"/bazel/ac/{name}", b"x", rig.reader).status == 403


def test_an_artifact_s_headers_are_the_object_s(rig: Rig) -> None:
    path = "/turbo/v8/artifacts/a1"
    assert rig.ask("PUT", f"{path}?slug=web", b"zstd", x_artifact_tag="dGFn=", x_artifact_duration="5").status == 200
    hit = rig.ask("GET", f"{path}?slug=web")
    assert (hit.body, hit.header("x-artifact-tag"), hit.header("x-artifact-duration")) == (b"zstd", "dGFn=", "5")
    assert [key for key in rig.server.stored(rig.bucket) if key.startswith("turbo/")] == ["turbo/v8/artifacts/a1"]


def test_the_second_writer_hears_that_the_key_is_taken(rig: Rig) -> None:
    assert rig.ask("PUT", "/nx/v1/cache/1", b"one").status == 200
    assert rig.ask("PUT", "/nx/v1/cache/1", b"two").status == 409
    assert rig.ask("GET", "/nx/v1/cache/1").body == b"one"


def test_nix_finds_its_cache_described(rig: Rig) -> None:
    assert rig.ask("GET", "/nix/nix-cache-info", token=rig.reader).body.startswith(b"StoreDir: /nix/store\n")
