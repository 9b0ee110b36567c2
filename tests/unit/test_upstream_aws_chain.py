"""Keys that AWS hands out: found and renewed in a thread, never on the loop, and kept while they can't be renewed."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.upstream import aws_chain
from sidecar.upstream.aws_chain import AwsChain, Frozen
from sidecar.upstream.own_files import Keys, OwnFilesUnusable
from tests.e2e.aws_roles import Roles
from tests.unit.relays import until


class Role:
    """What botocore would find: `keys` are the current ones, `error` what asking for them ends in."""

    def __init__(self) -> None:
        self.keys: tuple[str, str, str | None] = ("AKID1", "secret1", "token1")
        self.error: Exception | None = None
        self.threads: list[int] = []

    def find(self) -> Frozen:
        return self.frozen

    def frozen(self) -> SimpleNamespace:
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        access_key, secret_key, token = self.keys
        return SimpleNamespace(access_key=access_key, secret_key=secret_key, token=token)


def shown(keys: list[Keys]) -> list[tuple[str, str, str | None]]:
    return [
        (each.access_key_id, each.secret.reveal(), each.session_token and each.session_token.reveal()) for each in keys
    ]


async def test_new_keys_are_told_of_once_and_come_from_a_thread() -> None:
    role, heard = Role(), list[Keys]()
    chain = AwsChain("bucket", heard.append, find=role.find, interval=0.01)
    await chain.start()
    assert shown(heard) == [("AKID1", "secret1", "token1")]
    role.keys = ("AKID2", "secret2", None)
    await until(lambda: len(heard) >= 2)
    looks = len(role.threads)
    await until(lambda: len(role.threads) >= looks + 3)
    await chain.stop()
    assert shown(heard)[1:] == [("AKID2", "secret2", None)]
    assert chain.refreshes == 2
    assert role.threads
    assert threading.get_ident() not in role.threads


async def test_the_loop_goes_on_while_keys_are_asked_for() -> None:
    role, asked, release = Role(), threading.Event(), threading.Event()

    def slow() -> Frozen:
        asked.set()
        assert release.wait(20)
        return role.frozen

    chain = AwsChain("bucket", lambda keys: None, find=slow)
    starting = asyncio.create_task(chain.start())
    await until(asked.is_set)
    release.set()
    await starting
    await chain.stop()


async def test_keys_that_cannot_be_renewed_stay_and_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    role, heard = Role(), list[Keys]()
    chain = AwsChain("bucket", heard.append, find=role.find, interval=0.01)
    await chain.start()
    role.error = RuntimeError("secret1 is in here")
    await until(lambda: chain.failures >= 2)
    assert chain.problem == "the AWS chain: RuntimeError"
    assert len(heard) == 1
    role.error = None
    await until(lambda: chain.problem is None)
    await chain.stop()
    assert "secret1" not in caplog.text
    assert caplog.text.count("keeps its keys") == 1


@pytest.mark.parametrize("secret", ["", "with space"])
async def test_what_can_be_no_key_is_refused_at_the_start(secret: str) -> None:
    role = Role()
    role.keys = ("AKID", secret, None)
    with pytest.raises(OwnFilesUnusable):
        await AwsChain("bucket", lambda keys: None, find=role.find).start()


def test_botocore_itself_finds_what_a_profile_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = shared\naws_session_token = session\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    found = aws_chain.find()()
    assert (found.access_key, found.secret_key, found.token) == ("AKIDPROFILE", "shared", "session")


def test_a_machine_without_any_says_so(roles: Roles) -> None:
    with pytest.raises(OwnFilesUnusable, match="finds no credentials"):
        aws_chain.find()


def test_botocore_is_not_loaded_by_a_process_that_does_not_ask_for_it() -> None:
    code = "import sys, sidecar.serving, sidecar.upstream.s3; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_operator_reads_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(OwnFilesUnusable, match="install the extra `aws`"):
        aws_chain.find()


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Roles]:
    """AWS beside the workload, and nothing of this machine's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    made = Roles()
    yield made
    made.close()


async def renewed(roles: Roles) -> list[tuple[str, str, str | None]]:
    """The keys that are heard of while those that are handed out are about to end and others take their place."""
    heard: list[Keys] = []
    roles.keys = ("AKID1", "secret1", "token1", 300.0)
    chain = AwsChain("bucket", heard.append, interval=0.01)
    await chain.start()
    roles.keys = ("AKID2", "secret2", "token2", 3600.0)
    await until(lambda: len(heard) == 2)
    await chain.stop()
    return shown(heard)


RENEWED = [("AKID1", "secret1", "token1"), ("AKID2", "secret2", "token2")]


async def test_pod_identity_is_renewed_before_it_ends(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("pod-token")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{roles.port}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    assert await renewed(roles) == RENEWED
    assert set(roles.asked) == {"pod-token"}


async def test_web_identity_is_renewed_before_it_ends(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("web-identity-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{roles.port}")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/sidecar")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    assert await renewed(roles) == RENEWED
    assert set(roles.asked) == {"web-identity-token"}


async def test_an_instances_role_is_renewed_before_it_ends(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{roles.port}/")
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "20")  # one second is little where other tests run beside
    # botocore takes keys that are about to end for a bad day of the service, and asks again in 2 to 10 minutes: here at once.
    monkeypatch.setattr("botocore.utils.random.randint", lambda least, most: 0)
    assert await renewed(roles) == RENEWED
    assert set(roles.asked) == {"metadata-session"}
