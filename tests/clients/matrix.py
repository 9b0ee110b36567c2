"""What whoever runs a build sees in each situation, with each client, before each kind of store (`make test-clients`; too long for
every build).

What is believed: the exit status, whether the result came out of the cache, and the client's own lines. They go into
`results.json` as they are seen, and `docs/clients.md` is made of that: a run of a part (`ARGS="-k Gradle"`, `ARGS=--lf`) leaves
what else was seen.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import asdict

from tests.clients.cache_house import STORES, House, house
from tests.clients.expected import expected
from tests.clients.page import RESULTS
from tests.clients.real import TIMEOUT, Built, Client, Project
from tests.e2e.process import until

MiB = 1024 * 1024
PROJECT = Project("known")


class Seen(Struct):
    exit_status: int
    came: str
    """Where the result is from, as `tests.clients.page.CAME` has it."""
    said: list[str]


class Known(Struct):
    """A client, and a house whose cache has what it once made of `PROJECT`."""

    house: House
    client: Client
    first: Built

    def build(self, project: Project, token: str | None, workspace: str = "web", home: Path | None = None) -> Built:
        return self.house.build(self.client, project, token, workspace, home)

    def note(self, situation: str, built: Built, cached: Built | None = None) -> None:
        """Keeps what was seen, and holds it to what is expected. `cached`: the build whose result was in the cache."""
        client = self.client
        came = "nothing" if built.made is None else "cache" if cached and built.made == cached.made else "built"
        seen = Seen(built.exit_status, came, [_plain(line) for line in client.told(built.text)])
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"versions": {}, "seen": {}}
        kept["versions"][client.name] = client.version()
        kept["seen"].setdefault(client.name, {}).setdefault(situation, {})[self.house.store] = asdict(seen)
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        exit_status, result, words = expected(situation, client.name)
        assert (seen.exit_status, seen.came) == (exit_status, result), built.text
        if words:
            assert any(words in line for line in seen.said), built.text
        else:
            assert seen.said == [], built.text


_OWN = (
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "CACHE"),
    (re.compile(r"\b[0-9a-f]{16,64}\b|\b[0-9]{15,20}\b|\b[0-9a-df-np-sv-z]{52}\b|\b[0-9a-df-np-sv-z]{32}\b"), "HASH"),
    (re.compile(r"/\S*/checkout\.\w+\.[0-9]+"), "CHECKOUT"),
)


def _plain(line: str) -> str:
    """Without what differs from run to run."""
    for pattern, instead in _OWN:
        line = pattern.sub(instead, line)
    return line


@pytest.fixture(scope="session", params=STORES)
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), request.param) as found:
        yield found


@pytest.fixture(scope="module")
def known(rig: House, client: Client) -> Known:
    first = rig.build(client, PROJECT, rig.writers["web"])
    assert first.exit_status == 0, first.text
    assert first.made is not None
    return Known(rig, client, first)


@contextlib.contextmanager
def under_way(known: Known, project: Project, token: str, workspace: str = "web") -> Iterator[list[Built]]:
    """A build whose task is running, having asked the cache in vain; it goes on when the block ends. What it came to is in the list
    from then on."""
    folder, came = project.pause, []
    assert folder is not None
    folder.mkdir()
    (folder / "hold").touch()
    thread = threading.Thread(target=lambda: came.append(known.build(project, token, workspace)))
    thread.start()
    try:
        until(lambda: (folder / "started").exists() or not thread.is_alive(), 120)
        assert thread.is_alive(), came
        (folder / "hold").unlink()
        yield came
    finally:
        (folder / "go").touch()
        thread.join(TIMEOUT)


def test_a_hit(known: Known) -> None:
    again = known.build(PROJECT, known.house.writers["web"])
    known.note("hit", again, known.first)


def test_a_read_only_token_and_a_result_that_is_there(known: Known) -> None:
    known.note("read-only, known", known.build(PROJECT, known.house.reader), known.first)


def test_a_read_only_token_and_a_new_result(known: Known) -> None:
    new = known.build(Project("new"), known.house.reader)
    later = known.build(Project("new"), known.house.reader)
    assert new.made is not None
    assert later.made != new.made, "what was refused was stored"
    known.note("read-only, new", new)


def test_no_token(known: Known) -> None:
    known.note("no token", known.build(PROJECT, None), known.first)


def test_a_token_that_was_revoked_before(known: Known) -> None:
    known.note("bad token", known.build(PROJECT, known.house.revoked), known.first)


def test_a_token_that_is_revoked_while_the_task_runs(known: Known, tmp_path: Path) -> None:
    project, token = Project("revoked", pause=tmp_path / "pause"), known.house.sidecar.token()
    with under_way(known, project, token) as came:
        known.house.sidecar.revoke(token)
        known.house.until_refused(token)
    later = known.build(project, known.house.writers["web"])
    assert later.made != came[0].made, "what was refused was stored"
    known.note("revoked", came[0])


def test_the_store_is_down(known: Known, tmp_path: Path) -> None:
    """To whoever builds for the first time, and to whoever's client has met the cache before."""
    token = known.house.writers["down"]
    assert known.build(PROJECT, token, "down", tmp_path).exit_status == 0
    with known.house.outage():
        first, later = known.build(PROJECT, token, "down"), known.build(Project("later"), token, "down", tmp_path)
    known.note("store down", first, known.first)
    known.note("outage", later)


def test_the_verifier_is_down(known: Known) -> None:
    known.note("verifier down", known.build(PROJECT, known.house.unverifiable()), known.first)


def test_the_second_writer_of_a_key(known: Known, tmp_path: Path) -> None:
    project, token = Project("twice", pause=tmp_path / "pause"), known.house.writers["once"]
    with under_way(known, project, token, "once") as came:
        first = known.build(project, token, "once")
        assert first.exit_status == 0, first.text
    second = came[0]
    assert second.made != first.made
    assert known.build(project, token, "once").made == first.made, "the first writer's isn't what is there"
    known.note("second writer", second)


def test_256_mib(known: Known) -> None:
    project, token = Project("large", size=256 * MiB), known.house.writers["web"]
    first = known.build(project, token)
    assert first.exit_status == 0, first.text
    second = known.build(project, token)
    assert second.size >= project.size
    known.note("256 MiB", second, first)
