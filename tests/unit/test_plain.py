"""The plain profile: what each method comes to, and what it refuses because some store reads more in it."""

import pytest
from sidecar import target
from sidecar.errors import Refused
from sidecar.headers import LOCAL, ONCE, ONCE_PREFIXES
from sidecar.model import Action, Head, Headers, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles import PROFILES, LocalAnswer, plain, tenant
from sidecar.reasons import REASONS, Reason

PLAIN = PROFILES["plain"]


def route(path: str = "/web", **verbs: Permission) -> Route:
    segments = tuple(path.strip("/").split("/")) if path != "/" else ()
    return Route("web", path, segments, "plain", "artifacts", path, verbs=verbs)


def head(method: str, raw: str = "/web/a/b", **values: str) -> Head:
    return Head(method, target.parse(raw), Headers({name.replace("_", "-"): text for name, text in values.items()}, ()))


def refusal(request: Head, at: Route | None = None) -> Reason:
    with pytest.raises(Refused) as refused:
        PLAIN.classify(request, at or route())
    return refused.value.reason


@pytest.mark.parametrize(
    ("method", "permission", "creates"),
    [
        ("GET", Permission.READ, False),
        ("HEAD", Permission.READ, False),
        ("PUT", Permission.WRITE, True),
        ("POST", Permission.WRITE, True),
        ("PATCH", Permission.WRITE, True),
        ("DELETE", Permission.DELETE, False),
    ],
)
def test_methods(method: str, permission: Permission, creates: bool) -> None:
    assert PLAIN.classify(head(method), route()) == (Action(permission, "a/b", creates=creates),)


@pytest.mark.parametrize(
    "method",
    [
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "MKCOL",
        "MOVE",
        "COPY",
        "LOCK",
        "PURGE",
        "get",
        "Get",
        "PUTS",
        "",
        "G",
        "DEBUG",
        "PRI",
    ],
)
def test_other_methods_are_refused(method: str) -> None:
    assert refusal(head(method)) is Reason.UNKNOWN_OPERATION


def test_options_is_answered_without_the_store() -> None:
    assert PLAIN.classify(head("OPTIONS"), route(PROPFIND=Permission.READ)) == LocalAnswer(
        204, ((b"allow", b"GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS, PROPFIND"),)
    )


@pytest.mark.parametrize(
    ("raw", "path", "key"),
    [
        ("/web", "/web", ""),
        ("/web/", "/web", ""),
        ("/web/a/", "/web", "a/"),
        ("/web/a%20b", "/web", "a b"),
        ("/web/x/a", "/web/x", "a"),
        ("/a/b", "/", "a/b"),
        ("/", "/", ""),
    ],
)
def test_the_key_is_what_follows_the_route(raw: str, path: str, key: str) -> None:
    assert PLAIN.classify(head("GET", raw), route(path)) == (Action(Permission.READ, key),)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("raw", ["/web", "/web/", "/web/a/", "/web/a/b/?x=y"])
def test_a_write_or_delete_names_one_object(method: str, raw: str) -> None:
    """nginx deletes the whole tree for `DELETE /dir/`."""
    assert refusal(head(method, raw)) is Reason.KEY_REQUIRED


@pytest.mark.parametrize("permission", [Permission.WRITE, Permission.OVERWRITE, Permission.DELETE, Permission.ADMIN])
def test_so_does_whatever_a_route_gives_more_than_read(permission: Permission) -> None:
    assert refusal(head("MKCOL", "/web/a/"), route(MKCOL=permission)) is Reason.KEY_REQUIRED


def test_a_route_maps_methods_its_own_way() -> None:
    at = route(PROPFIND=Permission.READ, POST=Permission.READ, DELETE=Permission.ADMIN, OPTIONS=Permission.READ)
    assert PLAIN.classify(head("PROPFIND", "/web/a/"), at) == (Action(Permission.READ, "a/"),)
    assert PLAIN.classify(head("POST", "/web/"), at) == (Action(Permission.READ, ""),)
    assert PLAIN.classify(head("DELETE"), at) == (Action(Permission.ADMIN, "a/b"),)
    assert PLAIN.classify(head("OPTIONS"), at) == (Action(Permission.READ, "a/b"),)
    assert PLAIN.classify(head("MKCOL"), route(MKCOL=Permission.WRITE)) == (
        Action(Permission.WRITE, "a/b", creates=True),
    )


def test_a_partial_put_is_refused() -> None:
    """nginx stores the part as the whole."""
    assert refusal(head("PUT", content_range="bytes 0-1/2")) is Reason.UNKNOWN_OPERATION
    assert PLAIN.classify(head("PUT", range="bytes=0-1"), route()) == (Action(Permission.WRITE, "a/b", creates=True),)


@pytest.mark.parametrize("name", sorted(plain.OTHER_KEYS))
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "MOVE"])
def test_a_header_that_names_another_object_is_refused(method: str, name: str) -> None:
    at = route(MOVE=Permission.WRITE)
    request = Head(method, target.parse("/web/a"), Headers({name: "/other/key"}, ()))
    assert refusal(request, at) is Reason.UNKNOWN_OPERATION


@pytest.mark.parametrize("value", ["false", "False"])
def test_a_switch_that_is_off_is_not_an_operation(value: str) -> None:
    assert PLAIN.classify(head("PUT", x_explode_archive=value), route()) == (
        Action(Permission.WRITE, "a/b", creates=True),
    )


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "query",
    [
        "_method=DELETE",
        "a=b&_METHOD=put",
        "%5fmethod=x",
        "a;_method=x",
        "_method",
        "X-HTTP-Method-Override=PUT",
        "$httpMethod=PUT",
    ],
)
def test_a_parameter_that_names_another_method_is_refused(method: str, query: str) -> None:
    assert refusal(head(method, f"/web/a?{query}")) is Reason.UNKNOWN_OPERATION


def test_what_the_profile_reads_is_there_once_or_not_at_all() -> None:
    """A header that may be repeated is missing from `values` where it is: a refusal that looks for it would not find it."""
    for name in plain.OTHER_KEYS | tenant.HEADERS | {"content-range"}:
        assert name in ONCE | LOCAL or name.startswith(ONCE_PREFIXES)


def test_no_odd_path_is_allowed() -> None:
    assert PLAIN.allowed == Oddity.NONE


@pytest.mark.parametrize("name", sorted(tenant.HEADERS))
def test_a_header_that_names_another_workspace_is_refused(name: str) -> None:
    for method in ("GET", "PUT"):
        request = Head(method, target.parse("/web/a"), Headers({name: "other"}, ()))
        assert refusal(request) is Reason.WRONG_WORKSPACE
    assert PLAIN.classify(Head("GET", target.parse("/web/a"), Headers({name: "web"}, ())), route())


@pytest.mark.parametrize(
    "query",
    [
        "teamId=other", "slug=other", "team=other", "teamSlug=other", "TEAMID=other", "team_id=other", "team-id=other",
        "workspace=other", "tenant=other", "%74eam=other", "te%61mId=other", "team%5Fid=other", "team[]=other", "team%5b0%5d=other", "team%00x=other",
        "team=web&team=other", "team=other&team=web", "a=b&slug=other", "a=b;slug=other", "slug=web;x", "slug=web&slug",
        "team", "team=", "team=WEB", "team=web%20", "team=web+", "team=%00web", "+team=other", "team+=other", "%20team=other",
        "team=web%2fother", "team=web,other", "te%C5%BFmid=x&%C5%BFlug=other",
    ],
)  # fmt: skip
def test_a_parameter_that_names_another_workspace_is_refused(query: str) -> None:
    with pytest.raises(Refused) as refused:
        tenant.check_tenant(query, "web")
    assert refused.value.reason is Reason.WRONG_WORKSPACE


@pytest.mark.parametrize(
    "query",
    [
        "",
        "team=web",
        "teamId=web&slug=web",
        "%74eam=w%65b",
        "steam=other",
        "teams=other",
        "a=team",
        "sluggish=1",
        "a&b=c;d",
    ],
)
def test_other_parameters_pass(query: str) -> None:
    tenant.check_tenant(query, "web")


BASE = {b"content-type", b"cache-control", b"x-content-type-options", b"sidecar-reason"}


def denied(reason: Reason, *, challenge: bool = False, method: str = "GET", workspace: str = "web") -> LocalAnswer:
    return PLAIN.deny(head(method), reason, REASONS[reason].hint, challenge, workspace)


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
    answer = PLAIN.deny(None, Reason.BAD_TARGET, "x", False, "")
    assert (answer.status, answer.body) == (400, b"x (bad_target)\n")
    assert challenges(PLAIN.deny(None, Reason.NO_TOKEN, "x", True, ""))[0] == b'Bearer realm="sidecar"'


def test_a_challenge_can_not_be_broken_out_of() -> None:
    answer = PLAIN.deny(None, Reason.BAD_TOKEN, 'a"b\\\r\nX: é', True, 'w"')
    assert challenges(answer) == [
        b'Bearer realm="w\\"", error="invalid_token", error_description="a\\"b\\\\X: "',
        b'Basic realm="w\\"", charset="UTF-8"',
    ]


def test_the_table_is_keyed_by_the_names_that_routes_use() -> None:
    assert {name: profile.name for name, profile in PROFILES.items()} == {"plain": "plain"}
