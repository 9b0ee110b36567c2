"""What `sidecar purge` takes for a path of one object, and what it tells of all else without letting that stop it."""

import json

import pytest

from sidecar.audit.writes import Write
from sidecar.cli.audit_writes import line_of
from sidecar.cli.purge_list import Item, Unreadable, items

WRITE = Write(
    time="2026-11-22T10:00:00.000000Z", workspace="web", key="a b", path="/web/a%20b", deleted=False, below=False, certain=True, current=True,
    times=1, digest="sha256:" + "a" * 64, status=201, store="local", type="jwt", subject="x  y", owner="corp", token_id="t",
    token_name="n", root_id=None, blocks=None, claims={"ref": "refs/heads/a  current  b"}, request_id="r",
)  # fmt: skip


def changed(**fields: object) -> Write:
    return type(WRITE)(**{name: getattr(WRITE, name) for name in WRITE.__struct_fields__} | fields)


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize(
    ("current", "deleted", "skip"), [(True, False, ""), (False, False, "changed since"), (False, True, "deleted")]
)
def test_lines_that_are_told_are_read_back(certain: bool, current: bool, deleted: bool, skip: str) -> None:
    write = changed(certain=certain, current=current, deleted=deleted)
    assert list(items([line_of(write) + "\n"])) == [Item("/web/a%20b", skip)]
    document = {"by": "t", "writes": [{name: getattr(write, name) for name in write.__struct_fields__}], "records": 1}
    assert list(items([json.dumps(document)])) == [Item("/web/a%20b", skip)]
    assert list(items(json.dumps(document, indent=2).splitlines(keepends=True))) == [Item("/web/a%20b", skip)]
    assert list(items([json.dumps(document["writes"][0])])) == [Item("/web/a%20b", skip)]  # type: ignore[index]


def test_paths_alone_will_do_and_each_comes_once() -> None:
    assert list(items(["/web/a\r\n", "\n", "/web/a\n", "/web/%2fb\n"])) == [Item("/web/a"), Item("/web/%2fb")]


@pytest.mark.parametrize(
    "line",
    [
        "web/a", "key", "/web/dir/", "/", "/web/../secret", "/web/%2e%2e/x", "//x/y/", "/a b", "/a?x=1", "/a#b", "/caf\u00e9", "/a\x00b",
        '{"path": null, "key": "k"}', '{"path": "/web/dir/"}', '{"path": null, "key": "\\u001b[2J"}', "\x1b[2J",
        "[]", "null", "https://store/x", "2026-11-22T10:00:00Z  web  key a b  no digest  current  ci ci", "/" + "{" * 10 + " ",
        "2026-11-22T10:00:00Z  web  key a%20b  no digest  current  ci ci",
    ],
)  # fmt: skip
def test_what_is_no_path_of_one_object_is_told_and_stops_nothing_else(line: str) -> None:
    """Whoever wrote all the rest may have written it so that the rest stays."""
    before, odd, after = items(["/web/fine\n", line + "\n", "/web/too\n"])
    assert (before, after) == (Item("/web/fine"), Item("/web/too"))
    assert odd.problem
    assert not odd.skip
    assert odd.path.isprintable()
    assert len(odd.path) < 400


@pytest.mark.parametrize("line", ["{", "{}", '{"writes": 7}', '{"writes": [7]}', '{"path": 7}'])
def test_what_is_no_list_stops_everything(line: str) -> None:
    with pytest.raises(Unreadable, match="line 2: "):
        items(["/web/fine\n", line + "\n"])


@pytest.mark.parametrize("key", ["x  no digest  deleted  ci", "a\nb", "x  changed since", "\u00e9" * 900])
def test_a_key_without_a_path_can_not_say_that_it_was_deleted(key: str) -> None:
    (odd,) = items([line_of(changed(path=None, key=key))])
    assert odd.problem
    (skipped,) = items([line_of(changed(path=None, key=key, current=False, deleted=True))])
    assert (skipped.skip, skipped.problem) == ("deleted", "")


def test_what_is_current_in_one_line_goes_whatever_came_before() -> None:
    lines = [line_of(changed(current=False)), line_of(changed()), line_of(changed(current=False))]
    assert items(lines) == [Item("/web/a%20b")]
