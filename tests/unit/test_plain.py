"""The plain profile: what each method comes to, and what it refuses because some store reads more in it."""

import pytest
from msgspec import structs

from sidecar import target
from sidecar.errors import Refused
from sidecar.headers import LOCAL, ONCE, ONCE_PREFIXES
from sidecar.model import Action, Head, Headers, Oddity, Permission
from sidecar.policy.compiled import Route
from sidecar.profiles import PROFILES, Errand, LocalAnswer, denial, plain, tenant
from sidecar.reasons import Reason

PLAIN = PROFILES["plain"]


def route(path: str = "/web", **verbs: Permission) -> Route:
    segments = tuple(path.strip("/").split("/")) if path != "/" else ()
    return Route("web", path, segments, "plain", "artifacts", path, verbs=verbs)


def head(method: str, raw: str = "/web/a/b", **values: str) -> Head:
    return Head(method, target.parse(raw), Headers({name.replace("_", "-"): text for name, text in values.items()}, ()))


def actions(request: Head) -> tuple[Action, ...]:
    found = PLAIN.classify(request, route())
    assert isinstance(found, tuple)
    return found


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


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PROPFIND"])
def test_a_depth_names_more_keys_than_the_paths(method: str) -> None:
    at = route(PROPFIND=Permission.READ)
    for depth in ("1", "infinity", "", "00"):
        assert refusal(head(method, depth=depth), at) is Reason.UNKNOWN_OPERATION
    assert PLAIN.classify(head(method, depth="0"), at) == PLAIN.classify(head(method), at)


OTHER_KEYS = (
    "destination", "x-amz-copy-source", "x-goog-copy-source", "x-ms-copy-source", "x-oss-copy-source", "x-cos-copy-source",
    "x-obs-copy-source", "x-copy-from", "x-object-manifest", "x-symlink-target", "x-checksum-deploy", "x-explode-archive",
    "x-explode-archive-atomic",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHER_KEYS)
@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "MOVE"])
def test_a_header_that_names_another_object_is_refused(method: str, name: str) -> None:
    at = route(MOVE=Permission.WRITE)
    request = Head(method, target.parse("/web/a"), Headers({name: "/other/key"}, ()))
    assert refusal(request, at) is Reason.UNKNOWN_OPERATION


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_is_not_refused_for_a_header_that_means_nothing_to_it(method: str) -> None:
    assert PLAIN.classify(head(method, destination="/x"), route()) == (Action(Permission.READ, "a/b"),)


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
        "method_override=PUT",
        "http_method=PUT",
        "x-http-method=PUT",
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


def test_npm_s_names_are_the_only_ones_with_an_encoded_slash() -> None:
    assert PLAIN.allowed == Oddity.ENCODED_SLASH
    for raw in (
        "/web/@acme%2fdep",
        "/web/@acme%2Fdep",
        "/web/-/package/@acme%2fdep/dist-tags",
        "/web/@a%2fb/-/b-1.0.0.tgz",
    ):
        (action,) = actions(head("GET", raw))
        assert action.key == target.key(target.parse(raw), 1)
        assert "%" not in action.key


@pytest.mark.parametrize(
    "raw",
    [
        "/web/a%2fb",
        "/web/@acme%2fdep%2fmore",
        "/web/x@acme%2fdep",
        "/web/@%2fdep",
        "/web/@acme%2f",
        "/web/releases%2f@acme",
        "/web/@acme%2fdep/a%2fb",
        "/web/@acme%2fd ep".replace(" ", "%20"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_any_other_encoded_slash_is_refused(method: str, raw: str) -> None:
    assert refusal(head(method, raw)) is Reason.BAD_TARGET


SHA = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def at_digests() -> Route:
    return structs.replace(route(), content_address=True)


def test_a_body_at_a_content_address_has_to_be_it() -> None:
    errand = PLAIN.classify(head("PUT", f"/web/lfs/{SHA}?x=1"), at_digests())
    assert isinstance(errand, Errand)
    assert errand.sha256 == SHA
    assert errand.path == f"/web/lfs/{SHA}?x=1"
    assert errand.actions == (Action(Permission.WRITE, f"lfs/{SHA}", creates=True),)


@pytest.mark.parametrize("name", ["a", SHA.upper(), SHA[:-1], SHA + "0", "g" * 64, f"{SHA}.txt", f"sha256:{SHA}"])
def test_a_key_that_is_no_digest_takes_no_body_there(name: str) -> None:
    assert refusal(head("PUT", f"/web/{name}"), at_digests()) is Reason.BODY_MISMATCH


def test_what_can_not_be_held_to_its_digest_is_refused() -> None:
    for method in ("POST", "PATCH"):
        assert refusal(head(method, f"/web/{SHA}"), at_digests()) is Reason.UNKNOWN_OPERATION
    assert refusal(head("PUT", f"/web/{SHA}", content_encoding="gzip"), at_digests()) is Reason.BAD_HEADER
    assert PLAIN.classify(head("PUT", f"/web/{SHA}", content_encoding="identity"), at_digests())


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_content_address_is_read_and_deleted_like_any_key(method: str) -> None:
    assert PLAIN.classify(head(method, "/web/a"), at_digests()) == PLAIN.classify(head(method, "/web/a"), route())


def test_a_store_s_status_is_passed_on() -> None:
    assert [PLAIN.answered("PUT", status) for status in (200, 404, 412, 503)] == [200, 404, 412, 503]


def test_a_header_that_names_another_workspace_is_refused_whatever_the_method() -> None:
    for method in ("GET", "PUT"):
        assert refusal(head(method, x_scope_orgid="other")) is Reason.WRONG_WORKSPACE
        assert PLAIN.classify(head(method, x_scope_orgid="web"), route())


def test_a_refusal_is_rendered_for_people_and_plain_clients() -> None:
    arguments = (head("GET"), Reason.NO_RULE, "x", True, "web")
    assert PLAIN.deny(*arguments) == denial.plain(*arguments)


def test_the_table_is_keyed_by_the_names_that_routes_use() -> None:
    assert {name: profile.name for name, profile in PROFILES.items()} == {name: name for name in PROFILES}
    assert {"plain", "webdav", "nx", "turborepo", "bazel", "gradle", "nix"} <= PROFILES.keys()
