"""The policy directory, followed on a real disk (rules 23 and 24)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.policy.files import PolicyEvent
from sidecar.policy.source import PolicySource
from tests.waiting import until_in_loop as until


def text(name: str, level: str = "none", more: str = "") -> str:
    return f"workspace: {name}\nroutes: [{{path: /{name}, client: plain, upstream: store}}]\nanonymous: {level}\n{more}"


def source(
    folder: Path, events: list[PolicyEvent] | None = None, interval: float = 0.02, settle: float = 0.05
) -> PolicySource:
    return PolicySource(
        folder,
        issuers={},
        upstreams=["store"],
        profiles=["plain"],
        on_event=None if events is None else events.append,
        interval=interval,
        settle=settle,
    )


@asynccontextmanager
async def following(policies: PolicySource) -> AsyncIterator[PolicySource]:
    policies.load_now()
    await policies.start()
    try:
        yield policies
    finally:
        await policies.stop()


def level(policies: PolicySource, name: str) -> int | None:
    workspace = policies.snapshot.workspaces.get(name)
    return None if workspace is None or workspace.broken else len(workspace.anonymous)


def test_a_cold_start_reads_everything_and_says_what_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("a"))
    (tmp_path / "b.yml").write_text(text("b", "nobody"))
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "d.yaml").symlink_to("nowhere")
    for ignored in ("README.md", ".hidden.yaml", "a.yaml~"):
        (tmp_path / ignored).write_text("{")
    events: list[PolicyEvent] = []
    policies = source(tmp_path, events)
    policies.load_now()
    snapshot = policies.snapshot
    assert {name: workspace.broken for name, workspace in snapshot.workspaces.items()} == {"a": False, "b": True}
    shown = tmp_path.name
    assert {name: status.ok for name, status in snapshot.files.items()} == {
        f"{shown}/a.yaml": True,
        f"{shown}/b.yml": False,
        f"{shown}/c.yaml": False,
        f"{shown}/d.yaml": False,
    }
    assert str(snapshot.files[f"{shown}/b.yml"].problems[0]).startswith(f"{shown}/b.yml:3 $.anonymous: unknown level")
    assert len(events) == 4
    status = policies.status()
    assert (status.good, status.bad, status.error) == (1, 3, "")
    assert time.time() - status.last_success < 60


def test_a_directory_that_is_not_there_stops_a_cold_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        source(tmp_path / "nowhere").load_now()


async def test_edits_go_live_and_bad_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("a"))
    (tmp_path / "b.yaml").write_text(text("b"))
    events: list[PolicyEvent] = []
    async with following(source(tmp_path, events)) as policies:
        first = policies.snapshot
        (tmp_path / "a.yaml").write_text(text("a", "read"))
        await until(lambda: level(policies, "a") == 1)
        assert policies.snapshot.generation == first.generation + 1
        assert first.workspaces["a"].anonymous == frozenset(), "a snapshot never changes"

        (tmp_path / "a.yaml").write_text(text("a", "everything"))
        await until(lambda: policies.status().bad == 1)
        assert level(policies, "a") == 1

        (tmp_path / "c.yaml").write_text(text("c"))
        (tmp_path / "b.yaml").unlink()
        await until(lambda: level(policies, "c") == 0 and level(policies, "b") is None)
        assert [(e.kind.value, e.workspace) for e in events[2:4]] == [("loaded", "a"), ("rejected", "a")]


async def test_a_half_written_file_is_never_served(tmp_path: Path) -> None:
    rule = "rules:\n  - {name: keep, deny: [read]}\n"
    file = tmp_path / "a.yaml"
    file.write_text(text("a"))
    async with following(source(tmp_path, settle=0.5)) as policies:
        with file.open("w") as opened:
            opened.write(text("a", "read"))
            opened.flush()
            await asyncio.sleep(0.05)  # the writer is in the middle: a whole document, without the rule that denies
            opened.write(rule)
        await until(lambda: level(policies, "a") == 1)
        assert len(policies.snapshot.workspaces["a"].rules) == 1


def mount(folder: Path, version: str, files: dict[str, str]) -> None:
    """As the kubelet's AtomicWriter: a new directory, then one rename of the symlink."""
    (folder / version).mkdir(parents=True)
    for name, content in files.items():
        (folder / version / name).write_text(content)
    (folder / "..data_tmp").symlink_to(version)
    os.replace(folder / "..data_tmp", folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


async def test_a_config_map_is_followed_through_every_swap(tmp_path: Path) -> None:
    mount(tmp_path, "..1", {"a.yaml": text("a"), "b.yaml": text("b")})
    async with following(source(tmp_path)) as policies:
        for version, wanted in (("..2", "read"), ("..3", "read-write"), ("..4", "none")):
            mount(tmp_path, version, {"a.yaml": text("a", wanted), "b.yaml": text("b", wanted)})
            size = {"none": 0, "read": 1, "read-write": 2}[wanted]
            await until(lambda size=size: level(policies, "a") == level(policies, "b") == size)
        mount(tmp_path, "..5", {"a.yaml": text("a", "read")})
        await until(lambda: level(policies, "a") == 1 and level(policies, "b") is None)


async def test_a_directory_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text(text("a"))
    async with following(source(folder)) as policies:
        folder.rename(tmp_path / "aside")
        await until(lambda: policies.status().error != "")
        assert level(policies, "a") == 0
        (tmp_path / "aside").rename(folder)
        await until(lambda: policies.status().error == "")
        (folder / "a.yaml").write_text(text("a", "read"))
        await until(lambda: level(policies, "a") == 1)


async def test_one_change_among_a_thousand_files_is_live_in_3_s_and_stalls_the_loop_for_no_20_ms(
    tmp_path: Path,
) -> None:
    rules = "rules:\n" + "".join(
        f"  - {{name: r{i}, allow: [read], users: [u{i}, v{i}], path: 'a{i}/**'}}\n" for i in range(5)
    )
    for i in range(1000):
        (tmp_path / f"w{i}.yaml").write_text(text(f"w{i}", more=rules))
    stalls: list[float] = []

    async def watch_the_loop() -> None:
        """A gap counts as far as this process worked in it: what other processes take is no stall of ours."""
        wall, work = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(0)
            wall_now, work_now = time.monotonic(), time.process_time()
            stalls.append(min(wall_now - wall, work_now - work))
            wall, work = wall_now, work_now

    async with following(source(tmp_path, interval=0.25, settle=0.2)) as policies:
        await until(lambda: policies.status().last_success > 0)
        watcher = asyncio.create_task(watch_the_loop())
        (tmp_path / "w500.yaml").write_text(text("w500", "read", rules))
        took = await until(lambda: level(policies, "w500") == 1)
        watcher.cancel()
    assert took < 3.0
    assert max(stalls) < 0.020, f"{max(stalls) * 1000:.1f} ms"


OPEN = "cases: [{name: everybody reads, who: anonymous, ask: GET /a/x, expect: allow}]\n"
GUARDED = "guard: true\n" + OPEN


def problems(policies: PolicySource) -> list[str]:
    return [str(problem) for status in policies.snapshot.files.values() for problem in status.problems]


async def test_a_change_that_breaks_a_guard_is_refused_and_the_last_good_version_stays(tmp_path: Path) -> None:
    """Rule 26."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text(text("a", "read", GUARDED))
    async with following(source(folder)) as policies:
        assert (level(policies, "a"), problems(policies)) == (1, [])
        (folder / "a.yaml").write_text(text("a", "none", GUARDED))
        await until(lambda: problems(policies) != [])
        broken = "policies/a.yaml:5 $.cases: the guard everybody reads: expected allow, got no_token"
        assert (level(policies, "a"), problems(policies)) == (1, [broken])
        (folder / "a.yaml").write_text(text("a", "read-write", GUARDED))
        await until(lambda: level(policies, "a") == 2)
        assert problems(policies) == []


def test_a_guard_that_does_not_hold_at_a_cold_start_leaves_its_workspace_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("a", "none", GUARDED))
    (tmp_path / "b.yaml").write_text(text("b", "none", OPEN))
    policies = source(tmp_path)
    policies.load_now()
    assert (level(policies, "a"), level(policies, "b")) == (None, 0)
    assert policies.snapshot.workspaces["a"].broken
    assert policies.snapshot.match(("a",)) is not None, "its paths stay its own"


@pytest.mark.parametrize("place", ["policies/cases", "cases"])
@pytest.mark.parametrize(
    ("policy", "cases", "served"),
    [
        ("", "guard: true\n", False),
        ("guard: true\n", "", False),
        ("guard: true\n", "guard: true\n", False),
        ("", "", True),
        ("", "guard: false\n", True),
    ],
)
def test_the_file_of_cases_guards_where_either_says_so(
    tmp_path: Path, place: str, policy: str, cases: str, served: bool
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / place).mkdir()
    (tmp_path / "policies" / "a.yaml").write_text(text("a", "none", policy))
    (tmp_path / place / "a.yaml").write_text(f"workspace: a\n{cases}{OPEN}")
    policies = source(tmp_path / "policies")
    policies.load_now()
    assert (level(policies, "a") is not None) == served
    line = 2 + cases.count("\n")
    said = [] if served else [f"cases/a.yaml:{line} $.cases: the guard everybody reads: expected allow, got no_token"]
    assert problems(policies) == said


@pytest.mark.parametrize(
    ("cases", "problem"),
    [
        (None, "policies/a.yaml:1 $.guard: a guard without a case guards nothing"),
        (b"workspace: a\ncases: []", "policies/a.yaml:1 $.guard: a guard without a case guards nothing"),
        (b"workspace: a\ncases: [{name: x}]", "cases/a.yaml:2 $.cases[0]: the key 'who' is missing"),
        (b"\xff", "cases/a.yaml: the guards can't be read: the file is not UTF-8 text"),
        (b"", "cases/a.yaml:1 $: the file is empty"),
    ],
)
def test_a_guard_that_can_not_be_asked_lets_nothing_through(tmp_path: Path, cases: bytes | None, problem: str) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "cases").mkdir()
    (tmp_path / "policies" / "a.yaml").write_text(text("a", "read", "guard: true\n"))
    if cases is not None:
        (tmp_path / "cases" / "a.yaml").write_bytes(cases)
    policies = source(tmp_path / "policies")
    policies.load_now()
    assert level(policies, "a") is None
    assert problems(policies)[0].startswith(problem)


def test_a_guard_is_one_however_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "a.yaml").write_text(text("a"))
    (tmp_path / "cases" / "a.yaml").write_text(f'{{workspace: a, "guard": true, {OPEN.strip()}}}')
    policies = source(tmp_path)
    policies.load_now()
    assert level(policies, "a") is None


def test_a_guard_s_file_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "cases" / "a.yaml").mkdir(parents=True)
    (tmp_path / "policies" / "a.yaml").write_text(text("a", "read"))
    policies = source(tmp_path / "policies")
    policies.load_now()
    assert (level(policies, "a"), problems(policies)) == (
        None,
        ["cases/a.yaml: the guards can't be read: Is a directory"],
    )


def test_who_tells_of_each_case_reads_policies_without_their_guards(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("a", "none", GUARDED))
    policies = PolicySource(tmp_path, issuers={}, upstreams=["store"], profiles=["plain"], settle=0.0, guards=False)
    policies.load_now()
    assert level(policies, "a") == 0
    assert policies.snapshot.workspaces["a"].guard
