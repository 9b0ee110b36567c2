"""A policy file means all that it says, or it isn't loaded: rules 11, 14, 15, 16 and 25, problem by problem."""

import datetime
import hashlib
from pathlib import Path

import pytest

from sidecar.errors import DocumentError
from sidecar.model import LEVELS, Permission
from sidecar.policy.compiled import Legacy, Route, Workspace
from sidecar.policy.file import compile_file
from sidecar.policy.glob import Glob
from sidecar.profiles import PROFILES
from sidecar.settings import IssuerSettings

EXAMPLE = Path(__file__).parents[2] / "config/policies/web.yaml"
ISSUERS = {
    "github": IssuerSettings("github", "https://token.actions.githubusercontent.com", "cache"),
    "corp": IssuerSettings("corp", "https://idp.example.com", "cache"),
}
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: store}]\n"


def load(text: str, *, checked: bool = True) -> Workspace:
    issuers, upstreams = (ISSUERS, ["store", "artifacts"]) if checked else (None, None)
    return compile_file(text, "policies/web.yaml", issuers=issuers, upstreams=upstreams, profiles=PROFILES)


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load(text)
    return [str(problem).removeprefix("policies/web.yaml:") for problem in caught.value.problems]


def test_the_example_means_what_it_says() -> None:
    web = load(EXAMPLE.read_text())
    assert (web.name, web.anonymous, web.personal_tokens, web.ci_tokens) == (
        "web",
        LEVELS["none"],
        LEVELS["read"],
        LEVELS["read-write"],
    )
    assert (web.users, web.groups) == ({"ada@example.com"}, {"web-team"})
    [route] = web.routes
    assert (route.path, route.segments, route.upstream, route.upstream_path) == ("/web", ("web",), "artifacts", "/web")
    first, *_, last = web.rules
    assert first.claims == {
        "repository_id": "123456",
        "ref_protected": "true",
        "event_name": ("push", "schedule", "workflow_dispatch"),
    }
    assert (last.deny, last.path) == ({Permission.OVERWRITE, Permission.DELETE}, Glob("releases/**"))


def test_a_file_is_known_by_the_digest_of_its_bytes() -> None:
    text = HEAD + "# gr\u00fc\u00dfe\r\n"
    assert load(text).sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_what_is_left_out_grants_nothing() -> None:
    bare = load(HEAD)
    assert not bare.anonymous | bare.personal_tokens | bare.ci_tokens
    assert not bare.rules
    assert bare.routes[0].upstream_path == "/web"


@pytest.mark.parametrize(
    ("written", "upstream_path"),
    [
        ("path: /", ""),
        ("path: /web, upstream_path: /", ""),
        ("path: /a/b", "/a/b"),
        ("path: /a, upstream_path: /x/y", "/x/y"),
    ],
)
def test_where_the_keys_live(written: str, upstream_path: str) -> None:
    [route] = load(f"workspace: w\nroutes: [{{{written}, client: plain, upstream: store}}]").routes
    assert route.upstream_path == upstream_path


def test_verbs_of_a_route() -> None:
    text = "workspace: w\nroutes: [{path: /w, client: plain, upstream: store, verbs: {POST: read, PURGE: admin}}]"
    assert load(text).routes[0].verbs == {"POST": Permission.READ, "PURGE": Permission.ADMIN}


def one_route(text: str) -> Route:
    return load(f"workspace: w\nroutes: [{{path: /w, upstream: store, {text}}}]").routes[0]


def test_keys_that_prove_their_bodies() -> None:
    assert one_route("client: plain, content_address: sha256").content_address
    assert not one_route("client: plain").content_address
    assert one_route("client: bazel, cas_writes: open").cas_writes_open
    assert not one_route("client: bazel, cas_writes: granted").cas_writes_open
    assert not one_route("client: bazel").cas_writes_open


NIX_KEY = "cache.example.org-1:D3cL4+IlRzlLbABJqutwWkrXb2j9F+hujLe2Gl0jY+c="


@pytest.mark.parametrize("written", [f"'{NIX_KEY}  a:{'A' * 43}='", f"['{NIX_KEY}', 'a:{'A' * 43}=']"])
def test_whose_signatures_count_is_nix_routes_affair(written: str) -> None:
    routes = "routes: [{path: /n, client: nix, upstream: store}, {path: /p, client: plain, upstream: store}]"
    workspace = load(f"workspace: w\n{routes}\nsettings: {{trusted_public_keys: {written}, other: text}}")
    (nix, plain) = workspace.routes
    assert nix.trusted_keys is not None
    assert [(key.name, len(key.key)) for key in nix.trusted_keys] == [("cache.example.org-1", 32), ("a", 32)]
    assert plain.trusted_keys is None
    assert workspace.settings == {"trusted_public_keys": f"{NIX_KEY} a:{'A' * 43}=", "other": "text"}
    assert one_route("client: nix").trusted_keys is None


BAD_FILES = [
    ("routes: []", "workspace' is missing"),
    ("workspace: web", "routes' is missing"),
    ("workspace: web\nroutes: []", "at least one route"),
    ("workspace: we/b\nroutes: [{path: /a, client: plain, upstream: store}]", "a workspace's name is"),
    (HEAD + "anonymous: write", "unknown level 'write'"),
    (HEAD + "anonymous: on", "unknown level 'on'"),
    (HEAD + "write_once: yes", "expected true or false"),
    (HEAD + "write_once: 'true'", "expected true or false"),
    (HEAD + "mode: report", "write {report: {until: 2026-12-31}}"),
    (HEAD + "mode: {report: {}}", "'until' is missing"),
    (HEAD + "mode: {report: on}", "expected a mapping"),
    (HEAD + "mode: {report: {until: soon}}", "expected a date such as 2026-12-31"),
    (HEAD + "mode: {report: {until: 2026-02-30}}", "expected a date such as 2026-12-31"),
    (HEAD + "mode: {report: {until: 2026-12-31, from: 2026-12-01}}", "unknown key 'from'"),
    (HEAD + "mode: {report: {until: 2026-12-31}, enforce: true}", "unknown key 'enforce'"),
    (HEAD + "mode: off", "unknown mode 'off'"),
    (HEAD + "mode: {}", "expected 'enforce'"),
    (HEAD + "legacy: true", "expected a mapping"),
    (HEAD + "legacy: {level: read, until: 2026-12-31}", "exactly one of 'basic_file'"),
    (HEAD + "legacy: {basic_file: a, bearer_file: b, level: read, until: 2026-12-31}", "exactly one of 'basic_file'"),
    (HEAD + "legacy: {basic_file: '', level: read, until: 2026-12-31}", "nothing is written here"),
    (HEAD + "legacy: {basic_file: a, until: 2026-12-31}", "'level' is missing"),
    (HEAD + "legacy: {basic_file: a, level: none, until: 2026-12-31}", "unknown level 'none'"),
    (HEAD + "legacy: {basic_file: a, level: admin, until: 2026-12-31}", "unknown level 'admin'"),
    (HEAD + "legacy: {basic_file: a, level: read}", "'until' is missing"),
    (HEAD + "legacy: {basic_file: a, level: read, until: never}", "expected a date"),
    (HEAD + "legacy: {password: hunter2, level: read, until: 2026-12-31}", "unknown key 'password'"),
    (HEAD + "anonymus: read", "unknown key 'anonymus'; did you mean 'anonymous'?"),
    (HEAD + "anonymous: read\nanonymous: none", "is here twice"),
    (HEAD + "members: {user: [ada]}", "did you mean 'users'?"),
    (HEAD + "settings: {a: [b]}", "expected a string"),
    (HEAD + "settings: {trusted_public_keys: []}", "nothing at all would be trusted"),
    (HEAD + "settings: {trusted_public_keys: [a]}", "'a' is no public key; write it as in nix.conf"),
    (HEAD + f"settings: {{trusted_public_keys: '{NIX_KEY} {NIX_KEY[:-1]}'}}", "is no public key"),
    (HEAD + "settings: {trusted_public_keys: {a: b}}", "expected a string"),
    (HEAD + "cases: [{name: x}]", "'who' is missing"),
]
BAD_ROUTES = [
    ("{path: web, client: plain, upstream: store}", "starts with a slash; write '/web'"),
    ("{path: /web/, client: plain, upstream: store}", "no trailing slash; write '/web'"),
    ("{path: //web, client: plain, upstream: store}", "none is empty"),
    ("{path: /a%20b, client: plain, upstream: store}", "letters, digits"),
    ("{path: /a/../b, client: plain, upstream: store}", "no segment '.' or '..'"),
    ("{path: /a;b, client: plain, upstream: store}", "letters, digits"),
    ("{path: /a, client: plian, upstream: store}", "unknown client 'plian'; did you mean 'plain'?"),
    ("{path: /a, client: plain, upstream: stroe}", "unknown upstream 'stroe'; did you mean 'store'?"),
    ("{path: /a, client: plain, upstream: store, upstream_path: x}", "starts with a slash"),
    ("{path: /a, client: plain, upstream: store, verbs: {post: read}}", "no HTTP method"),
    ("{path: /a, client: plain, upstream: store, verbs: {POST: read-write}}", "unknown permission"),
    ("{path: /a, client: plain, upstream: store, branches: x}", "unknown key 'branches'"),
    ("{path: /a, client: plain, upstream: store, content_address: md5}", "unknown digest 'md5'"),
    ("{path: /a, client: plain, upstream: store, content_address: true}", "unknown digest 'true'"),
    ("{path: /a, client: s3, upstream: store, content_address: sha256}", "upload in parts"),
    ("{path: /a, client: plain, upstream: store, cas_writes: open}", "only bazel has a store by digest"),
    ("{path: /a, client: bazel, upstream: store, cas_writes: closed}", "unknown word 'closed'"),
    ("{path: /a, client: plain, upstream: store, legacy: true}", "write it beside 'routes'"),
    ("{path: /a, client: plain}", "'upstream' is missing"),
    ("{path: /a, client: plain, upstream: store}, {path: /a, client: nx, upstream: store}", "in line 2 already"),
]


@pytest.mark.parametrize(
    ("text", "message"), BAD_FILES + [(f"workspace: web\nroutes: [{text}]", message) for text, message in BAD_ROUTES]
)
def test_files_that_do_not_load(text: str, message: str) -> None:
    found = problems(text)
    assert any(message in problem for problem in found), found


def test_all_problems_are_told_at_once_each_with_line_and_path() -> None:
    text = EXAMPLE.read_text().replace("[read, write]", "[read, wirte]").replace("issuer: corp", "issuer: crop")
    assert problems(text.replace("anonymous: none", "anonymous: raed")) == [
        "10 $.anonymous: unknown level 'raed'; did you mean 'read'?",
        "19 $.rules[0].allow: unknown permission 'wirte'; did you mean 'write'?",
        "31 $.rules[2].issuer: unknown issuer 'crop'; did you mean 'corp'?",
    ]


def utc(*moment: int) -> float:
    return datetime.datetime(*moment, tzinfo=datetime.UTC).timestamp()  # type: ignore[arg-type,misc]


def test_report_mode_and_the_old_password_last_to_the_end_of_the_day_they_name() -> None:
    """In UTC."""
    text = HEAD + "mode: {report: {until: 2026-12-31}}\nlegacy: {bearer_file: ../old, level: read, until: 2028-02-28}"
    web = load(text)
    assert web.report_until == utc(2027, 1, 1)
    assert web.legacy == Legacy("bearer", "../old", LEVELS["read"], utc(2028, 2, 29), line=4)
    assert load(HEAD + "mode: {report: {until: 9999-12-31}}").report_until == utc(9999, 12, 31) + 86400


def test_whoever_says_nothing_enforces_and_has_no_old_password() -> None:
    for text in (HEAD, HEAD + "mode: enforce"):
        assert (load(text).report_until, load(text).legacy) == (None, None)


@pytest.mark.parametrize("written", ["", "rate_limits: {}", "rate_limits: {token: {}, workspace: {}}"])
def test_limits_that_say_nothing_are_none(written: str) -> None:
    assert load(HEAD + written).quotas is None


def test_a_files_rate_limits_are_its_workspaces() -> None:
    quotas = load(HEAD + "rate_limits: {token: {streams: 2}}").quotas
    assert quotas is not None
    assert quotas.token.streams == 2


def test_a_day_that_has_passed_is_no_mistake() -> None:
    assert load(HEAD + "mode: {report: {until: 2020-01-31}}").report_until == utc(2020, 2, 1)


def test_without_a_configuration_names_are_not_checked() -> None:
    text = HEAD.replace("store", "somewhere") + "rules: [{allow: [read], issuer: anybody}]"
    assert load(text, checked=False).rules[0].issuer == "anybody"
