"""`sidecar store stats`: what it tells of stores with and without a limit."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli.options import Exit
from sidecar.cli.root import app
from sidecar.upstream.file import FileStore
from tests.contract.fake_downstream import ask

CONFIG = """\
listen: 127.0.0.1:8080
ops: 127.0.0.1:9090
policies: policies
upstreams:
  cache: {url: "file://./cache", max_size: 1MiB}
  plain: {url: "file://./plain"}
  other: {url: "http://127.0.0.1:1"}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIG)
    (tmp_path / "policies").mkdir()
    asyncio.run(fill(tmp_path / "cache", 1024 * 1024))
    asyncio.run(fill(tmp_path / "plain", None))
    return file


async def fill(directory: Path, limit: int | None) -> None:
    store = FileStore(directory, max_size=limit)
    await store.open()
    for number in range(12):
        await ask(store, "PUT", f"/key{number}", body=bytes(100_000))
    while store.upkeep is not None and (store.upkeep.totals is None or not store.upkeep.totals.complete):
        await asyncio.sleep(0.01)
    await store.close()


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in ("store", "stats", *args)])


def test_what_there_is_is_told(config: Path) -> None:
    told = run("--config", config, "--json")
    assert told.exit_code == 0, told.stderr
    cache, plain = json.loads(told.stdout)["stores"]
    size = sum(file.stat().st_size for file in (config.parent / "cache/objects").rglob("*") if file.is_file())
    assert (cache["upstream"], cache["objects"], cache["bytes"], cache["limit"]) == ("cache", 10, size, 1024 * 1024)
    assert (cache["evictions"], cache["complete"], cache["uploads"]) == (2, True, 0)
    assert cache["evicted_bytes"] == size // 10 * 2
    assert cache["oldest_use"] is not None
    assert cache["free"] > 0
    assert (plain["objects"], plain["limit"], plain["evictions"]) == (12, None, None)


def test_people_read_it_too(config: Path) -> None:
    told = run("--config", config)
    assert "objects     10" in told.stdout
    assert "of 1.0 MiB (95 %)" in told.stdout
    assert "evicted     2 (" in told.stdout
    assert "no limit" in told.stdout


def test_a_store_that_can_not_be_read_is_told_beside_the_others(config: Path) -> None:
    (config.parent / "cache/index.sqlite").write_text("no database" * 1000)
    told = run("--config", config, "--json")
    assert told.exit_code == Exit.FAILED
    assert [each["upstream"] for each in json.loads(told.stdout)["stores"]] == ["plain"]
    assert "error: cache: " in told.stderr


def test_a_configuration_without_an_embedded_store_says_so(config: Path) -> None:
    config.write_text(
        CONFIG.replace('"file://./cache", max_size: 1MiB', "http://a").replace('"file://./plain"', "http://b")
    )
    told = run("--config", config)
    assert (told.exit_code, told.stdout) == (0, "")
    assert "no upstream of" in told.stderr


@pytest.mark.parametrize(
    ("upstream", "problem"),
    [
        ("{url: 'http://a', max_size: 1MiB}", "only the embedded store (file://) has a max_size"),
        ("{url: 'file://./a', max_size: 1000}", "expected a size such as"),
        ("{url: 'file://./a', max_size: 1KiB}", "1MiB"),
    ],
)
def test_a_limit_that_can_not_be_is_told(config: Path, upstream: str, problem: str) -> None:
    config.write_text(CONFIG.replace('{url: "file://./cache", max_size: 1MiB}', upstream))
    told = CliRunner().invoke(app, ["config", "check", "--config", str(config), "--json"])
    assert told.exit_code == Exit.INVALID
    assert problem in told.stdout
