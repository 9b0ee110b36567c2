"""Each peer's configuration is one that its program takes, and an absent program is named."""

import subprocess
from pathlib import Path

import msgspec
import pytest
from bench.credentials import AUDIENCE, ISSUER, Credentials
from bench.peers import haproxy, nginx, sidecar
from bench.peers.base import Missing, Peer, Site, require
from bench.process import find_program
from sidecar import config
from sidecar.policy.file import compile_file


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
    done = subprocess.run([*command, test], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_an_absent_program_is_named() -> None:
    with pytest.raises(Missing, match="no-such-proxy"):
        require("no-such-proxy")


def test_a_stand_in_gets_the_ports_and_the_configuration(site: Site) -> None:
    peer = sidecar.stand_in("proxy --listen {port} --to {store_port} --config '{config}'")
    assert peer.name == sidecar.NAME
    assert peer.command(site)[:5] == ["proxy", "--listen", "18080", "--to", "18081"]
    assert Path(peer.command(site)[6]).is_file()
