"""What one token did: itself, what replaced it, what was narrowed from it; out of whatever is in a file."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit import lineage
from sidecar.audit import query as module
from sidecar.audit.access import Access, Completion, Key
from sidecar.audit.query import Query, Use
from sidecar.audit.record import Records
from sidecar.audit.schema import Instance, rfc3339
from sidecar.model import Action, Permission, Principal, PrincipalKind
from sidecar.reasons import Outcome, Reason

NOW = 1_800_000_000.0
RECORDS = Records(Instance(), b"k" * 32)
DONE = Completion(status=200, duration=0.1)


def opaque(token_id: str, parent: str = "", family: str = "") -> Principal:
    return Principal(PrincipalKind.CI, "build", token_id=token_id, parent=parent, family=family or token_id)


def biscuit(*blocks: str) -> Principal:
    names = tuple(f"biscuit:{block}" for block in blocks)
    return Principal(PrincipalKind.BISCUIT, "build", token_id="root", family="root", revocation_ids=names)


def record(
    who: Principal, at: float = 0, end: Completion | None = DONE, permission: Permission = Permission.READ, **more: Any
) -> bytes:
    known: dict[str, Any] = {
        "request_id": f"r-{who.token_id}-{at}",
        "method": "GET",
        "path": "/web/a",
        "workspace": "web",
    }
    known |= {"upstream": "store", "actions": (Action(permission, "a"),), "peer": "10.0.0.9", "principal": who, **more}
    return RECORDS.access(Access(**known), NOW + at, end)


def ask(token_id: str, *lines: bytes, **options: Any) -> tuple[list[Use], Query]:
    asked = Query(token_id, **options)
    found = [use for use in map(asked.add, lines) if use is not None]
    return [*found, *asked.unfinished()], asked


def test_it_says_when_from_where_and_for_what() -> None:
    (use,), _ = ask("t1", record(opaque("t1"), user_agent="curl"), record(opaque("t2")))
    assert (use.time, use.client, use.user_agent) == (rfc3339(NOW), "10.0.0.9", "curl")
    assert (use.workspace, use.store, use.key, use.action) == ("web", "store", "a", "object.read")
    assert (use.outcome, use.status, use.derived, use.finished) == ("allow", 200, False, True)


def test_what_replaced_it_is_told_and_never_what_it_replaced_nor_its_cousins() -> None:
    line = [opaque("t0"), opaque("t1", "t0", "t0"), opaque("t2", "t1", "t0"), opaque("t3", "t2", "t0"), opaque("x")]
    records = [record(who, at) for at, who in enumerate(line)]
    for wanted, told in (("t0", ["t0", "t1", "t2", "t3"]), ("t1", ["t1", "t2", "t3"]), ("t3", ["t3"]), ("x", ["x"])):
        uses, asked = ask(wanted, *records)
        assert [use.token_id for use in uses] == told
        assert [use.derived for use in uses] == [each != wanted for each in told]
        assert asked.ids >= {wanted}


def test_a_grandchild_is_known_by_the_event_that_made_its_parent() -> None:
    def made(token_id: str, parent: str) -> bytes:
        return RECORDS.token_event("created", NOW, token_id=token_id, changes={"parent": parent})

    uses, _ = ask("t1", made("t2", "t1"), record(opaque("t3", "t2", "t0")))
    assert [(use.kind, use.token_id) for use in uses] == [("token", "t2"), ("access", "t3")]


def test_a_biscuit_is_asked_for_by_its_id_or_by_any_block_and_told_with_all_below() -> None:
    root, child, other, grandchild = biscuit("b0"), biscuit("b0", "b1"), biscuit("b0", "x1"), biscuit("b0", "b1", "b2")
    records = [record(who, at) for at, who in enumerate((root, child, other, grandchild))]
    told = {
        "root": [("b0", False), ("b1", True), ("x1", True), ("b2", True)],
        "b0": [("b0", False), ("b1", True), ("x1", True), ("b2", True)],
        "b1": [("b1", False), ("b2", True)],
        "b2": [("b2", False)],
    }
    for wanted, expected in told.items():
        assert [(use.block, use.derived) for use in ask(wanted, *records)[0]] == expected


@pytest.mark.parametrize("used_first", [True, False])
@pytest.mark.parametrize(("wanted", "told"), [("root", True), ("b0", True), ("b1", True), ("x1", False), ("b2", False)])
def test_the_end_of_what_was_narrowed_is_told_whenever_it_was_used(wanted: str, told: bool, used_first: bool) -> None:
    used, other = record(biscuit("b0", "b1"), 1), record(biscuit("b0", "x1"), 2)
    revoked = RECORDS.token_event("revoked", NOW + (3 if used_first else 0), token_id="biscuit:b1", by="ops")
    deeper = record(biscuit("b0", "b1", "b2"), 2)
    lines = [used, other, deeper, revoked] if used_first else [revoked, used, other, deeper]
    uses, _ = ask(wanted, *lines)
    ends = [(use.token_id, use.action, use.by, use.derived) for use in uses if use.kind == "token"]
    assert ends == ([("biscuit:b1", "revoked", "ops", wanted != "b1")] if told else [])


def test_revocations_of_what_nobody_uses_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNPLACED", 3)
    ends = [RECORDS.token_event("revoked", NOW, token_id=f"biscuit:c{at}", by="ops") for at in range(9)]
    asked = Query("root")
    assert [asked.add(each) for each in ends] == [None] * 9
    assert len(asked._unplaced) == 3
    assert list(asked.unfinished()) == []


def test_each_key_of_a_request_is_told() -> None:
    others = (Key(Permission.DELETE, "b", "/web/b", "web", "store"),)
    asked = Access(
        request_id="r", method="POST", path="/web", principal=opaque("t1"), workspace="web",
        actions=(Action(Permission.DELETE, "a"),), further=others,
    )  # fmt: skip
    intents = [RECORDS.access(asked, NOW), *RECORDS.further(asked, NOW)]
    ends = [RECORDS.access(asked, NOW, DONE, follows=True), *RECORDS.further(asked, NOW, DONE)]
    assert [(use.key, use.finished) for use in ask("t1", *intents)[0]] == [("a", False), ("b", False)]
    assert [(use.key, use.finished) for use in ask("t1", *intents, *ends)[0]] == [("a", True), ("b", True)]


def test_a_jwt_is_asked_for_by_its_jti_with_its_revocation() -> None:
    jti = 'a"\u00e9:b'
    who = Principal(PrincipalKind.JWT, "job", issuer="ci", token_id=jti)
    uses, _ = ask(jti, record(who), RECORDS.token_event("revoked", NOW, token_id=f"jwt:ci:{jti}", by="root"))
    assert [(use.kind, use.action, use.by) for use in uses] == [
        ("access", "object.read", None),
        ("token", "revoked", "root"),
    ]


def test_only_what_is_new_enough_is_told_though_older_records_teach_who_derives() -> None:
    records = [record(opaque("t2", "t1", "t0")), record(opaque("t3", "t2", "t0"), 60)]
    uses, _ = ask("t1", *records, since=rfc3339(NOW + 30))
    assert [use.token_id for use in uses] == ["t3"]


def test_only_refusals_where_that_is_asked_for() -> None:
    refused = record(opaque("t1"), 1, reason=Reason.RULE_DENY, outcome=Outcome.DENY)
    expired = record(opaque("t1"), 2, reason=Reason.EXPIRED, outcome=Outcome.UNAUTHENTICATED)
    uses, _ = ask("t1", record(opaque("t1")), refused, expired, denied=True)
    assert [use.reason for use in uses] == ["rule_deny", "expired"]


def test_a_write_is_told_once_and_one_whose_end_is_missing_as_such() -> None:
    write = {"permission": Permission.WRITE}
    uses, _ = ask(
        "t1",
        record(opaque("t1"), 1, None, **write),
        record(opaque("t1"), 1, DONE, **write),
        record(opaque("t1"), 2, None, **write),
    )
    assert [(use.time, use.finished, use.wrote) for use in uses] == [
        (rfc3339(NOW + 1), True, True),
        (rfc3339(NOW + 2), False, True),
    ]


@pytest.mark.parametrize(
    ("permission", "end", "outcome", "wrote"),
    [
        (Permission.WRITE, DONE, Outcome.ALLOW, True),
        (Permission.OVERWRITE, DONE, Outcome.ALLOW, True),
        (Permission.DELETE, DONE, Outcome.ALLOW, True),
        (Permission.READ, DONE, Outcome.ALLOW, False),
        (Permission.WRITE, DONE, Outcome.DENY, False),
        (Permission.WRITE, Completion(status=409, duration=0.1), Outcome.ALLOW, False),
    ],
)
def test_what_may_have_changed_the_store(
    permission: Permission, end: Completion, outcome: Outcome, wrote: bool
) -> None:
    (use,), _ = ask("t1", record(opaque("t1"), 0, end, permission, outcome=outcome))
    assert use.wrote is wrote


def test_what_was_copied_is_told_by_where_it_went() -> None:
    actions = (Action(Permission.READ, "from"), Action(Permission.WRITE, "to", creates=True))
    (use,), _ = ask("t1", record(opaque("t1"), actions=actions))
    assert use.key == "to"


TORN = [
    b"{",
    b'{"v":"sidecar.audit/v1","time":"2026',
    b"\xff\xfe t1",
    b"t1",
    b"[" * 50_000 + b"t1",
    b'{"v":"x","t1":1}',
    b"noise",
]


@pytest.mark.parametrize("torn", TORN, ids=range(len(TORN)))
def test_what_is_no_record_is_passed_over(torn: bytes) -> None:
    uses, asked = ask("t1", torn, record(opaque("t1")))
    assert len(uses) == 1
    assert asked.unreadable in (0, 1)


LINE = record(opaque("t1"))


@given(st.lists(st.binary(max_size=40) | st.just(LINE)))
def test_any_bytes_may_stand_in_a_file(lines: list[bytes]) -> None:
    uses, _ = ask("t1", *lines)
    assert len(uses) == lines.count(LINE)


def test_a_file_can_t_make_it_follow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST", 5)
    monkeypatch.setattr(module, "MOST_PENDING", 3)
    lines = [record(opaque(f"c{at}", "t1", "t0"), at, None, Permission.WRITE) for at in range(50)]
    uses, asked = ask("t1", *lines)
    assert len(asked.ids) == 5
    assert len(uses) == 3


def test_a_line_that_doesn_t_name_it_isn_t_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [record(opaque(f"t{at}")) for at in range(2, 40)]
    _, asked = ask("none-of-them", *lines)
    assert asked.records == 0
    assert json.loads(lines[0])["actor"]["token_id"] == "t2"
