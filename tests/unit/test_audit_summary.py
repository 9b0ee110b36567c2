"""Audit records summed up: whom report mode let through and who still uses an old shared password; hostile lines included."""

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit import summary
from sidecar.audit.lines import MAX_LINE, lines_of
from sidecar.audit.summary import KEYS, PEERS, Caller, Summary

BUILD = {"type": "jwt", "owner": "corp", "principal": "build", "groups": ["ci", "web"]}
HOLDER = {"type": "legacy", "owner": "web", "principal": "shared password"}


def line(key: str = "a/b/c", *, would_deny: str | None = "no_rule", peer: str = "10.0.0.1", **more: Any) -> bytes:
    record = {
        "v": "sidecar.audit/v1",
        "time": "2026-11-22T04:00:00.000000Z",
        "kind": "access",
        "action": "object.read",
        "stage": "complete",
        "outcome": "allow",
        "reason": "would_deny" if would_deny else "granted",
        "workspace": "web",
        "request": {"id": "1", "user_agent": "curl/8"},
        "client": {"ip": peer, "peer_ip": "10.9.9.9", "forwarded": None},
        "actor": BUILD,
        "resource": {"name": key},
        "decision": {"rule": None, "would_deny": would_deny},
    }
    return json.dumps({**record, **more}).encode()


def summed_up(lines: Iterable[bytes]) -> Summary:
    summed = Summary()
    for each in lines:
        summed.add(each)
    return summed


def test_a_caller_s_requests_are_one_row() -> None:
    found = summed_up(
        [
            line("a/b/c", time="2026-11-22T05:00:00.000000Z"),
            line("a/b/d", action="object.write", peer="10.0.0.2"),
            line("a/x", actor={**BUILD, "groups": ["web"]}, peer="10.0.0.2", time="2026-11-23T04:00:00.000000Z"),
            line("a/x", would_deny=None),
        ]
    )
    assert (found.records, found.unreadable) == (4, 0)
    [row] = found.callers.values()
    assert row.caller == Caller("web", "jwt", "corp", "build", "no_rule")
    assert (row.count, row.permissions) == (3, {"read", "write"})
    assert (row.first, row.last) == ("2026-11-22T04:00:00.000000Z", "2026-11-23T04:00:00.000000Z")
    assert (row.groups, row.common, row.keys) == ({"web"}, ("a",), ["a/b/c", "a/b/d", "a/x"])
    assert row.peers == {"10.0.0.1": 1, "10.0.0.2": 2}


def test_callers_are_told_apart_by_who_where_and_why() -> None:
    others: list[dict[str, Any]] = [
        {"workspace": "api"},
        {"actor": {**BUILD, "owner": "github"}},
        {"actor": {**BUILD, "principal": "other"}},
        {"actor": {"type": "anonymous"}, "would_deny": "no_token"},
        {"actor": {"type": "ci", "owner": "web", "principal": "build"}},
    ]
    found = summed_up([line(), *(line(**other) for other in others)])
    assert [row.count for row in found.callers.values()] == [1] * 6
    assert Caller("web", "ci", "", "build", "no_rule") in found.callers
    assert Caller("web", "anonymous", "", "", "no_token") in found.callers


def test_a_request_for_several_keys_is_one() -> None:
    keys = [line(name, resource={"name": name, "path": f"/web/{name}"}, request={"id": "7"}) for name in ("a/x", "a/y")]
    (row,) = summed_up([*keys, line("a/z", request={"id": "8"})]).callers.values()
    assert (row.count, row.keys, row.peers) == (2, ["a/x", "a/y", "a/z"], {"10.0.0.1": 2})


def test_what_is_no_ended_request_is_not_counted() -> None:
    """A write has two records: its intent and its end."""
    found = summed_up([line(stage="intent"), line(kind="policy"), line(kind="system", stage=None)])
    assert (found.records, found.callers) == (3, {})


def test_who_still_uses_the_old_password_and_from_where() -> None:
    used = {"actor": HOLDER, "would_deny": None}
    found = summed_up(
        [
            line(**used),
            line(**used, reason="token_limit", outcome="deny"),
            line(**used, reason="expired", peer="10.0.0.2", time="2026-11-23T04:00:00.000000Z"),
            line(**used, client={"ip": None, "peer_ip": None}, request={"user_agent": None}),
        ]
    )
    assert [
        (use.workspace, use.peer, use.count, use.refused, use.user_agent) for use in found.old_passwords.values()
    ] == [
        ("web", "10.0.0.1", 2, 1, "curl/8"),
        ("web", "10.0.0.2", 1, 1, "curl/8"),
        ("web", "a unix socket", 1, 0, ""),
    ]
    assert found.callers == {}


@pytest.mark.parametrize(
    "noise",
    [
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'"sidecar.audit/v1"',
        line()[:-20],
        line(v="other/v1"),
        line(actor="ada"),
        line(decision={"would_deny": True}),
        b"[" * 50_000,
        line("x" * MAX_LINE),
    ],
    ids=range(11),
)
def test_noise_is_counted_and_passed_over(noise: bytes) -> None:
    found = summed_up(lines_of(io.BytesIO(b"\n".join([line(), noise, b"", line()]) + b"\n")))
    assert found.records == 2
    assert found.unreadable >= 1
    [row] = found.callers.values()
    assert row.count == 2


def test_records_of_standard_output_are_records() -> None:
    assert summed_up([b'{"log":"audit",' + line()[1:]]).callers


def test_sums_stay_small_whatever_is_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "CALLERS", 3)
    found = summed_up(
        [line(f"k{number}", actor={**BUILD, "principal": f"p{number}"}, peer=f"10.0.0.{number}") for number in range(9)]
        + [line(actor=HOLDER, would_deny=None, peer=f"10.0.0.{number}") for number in range(9)]
    )
    assert (len(found.callers), len(found.old_passwords), found.not_told_apart) == (3, 3, 12)
    found = summed_up(line(f"k{number}", peer=f"10.0.0.{number}") for number in range(200))
    [row] = found.callers.values()
    assert (len(row.keys), len(row.peers), row.more_peers, row.count) == (KEYS, PEERS, 200 - PEERS, 200)


SEGMENTS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4).map("/".join)


@given(st.lists(SEGMENTS, min_size=1, max_size=6))
def test_all_keys_are_below_what_is_common_and_below_nothing_longer(keys: list[str]) -> None:
    [row] = summed_up(line(key) for key in keys).callers.values()
    assert row.common is not None
    split = [key.split("/")[:-1] for key in keys]
    length = len(row.common)
    assert all(tuple(each[:length]) == row.common for each in split)
    assert len({tuple(each[: length + 1]) for each in split}) > 1 or any(len(each) == length for each in split)
