"""What whoever runs a build sees in each situation, with each client (`make test-clients`; too long for every build).

What is believed: the exit status, whether the result came out of the cache, and the client's own lines. They go into
`results.json`, of which `docs/clients.md` is made. Where the store has no part in a situation, it is met before one store alone.
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
from tests.clients.real import Built, Client, Project
from tests.clients.real.every import CLIENTS
from tests.e2e.process import until
from tests.e2e.s3_servers import versitygw

MiB = 1024 * 1024


class Known(Struct):
    """A client, and what the cache knows of it."""

    house: House
    client: Client
    first: Built
    address: str

    def build(self, project: Project, token: str | None, workspace: str = "web") -> Built:
        return self.client.build(self.house.fresh(), project, self.house.address(self.client, workspace), token)


class Seen(Struct):
    exit_status: int
    came: str
    """Where the result is from, as `tests.clients.page.CAME` has it."""
    said: list[str]


class Notes:
    """What was seen, by client, situation and store."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._seen: dict[str, dict[str, dict[str, Seen]]] = {}
        self._versions: dict[str, str] = {}

    def note(self, known: Known, situation: str, built: Built, cached: Built | None = None) -> None:
        """Keeps it, and holds it to what is expected. `cached`: the build whose result was in the cache."""
        client = known.client
        came = "nothing" if built.made is None else "cache" if cached and built.made == cached.made else "built"
        seen = Seen(built.exit_status, came, [_plain(line) for line in client.told(built.text)])
        self._versions[client.name] = client.version()
        self._seen.setdefault(client.name, {}).setdefault(situation, {})[self._store] = seen
        exit_status, result, words = expected(situation, client.name)
        assert (seen.exit_status, seen.came) == (exit_status, result), built.text
        if words:
            assert any(words in line for line in seen.said), built.text
        else:
            assert seen.said == [], built.text

    def write(self) -> None:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"versions": {}, "seen": {}}
        kept["versions"] |= self._versions
        for client, situations in self._seen.items():
            for situation, stores in situations.items():
                found = kept["seen"].setdefault(client, {}).setdefault(situation, {})
                found |= {store: asdict(seen) for store, seen in stores.items()}
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


_OWN = (
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "CACHE"),
    (re.compile(r"\b[0-9a-f]{16,64}\b|\b[0-9]{15,20}\b|\b[0-9a-df-np-sv-z]{52}\b|\b[0-9a-df-np-sv-z]{32}\b"), "HASH"),
    (re.compile(r"/\S*/checkouts/[0-9]+"), "CHECKOUT"),
)


def _plain(line: str) -> str:
    """Without what differs from run to run."""
    for pattern, instead in _OWN:
        line = pattern.sub(instead, line)
    return line


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def rig(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house"), store, versitygw) as found:
        yield found


@pytest.fixture(scope="module")
def notes(store: str) -> Iterator[Notes]:
    found = Notes(store)
    yield found
    found.write()


PROJECT = Project("known")


@pytest.fixture(scope="module", params=CLIENTS, ids=[each.name for each in CLIENTS])
def known(request: pytest.FixtureRequest, rig: House, tmp_path_factory: pytest.TempPathFactory) -> Known:
    """The cache has `PROJECT` already."""
    client: Client = request.param(tmp_path_factory.mktemp(request.param.name))
    first = client.build(rig.fresh(), PROJECT, rig.address(client), rig.writers["web"])
    assert first.exit_status == 0, first.text
    assert first.made is not None
    return Known(rig, client, first, rig.address(client))


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
        thread.join(240)


def http_alone(store: str) -> None:
    if store != "http":
        pytest.skip("the store has no part in it: seen before the HTTP store")


def test_a_hit(known: Known, notes: Notes) -> None:
    again = known.build(PROJECT, known.house.writers["web"])
    notes.note(known, "hit", again, known.first)


def test_a_read_only_token(known: Known, notes: Notes, store: str) -> None:
    http_alone(store)
    again = known.build(PROJECT, known.house.reader)
    notes.note(known, "read-only, known", again, known.first)
    new = known.build(Project("new"), known.house.reader)
    later = known.build(Project("new"), known.house.reader)
    assert new.made is not None
    assert later.made != new.made, "what was refused was stored"
    notes.note(known, "read-only, new", new)


def test_no_token(known: Known, notes: Notes, store: str) -> None:
    http_alone(store)
    seen = known.build(PROJECT, None)
    notes.note(known, "no token", seen, known.first)


def test_a_token_that_was_revoked_before(known: Known, notes: Notes, store: str) -> None:
    http_alone(store)
    notes.note(known, "bad token", known.build(PROJECT, known.house.revoked), known.first)


def test_a_token_that_is_revoked_while_the_task_runs(known: Known, notes: Notes, store: str, tmp_path: Path) -> None:
    http_alone(store)
    project, token = Project("revoked", pause=tmp_path / "pause"), known.house.sidecar.token()
    with under_way(known, project, token) as came:
        known.house.sidecar.revoke(token)
        known.house.until_refused(token)
    later = known.build(project, known.house.writers["web"])
    assert later.made != came[0].made, "what was refused was stored"
    notes.note(known, "revoked", came[0])


def test_the_store_is_down(known: Known, notes: Notes, store: str) -> None:
    if store == "file":
        pytest.skip("a folder is never down")
    seen = known.build(PROJECT, known.house.writers["down"], "down")
    notes.note(known, "store down", seen, known.first)


def test_the_verifier_is_down(known: Known, notes: Notes, store: str) -> None:
    http_alone(store)
    seen = known.build(PROJECT, known.house.unverifiable())
    notes.note(known, "verifier down", seen, known.first)


def test_the_second_writer_of_a_key(known: Known, notes: Notes, tmp_path: Path) -> None:
    project, token = Project("twice", pause=tmp_path / "pause"), known.house.writers["once"]
    with under_way(known, project, token, "once") as came:
        first = known.build(project, token, "once")
        assert first.exit_status == 0, first.text
    second = came[0]
    assert second.made != first.made
    assert known.build(project, token, "once").made == first.made, "the first writer's isn't what is there"
    notes.note(known, "second writer", second)


def test_256_mib(known: Known, notes: Notes) -> None:
    project, token = Project("large", size=256 * MiB), known.house.writers["web"]
    first = known.build(project, token)
    assert first.exit_status == 0, first.text
    second = known.build(project, token)
    assert second.made is not None
    assert len(second.made) >= project.size
    notes.note(known, "256 MiB", second, first)
