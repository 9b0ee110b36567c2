"""Who wrote which key, read out of audit records: what counts as a write, whose it is, and what has changed since."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit.writes import MOST_PENDING, Write, Writes

Line = dict[str, Any]


def line(number: int = 1, **parts: Any) -> bytes:
    """A write of `key` by `t1`, in the minute `number`."""
    record = {
        "v": "sidecar.audit/v1",
        "time": f"2026-11-22T10:{number:02}:00.000000Z",
        "kind": "access",
        "action": "object.write",
        "stage": "complete",
        "outcome": "allow",
        "workspace": "web",
        "request": {"id": f"r{number}", "path": "/web/key"},
        "response": {"status": 201, "upstream_status": 201, "aborted": False},
        "actor": {"type": "ci", "token_id": "t1", "principal": "ci"},
        "resource": {"name": "key", "digest": "sha256:aa"},
        "changes": None,
    }
    for name, value in parts.items():
        record[name] = {**record[name], **value} if isinstance(record.get(name), dict) else value  # type: ignore[dict-item]
    return json.dumps(record, separators=(",", ":")).encode()


def by(who: str, *lines: bytes, **wanted: Any) -> list[Write]:
    return told(Writes(by=who, **wanted), *lines)


def of(key: str, *lines: bytes, **wanted: Any) -> list[Write]:
    return told(Writes(key=key, **wanted), *lines)


def told(asked: Writes, *lines: bytes) -> list[Write]:
    for each in lines:
        asked.add(each)
    return list(asked.results())


OTHER = {"token_id": "t2", "principal": "other"}


@pytest.mark.parametrize(
    "parts",
    [
        {"action": "object.read"},
        {"action": "object.admin"},
        {"outcome": "deny", "response": {"status": 403, "upstream_status": None}},
        {"outcome": "error", "response": {"status": 503, "upstream_status": None}},
        {"outcome": "allow", "response": {"status": 412, "upstream_status": 412}},
        {"kind": "policy"},
        {"v": "another/v1"},
        {"resource": {"name": None}},
    ],
)
def test_what_wrote_nothing_is_not_told(parts: Line) -> None:
    assert of("key", line(1, **parts)) == []
    assert by("t1", line(1, **parts)) == []


def test_a_refusal_after_the_store_had_taken_it_is_a_write() -> None:
    (write,) = of("key", line(1, outcome="error", response={"status": 502, "upstream_status": 201}))
    assert write.current


def test_in_doubt_it_was_written() -> None:
    (write,) = of("key", line(1, stage="intent", response={"status": None, "upstream_status": None}))
    assert not write.certain
    (write,) = of("key", line(1, response={"aborted": True}))
    assert not write.certain
    (write,) = of("key", line(1, stage="intent"), line(1))
    assert write.certain


@pytest.mark.parametrize("asked", ["key", "/web/key"])
def test_every_write_of_a_key_is_told_and_the_last_is_current(asked: str) -> None:
    history = of(
        asked, line(1), line(2, actor=OTHER), line(3, resource={"name": "key2"}, request={"path": "/web/key2"})
    )
    assert [(each.token_id, each.current) for each in history] == [("t1", False), ("t2", True)]
    history = of(asked, line(1), line(2, action="object.delete"))
    assert [(each.deleted, each.current) for each in history] == [(False, False), (True, False)]


def test_a_workspace_and_a_day_narrow_it() -> None:
    lines = line(1), line(2, workspace="docs"), line(3)
    assert [each.workspace for each in of("key", *lines, workspace="docs")] == ["docs"]
    assert [each.time for each in of("key", *lines, since="2026-11-22T10:03")] == ["2026-11-22T10:03:00.000000Z"]
    assert [each.times for each in by("t1", *lines, since="2026-11-22T10:02")] == [1, 1]


@pytest.mark.parametrize(
    ("who", "actor"),
    [
        ("t1", {"token_id": "t1"}),
        ("ci", {"token_id": "x"}),
        ("root", {"token_id": "x", "root_id": "root"}),
        ("b2", {"token_id": "x", "blocks": ["b1", "b2", "b3"]}),
        ("anonymous", {"token_id": None, "type": "anonymous", "principal": None}),
    ],
)
def test_whose_it_is(who: str, actor: Line) -> None:
    assert (
        len(by(who, line(1, actor=actor), line(2, actor={"token_id": "z", "principal": "z"}, resource={"name": "k2"})))
        == 1
    )


def test_replacements_write_in_their_parents_name() -> None:
    event = line(2, kind="token", action="rotated", changes={"token_id": "t9", "parent": "t1"})
    found = by("t1", line(1), event, line(3, actor={"token_id": "t9"}, resource={"name": "k2"}))
    assert [each.key for each in found] == ["key", "k2"]


def test_a_replacement_is_known_by_its_parent_where_nothing_says_when_it_was_made() -> None:
    heir = {"token_id": "t9", "parent": "t1", "principal": "x"}
    heirs_heir = {"token_id": "t10", "parent": "t9", "principal": "x"}
    found = by("t1", line(1, actor=heir), line(2, actor=heirs_heir, resource={"name": "k2"}))
    assert [each.key for each in found] == ["key", "k2"]


@pytest.mark.parametrize("asked", ["PUT uploadId=u&partNumber=1", "DELETE uploadId=u", "POST uploads", "PUT tagging"])
def test_an_s3_tools_upload_is_one_write_when_it_is_put_together(asked: str) -> None:
    method, query = asked.split()
    other = line(2, actor=OTHER, request={"protocol": "s3", "method": method, "query": query})
    ((write,), (of_key,)) = by("t1", line(1), other), of("key", line(1), other)
    assert write.current
    assert of_key.current
    done = line(3, actor=OTHER, request={"protocol": "s3", "method": "POST", "query": "uploadId=u"})
    assert [each.current for each in by("t1", line(1), other, done)] == [False]
    assert [each.current for each in of("key", line(1), other, done)] == [False, True]


def test_an_uploads_digest_is_that_of_its_parts() -> None:
    parts = [
        line(
            n,
            request={"protocol": "s3", "method": "PUT", "query": f"partNumber={n}&uploadId=u"},
            resource={"digest": f"sha256:{n:064}"},
        )
        for n in (1, 2)
    ]
    done = {"protocol": "s3", "method": "POST", "query": "uploadId=u"}
    (write,) = of("key", *parts, line(3, request=done, resource={"digest": "etag:x-2"}))
    assert (write.digest or "").startswith("sha256-parts:")


@pytest.mark.parametrize(
    ("later", "current", "writes"),
    [
        (line(2), True, 2),
        (line(2, actor=OTHER), False, 1),
        (line(2, actor=OTHER, action="object.delete"), False, 1),
        (line(2, action="object.delete"), False, 1),
        (line(2, actor=OTHER, workspace="docs"), True, 1),
        (line(2, actor=OTHER, response={"status": 412, "upstream_status": 412}), True, 1),
        (line(2, actor=OTHER, response={"aborted": True}), True, 1),
    ],
)
def test_what_others_changed_since_is_not_theirs_any_more(later: bytes, current: bool, writes: int) -> None:
    (found,) = by("t1", line(1), later)
    assert (found.current, found.times) == (current, writes)


def s3(number: int, name: str, operation: str, path: str = "/bkt", **more: Any) -> bytes:
    request = {"protocol": "s3", "operation": operation, "path": path}
    resource = {"name": name, "container": "bkt", "path": f"/bkt/{name}" if path == "/bkt" else None}
    return line(number, request=request, resource=resource, **more)


@pytest.mark.parametrize("asked", ["victim", "/bkt/victim"])
def test_a_key_that_was_deleted_among_others_is_not_current(asked: str) -> None:
    """Each of them has records of its own, with one request id."""
    both = [
        s3(2, name, "DeleteObjects", actor=OTHER, stage=stage, action="object.delete")
        for stage in ("intent", "complete")
        for name in ("decoy", "victim")
    ]
    written = s3(1, "victim", "PutObject", "/bkt/victim")
    assert [(each.deleted, each.certain) for each in of(asked, written, *both)] == [(False, True), (True, True)]
    assert [each.current for each in by("t1", written, *both)] == [False]
    unfinished = of(asked, written, *both[:2])
    assert [(each.deleted, each.certain) for each in unfinished] == [(False, True), (True, False)]


def test_what_was_renamed_is_gone_and_what_it_became_was_written() -> None:
    renamed = [
        s3(2, "new", "RenameObject", "/bkt/new", actor=OTHER),
        s3(2, "old", "RenameObject", actor=OTHER, action="object.delete"),
    ]
    written = s3(1, "old", "PutObject", "/bkt/old")
    assert [(each.deleted, each.current) for each in of("old", written, *renamed)] == [(False, False), (True, False)]
    assert [(each.path, each.current) for each in of("new", written, *renamed)] == [("/bkt/new", True)]
    assert [each.current for each in by("t1", written, *renamed)] == [False]
    assert [each.key for each in by("t2", written, *renamed)] == ["new"]


def test_what_was_moved_is_gone_and_what_it_became_was_written() -> None:
    moved = line(2, actor=OTHER, action="object.delete", changes={"destination": "new"})
    assert [(each.deleted, each.path) for each in of("key", line(1), moved)] == [
        (False, "/web/key"), (True, "/web/key"),
    ]  # fmt: skip
    assert [(each.deleted, each.path) for each in of("new", line(1), moved)] == [(False, "/web/new")]
    assert [each.current for each in by("t1", line(1), moved)] == [False]
    copied = line(2, actor=OTHER, changes={"destination": "new"})
    assert [each.current for each in by("t1", line(1), copied)] == [True]


@pytest.mark.parametrize(
    ("name", "method", "action"), [("a/", "DELETE", "object.delete"), ("new/", "MOVE", "object.delete")]
)
def test_what_lies_below_a_tree_changed_with_it(name: str, method: str, action: str) -> None:
    changes = {"destination": "new/"} if method == "MOVE" else None
    tree = line(2, action=action, resource={"name": "a/"}, changes=changes, actor=OTHER)
    assert [each.key for each in of(f"{name}b/c", tree)] == [name]


def test_a_slash_at_an_s3_keys_end_is_part_of_the_key() -> None:
    """Else who deletes `poison/` would make `poison/x` look as if it had been deleted."""
    marker = s3(2, "poison/", "DeleteObject", "/bkt/poison/", action="object.delete", actor=OTHER)
    (write,) = by("t1", s3(1, "poison/x", "PutObject", "/bkt/poison/x"), marker)
    assert write.current


def test_a_write_or_deletion_that_took_admin_is_one() -> None:
    """An ACL with the upload, a retention that is passed over."""
    written = s3(1, "k", "PutObject", "/bkt/k", action="object.admin")
    deleted = s3(2, "k", "DeleteObject", "/bkt/k", action="object.admin")
    assert [each.current for each in by("t1", written)] == [True]
    assert [each.deleted for each in of("k", written, deleted)] == [False, True]
    assert by("t1", s3(1, "k", "PutObjectAcl", "/bkt/k", action="object.admin")) == []


LONG = "/".join(str(number) + "\u00e9" * 99 for number in range(5))


@pytest.mark.parametrize(
    ("path", "name", "found"),
    [
        ("/bkt/team/" + quote(LONG), LONG, "/bkt/team/" + quote(LONG)),
        ("/" + quote(LONG), LONG, "/bkt/" + quote(LONG)),
        ("/bkt/" + "a/" * 1500, "a/" * 400, None),
        ("/bkt/" + quote(LONG), LONG[:2000] + "…", None),
        ("/bkt/" + quote(LONG), "another", None),
    ],
    ids=["in the path", "bucket in the host", "in two ways", "key cut too", "another"],
)
@pytest.mark.parametrize("cut", [2047, 2046, 2045, 255])
def test_a_path_that_was_cut_is_put_together_where_that_goes_in_one_way(
    path: str, name: str, found: str | None, cut: int
) -> None:
    asked = {"path": path[:cut] + "…", "protocol": "s3", "operation": "PutObject"}
    (write,) = by("t1", line(1, request=asked, resource={"name": name, "container": "bkt"}))
    assert write.path == found
    (write,) = by("t1", line(1, request={"path": path[:cut] + "…"}, resource={"name": name}))
    assert write.path is None, "elsewhere %2F and / may be two things"


def test_a_deleted_folder_takes_what_is_below_it() -> None:
    lines = [line(number, resource={"name": name}) for number, name in enumerate(["a/b", "a/c/d", "ab"], 1)]
    found = by("t1", *lines, line(9, action="object.delete", resource={"name": "a/"}, actor=OTHER))
    assert {each.key: each.current for each in found} == {"a/b": False, "a/c/d": False, "ab": True}


@pytest.mark.parametrize(
    ("path", "name", "destination", "found"),
    [
        ("/web/a", "a", "b", "/web/b"),
        ("/web/x/a%20b", "x/a b", "c d/e", "/web/c%20d/e"),
        ("/web/dir/", "dir/", "new", "/web/new"),
        ("/elsewhere", "a", "b", None),
    ],
)
def test_a_copys_destination_is_what_was_written(path: str, name: str, destination: str, found: str | None) -> None:
    (write,) = by("t1", line(1, request={"path": path}, resource={"name": name}, changes={"destination": destination}))
    assert (write.key, write.path) == (destination, found)


@pytest.mark.parametrize(
    ("path", "name", "found"),
    [
        ("/bkt/a%20b", "a b", "/bkt/a%20b"),
        ("/bkt/team/k", "k", "/bkt/team/k"),
        ("/a%20b", "a b", "/bkt/a%20b"),
        ("/team/k", "k", "/bkt/team/k"),
        ("/bkt/bkt/k", "bkt/bkt/k", "/bkt/bkt/bkt/k"),
        ("/bkt/bkt/k", "bkt/k", "/bkt/bkt/k"),
        ("/bkt", "first-of-many", None),
    ],
)
def test_a_bucket_that_was_named_by_the_host_is_in_the_path(path: str, name: str, found: str | None) -> None:
    """Else `purge` would delete what has the same path elsewhere."""
    (write,) = by("t1", line(1, request={"path": path, "protocol": "s3"}, resource={"name": name, "container": "bkt"}))
    assert (write.key, write.path) == (name, found)


@pytest.mark.parametrize("path", ["/web/k…", "/web/REDACTED", "web", None])
def test_a_path_that_is_not_whole_is_no_path(path: str | None) -> None:
    (write,) = by("t1", line(1, request={"path": path}))
    assert write.path is None


@pytest.mark.parametrize(
    "noise",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{" * 100_000, b'{"v":1}', b'{"v":"sidecar.audit/v1","time":7}'],
)
def test_a_line_that_is_no_record_is_counted(noise: bytes) -> None:
    asked = Writes(key="key")
    assert len(told(asked, line(1), noise, line(2))) == 2
    assert asked.unreadable == 1


@given(st.binary(max_size=200), st.sampled_from([lambda w: Writes(key=w), lambda w: Writes(by=w)]))
def test_any_noise_is_passed_over(noise: bytes, make: Callable[[str], Writes]) -> None:
    assert told(make("t1"), noise) == []


def test_beginnings_without_an_end_do_not_pile_up() -> None:
    asked = Writes(by="t1")
    for number in range(MOST_PENDING + 10):
        asked.add(line(1, stage="intent", request={"id": str(number)}, resource={"name": f"k{number}"}))
    assert len(asked._pending) == MOST_PENDING
    assert len(list(asked.results())) == MOST_PENDING + 10
