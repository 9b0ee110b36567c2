"""Operations on trees, before a policy and a store: when the store is asked, what decides, and what the store is told."""

import asyncio
from collections.abc import Mapping

import pytest

from sidecar import target
from sidecar.errors import Refused, Unavailable
from sidecar.model import Action, Head, Headers, Limits, Permission, Principal, PrincipalKind, Verdict
from sidecar.policy.compiled import Route, Rule, Workspace
from sidecar.policy.evaluate import evaluate
from sidecar.policy.glob import Glob
from sidecar.policy.routes import Routes, Snapshot
from sidecar.profiles.profile import Operation
from sidecar.profiles.webdav import Webdav
from sidecar.reasons import Reason
from sidecar.trees import Settled, settle

READ, WRITE, OVERWRITE, DELETE = Permission.READ, Permission.WRITE, Permission.OVERWRITE, Permission.DELETE
EVERYTHING = frozenset({READ, WRITE, DELETE})
DAV = Route("web", "/dav", ("dav",), "webdav", "artifacts", "/store")


def rule(name: str = "r", path: str | None = None, allow: str = "", deny: str = "") -> Rule:
    words = {"allow": allow.split(), "deny": deny.split()}
    sets = {effect: frozenset(Permission(word) for word in found) for effect, found in words.items()}
    return Rule(name, 1, sets["allow"], sets["deny"], path=None if path is None else Glob(path))


class Place:
    """One workspace, one caller, one store."""

    def __init__(
        self, *rules: Rule, level: str = "read write delete", path: str | None = None, write_once: bool = False
    ):
        allow = rule("level", allow=level)
        self.workspace = Workspace("web", "web.yaml", "", (DAV,), rules=(allow, *rules), write_once=write_once)
        self.caller = Principal(PrincipalKind.JWT, "ci", limits=Limits(path=path))
        self.routes = Routes().adding([DAV])
        self.asked: list[str] = []

    def judge(self, actions: tuple[Action, ...], exists: bool | None) -> Verdict:
        return evaluate(self.workspace, self.caller, actions, person=None, directory=False, exists=exists)

    def settle(self, method: str, path: str, there: Mapping[str, bool | None] | None = None, **values: str) -> Settled:
        """`there`: what the store says of a path; `None`, that it can't tell. Other paths are not to be asked."""
        forward = tuple((name.encode(), value.encode()) for name, value in values.items())
        head = Head(method, target.parse(path), Headers({"host": "h", **values}, forward))
        operation = Webdav().classify(head, DAV)
        assert isinstance(operation, Operation)

        async def exists(asked: str) -> bool:
            self.asked.append(asked)
            found = (there or {})[asked]
            if found is None:
                raise Unavailable(Reason.EXISTENCE_UNKNOWN)
            return found

        return asyncio.run(settle(operation, head, DAV, Snapshot(self.routes), self.judge, exists))

    def reason(self, method: str, path: str, there: Mapping[str, bool | None] | None = None, **values: str) -> Reason:
        return self.settle(method, path, there, **values).verdict.reason


KEEP = rule("keep", path="*/keep", deny="delete")


# --- of a tree, or of one key -----------------------------------------------------------------------------------------------------


def test_a_deny_rule_that_could_touch_one_key_below_refuses_the_tree() -> None:
    place = Place(KEEP)
    assert place.reason("DELETE", "/dav/a/") is Reason.RULE_DENY
    assert place.reason("DELETE", "/dav/a/b/") is Reason.GRANTED
    assert place.reason("MOVE", "/dav/a/", destination="/dav/b/") is Reason.RULE_DENY
    assert place.asked == []


def test_a_path_limit_must_hold_for_each_key_below() -> None:
    place = Place(path="a/*")
    assert place.reason("DELETE", "/dav/a/") is Reason.TOKEN_LIMIT
    assert place.reason("PROPFIND", "/dav/a/", depth="1") is Reason.TOKEN_LIMIT
    assert Place(path="a/**").reason("DELETE", "/dav/a/") is Reason.GRANTED
    assert Place(path="a/**").reason("PROPFIND", "/dav/a/", depth="infinity") is Reason.GRANTED
    assert Place(path="a/**").reason("PROPFIND", "/dav/", depth="1") is Reason.TOKEN_LIMIT


def test_so_must_the_rule_that_allows() -> None:
    place = Place(rule(path="a/*", allow="delete"), level="read")
    assert place.reason("DELETE", "/dav/a/") is Reason.NO_RULE
    assert Place(rule(path="a/**", allow="delete"), level="read").reason("DELETE", "/dav/a/") is Reason.GRANTED


def test_a_path_without_a_slash_is_a_tree_until_the_store_says_otherwise() -> None:
    for there, reason in [(False, Reason.GRANTED), (True, Reason.RULE_DENY), (None, Reason.RULE_DENY)]:
        place = Place(KEEP)
        assert place.reason("DELETE", "/dav/a", {"/store/a/": there}) is reason
        assert place.asked == ["/store/a/"]


def test_what_was_decided_on_is_what_is_recorded() -> None:
    assert Place(KEEP).settle("DELETE", "/dav/a", {"/store/a/": False}).actions == (Action(DELETE, "a"),)
    assert Place(KEEP).settle("DELETE", "/dav/a", {"/store/a/": True}).actions == (Action(DELETE, "a", below=True),)


@pytest.mark.parametrize("path", ["/dav/b", "/dav/a/keep"])
def test_the_store_is_not_asked_where_that_makes_no_difference(path: str) -> None:
    place = Place(rule(path="a/keep", deny="delete"))
    assert place.reason("DELETE", path) in (Reason.GRANTED, Reason.RULE_DENY)
    assert place.asked == []


def test_nor_on_behalf_of_whom_neither_is_granted() -> None:
    place = Place(KEEP, level="read")
    assert place.reason("DELETE", "/dav/a") is Reason.RULE_DENY
    assert place.asked == []


# --- what is at the destination ---------------------------------------------------------------------------------------------------


def overwrite(settled: Settled) -> bytes | None:
    return dict(settled.forward).get(b"Overwrite")


def test_moving_onto_a_key_asks_overwrite_where_the_workspace_says_write_once() -> None:
    place = Place(write_once=True)
    assert place.reason("MOVE", "/dav/a", {"/store/b": True}, destination="/dav/b") is Reason.NO_RULE
    assert place.asked == ["/store/b"]
    settled = Place(write_once=True).settle("MOVE", "/dav/a", {"/store/b": False}, destination="/dav/b")
    assert settled.verdict.reason is Reason.GRANTED
    assert overwrite(settled) == b"F", "the store closes the gap between the question and the move"
    granted = Place(write_once=True, level="read write delete overwrite")
    assert overwrite(granted.settle("MOVE", "/dav/a", destination="/dav/b")) is None
    assert granted.asked == []


def test_of_a_tree_too_and_it_is_asked_for_without_its_slash() -> None:
    place = Place(write_once=True)
    assert place.reason("COPY", "/dav/a/", {"/store/b": True}, destination="/dav/b/") is Reason.NO_RULE


def test_a_rule_that_names_overwrite_of_one_key_below_counts_for_the_tree() -> None:
    releases = rule("releases", path="b/releases/*", deny="overwrite")
    assert Place(releases).reason("COPY", "/dav/a/", {"/store/b": True}, destination="/dav/b/") is Reason.RULE_DENY
    assert Place(releases).reason("COPY", "/dav/a/", destination="/dav/c/") is Reason.GRANTED


def test_where_existence_cannot_be_learnt_nothing_is_replaced() -> None:
    with pytest.raises(Unavailable):
        Place(write_once=True).settle("MOVE", "/dav/a", {"/store/b": None}, destination="/dav/b")


def test_a_write_alone_never_empties_a_tree() -> None:
    """RFC 4918 §9.8.4: what is at the destination is deleted first, with all that is below."""
    writer = Place(level="read write")
    assert overwrite(writer.settle("COPY", "/dav/a/", destination="/dav/b/")) == b"F"
    assert writer.asked == []
    for there, told in [(False, None), (True, b"F"), (None, b"F")]:
        assert overwrite(writer.settle("COPY", "/dav/a", {"/store/b/": there}, destination="/dav/b")) == told
    for level in ("read write delete", "read write overwrite"):
        assert overwrite(Place(level=level).settle("COPY", "/dav/a/", destination="/dav/b/")) is None


def test_who_may_not_lose_one_key_below_empties_no_tree() -> None:
    kept = Place(rule("kept", path="b/keep", deny="delete"))
    assert overwrite(kept.settle("COPY", "/dav/a/", destination="/dav/b/")) == b"F"
    beside = Place(rule("kept", path="c/keep", deny="delete"))
    assert overwrite(beside.settle("COPY", "/dav/a/", destination="/dav/b/")) is None


def test_the_store_is_asked_nothing_about_the_destination_of_what_is_refused() -> None:
    place = Place(level="read")
    assert place.reason("COPY", "/dav/a", destination="/dav/b") is Reason.NO_RULE
    assert place.asked == []


def test_one_key_is_replaced_where_only_a_key_below_its_name_is_kept() -> None:
    releases = rule("releases", path="b/keep", deny="overwrite")
    file = {"/store/b": True, "/store/a/": False, "/store/b/": False}
    settled = Place(releases).settle("COPY", "/dav/a", file, destination="/dav/b")
    assert settled.actions == (Action(READ, "a"), Action(WRITE, "b", creates=True))
    assert settled.verdict.reason is Reason.GRANTED
    assert overwrite(settled) is None
    assert (
        Place(releases).reason("COPY", "/dav/a", {**file, "/store/a/": True}, destination="/dav/b") is Reason.RULE_DENY
    )


# --- what the store is told ----------------------------------------------------------------------------------------------------------


def test_the_destination_is_the_stores_path_and_the_last_word_on_overwrite_is_ours() -> None:
    settled = Place().settle(
        "MOVE",
        "/dav/a",
        destination="http://h/dav/x%20y/%C3%A9",
        overwrite="T",
        **{"accept-encoding": "gzip", "user-agent": "rclone"},
    )
    assert settled.forward == [(b"user-agent", b"rclone"), (b"Destination", b"/store/x%20y/%C3%A9")]
    kept = Place().settle("MOVE", "/dav/a", destination="/dav/b", overwrite="F")
    assert kept.forward == [(b"Destination", b"/store/b"), (b"Overwrite", b"F")]


# --- other workspaces ----------------------------------------------------------------------------------------------------------------


INNER = Route("inner", "/dav/team/inner", ("dav", "team", "inner"), "webdav", "artifacts", "/store/team/inner")


@pytest.mark.parametrize(
    ("method", "path", "values"),
    [
        ("DELETE", "/dav/team/", {}),
        ("DELETE", "/dav/team", {}),
        ("PROPFIND", "/dav/", {"depth": "1"}),
        ("PROPFIND", "/dav/team/", {}),
        ("MOVE", "/dav/team/", {"destination": "/dav/b/"}),
        ("COPY", "/dav/a/", {"destination": "/dav/team/"}),
        ("COPY", "/dav/a", {"destination": "/dav/team/inner/x"}),
        ("COPY", "/dav/a", {"destination": "/dav/team/inner"}),
    ],
)
def test_a_tree_that_reaches_into_another_workspace_is_refused(method: str, path: str, values: dict[str, str]) -> None:
    place = Place()
    place.routes = place.routes.adding([INNER])
    with pytest.raises(Refused) as refusal:
        place.settle(method, path, **values)
    assert refusal.value.reason is Reason.WRONG_WORKSPACE
    assert place.asked == []


def test_what_lies_beside_it_is_not() -> None:
    place = Place()
    place.routes = place.routes.adding([INNER])
    assert place.reason("DELETE", "/dav/team/outer/") is Reason.GRANTED
    assert place.reason("PROPFIND", "/dav/", depth="0") is Reason.GRANTED


def test_its_keys_count_and_not_its_path() -> None:
    elsewhere = Route("inner", "/inner", ("inner",), "plain", "artifacts", "/store/team/inner")
    place = Place()
    place.routes = place.routes.adding([elsewhere])
    with pytest.raises(Refused):
        place.settle("DELETE", "/dav/team/")
    place.routes = Routes().adding(
        [DAV, Route("inner", "/dav/team", ("dav", "team"), "plain", "another", "/store/team")]
    )
    assert place.reason("DELETE", "/dav/a/") is Reason.GRANTED


def test_who_shares_all_of_the_keys_is_not_another() -> None:
    place = Place()
    place.routes = place.routes.adding([Route("twin", "/twin", ("twin",), "plain", "artifacts", "/store")])
    assert place.reason("PROPFIND", "/dav/", depth="1") is Reason.GRANTED
