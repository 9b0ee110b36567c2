"""Each peer's configuration is one that its program takes, and an absent program is named."""

import asyncio
import sqlite3
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from bench.credentials import AUDIENCE, ISSUER, Credentials
from bench.peers import haproxy, issued, nginx, sidecar
from bench.peers.base import Missing, Peer, Site, require
from bench.process import find_program
from sidecar import config
from sidecar.errors import CredentialRefused
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.policy.file import compile_file
from sidecar.store.changes import ChangeFeed
from sidecar.store.open import open_token_store


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("site")
    return Site(directory, directory, 18080, 18081, Credentials(directory))


def test_the_sidecar_s_configuration_and_policy_load_without_a_problem(site: Site) -> None:
    settings = config.load(Path(sidecar.write_config(site)))
    assert list(config.check_files(settings)) == []
    assert settings.listen[0].address.port == site.port
    issuer = settings.issuers["bench"]
    assert (issuer.issuer, issuer.audience) == (ISSUER, AUDIENCE)
    assert [sink.required for sink in settings.audit] == [True], "a sidecar that owes no evidence would look too fast"
    text = (settings.policies / "bench.yaml").read_text()
    workspace = compile_file(
        text, "bench.yaml", issuers=settings.issuers, upstreams=settings.upstreams, profiles=["plain"]
    )
    assert workspace.name == "bench"
    assert len(workspace.rules) == 2


@pytest.mark.parametrize("more", [0, 20])
def test_a_sidecar_of_its_own_tokens_has_them_in_its_store(
    site: Site, tmp_path: Path, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issued, "USED", 4)
    monkeypatch.setattr(issued, "FEW", 2)
    monkeypatch.setattr(issued, "REVOKED", 3)
    here = msgspec.structs.replace(site, directory=tmp_path, disk=tmp_path)
    issued._command(more)(here)
    settings = config.load(tmp_path / "sidecar.yaml")
    assert list(config.check_files(settings)) == []
    assert settings.tokens is not None

    async def judge() -> None:
        assert settings.tokens is not None
        opened = await open_token_store(settings.tokens)
        feed = ChangeFeed(opened.store, opened.watch(), on_keys=opened.read_root_keys)
        try:
            await feed.start()
            for text in issued.tokens(tmp_path, issued.OPAQUE):
                principal = await opened.verifier.verify(Secret(text), time.time())
                assert principal is not None
                assert not feed.revoked(principal)
            for text in issued.tokens(tmp_path, issued.BISCUITS):
                assert await opened.biscuit_verifier.verify(Secret(text), time.time()) is not None
            for text in issued.tokens(tmp_path, issued.HOSTILE):
                with pytest.raises(CredentialRefused):
                    await opened.biscuit_verifier.verify(Secret(text), time.time())
            gone = Principal(PrincipalKind.CI, "job", revocation_ids=(f"opaque:{0:012d}",))
            assert feed.revoked(gone) is bool(more)
        finally:
            await feed.stop()
            await opened.store.close()

    asyncio.run(judge())
    with sqlite3.connect(tmp_path / "tokens.db") as connection:
        assert connection.execute("SELECT count(*) FROM tokens WHERE kind = 'ci'").fetchone() == (4 + more,)
    connection.close()


def test_a_bucket_s_configuration_signs_for_the_same_objects(site: Site, tmp_path: Path) -> None:
    settings = config.load(Path(sidecar.write_config(msgspec.structs.replace(site, directory=tmp_path), bucket=True)))
    assert list(config.check_files(settings)) == []
    s3 = settings.upstreams["store"].s3
    assert s3 is not None
    assert s3.bucket == "bench"
    assert "upstream_path: /\n" in (settings.policies / "bench.yaml").read_text()


@pytest.mark.parametrize("peer", [*nginx.PEERS, *haproxy.PEERS], ids=lambda peer: peer.name)
def test_nginx_and_haproxy_take_their_configurations(peer: Peer, site: Site, tmp_path: Path) -> None:
    program, test = ("nginx", "-t") if peer in nginx.PEERS else ("haproxy", "-c")
    if find_program(program) is None:
        pytest.skip(f"{program} isn't installed")
    command = peer.command(msgspec.structs.replace(site, directory=tmp_path))
    done = subprocess.run([*command, test], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_absent_program_is_named() -> None:
    with pytest.raises(Missing, match="no-such-proxy"):
        require("no-such-proxy")


def test_a_stand_in_gets_the_ports_and_the_configuration(site: Site) -> None:
    peer = sidecar.stand_in("proxy --listen {port} --to {store_port} --config '{config}'")
    assert peer.name == sidecar.NAME
    assert peer.command(site)[:5] == ["proxy", "--listen", "18080", "--to", "18081"]
    assert Path(peer.command(site)[6]).is_file()
