"""Rule 23: every file stands alone; where two contradict each other, the one that changed last is the bad one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.files import EventKind, PolicyFiles, Version
from sidecar.policy.source import compile_version
from sidecar.settled import Reading

GOOD = "workspace: {name}\nroutes: [{{path: {path}, client: plain, upstream: store{keys}}}]\nanonymous: {level}\n{more}"


def version(
    file: str,
    path: str | None = None,
    *,
    name: str = "",
    level: str = "none",
    more: str = "",
    keys: str = "",
    at: float | None = None,
) -> Version:
    """A file's version; without a `path` the file is gone."""
    if path is None:
        return Version(file)
    keys = f", upstream_path: {keys}" if keys else ""
    text = GOOD.format(name=name or file, path=path, level=level, more=more, keys=keys)
    return compile_version(file, Reading(text.encode(), "", at), issuers={}, upstreams=None, profiles=["plain"])


def broken(file: str, path: str, at: float | None = None) -> Version:
    return version(file, path, more="nonsense: true", at=at)


def served(files: PolicyFiles) -> dict[str, str]:
    """Route -> what answers there: the file's digest is too long to read, so its anonymous level stands for it."""
    snapshot = files.snapshot
    found = {}
    for workspace in snapshot.workspaces.values():
        for route in workspace.routes:
            assert snapshot.match(route.segments) == route
            found[route.path] = "broken" if workspace.broken else f"{workspace.file}:{len(workspace.anonymous)}"
    return found


def bad(files: PolicyFiles) -> set[str]:
    return {name for name, status in files.snapshot.files.items() if not status.ok}


def test_a_bad_version_keeps_its_last_good_one_and_the_others_go_live() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    events = files.apply([broken("a", "/a"), version("b", "/b", level="read")])
    assert served(files) == {"/a": "a:0", "/b": "b:1"}
    assert bad(files) == {"a"}
    assert [(e.kind, e.file, len(e.problems)) for e in events] == [
        (EventKind.REJECTED, "a", 1),
        (EventKind.LOADED, "b", 0),
    ]
    assert events[0].sha256 == events[0].previous is not None
    assert events[1].sha256 != events[1].previous


def test_events_are_told_by_word_and_counted() -> None:
    files = PolicyFiles()
    events = [files.load([version("a", "/a")]), files.apply([broken("a", "/a")]), files.apply([version("a")])]
    assert [(e.kind.value, e.generation) for [e] in events] == [("loaded", 1), ("rejected", 2), ("removed", 3)]
    assert files.snapshot.generation == 3


def test_a_file_that_was_bad_from_the_start_is_refused_until_it_is_mended() -> None:
    files = PolicyFiles()
    [event] = files.load([broken("a", "/a")])
    assert (served(files), event.kind, event.sha256, event.workspace) == (
        {"/a": "broken"},
        EventKind.REJECTED,
        None,
        "a",
    )
    files.apply([broken("a", "/a2")])
    assert served(files) == {"/a2": "broken"}
    [event] = files.apply([version("a", "/a")])
    assert (served(files), event.kind, event.previous) == ({"/a": "a:0"}, EventKind.LOADED, None)


def test_a_new_file_that_is_bad_while_running_is_refused_too() -> None:
    files = PolicyFiles()
    files.load([])
    files.apply([broken("a", "/a")])
    assert served(files) == {"/a": "broken"}


def test_a_file_that_is_gone_takes_its_workspace_along() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    [event] = files.apply([version("a")])
    assert (served(files), event.kind, event.sha256) == ({"/b": "b:0"}, EventKind.REMOVED, None)
    assert files.snapshot.workspaces.keys() == files.snapshot.files.keys() == {"b"}


@pytest.mark.parametrize(
    "intruder",
    [
        version("b", "/a", keys="/other"),
        version("b", "/a/below", keys="/other"),
        version("b", "/", keys="/other"),
        version("b", "/b", keys="/a"),
        version("b", "/b", keys="/"),
        version("b", "/b", name="a"),
    ],
)
def test_nobody_takes_over_anothers_keys_by_a_file_of_their_own(intruder: Version) -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    files.apply([intruder])
    assert (served(files), bad(files)) == ({"/a": "a:0", "/b": "b:0"}, {"b"})

    fresh = PolicyFiles()
    fresh.load([version("a", "/a")])
    fresh.apply([intruder])
    assert {route: by for route, by in served(fresh).items() if by != "broken"} == {"/a": "a:0"}
    assert "/a" in served(fresh)


def test_a_file_that_waits_gets_in_when_the_other_makes_room() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a")])
    files.apply([version("b", "/a/b", level="read")])
    assert served(files) == {"/a": "a:0"}
    events = files.apply([version("a", "/a", more="shares: [b]")])
    assert served(files) == {"/a": "a:0", "/a/b": "b:1"}
    assert {(event.kind, event.file) for event in events} == {(EventKind.LOADED, "a"), (EventKind.LOADED, "b")}
    assert bad(files) == set()


def test_who_stops_sharing_while_the_other_is_there_is_the_bad_one() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a", more="shares: [b]", at=1.0), version("b", "/a/b", at=5.0)])
    files.apply([version("a", "/a", level="read")])
    assert (served(files), bad(files)) == ({"/a": "a:0", "/a/b": "b:0"}, {"a"})
    files.apply([version("b")])
    assert (served(files), bad(files)) == ({"/a": "a:1"}, set())


def test_two_files_may_exchange_their_routes_in_one_go() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    files.apply([version("a", "/b"), version("b", "/a")])
    assert served(files) == {"/b": "a:0", "/a": "b:0"}


def test_of_two_new_versions_that_contradict_each_other_the_first_to_change_stands() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a")])
    files.apply([version("b", "/x"), version("a", "/x")])
    assert (served(files), bad(files)) == ({"/x": "b:0", "/a": "a:0"}, {"a"})


def test_one_that_contradicts_others_keeps_none_of_them_from_moving_up() -> None:
    """Each takes the place that the next one leaves, which only the last can do at once."""
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b"), version("c", "/c"), version("d", "/d")])
    files.apply([version("a", "/b"), version("b", "/c"), version("c", "/e"), version("d", "/e/d")])
    assert (served(files), bad(files)) == ({"/b": "a:0", "/c": "b:0", "/e": "c:0", "/d": "d:0"}, {"d"})


def test_what_cant_go_live_together_is_put_back_as_it_was() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a", name="one"), version("b", "/b", name="two"), version("c", "/c"), version("d", "/d")])
    files.apply([version("a", "/b", name="two"), version("b", "/a", name="one"), version("c", "/d")])
    assert served(files) == {"/a": "a:0", "/b": "b:0", "/c": "c:0", "/d": "d:0"}
    assert (bad(files), files.snapshot.workspaces.keys()) == ({"a", "b", "c"}, {"one", "two", "c", "d"})
    files.apply([version("d")])
    assert served(files) == {"/a": "a:0", "/b": "b:0", "/d": "c:0"}


def test_files_that_move_together_make_room_for_one_that_waits_and_not_for_another() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b"), version("c", "/c")])
    files.apply([version("stays", "/c")])
    files.apply([version("waits", "/a")])
    events = files.apply([version("a", "/a2"), version("b", "/b2")])
    assert served(files) == {"/a": "waits:0", "/a2": "a:0", "/b2": "b:0", "/c": "c:0"}
    assert bad(files) == {"stays"}
    assert {event.file for event in events} == {"a", "b", "waits"}


@pytest.mark.parametrize("order", [["a", "late"], ["late", "a"]])
def test_room_goes_to_who_waited_for_it_and_not_to_who_comes_as_it_is_made(order: list[str]) -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("late", "/l")])
    files.apply([version("waits", "/a")])
    moves = {"a": version("a", "/a2"), "late": version("late", "/a")}
    files.apply([moves[name] for name in order])
    assert served(files) == {"/a": "waits:0", "/a2": "a:0", "/l": "late:0"}
    assert bad(files) == {"late"}


def test_who_stands_goes_on_changing_though_another_waits_for_its_place() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    files.apply([version("waits", "/a")])
    files.apply([version("a", "/a", level="read"), version("b", "/b", level="read")])
    assert served(files) == {"/a": "a:1", "/b": "b:1"}
    assert bad(files) == {"waits"}


def test_two_that_exchange_places_are_not_kept_by_one_that_waits_for_a_third() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b"), version("c", "/c")])
    files.apply([version("waits", "/c")])
    files.apply([version("a", "/b"), version("b", "/a")])
    assert served(files) == {"/b": "a:0", "/a": "b:0", "/c": "c:0"}


def test_a_contradiction_is_told_where_it_is_written() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a"), version("b", "/b")])
    [event] = files.apply([version("b", "/b", name="a")])
    assert [str(p) for p in event.problems] == ["b:1 $.workspace: the workspace 'a' is in a already"]
    [event] = files.apply([version("b", "/a")])
    assert [str(p)[:17] for p in event.problems] == ["b:2 $.routes[0]: "] * 2
    fresh = PolicyFiles()
    events = fresh.load([version("a", "/a"), version("b", "/a")])
    assert str(events[0].problems[0]).startswith("a: b contradicts it")


def test_a_renamed_file_keeps_its_workspace_whichever_change_is_seen_first() -> None:
    for order in ([0, 1], [1, 0]):
        changes = [version("old"), version("new", "/a", name="w", level="read")]
        files = PolicyFiles()
        files.load([version("old", "/a", name="w")])
        for index in order:
            files.apply([changes[index]])
        assert served(files) == {"/a": "new:1"}
        assert bad(files) == set()


def test_at_a_cold_start_the_older_file_stands() -> None:
    for older, newer, at in (("a", "b", 50.0), ("b", "a", 50.0), ("a", "b", 11.0)):
        files = PolicyFiles()
        files.load([version(newer, "/x", level="read", at=at), version(older, "/x", at=10.0)])
        assert served(files) == {"/x": f"{older}:0"}
        assert bad(files) == {newer}


@pytest.mark.parametrize("times", [(None, None), (10.0, 10.5), (None, 10.0)])
def test_at_a_cold_start_where_nobody_knows_who_came_first_both_are_refused(times: tuple[float | None, ...]) -> None:
    files = PolicyFiles()
    files.load([version("a", "/x", at=times[0]), version("b", "/x", at=times[1]), version("c", "/c")])
    assert served(files) == {"/x": "broken", "/c": "c:0"}
    assert bad(files) == {"a", "b"}
    files.apply([version("c", "/c", level="read")])
    assert served(files) == {"/x": "broken", "/c": "c:1"}, "a third file's change settles nothing between them"
    files.apply([version("b", "/b")])
    assert served(files) == {"/x": "a:0", "/b": "b:0", "/c": "c:1"}
    assert bad(files) == set()


def test_at_a_cold_start_two_files_of_one_workspace_are_both_refused() -> None:
    files = PolicyFiles()
    files.load([version("a", "/a", name="w"), version("b", "/b", name="w")])
    assert (set(served(files).values()), bad(files)) == ({"broken"}, {"a", "b"})


def test_a_bad_file_tells_its_own_problems_whoever_else_wants_its_place() -> None:
    files = PolicyFiles()
    files.load([broken("a", "/x"), version("b", "/x")])
    for _ in range(2):
        assert ["nonsense" in problem.message for problem in files.snapshot.files["a"].problems] == [True]
        files.apply([version("b", "/y")])
    assert (served(files), bad(files)) == ({"/x": "broken", "/y": "b:0"}, {"a"})


def test_a_bad_file_keeps_its_paths_from_others_at_a_cold_start() -> None:
    files = PolicyFiles()
    files.load([broken("a", "/a", at=10.0), version("b", "/a", at=50.0), version("c", "/c", keys="/a", at=60.0)])
    assert served(files) == {"/a": "broken", "/c": "broken"}
    files.apply([version("a", "/a")])
    assert served(files)["/a"] == "a:0"


def test_the_order_of_the_directory_does_not_matter() -> None:
    known = [version("a", "/x", at=1.0), version("b", "/x/y", at=9.0), version("c", "/c", at=5.0)]
    unknown = [version("a", "/x"), version("b", "/x"), version("c", "/c")]
    for versions in (known, unknown):
        seen = []
        for order in (versions, versions[::-1]):
            files = PolicyFiles()
            files.load(order)
            refusing = files.snapshot.match(("x",))
            seen.append((served(files), bad(files), refusing and refusing.workspace))
        assert seen[0] == seen[1]


VERSIONS = st.lists(
    st.one_of(
        st.builds(
            version,
            st.sampled_from("abc"),
            st.sampled_from(["/x", "/x/y", "/y", "/"]),
            level=st.sampled_from(["none", "read"]),
        ),
        st.builds(broken, st.sampled_from("abc"), st.sampled_from(["/x", "/y"])),
        st.builds(version, st.sampled_from("abc")),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda v: v.file,
)


@given(st.lists(VERSIONS, min_size=1, max_size=6))
def test_whatever_changes_no_two_live_files_contradict_and_old_snapshots_stay(rounds: list[list[Version]]) -> None:
    files = PolicyFiles()
    files.load([])
    for versions in rounds:
        before = files.snapshot
        frozen = (dict(before.workspaces), before.routes)
        files.apply(versions)
        assert (dict(before.workspaces), before.routes) == frozen
        live = list(files.snapshot.workspaces.values())
        routes = [(w.name, r.path) for w in live for r in w.routes]
        for name, path in routes:
            assert not [p for n, p in routes if n != name and (p == path or p.startswith(path.rstrip("/") + "/"))]
        for v in versions:
            status = files.snapshot.files.get(v.file)
            assert (status is None) == (v.workspace is None and not v.problems)
            if status is not None and status.ok:
                assert files.snapshot.workspaces[v.file].sha256 == v.workspace.sha256  # type: ignore[union-attr]
