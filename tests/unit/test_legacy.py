"""A workspace's old shared password: exactly it, for its own workspace alone, until its last day."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.credentials import legacy
from sidecar.credentials.legacy import PEERS, REMEMBERED, OldPasswords
from sidecar.errors import CredentialRefused
from sidecar.model import LEVELS, Limits, PrincipalKind
from sidecar.policy.compiled import Legacy, Workspace
from sidecar.reasons import Reason

NOW, UNTIL = 1_000_000.0, 2_000_000.0
BASIC = Legacy("basic", "web-password", LEVELS["read"], UNTIL)
BEARER = Legacy("bearer", "api-password", LEVELS["read-write"], UNTIL)
CONTENTS = {"web-password": b"cache:hunter2", "api-password": b"s3cret"}


def workspace(name: str, old: Legacy | None) -> Workspace:
    return Workspace(name, f"{name}.yaml", "0" * 64, legacy=old)


WEB, API, BARE = workspace("web", BASIC), workspace("api", BEARER), workspace("bare", None)


def passwords(contents: Mapping[str, bytes] = CONTENTS) -> OldPasswords:
    digests = {file: hashlib.sha256(content).digest() for file, content in contents.items()}
    return OldPasswords(lambda old: digests.get(old.file))


def test_its_holder_is_a_principal_of_its_own_narrow_to_its_level() -> None:
    holder = passwords().identify(WEB, "basic", b"cache:hunter2", "10.0.0.1", NOW)
    assert holder is not None
    assert (holder.kind, holder.workspace, holder.subject) == (PrincipalKind.LEGACY, "web", "shared password")
    assert holder.limits == Limits(frozenset({"web"}), LEVELS["read"])
    assert holder.expires_at == UNTIL


@pytest.mark.parametrize(
    ("where", "scheme", "sent"),
    [
        (WEB, "basic", b"cache:hunter2 "),
        (WEB, "basic", b"cache:hunter"),
        (WEB, "basic", b"CACHE:hunter2"),
        (WEB, "basic", b":hunter2"),
        (WEB, "basic", b"hunter2"),
        (WEB, "basic", b""),
        (WEB, "basic", b"cache:hunter2\n"),
        (WEB, "basic", hashlib.sha256(b"cache:hunter2").digest()),
        (WEB, "bearer", b"cache:hunter2"),
        (WEB, "bearer", b"hunter2"),
        (WEB, "basic", b"s3cret"),
        (API, "bearer", b"cache:hunter2"),
        (API, "basic", b"s3cret"),
        (BARE, "basic", b"cache:hunter2"),
        (BARE, "bearer", b"s3cret"),
    ],
)
def test_nothing_else_is_it(where: Workspace, scheme: str, sent: bytes) -> None:
    known = passwords()
    assert known.identify(where, scheme, sent, "10.0.0.1", NOW) is None
    assert (known.accepted, known.ended, known.peers(NOW)) == (0, 0, 0)


@given(st.binary(max_size=64))
def test_only_the_very_bytes_are_it(sent: bytes) -> None:
    assert (passwords().identify(WEB, "basic", sent, "", NOW) is not None) == (sent == CONTENTS["web-password"])


def test_where_the_file_has_no_password_nobody_is_let_in() -> None:
    for sent in (b"", b"cache:hunter2"):
        assert passwords({}).identify(WEB, "basic", sent, "", NOW) is None


def test_it_ends_and_whoever_still_sends_it_is_known() -> None:
    known = passwords()
    assert known.identify(WEB, "basic", b"cache:hunter2", "10.0.0.1", UNTIL - 0.001) is not None
    with pytest.raises(CredentialRefused) as caught:
        known.identify(WEB, "basic", b"cache:hunter2", "10.0.0.2", UNTIL)
    assert caught.value.reason is Reason.EXPIRED
    assert caught.value.principal is not None
    assert caught.value.principal.kind is PrincipalKind.LEGACY
    assert known.identify(WEB, "basic", b"cache:hunter3", "10.0.0.1", UNTIL) is None
    assert (known.accepted, known.ended, known.peers(UNTIL)) == (1, 1, 2)
    assert "hunter2" not in str(caught.value)


def test_a_changed_policy_counts_at_once() -> None:
    """The same principal while nothing changed, since what is known of it (its audit record) is kept by the object."""
    known = passwords()
    before = known.identify(WEB, "basic", b"cache:hunter2", "", NOW)
    assert known.identify(WEB, "basic", b"cache:hunter2", "", NOW) is before
    wider = replace(WEB, legacy=replace(BASIC, level=LEVELS["read-write"]))
    after = known.identify(wider, "basic", b"cache:hunter2", "", NOW)
    assert after is not None
    assert after.limits.permissions == LEVELS["read-write"]


def test_a_changed_file_counts_at_once() -> None:
    contents = {"web-password": b"cache:hunter2"}
    known = OldPasswords(lambda old: hashlib.sha256(contents[old.file]).digest())
    assert known.identify(WEB, "basic", b"cache:hunter2", "", NOW) is not None
    contents["web-password"] = b"cache:other"
    assert known.identify(WEB, "basic", b"cache:hunter2", "", NOW) is None
    assert known.identify(WEB, "basic", b"cache:other", "", NOW) is not None


def test_comparison_takes_the_same_time_for_every_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(legacy.hmac, "compare_digest", compare)  # type: ignore[attr-defined]
    for guess in (b"", b"c", b"cache:hunter2", b"x" * 8000):
        passwords().identify(WEB, "basic", guess, "", NOW)
    assert compared == [(32, 32)] * 4


def test_peers_are_counted_as_long_as_they_use_it_and_no_more_than_can_be_held() -> None:
    known = passwords()

    def use(peer: str, now: float) -> None:
        known.identify(WEB, "basic", b"cache:hunter2", peer, now)

    use("10.0.0.1", NOW)
    use("10.0.0.1", NOW + 1)
    use("10.0.0.2", NOW + 10)
    assert known.peers(NOW + 10) == 2
    assert known.peers(NOW + 5 + REMEMBERED) == 1
    for number in range(PEERS + 100):
        use(f"10.1.{number // 256}.{number % 256}", NOW + 20)
    assert known.peers(NOW + 20) == PEERS
    use("10.0.0.3", NOW + 21 + REMEMBERED)
    assert known.peers(NOW + 21 + REMEMBERED) == 1


def test_who_goes_on_using_it_is_counted_on_however_many_others_there_are() -> None:
    known = passwords()
    for number in range(PEERS):
        known.identify(WEB, "basic", b"cache:hunter2", f"10.1.{number // 256}.{number % 256}", NOW)
    known.identify(WEB, "basic", b"cache:hunter2", "10.1.0.7", NOW + 10)
    assert known.peers(NOW + REMEMBERED) == PEERS == 1024, "as docs/metrics.md says"
    assert known.peers(NOW + REMEMBERED + 1) == 1


def test_an_ipv6_network_is_one_peer() -> None:
    known = passwords()
    for peer in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "10.0.0.1"):
        known.identify(WEB, "basic", b"cache:hunter2", peer, NOW)
    assert known.peers(NOW) == 3


def test_nothing_that_was_sent_is_kept() -> None:
    known: Any = passwords()
    known.identify(WEB, "basic", b"cache:hunter2", "10.0.0.1", NOW)
    assert "hunter2" not in repr(vars(known))
