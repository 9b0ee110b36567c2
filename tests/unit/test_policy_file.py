"""A policy file means all that it says, or it isn't loaded: rules 11, 14, 15, 16 and 25, problem by problem."""

import hashlib
from pathlib import Path

import pytest
from sidecar.errors import DocumentError
from sidecar.model import LEVELS, Permission
from sidecar.policy.compiled import Workspace
from sidecar.policy.file import compile_file
from sidecar.policy.glob import Glob
from sidecar.settings import IssuerSettings

EXAMPLE = Path(__file__).parents[2] / "config/policies/web.yaml"
ISSUERS = {
    "github": IssuerSettings("github", "https://token.actions.githubusercontent.com", "cache"),
    "corp": IssuerSettings("corp", "https://idp.example.com", "cache"),
}
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: store}]\n"


def load(text: str, *, checked: bool = True) -> Workspace:
    issuers, upstreams = (ISSUERS, ["store", "artifacts"]) if checked else (None, None)
    return compile_file(text, "policies/web.yaml", issuers=issuers, upstreams=upstreams, profiles=["plain", "nx"])


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


BAD_FILES = [
    ("routes: []", "workspace' is missing"),
    ("workspace: web", "routes' is missing"),
    ("workspace: web\nroutes: []", "at least one route"),
    ("workspace: we/b\nroutes: [{path: /a, client: plain, upstream: store}]", "a workspace's name is"),
    (HEAD + "anonymous: write", "unknown level 'write'"),
    (HEAD + "anonymous: on", "unknown level 'on'"),
    (HEAD + "write_once: yes", "expected true or false"),
    (HEAD + "write_once: 'true'", "expected true or false"),
    (HEAD + "mode: {report: {until: 2026-12-31}}", "doesn't support it yet"),
    (HEAD + "mode: report", "doesn't support it yet"),
    (HEAD + "mode: off", "unknown mode 'off'"),
    (HEAD + "mode: {}", "expected 'enforce'"),
    (HEAD + "guard: true", "doesn't support it yet"),
    (HEAD + "legacy: true", "doesn't support it yet"),
    (HEAD + "anonymus: read", "unknown key 'anonymus'; did you mean 'anonymous'?"),
    (HEAD + "anonymous: read\nanonymous: none", "is here twice"),
    (HEAD + "members: {user: [ada]}", "did you mean 'users'?"),
    (HEAD + "settings: {a: [b]}", "expected a string"),
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
    ("{path: /a, client: plain, upstream: store, legacy: true}", "doesn't support it yet"),
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
        "9 $.anonymous: unknown level 'raed'; did you mean 'read'?",
        "18 $.rules[0].allow: unknown permission 'wirte'; did you mean 'write'?",
        "30 $.rules[2].issuer: unknown issuer 'crop'; did you mean 'corp'?",
    ]


def test_report_mode_is_one_problem_however_it_is_asked_for() -> None:
    assert len(problems(HEAD + "mode: report")) == len(problems(HEAD + "mode: {report: {until: 2026-12-31}}")) == 1


def test_without_a_configuration_names_are_not_checked() -> None:
    text = HEAD.replace("store", "somewhere") + "rules: [{allow: [read], issuer: anybody}]"
    assert load(text, checked=False).rules[0].issuer == "anybody"
