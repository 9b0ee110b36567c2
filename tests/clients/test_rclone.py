"""rclone as Debian ships it, keeping files in a WebDAV store through the sidecar.

What is believed: rclone's exit status and output, the files at the store, the audit log.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.nginx import NginxStore, sidecar_before_nginx
from tests.e2e.process import SidecarProcess, until
from tests.programs import require_program

pytestmark = pytest.mark.slow

POLICY = """
workspace: web
routes: [{path: /dav, client: webdav, upstream: artifacts, upstream_path: /store}]
ci_tokens: read-write
rules:
  - {name: ci deletes, allow: [delete], kinds: [ci]}
  - {name: kept, deny: [delete, overwrite], path: kept/**}
"""
ALL = ("read", "write", "delete")


class Rig:
    def __init__(self, sidecar: SidecarProcess, nginx: NginxStore) -> None:
        self.sidecar, self.nginx = sidecar, nginx
        self._rclone = require_program("rclone")

    def run(self, token: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.sidecar.folder),
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_DAV_TYPE": "webdav",
            "RCLONE_CONFIG_DAV_URL": f"http://127.0.0.1:{self.sidecar.port}/dav",
            "RCLONE_CONFIG_DAV_VENDOR": "other",
            "RCLONE_CONFIG_DAV_BEARER_TOKEN": token,
        }
        command = [self._rclone, "--retries", "1", "--low-level-retries", "1", *arguments]
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, timeout=60)

    def ok(self, token: str, *arguments: str, stdin: bytes = b"") -> bytes:
        done = self.run(token, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def reasons(self, token: str) -> list[tuple[str, str]]:
        """Method and reason of what was refused with a token."""
        return [
            (record["request"]["method"], record["reason"])
            for record in self.sidecar.answered(token)
            if record["outcome"] != "allow"
        ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require_program("rclone")
    folder: Path = tmp_path_factory.mktemp("rclone")
    with sidecar_before_nginx(folder, {"web.yaml": POLICY}, collections=True) as (sidecar, nginx):
        yield Rig(sidecar, nginx)


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.nginx.empty()
    for key, content in {"dir/one": b"1", "dir/sub/two words": b"22", "kept/three": b"333"}.items():
        path = running.nginx.files / "store" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return running


def test_what_is_put_is_listed_found_and_removed(rig: Rig) -> None:
    token = rig.sidecar.token(permissions=ALL)
    rig.ok(token, "rcat", "dav:new/deep/h\u00e9llo w\u00f6rld", stdin=b"content")
    assert rig.nginx.stored()["store/new/deep/h\u00e9llo w\u00f6rld"] == b"content"
    listed = rig.ok(token, "lsf", "-R", "--files-only", "dav:").decode().splitlines()
    assert sorted(listed) == ["dir/one", "dir/sub/two words", "kept/three", "new/deep/h\u00e9llo w\u00f6rld"]
    assert rig.ok(token, "cat", "dav:new/deep/h\u00e9llo w\u00f6rld") == b"content"
    rig.ok(token, "deletefile", "dav:dir/one")
    assert "store/dir/one" not in rig.nginx.stored()
    assert rig.reasons(token) == []


def test_a_folder_is_synced_moved_and_purged(rig: Rig, tmp_path: Path) -> None:
    token = rig.sidecar.token(permissions=ALL)
    for number in range(20):
        (tmp_path / f"file {number}").write_bytes(b"x" * number * 1000)
    rig.ok(token, "sync", str(tmp_path), "dav:synced")
    rig.ok(token, "check", "--size-only", str(tmp_path), "dav:synced")
    rig.ok(token, "moveto", "dav:synced/file 3", "dav:synced/file three")
    rig.ok(token, "copyto", "dav:synced/file 4", "dav:synced/file four")
    stored = rig.nginx.stored()
    assert "store/synced/file 3" not in stored
    assert stored["store/synced/file three"] == b"x" * 3000
    assert stored["store/synced/file 4"] == stored["store/synced/file four"] == b"x" * 4000
    rig.ok(token, "moveto", "dav:synced", "dav:renamed")
    assert len([key for key in rig.nginx.stored() if key.startswith("store/renamed/")]) == 21
    rig.ok(token, "purge", "dav:renamed")
    assert not [key for key in rig.nginx.stored() if key.startswith(("store/renamed/", "store/synced/"))]


def test_what_a_rule_keeps_stays(rig: Rig) -> None:
    token = rig.sidecar.token(permissions=ALL)
    before = rig.nginx.stored()
    for command in (("purge", "dav:kept"), ("deletefile", "dav:kept/three"), ("moveto", "dav:kept/three", "dav:away")):
        assert rig.run(token, *command).returncode != 0, command
    assert rig.nginx.stored() == before
    until(lambda: {reason for _, reason in rig.reasons(token)} == {"rule_deny"})


def test_a_miss_is_a_miss(rig: Rig) -> None:
    done = rig.run(rig.sidecar.token(), "cat", "dav:nowhere/nothing")
    assert done.returncode != 0
    assert b"not found" in done.stderr


def test_a_read_only_token_reads_and_changes_nothing(rig: Rig) -> None:
    token = rig.sidecar.token(permissions=("read",))
    before = rig.nginx.stored()
    assert rig.ok(token, "cat", "dav:dir/one") == b"1"
    assert rig.ok(token, "lsf", "dav:dir").decode().splitlines() == ["one", "sub/"]
    for command in (
        ("copyto", __file__, "dav:dir/new"),
        ("mkdir", "dav:made"),
        ("deletefile", "dav:dir/one"),
        ("purge", "dav:dir"),
        ("moveto", "dav:dir/one", "dav:dir/moved"),
    ):
        done = rig.run(token, *command)
        assert done.returncode != 0, command
    assert rig.nginx.stored() == before
    until(lambda: {reason for _, reason in rig.reasons(token)} == {"token_limit"})


def test_a_revoked_token_is_told_so(rig: Rig) -> None:
    token = rig.sidecar.token()
    rig.ok(token, "cat", "dav:dir/one")
    rig.sidecar.revoke(token)
    until(lambda: rig.run(token, "cat", "dav:dir/one").returncode != 0)
    done = rig.run(token, "cat", "dav:dir/one")
    assert b"401" in done.stderr
    assert done.stdout == b""
    until(lambda: ("PROPFIND", "revoked") in rig.reasons(token))
