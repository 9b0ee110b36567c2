"""What is refused at the door, before the policy has a word; and what the door says to clients of S3 who stand before no bucket."""

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.decision import Asking, Decision, LastRead
from sidecar.gate import Gate
from sidecar.model import (
    NOTHING,
    Action,
    Circumstances,
    Limits,
    Permission,
    Permissions,
    Person,
    Principal,
    PrincipalKind,
)
from sidecar.policy.compiled import Route, Rule, Workspace
from sidecar.policy.glob import Glob
from sidecar.policy.routes import Routes, Snapshot
from sidecar.policy.trace import Trace
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.trial import STATED_HEADER, stated

NOW = 1e9
READ, WRITE, DELETE = Permission.READ, Permission.WRITE, Permission.DELETE
ALL = frozenset(Permission)
ADA = Principal(PrincipalKind.PERSONAL, "ada")


class People:
    groups: frozenset[str] = frozenset()

    def person(self, subject: str) -> Person | None:
        return Person(True, self.groups)


class House:
    """For each kind of client one workspace, at the path of its name; Ada is a member of all."""

    def __init__(
        self,
        *clients: str,
        granted: Permissions = ALL,
        anonymous: Permissions = NOTHING,
        rules: tuple[Rule, ...] = (),
        report_until: float | None = None,
        brand: str | None = None,
        people: People | None = None,
        caller: Principal = ADA,
        host: str = "",
    ) -> None:
        spaces = [
            Workspace(
                name := f"for-{client}",
                f"{name}.yaml",
                "5" * 64,
                routes=(Route(name, f"/{name}", (name,), client, "store", f"/{name}", host=host),),
                anonymous=anonymous,
                users=frozenset({"ada"}),
                personal_tokens=granted,
                rules=rules,
                report_until=report_until,
            )
            for client in clients
        ]
        routes = Routes()
        for each in spaces:
            routes = routes.adding(each.routes)
        self.there = False
        self.snapshot = Snapshot(routes, {each.name: each for each in spaces})
        self.gate = Gate(
            snapshot=lambda: self.snapshot,
            profiles=PROFILES,
            identities=stated(caller),
            directory=people,
            existence=self._exists,
            brand=brand,
        )

    async def _exists(self, route: Route, path: str) -> bool:
        return self.there

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        known: bool = True,
        last: LastRead | None = None,
        trace: Trace | None = None,
        body: bytes = b"",
        host: str = "cache",
    ) -> Decision:
        raw: Sequence[tuple[bytes, bytes]] = [
            (b"host", host.encode()),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
            *([STATED_HEADER] if known else []),
        ]
        pieces = [body, b""]

        async def receive() -> bytes:
            return pieces.pop(0)

        return await self.gate.decide(method, target, raw, "192.0.2.1", NOW, last=last, trace=trace, body=receive)


def reading(path: str) -> Rule:
    return Rule(f"read {path}", 1, allow=frozenset({READ}), path=Glob(path))


BODIES: list[dict[str, str]] = [{"content-length": "1"}, {"content-length": "010"}, {"transfer-encoding": "chunked"}]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("headers", BODIES)
async def test_a_body_that_a_store_may_take_for_the_next_request_is_refused(
    method: str, headers: dict[str, str]
) -> None:
    decision = await House("plain").ask(method, "/for-plain/a", headers)
    assert decision.reason is Reason.BAD_REQUEST
    assert decision.principal is None, "nobody was asked who they are"


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}, {"content-length": "00"}])
async def test_no_body_is_none_however_that_is_said(headers: dict[str, str]) -> None:
    assert (await House("plain").ask("GET", "/for-plain/a", headers)).reason is Reason.GRANTED


@pytest.mark.parametrize("headers", BODIES)
async def test_a_write_has_one(headers: dict[str, str]) -> None:
    assert (await House("plain").ask("PUT", "/for-plain/a", headers)).reason is Reason.GRANTED


# --- a token where none belongs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["asc_pat_x", "asc_ci_x", "%61sc_pat_x", "asc%5Fci%5Fx"])
async def test_a_token_in_a_url_is_refused_before_anybody_logs_it(token: str) -> None:
    house = House("plain", brand="asc")
    assert (await house.ask("GET", f"/for-plain/a?key={token}")).reason is Reason.MISPLACED_TOKEN
    assert (await House("plain").ask("GET", f"/for-plain/a?key={token}")).reason is Reason.GRANTED, (
        "no brand, no such token"
    )


@pytest.mark.parametrize("token", ["asc_pat_x", "asc_ci_x"])
async def test_a_token_in_a_header_of_no_ones_is_refused_and_the_header_named(token: str) -> None:
    decision = await House("plain", brand="asc").ask("GET", "/for-plain/a", {"x-first": "1", "x-key": f"my {token}"})
    assert (decision.reason, decision.detail) == (Reason.MISPLACED_TOKEN, "in the header x-key")
    assert token not in decision.detail


async def test_a_query_without_one_passes() -> None:
    assert (await House("plain", brand="asc").ask("GET", "/for-plain/a?key=asc_x")).reason is Reason.GRANTED


# --- before no bucket ------------------------------------------------------------------------------------------------------------


SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=x"}


async def test_an_s3_client_whom_no_route_serves_is_answered_as_it_reads() -> None:
    house = House("s3", "plain")
    nowhere = await house.ask("GET", "/nowhere/a", SIGNED, known=False)
    assert (nowhere.reason, nowhere.profile) == (Reason.NO_ROUTE, PROFILES["s3"])
    presigned = await house.ask("GET", "/nowhere/a?X-Amz-Signature=x", known=False)
    assert (presigned.reason, presigned.profile) == (Reason.NO_ROUTE, PROFILES["s3"])


async def test_anybody_else_is_not_nor_is_it_where_nothing_is_a_bucket() -> None:
    assert (await House("s3", "plain").ask("GET", "/nowhere/a", known=False)).profile is None
    assert (await House("s3").ask("GET", "/nowhere/a", {"authorization": "Bearer x"}, known=False)).profile is None
    assert (await House("plain").ask("GET", "/nowhere/a", SIGNED, known=False)).profile is None


async def test_another_kinds_client_keeps_its_own_answers_whoever_signs() -> None:
    refused = await House("s3", "plain").ask("BREW", "/for-plain/a", SIGNED, known=False)
    assert refused.profile is PROFILES["plain"]


async def test_which_buckets_there_are_is_said_here() -> None:
    decision = await House("s3", "plain").ask("GET", "/")
    assert (decision.reason, decision.profile, decision.principal) == (Reason.ANSWERED_HERE, PROFILES["s3"], ADA)
    assert decision.answer is not None
    assert b"<Name>for-s3<" in decision.answer.body
    assert b"plain" not in decision.answer.body
    assert {(b"content-type", b"application/xml"), (b"cache-control", b"private")} <= set(decision.answer.headers)
    assert (decision.route, decision.workspace) == (None, None)


async def test_who_may_read_in_none_is_refused_as_what_they_are() -> None:
    house = House("s3", granted=frozenset({DELETE}))
    assert (await house.ask("GET", "/")).reason is Reason.NO_RULE
    assert (await house.ask("GET", "/", known=False)).reason is Reason.NO_TOKEN


async def test_report_mode_shows_nobody_a_bucket() -> None:
    house = House("s3", granted=NOTHING, report_until=NOW + 1)
    assert (await house.ask("GET", "/")).reason is Reason.NO_RULE


async def test_where_nothing_is_a_bucket_the_root_is_nobodys_route() -> None:
    assert (await House("plain").ask("GET", "/")).reason is Reason.NO_ROUTE


# --- what an S3 client asks is decided as all else is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "reason"), [(NOW + 1, Reason.WOULD_DENY), (NOW, Reason.NO_RULE), (None, Reason.NO_RULE)]
)
@pytest.mark.parametrize("client", ["s3", "webdav", "plain"])
async def test_report_mode_ends_at_its_hour_for_every_client(client: str, until: float | None, reason: Reason) -> None:
    house = House(client, granted=NOTHING, report_until=until)
    assert (await house.ask("PUT", f"/for-{client}/a")).reason is reason
    assert house.gate.let_through[Reason.NO_RULE] == (reason is Reason.WOULD_DENY)


async def test_a_bucket_that_is_there_is_answered_here_and_granted_to_nobody() -> None:
    decision = await House("s3", granted=frozenset({READ, WRITE})).ask("PUT", "/for-s3")
    assert decision.answer is not None
    assert (decision.reason, decision.answer.status, decision.sending) == (Reason.ANSWERED_HERE, 409, None)
    assert (b"content-type", b"application/xml") in decision.answer.headers


@pytest.mark.parametrize(
    ("granted", "reason"),
    [({READ, WRITE}, Reason.GRANTED), ({WRITE}, Reason.WOULD_DENY), ({READ}, Reason.WOULD_DENY)],
)
async def test_report_mode_says_of_a_copy_what_will_refuse_either_end(granted: set[Permission], reason: Reason) -> None:
    house = House("s3", granted=frozenset(granted), report_until=NOW + 1)
    copied = {"x-amz-copy-source": "for-s3/b"}
    assert (await house.ask("PUT", "/for-s3/a", copied)).reason is reason


@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/for-s3/a"), ("DELETE", "/for-webdav/a/"), ("PUT", "/for-plain/a")]
)
async def test_how_it_came_about_is_told_of_every_client(method: str, target: str) -> None:
    rule = Rule("never", 1, deny=ALL)
    trace = Trace()
    decision = await House("s3", "webdav", "plain", rules=(rule,)).ask(method, target, trace=trace)
    assert (decision.reason, decision.rule) == (Reason.RULE_DENY, "never")
    assert [each.denied_by for each in trace.actions] == [rule]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("client", ["s3", "plain"])
async def test_what_was_learnt_of_the_key_is_kept_with_the_decision(client: str, there: bool) -> None:
    house = House(client, rules=(Rule("once", 1, deny=frozenset({Permission.OVERWRITE})),))
    house.there = there
    decision = await house.ask("PUT", f"/for-{client}/a")
    assert (decision.reason, decision.exists) == (Reason.RULE_DENY if there else Reason.GRANTED, there)


async def test_a_bucket_may_stand_in_the_host_and_a_key_of_its_be_written_oddly() -> None:
    house = House("s3", host=".s3.internal")
    for target in ("/a", "/a//b", "/a%2Fb"):
        decision = await house.ask("GET", target, host="for-s3.s3.internal")
        assert (decision.reason, decision.workspace) == (Reason.GRANTED, house.snapshot.workspaces["for-s3"])
    assert (await house.ask("GET", "/a", host="other-s3.s3.internal")).reason is Reason.NO_ROUTE


MANY = b"<Delete><Object><Key>a</Key></Object></Delete>"


@pytest.mark.parametrize(
    ("anonymous", "rules", "reason"),
    [
        (NOTHING, (), Reason.NO_TOKEN),
        (frozenset({READ}), (Rule("some", 1, allow=frozenset({DELETE}), issuer="corp"),), Reason.NO_TOKEN),
        (frozenset({DELETE}), (), Reason.GRANTED),
        (NOTHING, (Rule("all", 1, allow=frozenset({DELETE})),), Reason.GRANTED),
    ],
)
async def test_a_list_of_keys_to_delete_is_read_only_of_whom_something_may_grant_it(
    anonymous: Permissions, rules: tuple[Rule, ...], reason: Reason
) -> None:
    house = House("s3", anonymous=anonymous, rules=rules)
    length = {"content-length": str(len(MANY)), "content-md5": base64.b64encode(hashlib.md5(MANY).digest()).decode()}
    assert (await house.ask("POST", "/for-s3?delete", length, known=False, body=MANY)).reason is reason


async def test_report_mode_opens_no_other_key_to_who_asks_for_many() -> None:
    house = House("plain", granted=NOTHING, report_until=NOW + 1, rules=(reading("a"),))
    decision = await house.ask("GET", "/for-plain/b")
    assert decision.reason is Reason.WOULD_DENY
    assert house.gate.grants(decision, ["a", "b"]) == ["a"]


# --- a connection goes on --------------------------------------------------------------------------------------------------------


def denying(**who: Any) -> tuple[Rule, ...]:
    return (Rule("not you", 1, deny=frozenset({READ}), **who),)


async def test_rules_of_one_workspace_are_not_those_of_the_next() -> None:
    house, last = House("plain", "webdav"), LastRead()
    strict = replace(house.snapshot.workspaces["for-webdav"], rules=denying())
    house.snapshot = replace(house.snapshot, workspaces={**house.snapshot.workspaces, "for-webdav": strict})
    for target, reason in [("/for-plain/a", Reason.GRANTED), ("/for-webdav/a", Reason.RULE_DENY)] * 2:
        assert (await house.ask("GET", target, last=last)).reason is reason


async def test_nor_are_those_about_one_caller_about_the_next() -> None:
    rules = denying(kinds=frozenset({PrincipalKind.PERSONAL}))
    house, last = House("plain", anonymous=frozenset({READ}), rules=rules), LastRead()
    for known, reason in [(False, Reason.GRANTED), (True, Reason.RULE_DENY)] * 2:
        assert (await house.ask("GET", "/for-plain/a", known=known, last=last)).reason is reason


async def test_nor_those_about_somebody_who_has_changed_groups_since() -> None:
    people = People()
    house, last = House("plain", rules=denying(groups=frozenset({"guests"})), people=people), LastRead()
    for groups, reason in [(set(), Reason.GRANTED), ({"guests"}, Reason.RULE_DENY)] * 2:
        people.groups = frozenset(groups)
        assert (await house.ask("GET", "/for-plain/a", last=last)).reason is reason


async def test_who_asks_the_same_again_is_not_compared_with_each_rule_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house, last, asked = House("plain"), LastRead(), []
    monkeypatch.setattr("sidecar.gate.rules_about", lambda *about: asked.append(about) or [])
    for _ in range(3):
        assert (await house.ask("GET", "/for-plain/a", last=last)).reason is Reason.GRANTED
    assert len(asked) == 1


# --- what others may keep --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["s3", "plain"])
async def test_only_what_anybody_may_read_is_public(client: str) -> None:
    open_ = House(client, anonymous=frozenset({READ}))
    assert open_.gate.is_public(await open_.ask("GET", f"/for-{client}/a"))
    assert not open_.gate.is_public(await open_.ask("PUT", f"/for-{client}/a"))
    assert not open_.gate.is_public(await open_.ask("GET", "/nowhere"))
    denied = House(client, anonymous=frozenset({READ}), rules=(Rule("no", 1, deny=frozenset({READ})),))
    assert not denied.gate.is_public(await denied.ask("GET", f"/for-{client}/a"))
    assert not House(client).gate.is_public(await House(client).ask("GET", f"/for-{client}/a"))


async def test_a_failure_of_ours_is_told_to_the_log_and_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House("plain")
    monkeypatch.setattr(house, "snapshot", None)
    with caplog.at_level(logging.ERROR):
        decision = await house.ask("GET", "/for-plain/a")
    assert (decision.reason, decision.detail) == (Reason.INTERNAL_ERROR, "the decision failed")
    assert [record.exc_info is not None for record in caplog.records if record.name == "sidecar.gate"] == [True]


# --- what a token's own checks are told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vouched", "address"), [(True, "192.0.2.1"), (False, "")])
def test_checks_are_told_an_address_only_where_somebody_trusted_has_named_it(vouched: bool, address: str) -> None:
    asking = Asking("PUT", "/for-plain/a", (), "192.0.2.1", NOW, LastRead(), vouched=vouched)
    assert asking.circumstances() == Circumstances("PUT", NOW, address)


class At:
    """Checks that hold where the caller's address is, or isn't, known."""

    def __init__(self, address: str) -> None:
        self._address = address

    def hold(
        self,
        workspace: str,
        settings: Mapping[str, str],
        permission: Permission,
        action: Action,
        circumstances: Circumstances,
    ) -> bool:
        return circumstances.client_ip == self._address


@pytest.mark.parametrize("target", ["/for-s3/a", "/"])
async def test_checks_hold_for_objects_and_for_the_list_of_buckets(target: str) -> None:
    for address, allowed in [("", True), ("192.0.2.1", False)]:
        caller = replace(ADA, limits=Limits(checks=At(address)))
        assert (await House("s3", caller=caller).ask("GET", target)).allowed is allowed
