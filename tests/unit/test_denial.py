"""What a refused caller reads: the status, the challenges of RFC 6750, and one line that says what to do next."""

import pytest

from sidecar import target
from sidecar.model import Head, Headers
from sidecar.profiles import PROFILES, denial
from sidecar.profiles.profile import LocalAnswer
from sidecar.reasons import REASONS, Reason

BASE = {b"content-type", b"cache-control", b"x-content-type-options", b"sidecar-reason"}


def denied(reason: Reason, *, challenge: bool = False, method: str = "GET", workspace: str = "web") -> LocalAnswer:
    return denial.plain(
        Head(method, target.parse("/web/a"), Headers({}, ())), reason, REASONS[reason].hint, challenge, workspace
    )


def challenges(answer: LocalAnswer) -> list[bytes]:
    return [value for name, value in answer.headers if name == b"www-authenticate"]


def test_a_refusal_says_what_to_do_and_its_code() -> None:
    answer = denied(Reason.NO_RULE)
    assert answer.body == b"The workspace's policy does not grant this; ask its owner. (no_rule)\n"
    assert dict(answer.headers).items() >= {
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"sidecar-reason", b"no_rule"),
    }


@pytest.mark.parametrize(
    ("client", "where"),
    [
        ("nx", b"NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN"),
        ("bazel", b"--remote_header"),
        ("gradle", b"credentials"),
        ("nix", b"netrc"),
    ],
)
def test_a_client_with_one_place_for_its_token_is_told_that(client: str, where: bytes) -> None:
    head, hints = Head("GET", target.parse("/web/a"), Headers({}, ())), {each: REASONS[each].hint for each in Reason}
    asked = PROFILES[client].deny(head, Reason.NO_TOKEN, hints[Reason.NO_TOKEN], True, "web")
    assert asked.body.startswith(b"A token is needed: ")
    assert asked.body.endswith(b". (no_token)\n")
    assert where in asked.body
    other = PROFILES[client].deny(head, Reason.EXPIRED, hints[Reason.EXPIRED], True, "web")
    assert other.body == f"{hints[Reason.EXPIRED]} (expired)\n".encode()


def test_a_challenge_is_two_lines_bearer_first() -> None:
    answer = denied(Reason.NO_TOKEN, challenge=True)
    assert answer.status == 401
    assert challenges(answer) == [b'Bearer realm="web"', b'Basic realm="web", charset="UTF-8"']


def test_an_anonymous_caller_who_is_refused_is_challenged_whatever_the_reason() -> None:
    answer = denied(Reason.RULE_DENY, challenge=True)
    assert answer.status == 401
    assert challenges(answer) == [b'Bearer realm="web"', b'Basic realm="web", charset="UTF-8"']


@pytest.mark.parametrize("reason", [Reason.BAD_TOKEN, Reason.EXPIRED, Reason.REVOKED])
@pytest.mark.parametrize("challenge", [True, False])
def test_a_bad_token_is_challenged_with_invalid_token(reason: Reason, challenge: bool) -> None:
    answer = denied(reason, challenge=challenge)
    assert answer.status == 401
    bearer, basic = challenges(answer)
    hint = REASONS[reason].hint.encode()
    assert bearer == b'Bearer realm="web", error="invalid_token", error_description="' + hint + b'"'
    assert basic == b'Basic realm="web", charset="UTF-8"'


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_status_and_one_challenge_at_most_where_the_caller_is_known(reason: Reason) -> None:
    answer = denied(reason)
    assert answer.status == REASONS[reason].status
    names = {name for name, _ in answer.headers}
    assert names >= BASE
    if answer.status == 401:
        assert len(challenges(answer)) == 2
    elif answer.status == 503:
        assert names == BASE | {b"retry-after"}
    elif b"www-authenticate" in names:
        assert answer.status == 403
        assert challenges(answer) == [b'Bearer realm="web", error="insufficient_scope"']


@pytest.mark.parametrize(
    ("reason", "scope"),
    [
        (Reason.NO_RULE, True), (Reason.RULE_DENY, True), (Reason.TOKEN_LIMIT, True), (Reason.WRONG_WORKSPACE, True),
        (Reason.INACTIVE_PERSON, True), (Reason.UNKNOWN_OPERATION, False), (Reason.KEY_REQUIRED, False), (Reason.CROSS_SITE, False),
    ],
)  # fmt: skip
def test_insufficient_scope_is_said_where_another_token_would_help(reason: Reason, scope: bool) -> None:
    assert bool(challenges(denied(reason))) is scope


def test_a_head_has_no_body_and_an_unreadable_request_has_an_answer() -> None:
    assert denied(Reason.NO_RULE, method="HEAD").body == b""
    answer = denial.plain(None, Reason.BAD_TARGET, "x", False, "")
    assert (answer.status, answer.body) == (400, b"x (bad_target)\n")
    assert challenges(denial.plain(None, Reason.NO_TOKEN, "x", True, ""))[0] == b'Bearer realm="sidecar"'


def test_a_challenge_can_not_be_broken_out_of() -> None:
    answer = denial.plain(None, Reason.BAD_TOKEN, 'a"b\\\r\nX: é', True, 'w"')
    assert challenges(answer) == [
        b'Bearer realm="w\\"", error="invalid_token", error_description="a\\"b\\\\X: "',
        b'Basic realm="w\\"", charset="UTF-8"',
    ]


def test_printable_text_stays_as_it_is() -> None:
    text = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\')
    assert challenges(denial.plain(None, Reason.NO_TOKEN, "", True, text))[0] == f'Bearer realm="{text}"'.encode()


def test_an_outage_says_when_to_try_again() -> None:
    assert dict(denied(Reason.OVERLOADED).headers)[b"retry-after"] == b"2"
