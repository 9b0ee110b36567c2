"""A file that can't be read never opens its keys to the workspace around it (rules 1 and 23).

`outer` answers below /team and lets anybody read; `inner` lies within it and lets nobody. Nothing that happens to inner's file at
a cold start may make outer answer at inner's paths, and whoever has nothing to do with it is served as ever.
"""

import pytest

from sidecar.policy.files import EventKind, PolicyEvent, PolicyFiles, Version
from sidecar.policy.source import compile_version
from sidecar.settled import Reading

OUTER = "workspace: outer\nroutes: [{path: /team, client: plain, upstream: store}]\nanonymous: read\nshares: [inner]\n"
ALONE = OUTER.replace("shares: [inner]\n", "")
INNER = """workspace: inner
routes:
  - path: /team/private
    client: plain
    upstream: store
  - {path: /team/secret, client: plain, upstream: store}
ci_tokens: read
"""
OTHER = "workspace: other\nroutes: [{path: /other, client: plain, upstream: another}]\nanonymous: read\n"
PRIVATE = ("/team/private/s", "/team/secret/s")

SPELLINGS: dict[str, bytes] = {
    "conflict marker in line 1": b"<<<<<<< HEAD\n" + INNER.encode(),
    "conflict marker among the routes": INNER.replace("  - {", "<<<<<<< HEAD\n  - {").encode(),
    "two sides of a conflict": (
        "<<<<<<< HEAD\n" + INNER + "=======\n" + INNER.replace("/secret", "/open") + ">>>>>>> theirs\n"
    ).encode(),
    "empty": b"",
    "only a comment": b"# later\n",
    "a tab in line 1": b"\t" + INNER.encode(),
    "not UTF-8": INNER.encode() + b"# \xff\n",
    "not UTF-8 in the name": INNER.replace("inner", "inn\x00r").encode().replace(b"\0", b"\xff"),
    "an unclosed bracket, seen far below": INNER.replace(
        "routes:", "members: {users: [\n" + "# on\n" * 60 + "routes:"
    ).encode(),
    "an unclosed bracket among the routes": INNER.replace("/secret, ", "/secret, verbs: [").encode()
    + b"# and on\n" * 60,
    "a path with a trailing slash": INNER.replace("/private", "/private/").encode(),
    "a path that is none": INNER.replace("/secret,", "/se cret,").encode(),
    "a route without a path": INNER.replace("path: /team/secret,", "pth: /secret,").encode(),
    "two paths in one route": INNER.replace("path: /team/secret,", "path: /x, path: /team/secret,").encode(),
    "no routes": b"workspace: inner\n",
    "no name": INNER.replace("workspace", "workspce").encode(),
    "another mistake": INNER.encode() + b"anonymous: nobody\n",
    "a mistake in a route": INNER.replace("client: plain\n", "client: plian\n").encode(),
}


def version(file: str, text: str | bytes, at: float | None = None) -> Version:
    content = text.encode() if isinstance(text, str) else text
    return compile_version(file, Reading(content, "", at), issuers={}, upstreams=None, profiles=["plain"])


def gone(file: str) -> Version:
    return Version(file)


def answers(files: PolicyFiles, path: str) -> str:
    """Whose policy answers there; `refused` where it is `policy_missing`, `nobody` where it is a 404."""
    route = files.snapshot.match(path[1:].split("/"))
    if route is None:
        return "nobody"
    return "refused" if files.snapshot.workspaces[route.workspace].broken else route.workspace


def private(files: PolicyFiles) -> set[str]:
    return {answers(files, path) for path in PRIVATE}


def loaded(*versions: Version) -> PolicyFiles:
    files = PolicyFiles()
    files.load(versions)
    return files


def outers_problem(files: PolicyFiles) -> str:
    return " ".join(problem.message for problem in files.snapshot.files["outer"].problems)


@pytest.mark.parametrize("at", [(None, None), (10.0, 50.0), (50.0, 10.0)], ids=["undated", "outer older", "newer"])
@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_at_a_cold_start_no_spelling_of_a_bad_file_opens_its_paths(
    content: bytes, at: tuple[float | None, float | None]
) -> None:
    inner = version("inner", content, at[1])
    files = loaded(version("outer", OUTER, at[0]), inner, version("other", OTHER))
    assert private(files) == {"refused"}
    assert answers(files, "/other/s") == "other"
    assert answers(files, "/team/public") == ("refused" if inner.opaque else "outer")
    if inner.opaque:
        problem = outers_problem(files)
        assert "'inner' isn't there and may be in a file whose routes can't be read (inner)" in problem
        assert "until that file is mended, or removed" in problem

    events = files.apply([version("inner", INNER)])
    assert private(files) == {"inner"}
    assert answers(files, "/team/public") == "outer"
    assert all(status.ok for status in files.snapshot.files.values())
    assert {(e.kind, e.file) for e in events} == {(EventKind.LOADED, "inner")} | (
        {(EventKind.LOADED, "outer")} if inner.opaque else set()
    )


def test_a_file_that_the_disk_does_not_give_is_opaque_too() -> None:
    unreadable = compile_version("inner", Reading(None, "Permission denied"), issuers={}, upstreams=None, profiles=[])
    assert private(loaded(version("outer", OUTER), unreadable)) == {"refused"}


@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_while_running_the_last_good_version_stays_and_nobody_else_is_touched(content: bytes) -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER), version("other", OTHER))
    files.apply([version("inner", content)])
    assert private(files) == {"inner"}
    assert (answers(files, "/team/public"), answers(files, "/other/s")) == ("outer", "other")
    files.apply([version("outer", OUTER + "write_once: true\n")])
    assert answers(files, "/team/public") == "outer"
    assert files.snapshot.workspaces["outer"].write_once


@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_routes_that_were_told_stay_when_the_next_version_tells_less(content: bytes) -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER + "anonymous: nobody\n"))
    assert answers(files, "/team/public") == "outer"
    files.apply([version("inner", content)])
    assert private(files) == {"refused"}
    files.apply([version("inner", INNER)])
    assert (private(files), answers(files, "/team/public")) == ({"inner"}, "outer")


def test_from_one_unreadable_version_to_the_next_the_outer_one_stays_refused() -> None:
    files = loaded(version("outer", OUTER), version("inner", b""))
    for content in SPELLINGS.values():
        files.apply([version("inner", content)])
        assert private(files) == {"refused"}


def test_of_two_unreadable_versions_the_later_one_tells_the_routes() -> None:
    files = loaded(version("inner", INNER.replace("/secret,", "/se cret,")))
    assert [answers(files, path) for path in PRIVATE] == ["refused", "nobody"]
    files.apply([version("inner", INNER.replace("/private", "/private/"))])
    assert [answers(files, path) for path in PRIVATE] == ["nobody", "refused"]


# --- who has nothing to do with it ------------------------------------------------------------------------------------


def test_sharing_with_a_workspace_that_is_not_there_yet_is_served() -> None:
    files = loaded(version("outer", OUTER))
    assert (private(files), outers_problem(files)) == ({"outer"}, "")


def test_sharing_with_a_workspace_whose_file_was_removed_is_served() -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER))
    files.apply([gone("inner")])
    assert (private(files), outers_problem(files)) == ({"outer"}, "")


def test_who_shares_with_nobody_is_served_beside_an_unreadable_file() -> None:
    files = loaded(version("outer", ALONE), version("z", b""))
    assert (answers(files, "/team/public"), outers_problem(files)) == ("outer", "")


def test_who_shares_with_a_workspace_that_is_there_is_served_beside_an_unreadable_file() -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER), version("z", b""))
    assert (answers(files, "/team/public"), private(files)) == ("outer", {"inner"})


def test_a_new_file_that_cannot_be_read_takes_nobody_down() -> None:
    """It holds nothing that was ever protected."""
    files = loaded(version("outer", OUTER))
    [event] = files.apply([version("inner", b"\t")])
    assert (event.kind, event.file) == (EventKind.REJECTED, "inner")
    assert (answers(files, "/team/public"), outers_problem(files)) == ("outer", "")


@pytest.mark.parametrize("mend", [version("z", OTHER), version("z", OTHER + "anonymous: x"), gone("z")])
def test_an_unreadable_file_that_is_mended_told_or_removed_ends_it(mend: Version) -> None:
    files = loaded(version("outer", OUTER), version("z", b""))
    assert answers(files, "/team/public") == "refused"
    files.apply([mend])
    assert (answers(files, "/team/public"), outers_problem(files)) == ("outer", "")


def test_a_third_files_change_and_a_change_of_its_own_end_nothing() -> None:
    files = loaded(version("outer", OUTER), version("inner", b""), version("other", OTHER))
    files.apply([version("other", OTHER + "write_once: true\n")])
    files.apply([version("outer", OUTER + "write_once: true\n")])
    assert private(files) == {"refused"}
    files.apply([version("outer", OUTER), version("other", OTHER)])
    assert private(files) == {"refused"}
    assert answers(files, "/other/s") == "other"


# --- while there is an unreadable file ---------------------------------------------------------------------------------


def test_who_starts_to_share_without_reaching_further_is_served_and_can_take_the_new_one_in() -> None:
    files = loaded(version("outer", ALONE), version("z", b""))
    files.apply([version("outer", OUTER)])
    assert (answers(files, "/team/public"), outers_problem(files)) == ("outer", "")
    files.apply([version("inner", INNER)])
    assert (answers(files, "/team/public"), private(files)) == ("outer", {"inner"})


def test_who_starts_to_share_and_to_reach_further_keeps_the_last_good_version() -> None:
    low = OUTER.replace("path: /team,", "path: /team/low,")
    files = loaded(version("outer", low.replace("shares: [inner]\n", "")), version("inner", b""))
    files.apply([version("outer", OUTER)])
    assert (private(files), answers(files, "/team/low/s")) == ({"nobody"}, "outer")
    assert "isn't there and may be in" in outers_problem(files)
    files.apply([version("inner", INNER)])
    assert (private(files), answers(files, "/team/public"), outers_problem(files)) == ({"inner"}, "outer", "")


def test_outer_and_inner_may_come_in_one_go() -> None:
    files = loaded(version("z", b""))
    files.apply([version("outer", OUTER), version("inner", INNER)])
    assert (private(files), answers(files, "/team/public")) == ({"inner"}, "outer")


def test_a_file_that_is_renamed_and_spoilt_in_one_go_opens_nothing() -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER), version("other", OTHER))
    events = files.apply([gone("inner"), version("renamed", b"<<<<<<<\n")])
    assert private(files) == {"refused"}
    refused = [(event.kind, event.sha256, event.previous is not None) for event in events if event.file == "outer"]
    assert refused == [(EventKind.REJECTED, None, True)]
    assert "(renamed)" in outers_problem(files)
    files.apply([version("renamed", INNER)])
    assert (private(files), answers(files, "/team/public")) == ({"inner"}, "outer")


def test_a_newer_version_that_waits_meanwhile_is_the_one_that_is_served_in_the_end() -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER), version("other", OTHER))
    wider = OUTER.replace("}]", "}, {path: /other, client: plain, upstream: third}]")
    files.apply([version("outer", wider)])
    files.apply([gone("inner"), version("renamed", b"")])
    assert (private(files), answers(files, "/other/s")) == ({"refused"}, "other")
    files.apply([gone("other"), version("renamed", INNER)])
    assert (private(files), answers(files, "/other/s")) == ({"inner"}, "outer")


def test_once_all_can_be_read_what_comes_later_hides_nothing_old() -> None:
    files = loaded(version("z", b""))
    files.apply([version("z", OTHER)])
    files.apply([version("z", b""), version("y", b"")])
    files.apply([version("outer", OUTER)])
    assert (private(files), answers(files, "/other/s")) == ({"outer"}, "other")


def test_removed_beside_an_unreadable_file_it_may_be_in_there() -> None:
    files = loaded(version("outer", OUTER), version("inner", INNER), version("z", b""))
    files.apply([gone("inner")])
    assert private(files) == {"refused"}
    files.apply([gone("z")])
    assert private(files) == {"outer"}


def test_two_bad_files_of_one_name_tell_all_routes_or_none() -> None:
    bad = INNER + "anonymous: nobody\n"
    files = loaded(version("copy", bad.replace("/private", "/x").replace("/secret", "/y")), version("inner", bad))
    files.apply([version("outer", OUTER)])
    assert private(files) <= {"nobody", "refused"}
    fresh = loaded(
        version("copy", bad.replace("/private", "/x").replace("/secret", "/y")),
        version("inner", bad),
        version("outer", OUTER),
    )
    assert private(fresh) == {"refused"}
    fresh.apply([gone("copy")])
    assert (private(fresh), answers(fresh, "/team/public")) == ({"refused"}, "outer")


@pytest.mark.parametrize("file", ["inner", "z"], ids=["read before it", "read after it"])
def test_what_another_bad_file_kept_out_is_refused_once_that_one_is_mended(file: str) -> None:
    """Both files are bad, and outer's doesn't tell that it shares: inner's routes seem to be another's."""
    files = loaded(version("outer", OUTER.replace("[inner]", "[inner")), version(file, INNER + "anonymous: nobody\n"))
    assert private(files) == {"refused"}
    files.apply([version("outer", OUTER)])
    assert (private(files), answers(files, "/team/public")) == ({"refused"}, "outer")
    files.apply([version(file, INNER)])
    assert private(files) == {"inner"}


def test_it_is_the_same_where_keys_nest_and_not_paths() -> None:
    outer = OUTER.replace("path: /team,", "path: /all, upstream_path: /team,")
    files = loaded(version("outer", outer), version("inner", b""))
    assert answers(files, "/all/private/s") == "refused"
    files.apply([version("inner", INNER)])
    assert answers(files, "/all/private/s") == "outer", "outer's keys are all keys, with inner's consent"


def test_each_refusal_is_told_as_an_event() -> None:
    files = PolicyFiles()
    events: dict[str, PolicyEvent] = {e.file: e for e in files.load([version("outer", OUTER), version("inner", b"")])}
    assert events["outer"].kind is events["inner"].kind is EventKind.REJECTED
    assert (events["outer"].workspace, events["outer"].sha256) == ("outer", None)
    assert str(events["outer"].problems[0]).startswith("outer:1 $.shares: the workspace 'inner' isn't there")
